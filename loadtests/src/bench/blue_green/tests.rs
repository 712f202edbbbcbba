use std::collections::BTreeMap;

use harness::blue_green::analysis::Thresholds;
use harness::blue_green::policy::Evidence;
use harness::blue_green::traffic::MetricNames;
use harness::prober::{Failure, Outcome as Answered};
use harness::run::event::Host;

use super::killed::Ended;
use super::killed::tests::{killed, pods};
use super::*;
use crate::bench::machine::Machine;
use crate::bench::results::Results;
use crate::bench::{Outcome, exit_code};

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
        smoke: BTreeMap::new(),
    }
}

/// Where there is a revert, the breach was measurable 20 ms after the first bad answer.
fn told(requests: u64, failed: u64, switch: Option<f64>, revert: Option<f64>) -> Told {
    let failure = Failure {
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
    Told {
        figures,
        switch,
        revert,
        once_measurable: revert.map(|it| it - 20.0),
        behind: None,
    }
}

fn good(by: By, millis: f64, memory: f64, told: Told) -> Release {
    let spans = Spans {
        come_up: 7_000.0,
        end: 9_000.0,
    };
    Release {
        attempt: Attempt {
            by,
            quality: Quality::Good,
            per_second: PER_SECOND,
        },
        millis,
        spans: (by == By::Ours).then_some(spans),
        memory: Some(memory),
        told,
    }
}

fn bad(by: By, quality: Quality, per_second: u64, told: Told) -> Release {
    Release {
        attempt: Attempt {
            by,
            quality,
            per_second,
        },
        millis: 29_000.0,
        spans: None,
        memory: None,
        told,
    }
}

/// One round in which all that is stated holds: ours needs 1.5 s of its own.
fn round() -> Vec<Release> {
    let ours = || {
        let told = told(12_400, 0, Some(180.0), None);
        good(By::Ours, 57_500.0, 38.0, told)
    };
    let reverted = |requests, failed, revert| told(requests, failed, None, Some(revert));
    use Quality::{Bad, OneInTen};
    vec![
        ours(),
        ours(),
        ours(),
        bad(By::Ours, Bad, PER_SECOND, reverted(6_100, 160, 1_900.0)),
        good(By::Argo, 34_000.0, 61.5, told(9_800, 0, Some(210.0), None)),
        bad(By::Argo, Bad, PER_SECOND, reverted(6_000, 290, 2_300.0)),
        good(
            By::Script,
            22_000.0,
            49.2,
            told(7_200, 3, Some(2_010.0), None),
        ),
        bad(
            By::Script,
            Bad,
            PER_SECOND,
            reverted(5_900, 2_250, 11_400.0),
        ),
        bad(By::Ours, OneInTen, PER_SECOND, reverted(6_500, 55, 2_800.0)),
        bad(
            By::Ours,
            OneInTen,
            FEW_PER_SECOND,
            reverted(1_700, 19, 3_900.0),
        ),
    ]
}

fn seen() -> Seen {
    let by_itself = Ended::ByItself {
        millis: 45_000.0,
        left: pods("v2", 2, 0),
    };
    let by_hand = Ended::ByHand {
        waiting: pods("v2", 2, 2),
        millis: 38_200.0,
        left: pods("v2", 2, 0),
    };
    Seen {
        releases: vec![round()],
        killed: vec![killed(By::Ours, by_hand), killed(By::Argo, by_itself)],
        false_reverts: vec![0.002, 0.004],
        no_argo: None,
    }
}

fn outcomes(seen: &Seen) -> Vec<Outcome> {
    let judged = judge(seen, &policy()).verdicts;
    judged.iter().map(|verdict| verdict.outcome).collect()
}

/// What is told where all that is stated holds but the figures of these names.
fn failed(names: &[&str]) -> Vec<Outcome> {
    let outcome = |stated: &Threshold| match names.contains(&stated.series) {
        true => Outcome::Failed,
        false => Outcome::Held,
    };
    STATED.iter().map(outcome).collect()
}

#[test]
fn the_table_shows_all_side_by_side_and_judges_ours() {
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
    let measured = vec![judge(&seen(), &policy())];
    insta::assert_snapshot!(Results::new(at, machine, 1, measured));
}

#[test]
fn the_deployers_own_time_is_what_is_left() {
    let judged = judge(&seen(), &policy());
    let own = judged.series.iter().find(|one| one.name == OWN_TIME);
    assert_eq!(own.unwrap().values, [1_500.0; 3]);
}

#[test]
fn one_round_is_enough_to_break_what_is_never_exceeded() {
    let mut seen = seen();
    assert_eq!(outcomes(&seen), failed(&[]));
    seen.releases.push(round());
    seen.releases[0][1].told = told(12_400, 1, Some(180.0), None);
    let mut broken = vec![FAILED];
    assert_eq!(outcomes(&seen), failed(&broken));
    seen.releases[1][0].millis = 59_000.0;
    broken.push(OWN_TIME);
    assert_eq!(outcomes(&seen), failed(&broken));
    seen.releases[1][3].told = told(6_100, 900, None, Some(5_020.0));
    broken.push(REVERT);
    assert_eq!(outcomes(&seen), failed(&broken));
    seen.releases[1][8].told = told(6_500, 900, None, Some(5_020.0));
    broken.push(REVERT_OF_TENTH);
    assert_eq!(outcomes(&seen), failed(&broken));
    seen.releases[0][9].told = told(1_700, 900, None, Some(5_020.0));
    broken.push(REVERT_OF_FEW);
    assert_eq!(outcomes(&seen), failed(&broken));
    seen.false_reverts[1] = 0.011;
    broken.push(FALSE_REVERTS);
    assert_eq!(outcomes(&seen), failed(&broken));
    assert_eq!(broken.len(), STATED.len());
}

#[test]
fn what_others_fail_is_shown_and_not_judged() {
    let mut seen = seen();
    for other in [4, 6] {
        seen.releases[0][other].told = told(7_200, 7_200, Some(60_000.0), None);
    }
    assert_eq!(outcomes(&seen), failed(&[]));
}

#[test]
fn fewer_requests_than_are_stated_prove_nothing() {
    let mut seen = seen();
    seen.releases[0][0].told = told(5_100, 0, Some(180.0), None);
    assert_eq!(outcomes(&seen)[0], Outcome::NotMeasured);
}

#[test]
fn where_argo_rollouts_is_not_to_be_had_the_others_are_measured() {
    let mut seen = seen();
    seen.releases[0].retain(|it| it.attempt.by != By::Argo);
    seen.no_argo = Some("no Go is found".into());
    assert_eq!(outcomes(&seen), failed(&[]));
    let judged = judge(&seen, &policy());
    assert!(judged.notes[1].contains("not measured: no Go is found"));
    let its = judged.series.iter().filter(|one| one.name.contains("Argo"));
    assert!(its.clone().count() > 0 && its.clone().all(|one| one.summary.is_none()));
}

#[test]
fn what_a_prober_saw_that_fell_behind_is_no_evidence() {
    let mut seen = seen();
    for release in seen.releases.iter_mut().flatten() {
        release.told.behind = Some("lag 29.0 ms".into());
    }
    let measured = STATED.map(|stated| match stated.series {
        OWN_TIME | FALSE_REVERTS => Outcome::Held,
        _ => Outcome::NotMeasured,
    });
    assert_eq!(outcomes(&seen), measured);
    let notes = judge(&seen, &policy()).notes;
    insta::assert_snapshot!(notes.last().unwrap(), @"in 10 of 10 releases the prober fell behind: their requests, switches and reverts are not counted");
}

#[test]
fn a_release_is_told_in_one_line() {
    let mut releases = round();
    insta::assert_snapshot!(releases[6], @"good release, the script: 3 of 7200 failed, in 22.0 s, switch in 2.01 s");
    insta::assert_snapshot!(releases[9], @"1 in 10 fails, ours: 19 of 1700 failed at 50/s, in 29.0 s, once measurable, revert in 3.88 s");
    releases[3].told.behind = Some("lag 29.0 ms".into());
    insta::assert_snapshot!(releases[3], @"bad release, ours: 160 of 6100 failed, in 29.0 s, once measurable, revert in 1.88 s; not counted: lag 29.0 ms");
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
    let first = [1, 2, 3].map(|round| in_turn(round, By::ALL.into_iter())[0]);
    assert_eq!(first, [By::Argo, By::Script, By::Ours]);
}

#[test]
fn a_round_is_what_the_stated_figures_are_of() {
    let of = attempts(&By::ALL);
    let expected: Vec<_> = round().iter().map(|it| it.attempt).collect();
    assert_eq!(of, expected);
    let argo = attempts(&[By::Ours, By::Script]);
    assert!(argo.iter().all(|it| it.by != By::Argo));
}

/// What is stated of the analysis is judged by what simulates it: a policy that lets chance decide
/// is found out.
#[test]
fn good_versions_are_made_up_by_the_policys_own_thresholds() {
    let shares = false_reverts(&policy());
    assert_eq!(shares.len(), 2);
    assert!(shares.iter().all(|share| *share <= 0.01), "{shares:?}");
}
