//! `junit.xml`: the report for CI.
//!
//! One test suite a scenario. What went wrong outside of checks becomes errors in a
//! suite named `run`, so that a CI that reads nothing else is red exactly when the
//! run did not hold.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::model::{Report, ScenarioReport, ScenarioResult, StageEnd, StageReport};
use super::verdict::Verdict;
use crate::run::comparison::{self, Comparison, Row};
use crate::run::event::{Check, Failure, Outcome, Threshold};

/// The suite for what is no scenario's.
const RUN_SUITE: &str = "run";

/// Renders `junit.xml`.
pub(super) fn render(report: &Report) -> io::Result<String> {
    let mut junit = quick_junit::Report::new(format!("cargo xtask {}", report.command));
    junit.set_time(Duration::from_millis(report.millis));
    junit.timestamp = report.started_at.and_then(timestamp);
    let scenarios = report.scenarios.iter();
    junit.add_test_suites(scenarios.map(|scenario| scenario_suite(report, scenario)));
    let of_load = [
        (
            "thresholds",
            report.thresholds.iter().map(threshold_case).collect(),
        ),
        ("verdicts", verdict_cases(report)),
    ];
    for (name, cases) in of_load {
        if !Vec::is_empty(&cases) {
            junit.add_test_suite(suite(report, name, 0, report.millis, cases));
        }
    }
    let outside = outside_of_checks(report);
    if !outside.is_empty() {
        junit.add_test_suite(suite(report, RUN_SUITE, 0, report.millis, outside));
    }
    junit.to_string().map_err(io::Error::other)
}

fn scenario_suite(report: &Report, scenario: &ScenarioReport) -> TestSuite {
    let mut cases: Vec<_> = scenario.checks.iter().map(check_case).collect();
    if !scenario.finished {
        cases.push(error("finished", "the scenario did not finish", ""));
    } else if scenario.result == ScenarioResult::Unproven {
        cases.push(error("proven", "no check ran", ""));
    }
    let name = &scenario.scenario;
    let mut suite = suite(report, name, scenario.start_millis, scenario.millis, cases);
    suite.add_property(("claim", scenario.claim.as_str()));
    suite
}

fn suite(
    report: &Report,
    name: &str,
    start_millis: u64,
    millis: u64,
    cases: Vec<TestCase>,
) -> TestSuite {
    let mut suite = TestSuite::new(name);
    suite.set_time(Duration::from_millis(millis));
    suite.timestamp = report
        .started_at
        .and_then(|start| start.checked_add(Duration::from_millis(start_millis)).ok())
        .and_then(timestamp);
    suite.add_properties([
        ("run", report.run.as_str()),
        ("target", report.target.as_str()),
        ("environment", report.environment.as_str()),
    ]);
    suite.add_test_cases(cases.into_iter().map(|mut case| {
        case.set_classname(name);
        case
    }));
    suite
}

fn check_case(check: &Check) -> TestCase {
    let mut case = match &check.outcome {
        Outcome::Passed { seen } => passed(&check.name, seen),
        Outcome::Failed { failure } => not_passed(
            NonSuccessKind::Failure,
            &check.name,
            &failure.what,
            &details(failure),
        ),
        // JUnit has no word for it: an error, so that nobody takes it for a pass.
        Outcome::Inconclusive { because } => inconclusive(&check.name, because),
        Outcome::Skipped { because } => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(because.as_str());
            TestCase::new(check.name.as_str(), status)
        }
    };
    case.set_time(Duration::from_millis(check.millis));
    case
}

fn inconclusive(name: &str, because: &str) -> TestCase {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type("inconclusive");
    status.set_message(because);
    TestCase::new(name, status)
}

fn passed(name: &str, seen: &str) -> TestCase {
    let mut case = TestCase::new(name, TestCaseStatus::success());
    case.set_system_out(seen);
    case
}

fn threshold_case(it: &Threshold) -> TestCase {
    let name = format!("{} › {}", it.of, it.threshold);
    match it.holds {
        true => passed(&name, &it.seen),
        false => not_passed(NonSuccessKind::Failure, &name, &it.seen, ""),
    }
}

/// One for each metric of each endpoint; where nothing can be compared, one for that.
fn verdict_cases(report: &Report) -> Vec<TestCase> {
    let of = |comparison: &Comparison| -> Vec<TestCase> {
        let because = comparison.obstacles.join("; ");
        let rows = comparison.rows.iter().map(verdict_case);
        match comparison.rows.is_empty() {
            true => vec![inconclusive(&comparison.of, &because)],
            false => rows.collect(),
        }
    };
    report.comparisons.iter().flat_map(of).collect()
}

fn verdict_case(row: &Row) -> TestCase {
    let name = format!("{} › {}", row.endpoint, row.metric);
    let seen = format!("{}: {}", row.verdict, row.reason);
    match row.verdict {
        comparison::Verdict::Unchanged | comparison::Verdict::Improved => passed(&name, &seen),
        comparison::Verdict::Inconclusive | comparison::Verdict::NotComparable => {
            inconclusive(&name, &seen)
        }
        comparison::Verdict::Regressed => not_passed(NonSuccessKind::Failure, &name, &seen, ""),
    }
}

/// The cases of the `run` suite: one error for each thing that went wrong outside of
/// checks, at least one when nothing else in the file is red, none when the run held.
fn outside_of_checks(report: &Report) -> Vec<TestCase> {
    let failures = report.failures.iter().map(|it| {
        let stage = it.stage.map(|stage| stage.to_string());
        let name = stage.as_deref().unwrap_or(RUN_SUITE);
        error(name, &it.failure.what, &details(&it.failure))
    });
    let stages = report
        .stages
        .iter()
        .filter(|stage| !is_explained(report, stage))
        .map(|stage| {
            let message = match stage.end {
                StageEnd::Interrupted => "the stage was interrupted",
                StageEnd::Unfinished => "the stage did not finish",
                StageEnd::Inconclusive => "the stage came to no conclusion",
                StageEnd::Done | StageEnd::Failed => "the stage failed",
            };
            error(&stage.stage.to_string(), message, &report.headline())
        });
    let lost = report.lost_parts.iter().map(|lost| {
        let message = format!("{} was lost: {}", lost.part, lost.how);
        error(&lost.part, &message, &format!("where: {}", lost.log))
    });
    let mut cases: Vec<_> = failures.chain(stages).chain(lost).collect();
    let red_checks = report.checks.failed + report.checks.inconclusive;
    if cases.is_empty() && red_checks == 0 && report.verdict != Verdict::Held {
        cases.push(error(RUN_SUITE, &report.headline(), ""));
    }
    let judged = !report.thresholds.is_empty() || !report.comparisons.is_empty();
    if report.verdict == Verdict::Held && report.checks.total() == 0 && !judged {
        let mut status = TestCaseStatus::skipped();
        status.set_message(report.headline());
        cases.push(TestCase::new("checks", status));
    }
    cases
}

/// Whether the stage is done, or what went wrong in it is told elsewhere: by a failure
/// of its own, or by the checks that a verification consists of.
fn is_explained(report: &Report, stage: &StageReport) -> bool {
    let has_failure = || {
        let mut failures = report.failures.iter();
        failures.any(|it| it.stage == Some(stage.stage))
    };
    match stage.end {
        StageEnd::Done => true,
        StageEnd::Failed => report.checks.failed > 0 || has_failure(),
        StageEnd::Inconclusive => report.checks.inconclusive > 0 || has_failure(),
        StageEnd::Interrupted | StageEnd::Unfinished => has_failure(),
    }
}

fn error(name: &str, message: &str, text: &str) -> TestCase {
    not_passed(NonSuccessKind::Error, name, message, text)
}

fn not_passed(kind: NonSuccessKind, name: &str, message: &str, text: &str) -> TestCase {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message);
    if !text.is_empty() {
        status.set_description(text);
    }
    TestCase::new(name, status)
}

fn details(failure: &Failure) -> String {
    format!(
        "{}\nexpected: {}\nseen: {}\nwhere: {}\nnext: {}",
        failure.what, failure.expected, failure.seen, failure.look_at, failure.next
    )
}

/// JUnit's library has its own type for times; RFC 3339 is what both speak.
fn timestamp<T: std::str::FromStr>(at: Timestamp) -> Option<T> {
    at.to_string().parse().ok()
}
