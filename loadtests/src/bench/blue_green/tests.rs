use std::collections::BTreeMap;

use base::run::event::Host;
use blue_green::VersionSources;
use blue_green::analysis::Thresholds;
use blue_green::policy::Evidence;
use blue_green::traffic::MetricNames;
use kubernetes::prober::{AttributedFailure, RequestOutcome as Answered};

use super::killed::KillEnd;
use super::killed::tests::{killed, pods};
use super::*;
use crate::bench::results::{BenchResults, Machine};
use crate::bench::{FigureOutcome, exit_code};

pub(super) fn policy() -> Policy {
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
        versions: VersionSources::default(),
        smoke: BTreeMap::new(),
    }
}

/// With a revert, the breach was measurable 20 ms after the first bad answer.
fn traffic(requests: u64, failed: u64, switch: Option<f64>, revert: Option<f64>) -> TrafficFigures {
    let failure = AttributedFailure {
        outcome: Answered::Status(502),
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
    TrafficFigures {
        figures,
        switch,
        revert,
        once_measurable: revert.map(|millis| millis - 20.0),
        behind: None,
    }
}

/// A good release that takes `millis` and `memory`, of whose `requests` so many `failed`.
fn good(
    by: Contender,
    (millis, memory): (f64, f64),
    (requests, failed): (u64, u64),
    switch: f64,
) -> Release {
    let spans = Spans {
        come_up: 7_000.0,
        end: 9_000.0,
    };
    Release {
        attempt: BenchRelease {
            by,
            quality: Quality::Good,
            per_second: PER_SECOND,
        },
        millis,
        spans: (by == Contender::Ours).then_some(spans),
        memory: Some(memory),
        traffic: traffic(requests, failed, Some(switch), None),
    }
}

/// A release that is rolled back, of whose `requests` so many `failed`.
fn bad(
    by: Contender,
    (quality, per_second): (Quality, u64),
    (requests, failed): (u64, u64),
    revert: f64,
) -> Release {
    Release {
        attempt: BenchRelease {
            by,
            quality,
            per_second,
        },
        millis: 29_000.0,
        spans: None,
        memory: None,
        traffic: traffic(requests, failed, None, Some(revert)),
    }
}

/// A round in which all stated figures hold: our deployer needs 1.5 s itself.
fn round() -> Vec<Release> {
    use Contender::{Argo, Ours, Script};
    use Quality::{Bad, OneInTen};
    let ours = || good(Ours, (57_500.0, 38.0), (12_400, 0), 180.0);
    vec![
        ours(),
        ours(),
        ours(),
        bad(Ours, (Bad, PER_SECOND), (6_100, 160), 1_900.0),
        good(Argo, (34_000.0, 61.5), (9_800, 0), 210.0),
        bad(Argo, (Bad, PER_SECOND), (6_000, 290), 2_300.0),
        good(Script, (22_000.0, 49.2), (7_200, 3), 2_010.0),
        bad(Script, (Bad, PER_SECOND), (5_900, 2_250), 11_400.0),
        bad(Ours, (OneInTen, PER_SECOND), (6_500, 55), 2_800.0),
        bad(Ours, (OneInTen, FEW_PER_SECOND), (1_700, 19), 3_900.0),
    ]
}

fn measurements() -> ReleaseMeasurements {
    let by_itself = KillEnd::ByItself {
        millis: 45_000.0,
        left: pods("v2", 2, 0),
    };
    let by_hand = KillEnd::ByHand {
        waiting: pods("v2", 2, 2),
        millis: 38_200.0,
        left: pods("v2", 2, 0),
    };
    ReleaseMeasurements {
        releases: vec![round()],
        killed: vec![
            killed(Contender::Ours, by_hand),
            killed(Contender::Argo, by_itself),
        ],
        false_reverts: vec![0.002, 0.004],
        no_argo: None,
    }
}

fn outcomes(measurements: &ReleaseMeasurements) -> Vec<FigureOutcome> {
    let verdicts = evaluate(measurements, &policy()).verdicts;
    verdicts.iter().map(|verdict| verdict.outcome).collect()
}

/// The outcomes if all stated figures hold except these.
fn failed(names: &[&str]) -> Vec<FigureOutcome> {
    let outcome = |stated: &StatedFigure| match names.contains(&stated.series) {
        true => FigureOutcome::Failed,
        false => FigureOutcome::Held,
    };
    STATED.iter().map(outcome).collect()
}

#[test]
fn the_table_shows_all_side_by_side_and_evaluates_ours() {
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
    let measured = vec![evaluate(&measurements(), &policy())];
    insta::assert_snapshot!(BenchResults::new(at, machine, 1, measured));
}

#[test]
fn the_deployers_own_time_is_what_is_left() {
    let evaluated = evaluate(&measurements(), &policy());
    let own = evaluated.series.iter().find(|one| one.name == OWN_TIME);
    assert_eq!(own.unwrap().values, [1_500.0; 3]);
}

#[test]
fn one_bad_round_fails_a_stated_figure() {
    let mut measurements = measurements();
    assert_eq!(outcomes(&measurements), failed(&[]));
    measurements.releases.push(round());
    measurements.releases[0][1].traffic = traffic(12_400, 1, Some(180.0), None);
    let mut broken = vec![FAILED];
    assert_eq!(outcomes(&measurements), failed(&broken));
    measurements.releases[1][0].millis = 59_000.0;
    broken.push(OWN_TIME);
    assert_eq!(outcomes(&measurements), failed(&broken));
    measurements.releases[1][3].traffic = traffic(6_100, 900, None, Some(5_020.0));
    broken.push(REVERT);
    assert_eq!(outcomes(&measurements), failed(&broken));
    measurements.releases[1][8].traffic = traffic(6_500, 900, None, Some(5_020.0));
    broken.push(REVERT_OF_TENTH);
    assert_eq!(outcomes(&measurements), failed(&broken));
    measurements.releases[0][9].traffic = traffic(1_700, 900, None, Some(5_020.0));
    broken.push(REVERT_OF_FEW);
    assert_eq!(outcomes(&measurements), failed(&broken));
    measurements.false_reverts[1] = 0.011;
    broken.push(FALSE_REVERTS);
    assert_eq!(outcomes(&measurements), failed(&broken));
    assert_eq!(broken.len(), STATED.len());
}

#[test]
fn failures_of_the_others_are_shown_but_not_evaluated() {
    let mut measurements = measurements();
    for other in [4, 6] {
        measurements.releases[0][other].traffic = traffic(7_200, 7_200, Some(60_000.0), None);
    }
    assert_eq!(outcomes(&measurements), failed(&[]));
}

#[test]
fn fewer_requests_than_stated_are_not_a_measurement() {
    let mut measurements = measurements();
    measurements.releases[0][0].traffic = traffic(5_100, 0, Some(180.0), None);
    assert_eq!(outcomes(&measurements)[0], FigureOutcome::NotMeasured);
}

#[test]
fn without_argo_rollouts_the_others_are_measured() {
    let mut measurements = measurements();
    measurements.releases[0].retain(|it| it.attempt.by != Contender::Argo);
    measurements.no_argo = Some("no Go is found".into());
    assert_eq!(outcomes(&measurements), failed(&[]));
    let evaluated = evaluate(&measurements, &policy());
    assert!(evaluated.notes[1].contains("not measured: no Go is found"));
    let mut series = evaluated.series;
    series.retain(|one| one.name.contains("Argo"));
    assert!(!series.is_empty() && series.iter().all(|one| one.summary.is_none()));
}

#[test]
fn traffic_of_a_prober_that_fell_behind_is_not_counted() {
    let mut measurements = measurements();
    for release in measurements.releases.iter_mut().flatten() {
        release.traffic.behind = Some("lag 29.0 ms".into());
    }
    let measured = STATED.map(|stated| match stated.series {
        OWN_TIME | FALSE_REVERTS => FigureOutcome::Held,
        _ => FigureOutcome::NotMeasured,
    });
    assert_eq!(outcomes(&measurements), measured);
    let notes = evaluate(&measurements, &policy()).notes;
    insta::assert_snapshot!(notes.last().unwrap(), @"in 10 of 10 releases the prober fell behind: their requests, switches and reverts are not counted");
}

#[test]
fn a_release_is_reported_in_one_line() {
    let mut releases = round();
    insta::assert_snapshot!(releases[6], @"good release, the script: 3 of 7200 failed, in 22.0 s, switch in 2.01 s");
    insta::assert_snapshot!(releases[9], @"1 in 10 fails, ours: 19 of 1700 failed at 50/s, in 29.0 s, once measurable, revert in 3.88 s");
    releases[3].traffic.behind = Some("lag 29.0 ms".into());
    insta::assert_snapshot!(releases[3], @"bad release, ours: 160 of 6100 failed, in 29.0 s, once measurable, revert in 1.88 s; not counted: lag 29.0 ms");
}

#[test]
fn without_an_engine_no_stated_figure_holds() {
    let measured = not_measured("no container engine answers");
    assert_eq!(measured.verdicts.len(), STATED.len());
    for verdict in &measured.verdicts {
        assert_eq!(verdict.outcome, FigureOutcome::NotMeasured, "{verdict}");
    }
    insta::assert_snapshot!(measured.notes.join("\n"), @"blue-green releases were not measured: no container engine answers");
    let at = "2026-03-02T09:00:00Z".parse().unwrap();
    let results = BenchResults::new(at, Machine::this(), 1, vec![measured]);
    assert_eq!(exit_code(&results), base::exit::ExitCode::Inconclusive);
}

#[test]
fn each_contender_is_first_in_turn() {
    let first = [1, 2, 3].map(|round| rotated(round, Contender::ALL.into_iter())[0]);
    assert_eq!(first, [Contender::Argo, Contender::Script, Contender::Ours]);
}

#[test]
fn a_round_has_the_attempts_of_the_stated_figures() {
    let expected: Vec<_> = round().iter().map(|release| release.attempt).collect();
    assert_eq!(attempts(&Contender::ALL), expected);
    let without_argo = attempts(&[Contender::Ours, Contender::Script]);
    assert!(without_argo.iter().all(|it| it.by != Contender::Argo));
}

#[test]
fn good_versions_are_rarely_rolled_back_by_chance() {
    let shares = false_reverts(&policy());
    assert_eq!(shares.len(), 2);
    assert!(shares.iter().all(|share| *share <= 0.01), "{shares:?}");
}
