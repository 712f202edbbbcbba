//! Recordings and the phases of a release.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use prober::{Answer, Cut, Identity, Lag, Moments, On, Outcome, Phase, Phases, Recording, Vantage};
use proptest::prelude::*;

const OLD: &str = "v2.1.0";
const NEW: &str = "v2.2.0";
/// One second after the beginning.
const PATCH: u64 = 1_000_000;
const SCALE_DOWN: u64 = 3_000_000;

fn moments() -> Moments {
    Moments {
        patch: PATCH,
        scale_down: Some(SCALE_DOWN),
        old: OLD.into(),
        new: NEW.into(),
    }
}

fn answer(lane: &str, intended: u64, took: u64, version: &str) -> Answer {
    Answer {
        lane: lane.into(),
        intended,
        sent_after: 0,
        took,
        outcome: Outcome::Status(200),
        good: true,
        by: Some(Arc::new(Identity {
            service: "market-data-service".into(),
            version: version.into(),
            instance: format!("{version}-pod"),
        })),
        on: Some(On {
            connection: 1,
            request: 1,
        }),
    }
}

fn failed(mut answer: Answer, outcome: Outcome) -> Answer {
    answer.good = false;
    answer.outcome = outcome;
    answer
}

fn recording(from: Vantage, answers: Vec<Answer>) -> Recording {
    Recording {
        from,
        answers,
        began: 0,
        ended: 5_000_000,
        lag: Some(Lag::default()),
        lost: 0,
        clock: None,
    }
}

fn cut(recordings: &[Recording]) -> Cut {
    let answers = recordings.iter().flat_map(|it| &it.answers);
    Cut::of(Phases::find(moments(), answers), recordings)
}

/// Every 100 ms one, for five seconds; green from 1.2 s on, blue until 1.9 s.
fn a_release() -> Vec<Answer> {
    let answers = (0..50).map(|number| {
        let intended = number * 100_000;
        let is_new = match intended {
            0..1_200_000 => false,
            1_200_000..2_000_000 => number % 2 == 0,
            _ => true,
        };
        answer(
            "new-connection",
            intended,
            1_000,
            if is_new { NEW } else { OLD },
        )
    });
    answers.collect()
}

#[test]
fn a_release_has_its_five_phases() {
    let cut = cut(&[recording(Vantage::Inside, a_release())]);
    let requests = Phase::ALL.map(|phase| cut.phase(phase).requests);
    // Before 1 s; until 1.2 s; until the last blue, due at 1.9 s; until 3 s; from then on.
    assert_eq!(requests, [10, 2, 8, 10, 20]);
    assert_eq!(
        cut.phase(Phase::AfterLastBlue)
            .versions
            .keys()
            .next()
            .unwrap(),
        NEW
    );
    assert_eq!(cut.overall().failed(), 0);
    let lane = &cut.lanes[0];
    assert_eq!(lane.last_old, Some(1_900_000 + 1_000 - PATCH));
    assert_eq!(
        lane.pinned.connections, 0,
        "each was a connection's first request"
    );
}

#[test]
fn a_failure_is_whose_it_is_and_bounds_the_rate() {
    let mut answers = a_release();
    answers[15] = failed(answers[15].clone(), Outcome::Reset);
    answers[20] = failed(answers[20].clone(), Outcome::Status(503));
    let cut = cut(&[recording(Vantage::Inside, answers)]);
    let all = cut.overall();
    assert_eq!((all.requests, all.failed(), all.resets()), (50, 2, 1));
    let failures: Vec<String> = all.failures.keys().map(ToString::to_string).collect();
    assert_eq!(
        failures,
        [
            "status 503 of v2.2.0 v2.2.0-pod",
            "connection reset of v2.1.0 v2.1.0-pod"
        ]
    );
    assert!(all.error_rate_at_most().unwrap() > 0.04);
    insta::assert_snapshot!(all);
}

#[test]
fn a_gap_is_counted_where_it_began_and_a_quick_lane_hides_no_other_ones() {
    let mut answers = a_release();
    // None from 0.9 s to 1.4 s, over the patch.
    for answer in &mut answers[10..14] {
        *answer = failed(answer.clone(), Outcome::Refused);
    }
    let busy = (0..5_000).map(|number| answer("pooled", number * 1_000, 500, NEW));
    answers.extend(busy);
    let cut = cut(&[recording(Vantage::Inside, answers)]);
    assert_eq!(cut.overall().longest_gap, 500_000);
    assert_eq!(cut.phase(Phase::Before).longest_gap, 500_000);
    assert_eq!(cut.phase(Phase::ScaleDown).longest_gap, 100_000);
}

#[test]
fn a_lane_without_a_good_answer_is_one_gap() {
    let answers = a_release().into_iter();
    let answers = answers
        .map(|answer| failed(answer, Outcome::Refused))
        .collect();
    let cut = cut(&[recording(Vantage::Inside, answers)]);
    assert_eq!(cut.overall().longest_gap, 4_901_000);
}

#[test]
fn a_connection_that_stays_with_the_old_version_is_pinned() {
    let on = |connection, request, intended| {
        let mut answer = answer("pooled", intended, 1_000, OLD);
        answer.on = Some(On {
            connection,
            request,
        });
        answer
    };
    let answers = vec![
        on(1, 1, 0),
        on(2, 1, 100_000),
        on(1, 2, 1_500_000),
        on(1, 3, 2_500_000),
        on(2, 2, 1_100_000),
        // One made after the patch, and still led to the old version.
        on(3, 1, 1_050_000),
    ];
    let cut = cut(&[recording(Vantage::Inside, answers)]);
    let pinned = cut.pinned();
    assert_eq!((pinned.connections, pinned.until), (2, 2_501_000 - PATCH));
}

#[test]
fn without_a_new_version_nothing_is_mixed() {
    let answers: Vec<Answer> = (0..50)
        .map(|number| answer("pooled", number * 100_000, 1_000, OLD))
        .collect();
    let cut = cut(&[recording(Vantage::Outside, answers)]);
    let requests = Phase::ALL.map(|phase| cut.phase(phase).requests);
    assert_eq!(requests, [10, 20, 0, 0, 20]);
}

#[test]
fn what_a_recording_cannot_prove_it_says() {
    let mut seen = recording(Vantage::Inside, a_release());
    assert_eq!(seen.inconclusive(), None);
    seen.lost = 1;
    assert!(seen.inconclusive().unwrap().contains("lost"));
    seen.lost = 0;
    seen.lag = Some(Lag {
        dropped: 1,
        ..Lag::default()
    });
    assert!(seen.inconclusive().unwrap().contains("fell behind"));
    seen.lag = None;
    assert!(seen.inconclusive().is_some());
    seen.lag = Some(Lag::default());
    seen.answers.clear();
    assert!(seen.inconclusive().is_some());
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let lane = prop::sample::select(vec!["new-connection", "pooled", "slow"]);
    let version = prop::sample::select(vec![OLD, NEW, "v9", ""]);
    let outcome = prop::sample::select(vec![
        Outcome::Status(200),
        Outcome::Status(503),
        Outcome::Problem(503, "no database".into()),
        Outcome::Reset,
        Outcome::TimedOut,
        Outcome::Dropped,
    ]);
    let on = (1u64..5, 1u32..4);
    (
        lane,
        0u64..5_000_000,
        0u64..30_000_000,
        version,
        outcome,
        on,
    )
        .prop_map(
            |(lane, intended, took, version, outcome, (connection, request))| {
                let good = outcome == Outcome::Status(200);
                let on = On {
                    connection,
                    request,
                };
                Answer {
                    good,
                    outcome,
                    on: Some(on),
                    ..answer(lane, intended, took, version)
                }
            },
        )
}

fn any_answers() -> impl Strategy<Value = Vec<Answer>> {
    prop::collection::vec(any_answer(), 0..60)
}

fn any_moments() -> impl Strategy<Value = Moments> {
    (0u64..5_000_000, prop::option::of(0u64..6_000_000)).prop_map(|(patch, scale_down)| Moments {
        patch,
        scale_down,
        ..moments()
    })
}

proptest! {
    // Each case makes dozens of histograms.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_answer_is_in_one_phase_and_phases_follow_each_other(
        answers in any_answers(), moments in any_moments(), due in prop::collection::vec(0u64..7_000_000, 2)
    ) {
        let phases = Phases::find(moments, &answers);
        let (early, late) = (due[0].min(due[1]), due[0].max(due[1]));
        prop_assert!(phases.of(early) <= phases.of(late));
    }

    #[test]
    fn no_blue_answers_after_the_last_blue(answers in any_answers(), moments in any_moments()) {
        let phases = Phases::find(moments, &answers);
        for answer in &answers {
            let version = answer.version();
            match phases.of(answer.intended) {
                Phase::AfterLastBlue => prop_assert_ne!(version, Some(OLD)),
                Phase::PatchToFirstGreen => prop_assert_ne!(version, Some(NEW)),
                _ => {}
            }
        }
    }

    #[test]
    fn counts_add_up(answers in any_answers(), moments in any_moments()) {
        let phases = Phases::find(moments, &answers);
        let cut = Cut::of(phases, &[recording(Vantage::Inside, answers.clone())]);
        let all = cut.overall();
        let phases = Phase::ALL.map(|phase| cut.phase(phase));
        let sum = |of: fn(&prober::Figures) -> u64| phases.iter().map(of).sum::<u64>();
        prop_assert_eq!(all.requests + all.dropped, answers.len() as u64);
        prop_assert_eq!(sum(|it| it.requests), all.requests);
        prop_assert_eq!(sum(|it| it.dropped), all.dropped);
        prop_assert_eq!(sum(|it| it.failed()), all.failed());
        prop_assert_eq!(sum(|it| it.latency.len()), all.latency.len());
        prop_assert_eq!(all.failed() + all.latency.len(), all.requests);
        prop_assert!(all.versions.values().sum::<u64>() <= all.requests);
        let longest = phases.iter().map(|it| it.longest_gap).max().unwrap();
        prop_assert!(longest <= all.longest_gap);
    }

    #[test]
    fn inside_and_outside_merge_to_both(
        inside in any_answers(), outside in any_answers(), moments in any_moments()
    ) {
        let phases = Phases::find(moments, inside.iter().chain(&outside));
        let inside = recording(Vantage::Inside, inside);
        let outside = recording(Vantage::Outside, outside);
        let alone = |recording: &Recording| {
            Cut::of(phases.clone(), std::slice::from_ref(recording))
        };
        let both = Cut::of(phases.clone(), &[inside.clone(), outside.clone()]);
        for phase in Phase::ALL {
            let mut sum = alone(&inside).phase(phase);
            sum.merge(&alone(&outside).phase(phase));
            prop_assert_eq!(sum, both.phase(phase));
        }
        let mut overall = alone(&inside).overall();
        overall.merge(&alone(&outside).overall());
        prop_assert_eq!(overall, both.overall());
        prop_assert_eq!(
            both.lanes.len(),
            alone(&inside).lanes.len() + alone(&outside).lanes.len()
        );
    }
}
