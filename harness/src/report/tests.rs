//! The renderers, over eight records that are also the golden form of `events.jsonl`,
//! and over whatever else a run may leave.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::exit::ExitCode;
use crate::run::comparison::{self, Comparison, Row};
use crate::run::event::{
    Check, Event, Failure, Happening, Host, Outcome, Part, Stage, StageResult, Threshold,
};

const SAMPLES: [(&str, &str, Verdict); 8] = [
    ("held", include_str!("samples/held.jsonl"), Verdict::Held),
    (
        "failed",
        include_str!("samples/failed.jsonl"),
        Verdict::Failed,
    ),
    (
        "inconclusive",
        include_str!("samples/inconclusive.jsonl"),
        Verdict::Inconclusive,
    ),
    (
        "interrupted",
        include_str!("samples/interrupted.jsonl"),
        Verdict::Interrupted,
    ),
    (
        "killed",
        include_str!("samples/killed.jsonl"),
        Verdict::Unfinished,
    ),
    ("load", include_str!("samples/load.jsonl"), Verdict::Held),
    (
        "regressed",
        include_str!("samples/regressed.jsonl"),
        Verdict::Failed,
    ),
    (
        "not-had",
        include_str!("samples/not-had.jsonl"),
        Verdict::NotHad,
    ),
];

/// A run folder that holds `record`.
fn run_folder(record: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(EVENTS_FILE), record).unwrap();
    folder
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn events(record: &str) -> Vec<Event> {
    events::read(run_folder(record.as_bytes()).path())
        .unwrap()
        .events
}

fn sample(name: &str) -> Vec<Event> {
    let (_, record, _) = SAMPLES.into_iter().find(|it| it.0 == name).unwrap();
    events(record)
}

/// The sum of failures and errors in `junit.xml`, by JUnit's own reader: it also proves
/// the file well-formed.
fn red_in_junit(report: &Report) -> usize {
    let xml = junit::render(report).unwrap();
    let junit = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    junit.failures + junit.errors
}

#[test]
fn each_sample_reads_as_it_ended() {
    for (name, record, verdict) in SAMPLES {
        let folder = run_folder(record.as_bytes());
        let report = render(folder.path()).unwrap();
        assert_eq!(report.verdict, verdict, "{name}");

        let mut lines = insta::Settings::clone_current();
        // One element a line: a snapshot's difference is read by people.
        lines.add_filter("(<(?:/?(?:head|body|header|main|section|article|footer|table|thead|tbody|tr|ul|dl|details)|li|div|h1|h2|h3|p|meta|title|th|td|summary|pre)[ >])", "\n$1");
        lines.add_filter("<style>(?s:.*)</style>", "<style>…</style>");
        lines.bind(|| {
            insta::assert_snapshot!(
                format!("{name}.index.html"),
                read(folder.path(), "index.html")
            );
        });
        for file in ["summary.md", "junit.xml", "report.json"] {
            insta::assert_snapshot!(format!("{name}.{file}"), read(folder.path(), file));
        }
    }
}

#[test]
fn report_json_reads_back_as_the_report() {
    for (name, record, _) in SAMPLES {
        let folder = run_folder(record.as_bytes());
        let report = render(folder.path()).unwrap();
        let json = read(folder.path(), "report.json");
        assert_eq!(
            serde_json::from_str::<Report>(&json).unwrap(),
            report,
            "{name}"
        );
    }
}

#[test]
fn rendering_leaves_nothing_else_and_may_be_repeated() {
    let folder = run_folder(SAMPLES[0].1.as_bytes());
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
        "report.json",
        "summary.md",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_run_killed_at_any_byte_renders_and_does_not_hold() {
    for (name, record, _) in SAMPLES {
        let bytes = record.as_bytes();
        let last_event = record.trim_end().rfind('\n').unwrap() + 1;
        for cut in (0..last_event).step_by(97) {
            let report = render(run_folder(&bytes[..cut]).path()).unwrap();
            assert_eq!(report.verdict, Verdict::Unfinished, "{name} cut at {cut}");
            assert!(red_in_junit(&report) > 0, "{name} cut at {cut}");
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
    assert_eq!(report.verdict, Verdict::Unfinished);
}

/// The held sample with `what` put before its last event, exit code 0.
fn held_but(what: Happening) -> Report {
    let mut events = sample("held");
    let at = events.last().unwrap().at;
    events.insert(events.len() - 1, Event { at, what });
    Report::from_events(&events)
}

#[test]
fn exit_code_0_is_not_believed_over_something_red() {
    let red = [
        Happening::CheckFinished {
            scenario: "smoke".into(),
            check: Check {
                name: "a late one".into(),
                millis: 1,
                outcome: Outcome::Failed { failure: failure() },
            },
        },
        Happening::Failed { failure: failure() },
        Happening::PartLost {
            part: "redis".into(),
            how: "exit code 1".into(),
            log: "logs/redis.log".into(),
        },
        Happening::StageFinished {
            stage: Stage::Teardown,
            millis: 1,
            result: StageResult::Failed,
        },
    ];
    for what in red {
        let report = held_but(what.clone());
        assert_eq!(report.verdict, Verdict::Failed, "{what:?}");
        assert!(
            report.headline().contains("exit code said 0"),
            "{}",
            report.headline()
        );
        assert!(red_in_junit(&report) > 0, "{what:?}");
    }
}

#[test]
fn exit_code_0_is_not_believed_over_an_inconclusive_check() {
    let report = held_but(Happening::CheckFinished {
        scenario: "smoke".into(),
        check: Check {
            name: "a late one".into(),
            millis: 1,
            outcome: Outcome::Inconclusive {
                because: "no request was measured".into(),
            },
        },
    });
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert_eq!(report.scenarios[0].result, ScenarioResult::Inconclusive);
    assert!(
        report.headline().contains("1 of 9 checks is inconclusive")
            && report.headline().contains("exit code said 0"),
        "{}",
        report.headline()
    );
    assert_eq!(red_in_junit(&report), 1, "the check, and nothing twice");
}

#[test]
fn exit_code_0_is_not_believed_without_evidence() {
    let without_checks = |keep: fn(&Happening) -> bool| {
        let mut events = sample("held");
        events.retain(|event| keep(&event.what));
        Report::from_events(&events)
    };
    let no_check = without_checks(|it| !matches!(it, Happening::CheckFinished { .. }));
    let no_end = without_checks(|it| !matches!(it, Happening::ScenarioFinished { .. }));
    let no_stage_end = without_checks(|it| !matches!(it, Happening::StageFinished { .. }));
    let all_skipped = without_checks(|it| {
        let Happening::CheckFinished { check, .. } = it else {
            return true;
        };
        matches!(check.outcome, Outcome::Skipped { .. })
    });
    for report in [no_check, no_end, no_stage_end, all_skipped] {
        assert_eq!(
            report.verdict,
            Verdict::Inconclusive,
            "{}",
            report.headline()
        );
        assert!(red_in_junit(&report) > 0);
    }
}

#[test]
fn a_run_without_scenarios_holds_and_says_that_it_proves_nothing() {
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
    assert_eq!(report.verdict, Verdict::Held);
    assert!(
        report.headline().contains("nothing is proven"),
        "{}",
        report.headline()
    );
    let xml = junit::render(&report).unwrap();
    let junit = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    let counts = (
        junit.tests,
        junit.skipped,
        junit.test_suites[0].name.as_str(),
    );
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
fn what_a_check_says_is_never_markup() {
    let hostile = "<script>alert('x')</script> | `code` \u{1b}[31m";
    let report = report_of([Happening::CheckFinished {
        scenario: hostile.into(),
        check: Check {
            name: hostile.into(),
            millis: 1,
            outcome: Outcome::Failed {
                failure: Failure {
                    what: hostile.into(),
                    expected: hostile.into(),
                    seen: hostile.into(),
                    look_at: hostile.into(),
                    next: "ls".into(),
                },
            },
        },
    }]);
    let page = html::render(&report);
    assert!(!page.contains("<script"));
    assert!(page.contains("&lt;script&gt;alert('x')&lt;/script&gt; | `code`"));
    let summary = summary::render(&report);
    assert!(summary.contains("| seen | &lt;script&gt;alert('x')&lt;/script&gt; \\| \\`code\\`"));
    assert_eq!(red_in_junit(&report), 2, "the check and the missing end");
}

#[test]
fn a_malformed_line_is_told_with_its_place() {
    let folder = run_folder(b"nonsense\n");
    let error = render(folder.path()).unwrap_err();
    let place = format!("{}:1", folder.path().join(EVENTS_FILE).display());
    assert!(error.to_string().starts_with(&place), "{error}");
    assert!(help(&error).contains("sed -n 1p"), "{}", help(&error));
}

#[test]
fn a_folder_without_a_record_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let error = render(folder.path()).unwrap_err();
    assert!(matches!(error, ReportError::NoRun { .. }), "{error}");
    assert!(help(&error).contains("ls -t target/reports"));
}

#[test]
fn a_full_disk_is_told_with_the_file_and_what_to_do() {
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
fn a_file_that_cannot_be_replaced_is_named_and_no_temporary_one_stays() {
    let folder = run_folder(SAMPLES[0].1.as_bytes());
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

/// The report of a run in which `happenings` happened, a millisecond apart.
fn report_of(happenings: impl IntoIterator<Item = Happening>) -> Report {
    let events: Vec<_> = happenings
        .into_iter()
        .enumerate()
        .map(|(millis, what)| Event {
            at: jiff::Timestamp::from_millisecond(millis as i64).unwrap(),
            what,
        })
        .collect();
    Report::from_events(&events)
}

proptest! {
    /// Any sequence is also a prefix of one: this covers runs killed at any point.
    #[test]
    fn any_sequence_renders_and_holds_only_when_it_may(events in any_sequence()) {
        let report = Report::from_events(&events);
        html::render(&report);
        summary::render(&report);
        let red = red_in_junit(&report);
        prop_assert_eq!(red == 0, report.verdict == Verdict::Held, "{:?}, {} red", report.verdict, red);
        if report.verdict == Verdict::Held {
            let finished = |event: &Event| matches!(event.what, Happening::RunFinished { exit_code: ExitCode::Held, .. });
            let failed = |event: &Event| matches!(&event.what, Happening::CheckFinished { check: Check { outcome: Outcome::Failed { .. } | Outcome::Inconclusive { .. }, .. }, .. });
            prop_assert!(events.iter().any(finished));
            prop_assert!(!events.iter().any(failed));
        }
        let json = serde_json::to_string(&report).unwrap();
        prop_assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}

/// Anything at all, or a run that held, with events lost and others mixed in.
fn any_sequence() -> impl Strategy<Value = Vec<Event>> {
    let held = sample("held");
    let kept = 0..=held.len();
    let disturbed = (
        prop::sample::subsequence(held, kept),
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
    let stage = || {
        prop::sample::select(vec![
            Stage::Plan,
            Stage::Provision,
            Stage::Deploy,
            Stage::Verify,
        ])
    };
    let result = prop::sample::select(vec![
        StageResult::Done,
        StageResult::Done,
        StageResult::Failed,
        StageResult::Inconclusive,
        StageResult::Interrupted,
    ]);
    let scenario = || prop::sample::select(vec!["smoke".to_owned(), "<outage>".to_owned()]);
    prop_oneof![
        any_text().prop_map(|run| Happening::RunStarted {
            run,
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
            how,
            log
        }),
        (scenario(), any_text())
            .prop_map(|(scenario, claim)| Happening::ScenarioStarted { scenario, claim }),
        (scenario(), any_check())
            .prop_map(|(scenario, check)| Happening::CheckFinished { scenario, check }),
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
        (prop::sample::select(ExitCode::ALL.to_vec()), any_millis())
            .prop_map(|(exit_code, millis)| Happening::RunFinished { exit_code, millis }),
    ]
}

fn any_comparison() -> impl Strategy<Value = Comparison> {
    let verdict = prop::sample::select(comparison::Verdict::ALL.to_vec());
    let row = (any_text(), any_text(), verdict).prop_map(|(endpoint, reason, verdict)| Row {
        endpoint,
        metric: "p95".into(),
        a: "1.00 ms".into(),
        b: "1.10 ms".into(),
        change: "+10.0 %".into(),
        verdict,
        reason,
    });
    let rows = prop::collection::vec(row, 0..3);
    let obstacles = prop::collection::vec(any_text(), 0..2);
    (any_text(), obstacles, rows).prop_map(|(of, obstacles, rows)| Comparison {
        of,
        verdict: comparison::Verdict::of(&obstacles, rows.iter().map(|row| row.verdict)),
        obstacles,
        rows,
    })
}

fn any_check() -> impl Strategy<Value = Check> {
    let outcome = prop_oneof![
        any_text().prop_map(|seen| Outcome::Passed { seen }),
        any_text().prop_map(|because| Outcome::Inconclusive { because }),
        any_text().prop_map(|because| Outcome::Skipped { because }),
        any_failure().prop_map(|failure| Outcome::Failed { failure }),
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
