//! `junit.xml`: the report for CI.
//!
//! One test suite a scenario. What went wrong outside of checks becomes errors in a
//! suite named `run`, so that a CI that reads nothing else is red exactly when the
//! run did not hold.
//!
//! GitLab and Jenkins know a case by its class name (here its suite's) and its name, and show
//! one of two that share both: no two do.

mod text;

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use self::text::{Names, legible};
use super::model::{Report, ScenarioReport, ScenarioResult, StageEnd, StageReport};
use super::verdict::Verdict;
use crate::run::comparison::{self, Comparison, Row};
use crate::run::event::{Check, Failure, Outcome, Threshold};

/// The suite for what is no scenario's.
const RUN_SUITE: &str = "run";
const THRESHOLDS_SUITE: &str = "thresholds";
const VERDICTS_SUITE: &str = "verdicts";

/// Renders `junit.xml`.
pub(super) fn render(report: &Report) -> io::Result<String> {
    let command = format!("cargo xtask {}", report.command);
    let mut junit = quick_junit::Report::new(text::name(&command));
    junit.set_time(Duration::from_millis(report.millis));
    junit.timestamp = report.started_at.and_then(timestamp);
    // A scenario may be called as one of these is.
    let mut names = Names::beside([THRESHOLDS_SUITE, VERDICTS_SUITE, RUN_SUITE]);
    for scenario in &report.scenarios {
        let name = names.unique(&text::name(&scenario.scenario));
        junit.add_test_suite(scenario_suite(report, scenario, &name));
    }
    let others = [
        (
            THRESHOLDS_SUITE,
            report.thresholds.iter().map(threshold_case).collect(),
        ),
        (VERDICTS_SUITE, verdict_cases(report)),
        (RUN_SUITE, outside_of_checks(report)),
    ];
    for (name, cases) in others {
        if !Vec::is_empty(&cases) {
            junit.add_test_suite(suite(report, name, 0, report.millis, cases));
        }
    }
    junit.to_string().map_err(io::Error::other)
}

fn scenario_suite(report: &Report, scenario: &ScenarioReport, name: &str) -> TestSuite {
    let mut cases: Vec<_> = scenario.checks.iter().map(check_case).collect();
    if !scenario.finished {
        cases.push(error("finished", "the scenario did not finish", ""));
    } else if scenario.result == ScenarioResult::Unproven {
        cases.push(error("proven", "no check ran", ""));
    }
    let mut suite = suite(report, name, scenario.start_millis, scenario.millis, cases);
    suite.add_property(("claim", legible(&scenario.claim).as_str()));
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
    for (property, value) in [
        ("run", &report.run),
        ("target", &report.target),
        ("environment", &report.environment),
    ] {
        suite.add_property((property, legible(value).as_str()));
    }
    let mut names = Names::default();
    suite.add_test_cases(cases.into_iter().map(|mut case| {
        case.name = names.unique(&case.name).into();
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
            status.set_message(text::message(because));
            case(&check.name, status)
        }
    };
    case.set_time(Duration::from_millis(check.millis));
    case
}

fn inconclusive(name: &str, because: &str) -> TestCase {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type("inconclusive");
    status.set_message(text::message(because));
    case(name, status)
}

fn passed(name: &str, seen: &str) -> TestCase {
    let mut case = case(name, TestCaseStatus::success());
    case.set_system_out(legible(seen));
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
    // A pipeline follows a case by its name: that of the only comparison tells of no run.
    let several = report.comparisons.len() > 1;
    let of = |comparison: &Comparison| -> Vec<TestCase> {
        let because = comparison.obstacles.join("; ");
        let rows = comparison.rows.iter();
        let rows = rows.map(|row| verdict_case(several.then_some(comparison.of.as_str()), row));
        match comparison.rows.is_empty() {
            true => vec![inconclusive(&comparison.of, &because)],
            false => rows.collect(),
        }
    };
    report.comparisons.iter().flat_map(of).collect()
}

fn verdict_case(of: Option<&str>, row: &Row) -> TestCase {
    let of = of.map(|of| format!("{of} › ")).unwrap_or_default();
    let name = format!("{of}{} › {}", row.endpoint, row.metric);
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
            error(
                &stage.stage.to_string(),
                message,
                &legible(&report.headline()),
            )
        });
    let lost = report.lost_parts.iter().map(|lost| {
        let message = format!("{} was lost: {}", lost.part, lost.how);
        error(
            &lost.part,
            &message,
            &format!("where: {}", legible(&lost.log)),
        )
    });
    let mut cases: Vec<_> = failures.chain(stages).chain(lost).collect();
    let red_checks = report.checks.failed + report.checks.inconclusive;
    if cases.is_empty() && red_checks == 0 && report.verdict != Verdict::Held {
        cases.push(error(RUN_SUITE, &report.headline(), ""));
    }
    let judged = !report.thresholds.is_empty() || !report.comparisons.is_empty();
    if report.verdict == Verdict::Held && report.checks.total() == 0 && !judged {
        let mut status = TestCaseStatus::skipped();
        status.set_message(text::message(&report.headline()));
        cases.push(case("checks", status));
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
    status.set_message(text::message(message));
    if !text.is_empty() {
        status.set_description(text);
    }
    case(name, status)
}

fn case(name: &str, status: TestCaseStatus) -> TestCase {
    TestCase::new(text::name(name), status)
}

fn details(failure: &Failure) -> String {
    let Failure {
        what,
        expected,
        seen,
        look_at,
        next,
    } = failure;
    // One by one: a long answer leaves the others whole.
    let [what, expected, seen, look_at, next] =
        [what, expected, seen, look_at, next].map(|it| legible(it));
    format!("{what}\nexpected: {expected}\nseen: {seen}\nwhere: {look_at}\nnext: {next}")
}

/// JUnit's library has its own type for times; RFC 3339 is what both speak.
fn timestamp<T: std::str::FromStr>(at: Timestamp) -> Option<T> {
    at.to_string().parse().ok()
}
