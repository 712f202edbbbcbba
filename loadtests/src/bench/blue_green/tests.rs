use std::collections::BTreeMap;

use harness::blue_green::analysis::Thresholds;
use harness::blue_green::policy::Evidence;
use harness::blue_green::traffic::MetricNames;
use harness::prober::{Failure, Outcome as Ended};
use harness::run::event::Host;

use super::*;
use crate::bench::machine::Machine;
use crate::bench::results::Results;
use crate::bench::{Outcome, exit_code};

fn policy() -> Policy {
    Policy {
        lease: Duration::from_secs(30),
        green_ready: Duration::from_secs(120),
        baseline: Duration::from_secs(10),
        watch: Duration::from_secs(20),
        analysis: Evidence::Required,
        ingress: None,
        canary: None,
        prometheus: None,
        metrics: MetricNames::default(),
        warm_up: Duration::from_secs(4),
        drain: Duration::from_secs(10),
        thresholds: Thresholds {
            min_requests: 100,
            max_error_share: 0.01,
            max_error_increase: 0.005,
            latency_quantile: 0.95,
            max_latency_ratio: 2.0,
            min_latency_increase: Duration::from_millis(100),
            max_latency: None,
        },
        smoke: BTreeMap::new(),
    }
}

fn told(requests: u64, failed: u64, switch: Option<f64>, revert: Option<f64>) -> Told {
    let failure = Failure {
        outcome: Ended::Status(502),
        version: String::new(),
        instance: String::new(),
    };
    let failures = (failed > 0).then_some((failure, failed));
    let figures = Figures {
        requests,
        failures: failures.into_iter().collect(),
        longest_gap: 41_000,
        ..Figures::default()
    };
    Told {
        figures,
        switch,
        revert,
        behind: None,
    }
}

/// One round in which all that is stated holds: ours needs 1.5 s of its own.
fn round() -> Vec<Release> {
    let release = |by, quality, millis, told| Release {
        by,
        quality,
        millis,
        spans: None,
        told,
    };
    let spans = Spans {
        come_up: 7_000.0,
        end: 9_000.0,
    };
    let good = told(12_400, 0, Some(180.0), None);
    vec![
        Release {
            spans: Some(spans),
            ..release(By::Ours, Quality::Good, 57_500.0, good)
        },
        release(
            By::Ours,
            Quality::Bad,
            29_000.0,
            told(6_100, 160, None, Some(1_900.0)),
        ),
        release(
            By::Script,
            Quality::Good,
            22_000.0,
            told(7_200, 3, Some(2_010.0), None),
        ),
        release(
            By::Script,
            Quality::Bad,
            21_000.0,
            told(5_900, 2_250, None, Some(11_400.0)),
        ),
    ]
}

fn outcomes(releases: &[Release]) -> Vec<Outcome> {
    let judged = judge(releases, &policy()).verdicts;
    judged.iter().map(|verdict| verdict.outcome).collect()
}

#[test]
fn the_table_shows_both_side_by_side_and_judges_ours() {
    let machine = Machine {
        host: Host {
            system: "Debian GNU/Linux 12".into(),
            cores: 2,
            memory_mib: 16_000,
            processor: None,
        },
        load_average: None,
    };
    let at = "2026-03-02T09:00:00Z".parse().unwrap();
    let measured = vec![judge(&round(), &policy())];
    insta::assert_snapshot!(Results::new(at, machine, 1, measured));
}

#[test]
fn the_deployers_own_time_is_what_is_left() {
    let judged = judge(&round(), &policy());
    let own = judged.series.iter().find(|one| one.name == OWN_TIME);
    assert_eq!(own.unwrap().values, [1_500.0]);
}

#[test]
fn one_round_is_enough_to_break_what_is_never_exceeded() {
    use Outcome::{Failed, Held};
    assert_eq!(outcomes(&round()), [Held; 3]);
    let mut releases = round();
    releases.extend(round());
    releases[0].told = told(12_400, 1, Some(180.0), None);
    assert_eq!(outcomes(&releases), [Failed, Held, Held]);
    releases[4].millis = 59_000.0;
    assert_eq!(outcomes(&releases), [Failed, Failed, Held]);
    releases[5].told = told(6_100, 900, None, Some(5_000.0));
    assert_eq!(outcomes(&releases), [Failed; 3]);
}

#[test]
fn the_scripts_failures_are_shown_and_not_judged() {
    let mut releases = round();
    releases[2].told = told(7_200, 7_200, Some(60_000.0), None);
    assert_eq!(outcomes(&releases), [Outcome::Held; 3]);
}

#[test]
fn what_a_prober_saw_that_fell_behind_is_no_evidence() {
    let mut releases = round();
    for release in &mut releases {
        release.told.behind = Some("lag 29.0 ms".into());
    }
    use Outcome::{Held, NotMeasured};
    assert_eq!(outcomes(&releases), [NotMeasured, Held, NotMeasured]);
    let notes = judge(&releases, &policy()).notes;
    insta::assert_snapshot!(notes.last().unwrap(), @"in 4 of 4 releases the prober fell behind: their requests, switches and reverts are not counted");
}

#[test]
fn a_release_is_told_in_one_line() {
    let mut releases = round();
    insta::assert_snapshot!(releases[2], @"good release, the script: 3 of 7200 failed, in 22.0 s, switch in 2.01 s");
    releases[1].told.behind = Some("lag 29.0 ms".into());
    insta::assert_snapshot!(releases[1], @"bad release, ours: 160 of 6100 failed, in 29.0 s, revert in 1.90 s; not counted: lag 29.0 ms");
}

#[test]
fn where_there_is_no_engine_nothing_is_said_to_hold() {
    let measured = not_measured("no container engine answers");
    assert_eq!(measured.verdicts.len(), STATED.len());
    for verdict in &measured.verdicts {
        assert_eq!(verdict.outcome, Outcome::NotMeasured, "{verdict}");
    }
    insta::assert_snapshot!(measured.notes.join("\n"), @"blue-green releases were not measured: no container engine answers");
    let at = "2026-03-02T09:00:00Z".parse().unwrap();
    let results = Results::new(at, Machine::this(), 1, vec![measured]);
    assert_eq!(exit_code(&results), harness::exit::ExitCode::Inconclusive);
}

#[test]
fn each_is_first_in_turn() {
    assert_eq!(in_turn(1), [By::Script, By::Ours]);
    assert_eq!(in_turn(2), [By::Ours, By::Script]);
}
