//! Tests of the renderers, with ten sample records, which also fix the format of `events.jsonl`,
//! and with generated records.

mod charts;
mod junit_readers;
mod metrics;

use std::path::Path;

use proptest::prelude::*;

use super::*;
use base::exit::ExitCode;
use base::run::comparison::{self, ComparisonSummary, Interval, SummaryRow};
use base::run::event::{
    Check, CheckOutcome, Event, Failure, Happening, Host, LogExcerpt, Part, Stage, StageResult,
    Threshold,
};

const SAMPLES: [(&str, RunVerdict); 10] = [
    ("held", RunVerdict::Held),
    ("failed", RunVerdict::Failed),
    ("inconclusive", RunVerdict::Inconclusive),
    ("interrupted", RunVerdict::Interrupted),
    ("killed", RunVerdict::Unfinished),
    ("load", RunVerdict::Held),
    ("regressed", RunVerdict::Failed),
    ("release", RunVerdict::Failed),
    ("stress", RunVerdict::Failed),
    ("not-had", RunVerdict::NotHad),
];

fn record(sample: &str) -> String {
    let samples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/samples"));
    read(samples, &format!("{sample}.jsonl"))
}

/// Creates a run folder with this record.
fn run_folder(record: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(EVENTS), record).unwrap();
    folder
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn sample(name: &str) -> Vec<Event> {
    let folder = run_folder(record(name).as_bytes());
    events::read(folder.path()).unwrap().events
}

/// Returns the number of failures and errors in `junit.xml`, and checks that a reader parses it.
fn failures_in_junit(report: &Report) -> usize {
    let xml = junit::render(report).unwrap();
    let junit = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    junit.failures + junit.errors
}

#[test]
fn each_sample_renders_with_its_verdict() {
    for (name, verdict) in SAMPLES {
        let folder = run_folder(record(name).as_bytes());
        let report = render(folder.path()).unwrap();
        assert_eq!(report.verdict, verdict, "{name}");
        let json = read(folder.path(), "report.json");
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);

        let mut lines = insta::Settings::clone_current();
        // One element on each line, so that a difference is readable.
        lines.add_filter("(<(?:/?(?:head|body|header|main|section|article|footer|table|thead|tbody|tr|ul|dl|details)|li|div|h1|h2|h3|p|meta|title|th|td|summary|pre)[ >])", "\n$1");
        lines.add_filter("<(style|script)>(?s:.*?)</(?:style|script)>", "<$1>…</$1>");
        // The tests of charts are about these, and about the lists of numbers that they show.
        lines.add_filter(
            "<figcaption>(.*?)</figcaption>(?s:.*?)</figure>",
            "\n<figcaption>$1</figcaption>…</figure>",
        );
        lines.bind(|| {
            insta::assert_snapshot!(
                format!("{name}.index.html"),
                read(folder.path(), "index.html")
            );
        });
        for file in ["summary.md", "junit.xml", "metrics.txt"] {
            insta::assert_snapshot!(format!("{name}.{file}"), read(folder.path(), file));
        }
        let mut lists = insta::Settings::clone_current();
        lists.add_filter(r"\[[-0-9.,\snul\[\]]*[0-9l][-0-9.,\snul\[\]]*\]", "[…]");
        lists.bind(|| insta::assert_snapshot!(format!("{name}.report.json"), json));
    }
}

#[test]
fn rendering_creates_no_other_file_and_is_repeatable() {
    let folder = run_folder(record("held").as_bytes());
    render(folder.path()).unwrap();
    let first = read(folder.path(), "index.html");
    render(folder.path()).unwrap();
    assert_eq!(read(folder.path(), "index.html"), first);
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "events.jsonl",
        "index.html",
        "junit.xml",
        "metrics.txt",
        "report.json",
        "summary.md",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_run_killed_at_any_byte_renders_and_does_not_hold() {
    for (name, _) in SAMPLES {
        let record = record(name);
        let last_event = record.trim_end().rfind('\n').unwrap() + 1;
        for cut in (0..last_event).step_by(97.max(last_event / 60)) {
            let report = render(run_folder(&record.as_bytes()[..cut]).path()).unwrap();
            assert_eq!(
                report.verdict,
                RunVerdict::Unfinished,
                "{name} cut at {cut}"
            );
            assert!(failures_in_junit(&report) > 0, "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_run_killed_before_its_first_event_is_named_after_its_folder() {
    let folder = run_folder(b"");
    let report = render(folder.path()).unwrap();
    assert_eq!(
        Some(report.run.as_str()),
        folder.path().file_name().unwrap().to_str()
    );
    assert_eq!(report.verdict, RunVerdict::Unfinished);
}

/// Returns the report of the held sample, with `what` before its last event.
fn held_with(what: Happening) -> Report {
    let mut events = sample("held");
    let at = events.last().unwrap().at;
    events.insert(events.len() - 1, Event { at, what });
    Report::from_events(&events)
}

#[test]
fn a_failure_overrides_exit_code_0() {
    let failures = [
        checked("smoke", "a late one", failed(failure())),
        Happening::Failed { failure: failure() },
        Happening::PartLost {
            part: "redis".into(),
            is_service: false,
            how: "exit code 1".into(),
            log: "logs/redis.log".into(),
        },
        Happening::StageFinished {
            stage: Stage::Teardown,
            millis: 1,
            result: StageResult::Failed,
        },
    ];
    for what in failures {
        let report = held_with(what.clone());
        assert_eq!(report.verdict, RunVerdict::Failed, "{what:?}");
        let headline = &report.headline;
        assert!(headline.contains("exit code is 0"), "{headline}");
        assert!(failures_in_junit(&report) > 0, "{what:?}");
    }
}

#[test]
fn an_inconclusive_check_overrides_exit_code_0() {
    let because = "no request was measured".into();
    let outcome = CheckOutcome::Inconclusive { because };
    let report = held_with(checked("smoke", "a late one", outcome));
    assert_eq!(report.verdict, RunVerdict::Inconclusive);
    assert_eq!(report.scenarios[0].result, ScenarioResult::Inconclusive);
    let headline = &report.headline;
    assert!(
        headline.contains("1 of 9 checks is inconclusive"),
        "{headline}"
    );
    assert!(headline.contains("exit code is 0"), "{headline}");
    assert_eq!(failures_in_junit(&report), 1, "only the check");
}

#[test]
fn missing_evidence_overrides_exit_code_0() {
    let filtered = |keep: fn(&Happening) -> bool| {
        let mut events = sample("held");
        events.retain(|event| keep(&event.what));
        Report::from_events(&events)
    };
    let no_check = filtered(|it| !matches!(it, Happening::CheckFinished { .. }));
    let no_end = filtered(|it| !matches!(it, Happening::ScenarioFinished { .. }));
    let no_stage_end = filtered(|it| !matches!(it, Happening::StageFinished { .. }));
    let all_skipped = filtered(|it| {
        let Happening::CheckFinished { check, .. } = it else {
            return true;
        };
        matches!(check.outcome, CheckOutcome::Skipped { .. })
    });
    for report in [no_check, no_end, no_stage_end, all_skipped] {
        let headline = &report.headline;
        assert_eq!(report.verdict, RunVerdict::Inconclusive, "{headline}");
        assert!(failures_in_junit(&report) > 0);
    }
}

#[test]
fn a_run_without_scenarios_holds_and_proves_nothing() {
    let mut events = sample("held");
    events.retain(|event| {
        !matches!(
            event.what,
            Happening::ScenarioStarted { .. }
                | Happening::CheckFinished { .. }
                | Happening::ScenarioFinished { .. }
        )
    });
    let report = Report::from_events(&events);
    assert_eq!(report.verdict, RunVerdict::Held);
    let headline = &report.headline;
    assert!(headline.contains("nothing is proven"), "{headline}");
    let xml = junit::render(&report).unwrap();
    let junit = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    let suite = &junit.test_suites[0];
    let counts = (suite.tests, suite.skipped, suite.name.as_str());
    assert_eq!(counts, (1, 1, "run"));
}

#[test]
fn a_failure_belongs_to_the_overlapping_stage_that_failed() {
    let started = |stage| Happening::StageStarted { stage };
    let finished = |stage, result| Happening::StageFinished {
        stage,
        millis: 1,
        result,
    };
    let report = report_of([
        started(Stage::Provision),
        started(Stage::Deploy),
        Happening::Failed { failure: failure() },
        finished(Stage::Provision, StageResult::Failed),
        finished(Stage::Deploy, StageResult::Interrupted),
        Happening::Failed { failure: failure() },
        started(Stage::Teardown),
        Happening::Failed { failure: failure() },
    ]);
    let stages: Vec<_> = report.failures.iter().map(|it| it.stage).collect();
    assert_eq!(
        stages,
        [
            Some(Stage::Provision),
            Some(Stage::Provision),
            Some(Stage::Teardown)
        ]
    );
}

#[test]
fn text_of_a_check_is_never_markup() {
    let hostile = "<script>alert('x')</script> | `code` \u{1b}[31m";
    let outcome = failed(Failure {
        what: hostile.into(),
        expected: hostile.into(),
        seen: hostile.into(),
        look_at: hostile.into(),
        next: "ls".into(),
    });
    let report = report_of([checked(hostile, hostile, outcome)]);
    let page = html::render(&report);
    assert!(!page.contains("<script"));
    assert!(page.contains("&lt;script&gt;alert('x')&lt;/script&gt; | `code`"));
    let summary = summary::render(&report);
    assert!(summary.contains("| seen | &lt;script&gt;alert('x')&lt;/script&gt; \\| \\`code\\`"));
    assert_eq!(
        failures_in_junit(&report),
        2,
        "the check and the missing end"
    );
}

#[test]
fn an_error_names_the_malformed_line() {
    let folder = run_folder(b"nonsense\n");
    let error = render(folder.path()).unwrap_err();
    let place = format!("{}:1", folder.path().join(EVENTS).display());
    assert!(error.to_string().starts_with(&place), "{error}");
    assert!(help(&error).contains("sed -n 1p"), "{}", help(&error));
}

#[test]
fn a_folder_without_a_record_is_an_error_with_help() {
    let folder = tempfile::tempdir().unwrap();
    let error = render(folder.path()).unwrap_err();
    assert!(matches!(error, ReportError::NoRun { .. }), "{error}");
    assert!(help(&error).contains("ls -t target/reports"));
}

#[test]
fn a_full_disk_is_an_error_with_the_file_and_help() {
    let path = Path::new("/reports/a-run/index.html");
    let full = io::Error::from_raw_os_error(nix::libc::ENOSPC);
    let error = ReportError::writing(path, full);
    assert!(matches!(error, ReportError::DiskFull { .. }));
    assert!(
        error.to_string().contains("/reports/a-run/index.html"),
        "{error}"
    );
    assert!(help(&error).contains("df -h /reports/a-run"));
}

#[test]
fn a_file_that_cannot_be_replaced_is_named_and_no_temporary_file_remains() {
    let folder = run_folder(record("held").as_bytes());
    std::fs::create_dir(folder.path().join("junit.xml")).unwrap();
    let error = render(folder.path()).unwrap_err();
    assert!(matches!(&error, ReportError::Unwritable { path, .. } if path.ends_with("junit.xml")));
    let leftover = std::fs::read_dir(folder.path()).unwrap().any(|entry| {
        let name = entry.unwrap().file_name();
        name.to_string_lossy().starts_with(".report-")
    });
    assert!(!leftover);
}

fn help(error: &ReportError) -> String {
    miette::Diagnostic::help(error).unwrap().to_string()
}

fn failure() -> Failure {
    Failure {
        what: "it broke".into(),
        expected: "whole".into(),
        seen: "broken".into(),
        look_at: "logs/it.log".into(),
        next: "ls".into(),
    }
}

/// Returns the report of a run with these happenings, a millisecond apart.
fn report_of(happenings: impl IntoIterator<Item = Happening>) -> Report {
    let events = (0..).zip(happenings).map(|(millis, what)| Event {
        at: jiff::Timestamp::from_millisecond(millis).unwrap(),
        what,
    });
    Report::from_events(&events.collect::<Vec<_>>())
}

/// Returns the (class name, name) of each case and the suites of `junit.xml`, by an XML reader.
fn names_in_junit(report: &Report) -> (Vec<(String, String)>, Vec<String>) {
    use quick_xml::events::Event as Xml;
    let xml = junit::render(report).unwrap();
    let allowed = |it: char| matches!(it, '\n' | ' '..='\u{fffd}' | '\u{10000}'..);
    assert!(xml.chars().all(allowed), "XML 1.0 forbids a character");
    let mut reader = quick_xml::Reader::from_str(&xml);
    let (mut cases, mut suites) = (Vec::new(), Vec::new());
    loop {
        match reader.read_event().unwrap() {
            Xml::Start(it) | Xml::Empty(it) => {
                let attribute = |name: &str| {
                    let found = it.try_get_attribute(name).unwrap().unwrap();
                    let value = found.normalized_value(quick_xml::XmlVersion::Explicit1_0);
                    value.unwrap().into_owned()
                };
                match it.name().as_ref() {
                    b"testcase" => cases.push((attribute("classname"), attribute("name"))),
                    b"testsuite" => suites.push(attribute("name")),
                    _ => {}
                }
            }
            Xml::Eof => return (cases, suites),
            _ => {}
        }
    }
}

fn all_differ<T: std::hash::Hash + Eq>(all: &[T]) -> bool {
    all.iter().collect::<std::collections::HashSet<_>>().len() == all.len()
}

fn checked(scenario: &str, name: &str, outcome: CheckOutcome) -> Happening {
    Happening::CheckFinished {
        scenario: scenario.into(),
        check: Check {
            name: name.into(),
            millis: 1,
            outcome,
        },
    }
}

fn failed(failure: Failure) -> CheckOutcome {
    CheckOutcome::Failed { failure }
}

#[test]
fn cases_and_suites_with_the_same_name_are_numbered() {
    let report = report_of([
        Happening::StageStarted { stage: Stage::Load },
        Happening::Failed { failure: failure() },
        Happening::Failed { failure: failure() },
        // A scenario with the name of a suite, and checks whose names look the same to a reader.
        checked("run", "a b", failed(failure())),
        checked("run", "a\nb", failed(failure())),
        checked("run", " a\tb (2)", failed(failure())),
    ]);
    let (cases, suites) = names_in_junit(&report);
    let cases: Vec<_> = cases.iter().map(|(of, it)| format!("{of}: {it}")).collect();
    assert_eq!(
        cases,
        [
            "run (2): a b",
            "run (2): a b (2)",
            "run (2): a b (2) (2)",
            "run (2): finished",
            "run: load",
            "run: load (2)",
        ]
    );
    assert_eq!(suites, ["run (2)", "run"]);
}

#[test]
fn junit_is_bounded_and_a_long_text_removes_no_other() {
    let unfinished = "\u{1b}]0;title";
    let hostile = format!("{unfinished}\0\u{fffe}]]>{}", "\u{8}é".repeat(3_000_000));
    let outcome = failed(Failure {
        seen: hostile.clone(),
        ..failure()
    });
    let report = report_of([checked("smoke", &hostile, outcome)]);
    names_in_junit(&report);
    let xml = junit::render(&report).unwrap();
    assert!(xml.len() < 128 * 1024, "{} bytes", xml.len());
    assert!(
        xml.contains("seen: ␛]0;title␀\u{fffd}]]&gt;␈é"),
        "{}",
        &xml[..2000]
    );
    assert!(xml.contains("more bytes)\nwhere: logs/it.log\nnext: ls</failure>"));
}

proptest! {
    #[test]
    fn no_two_cases_and_no_two_suites_of_junit_share_their_names(events in any_sequence()) {
        let report = Report::from_events(&events);
        junit_readers::assert_readable(&report);
        let (cases, suites) = names_in_junit(&report);
        prop_assert!(all_differ(&cases), "{cases:?}");
        prop_assert!(all_differ(&suites), "{suites:?}");
    }

    /// Any sequence is also a prefix of one, so this covers runs killed at any point.
    #[test]
    fn any_sequence_renders_and_holds_only_without_failures(events in any_sequence()) {
        let report = Report::from_events(&events);
        html::render(&report);
        summary::render(&report);
        metrics::assert_valid(&openmetrics::render(&report).unwrap());
        let failures = failures_in_junit(&report);
        prop_assert_eq!(failures == 0, report.verdict == RunVerdict::Held, "{:?}, {}", report.verdict, failures);
        if report.verdict == RunVerdict::Held {
            let finished = |event: &Event| matches!(event.what, Happening::RunFinished { exit_code: ExitCode::Held, .. });
            let failed = |event: &Event| matches!(&event.what, Happening::CheckFinished { check: Check { outcome: CheckOutcome::Failed { .. } | CheckOutcome::Inconclusive { .. }, .. }, .. });
            prop_assert!(events.iter().any(finished));
            prop_assert!(!events.iter().any(failed));
        }
        let json = serde_json::to_string(&report).unwrap();
        prop_assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}

/// Any events, or the held sample with some events removed and others inserted.
fn any_sequence() -> impl Strategy<Value = Vec<Event>> {
    let held = sample("held");
    let remaining = 0..=held.len();
    let disturbed = (
        prop::sample::subsequence(held, remaining),
        prop::collection::vec((any::<prop::sample::Index>(), any_event()), 0..3),
    )
        .prop_map(|(mut events, others)| {
            for (index, event) in others {
                events.insert(index.index(events.len() + 1), event);
            }
            events
        });
    prop_oneof![prop::collection::vec(any_event(), 0..40), disturbed]
}

fn any_event() -> impl Strategy<Value = Event> {
    // The clock may be set back in the middle of a run.
    (0_i64..100_000, any_happening()).prop_map(|(millis, what)| Event {
        at: jiff::Timestamp::from_millisecond(millis).unwrap(),
        what,
    })
}

fn any_happening() -> impl Strategy<Value = Happening> {
    use Stage::{Deploy, Plan, Provision, Verify};
    let stage = || prop::sample::select(vec![Plan, Provision, Deploy, Verify]);
    let result = prop::sample::select(vec![
        StageResult::Done,
        StageResult::Done,
        StageResult::Failed,
        StageResult::Inconclusive,
        StageResult::Interrupted,
    ]);
    let scenario =
        || prop::sample::select(vec!["smoke", "<outage>", "run"]).prop_map(str::to_owned);
    prop_oneof![
        any_text().prop_map(|run| Happening::RunStarted {
            run,
            platform: "TRII".into(),
            command: "e2e".into(),
            target: "local".into(),
            environment: "default".into(),
            host: Host {
                system: "Linux".into(),
                cores: 1,
                memory_mib: 512,
                processor: None
            },
        }),
        (any_text(), any::<bool>())
            .prop_map(|(commit, dirty)| Happening::Checkout { commit, dirty }),
        any_text().prop_map(|version| Happening::PlatformVersion { version }),
        stage().prop_map(|stage| Happening::StageStarted { stage }),
        (stage(), any_text(), any_millis()).prop_map(|(stage, step, millis)| Happening::Step {
            stage,
            step,
            millis
        }),
        (stage(), any_text()).prop_map(|(stage, text)| Happening::Note { stage, text }),
        (stage(), any_millis(), result).prop_map(|(stage, millis, result)| {
            Happening::StageFinished {
                stage,
                millis,
                result,
            }
        }),
        (any_text(), any_text()).prop_map(|(name, log)| Happening::EnvironmentUp {
            parts: vec![Part {
                name,
                runs_as: "process 1".into(),
                address: "127.0.0.1:1".into(),
                metrics: None,
                log: Some(log)
            }]
        }),
        (any_text(), any_text(), any_text()).prop_map(|(part, how, log)| Happening::PartLost {
            part,
            is_service: true,
            how,
            log
        }),
        (scenario(), any_text())
            .prop_map(|(scenario, claim)| Happening::ScenarioStarted { scenario, claim }),
        (scenario(), any_check())
            .prop_map(|(scenario, check)| Happening::CheckFinished { scenario, check }),
        (scenario(), any_text(), any_text(), any_text()).prop_map(|(scenario, part, log, line)| {
            Happening::LogLines {
                scenario,
                logs: vec![LogExcerpt {
                    part,
                    log: Some(log),
                    lines: vec![line.clone(), line],
                    left_out: 2,
                }],
            }
        }),
        (scenario(), any_millis())
            .prop_map(|(scenario, millis)| Happening::ScenarioFinished { scenario, millis }),
        any_failure().prop_map(|failure| Happening::Failed { failure }),
        (any_text(), any_text(), any_text(), any::<bool>()).prop_map(
            |(of, threshold, seen, holds)| Happening::ThresholdJudged {
                threshold: Threshold {
                    of,
                    threshold,
                    seen,
                    holds
                }
            }
        ),
        any_comparison().prop_map(|comparison| Happening::Compared { comparison }),
        charts::any_measurement(),
        (prop::sample::select(ExitCode::ALL.to_vec()), any_millis())
            .prop_map(|(exit_code, millis)| Happening::RunFinished { exit_code, millis }),
    ]
}

fn any_comparison() -> impl Strategy<Value = ComparisonSummary> {
    let verdict = prop::sample::select(comparison::ComparisonVerdict::ALL.to_vec());
    let row =
        (any_text(), any_text(), verdict).prop_map(|(endpoint, reason, verdict)| SummaryRow {
            endpoint,
            metric: "p95".into(),
            a: "1.00 ms".into(),
            b: "1.10 ms".into(),
            change: "+10.0 %".into(),
            worse_by: Some(Interval {
                low: -0.5,
                change: f64::MAX,
                high: 1e30,
            }),
            verdict,
            reason,
        });
    let rows = prop::collection::vec(row, 0..3);
    let obstacles = prop::collection::vec(any_text(), 0..2);
    (any_text(), obstacles, rows).prop_map(|(of, obstacles, rows)| ComparisonSummary {
        of,
        verdict: comparison::ComparisonVerdict::of(&obstacles, rows.iter().map(|row| row.verdict)),
        obstacles,
        rows,
    })
}

fn any_check() -> impl Strategy<Value = Check> {
    let outcome = prop_oneof![
        any_text().prop_map(|seen| CheckOutcome::Passed { seen }),
        any_text().prop_map(|because| CheckOutcome::Inconclusive { because }),
        any_text().prop_map(|because| CheckOutcome::Skipped { because }),
        any_failure().prop_map(|failure| CheckOutcome::Failed { failure }),
    ];
    (any_text(), any_millis(), outcome).prop_map(|(name, millis, outcome)| Check {
        name,
        millis,
        outcome,
    })
}

fn any_failure() -> impl Strategy<Value = Failure> {
    (any_text(), any_text(), any_text(), any_text(), any_text()).prop_map(
        |(what, expected, seen, look_at, next)| Failure {
            what,
            expected,
            seen,
            look_at,
            next,
        },
    )
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,12}", "[<>&|`*\\\\\"'\n\r\t\u{0}\u{1b}é]{0,12}"]
}

fn any_millis() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_000_u64, Just(u64::MAX)]
}
