//! `junit.xml`: the report for CI.
//!
//! Each scenario is a test suite. Failures outside of checks are errors in the suite `run`. So a CI
//! that reads this file fails exactly if the run did not hold.
//!
//! What the readers ask for, which `tests::junit_readers` checks:
//!
//! - GitLab and Jenkins identify a case by its class name (here its suite's) and its name, and show
//!   only one of two with the same. No two cases here have the same.
//! - The xUnit plugin of Jenkins refuses a file that its schema, `junit-10.xsd`, does not accept.
//! - GitLab and dorny/test-reporter show the text of a failure and not its message, so the text
//!   has the message. The latter also needs a time of each case.

mod text;

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use self::text::{UniqueNames, legible};
use super::model::{Report, RunVerdict, ScenarioReport, ScenarioResult, StageEnd, StageReport};
use base::run::comparison::{self, ComparisonSummary, SummaryRow};
use base::run::event::{Check, CheckOutcome, Failure, Threshold};

/// The suite of results outside of scenarios.
const RUN_SUITE: &str = "run";
const THRESHOLDS_SUITE: &str = "thresholds";
const VERDICTS_SUITE: &str = "verdicts";

/// Renders `junit.xml`.
pub(super) fn render(report: &Report) -> io::Result<String> {
    let command = format!("cargo xtask {}", report.command);
    let mut junit = quick_junit::Report::new(text::name(&command));
    junit.set_time(Duration::from_millis(report.millis));
    // A scenario may have the name of one of these.
    let mut names = UniqueNames::beside([THRESHOLDS_SUITE, VERDICTS_SUITE, RUN_SUITE]);
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
    let xml = junit.to_string().map_err(io::Error::other)?;
    Ok(without_skipped_of_root(&xml, junit.skipped))
}

/// Removes an attribute of the root, the first element, which `junit-10.xsd` does not have.
fn without_skipped_of_root(xml: &str, skipped: usize) -> String {
    xml.replacen(&format!(" skipped=\"{skipped}\""), "", 1)
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
        ("platform", &report.platform),
        ("target", &report.target),
        ("environment", &report.environment),
    ] {
        suite.add_property((property, legible(value).as_str()));
    }
    let mut names = UniqueNames::default();
    suite.add_test_cases(cases.into_iter().map(|mut case| {
        case.name = names.unique(&case.name).into();
        case.set_classname(name);
        case
    }));
    suite
}

fn check_case(check: &Check) -> TestCase {
    let mut case = match &check.outcome {
        CheckOutcome::Passed { seen } => passed(&check.name, seen),
        CheckOutcome::Failed { failure } => {
            failed(&check.name, "check", &failure.what, &details(failure))
        }
        // JUnit has no such status: an error, which does not look like a pass.
        CheckOutcome::Inconclusive { because } => inconclusive(&check.name, because),
        CheckOutcome::Skipped { because } => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(text::message(because));
            case(&check.name, status)
        }
    };
    case.set_time(Duration::from_millis(check.millis));
    case
}

fn inconclusive(name: &str, because: &str) -> TestCase {
    let error = NonSuccessKind::Error;
    not_passed(error, name, "inconclusive", because, "")
}

fn passed(name: &str, seen: &str) -> TestCase {
    let mut case = case(name, TestCaseStatus::success());
    case.set_system_out(legible(seen));
    case
}

fn threshold_case(threshold: &Threshold) -> TestCase {
    let name = format!("{} › {}", threshold.of, threshold.threshold);
    match threshold.holds {
        true => passed(&name, &threshold.seen),
        false => failed(&name, "threshold", &threshold.seen, ""),
    }
}

/// Returns one case for each metric of each endpoint. If nothing can be compared, one for that.
fn verdict_cases(report: &Report) -> Vec<TestCase> {
    // Pipelines track a case by its name: that of a single comparison must not depend on the run.
    let several = report.comparisons.len() > 1;
    let of = |comparison: &ComparisonSummary| -> Vec<TestCase> {
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

fn verdict_case(of: Option<&str>, row: &SummaryRow) -> TestCase {
    let of = of.map(|of| format!("{of} › ")).unwrap_or_default();
    let name = format!("{of}{} › {}", row.endpoint, row.metric);
    let seen = format!("{}: {}", row.verdict, row.reason);
    match row.verdict {
        comparison::ComparisonVerdict::Unchanged | comparison::ComparisonVerdict::Improved => {
            passed(&name, &seen)
        }
        comparison::ComparisonVerdict::Inconclusive
        | comparison::ComparisonVerdict::NotComparable => inconclusive(&name, &seen),
        comparison::ComparisonVerdict::Regressed => failed(&name, "regression", &seen, ""),
    }
}

/// Returns the cases of the suite `run`: an error for each failure outside of checks. At least one
/// if the run did not hold and the file has no other failure, and none if the run held.
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
                StageEnd::Inconclusive => "the stage is inconclusive",
                StageEnd::Done | StageEnd::Failed => "the stage failed",
            };
            error(
                &stage.stage.to_string(),
                message,
                &legible(&report.headline),
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
    let bad_checks = report.checks.failed + report.checks.inconclusive;
    if cases.is_empty() && bad_checks == 0 && report.verdict != RunVerdict::Held {
        cases.push(error(RUN_SUITE, &report.headline, ""));
    }
    let judged = !report.thresholds.is_empty() || !report.comparisons.is_empty();
    if report.verdict == RunVerdict::Held && report.checks.total() == 0 && !judged {
        let mut status = TestCaseStatus::skipped();
        status.set_message(text::message(&report.headline));
        cases.push(case("checks", status));
    }
    cases
}

/// Whether the stage is done, or the file reports its failure elsewhere, as a failure or a check.
fn is_explained(report: &Report, stage: &StageReport) -> bool {
    let mut failures = report.failures.iter();
    let has_failure = failures.any(|it| it.stage == Some(stage.stage));
    match stage.end {
        StageEnd::Done => true,
        StageEnd::Failed => report.checks.failed > 0 || has_failure,
        StageEnd::Inconclusive => report.checks.inconclusive > 0 || has_failure,
        StageEnd::Interrupted | StageEnd::Unfinished => has_failure,
    }
}

/// An error outside of checks.
fn error(name: &str, message: &str, more: &str) -> TestCase {
    not_passed(NonSuccessKind::Error, name, "run", message, more)
}

fn failed(name: &str, of: &str, message: &str, more: &str) -> TestCase {
    not_passed(NonSuccessKind::Failure, name, of, message, more)
}

/// A case whose failure is of the type `of`. Its text is the message, then `more`.
fn not_passed(kind: NonSuccessKind, name: &str, of: &str, message: &str, more: &str) -> TestCase {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(of);
    status.set_message(text::message(message));
    status.set_description(match more {
        "" => legible(message),
        more => format!("{}\n{more}", legible(message)),
    });
    case(name, status)
}

/// A case, with the time 0 until it is set.
fn case(name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(text::name(name), status);
    case.set_time(Duration::ZERO);
    case
}

/// Returns the details of a failure, without the problem itself, which the message has.
fn details(failure: &Failure) -> String {
    let Failure {
        what: _,
        expected,
        seen,
        look_at,
        next,
    } = failure;
    // Each is shortened separately, so that one long text does not remove the others.
    let [expected, seen, look_at, next] = [expected, seen, look_at, next].map(|text| legible(text));
    format!("expected: {expected}\nseen: {seen}\nwhere: {look_at}\nnext: {next}")
}

/// Converts to the time type of quick-junit, by RFC 3339.
fn timestamp<T: std::str::FromStr>(at: Timestamp) -> Option<T> {
    at.to_string().parse().ok()
}
