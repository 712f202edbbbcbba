//! The figures of a release, by phase.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::sync::Arc;

use prober::{
    Answer, ConnectionUse, FiguresByPhase, Identity, Lag, Moments, Phase, Phases, Recording,
    RequestOutcome, Vantage,
};
use proptest::prelude::*;

const OLD: &str = "v2.1.0";
const NEW: &str = "v2.2.0";
/// One second after the start.
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
        outcome: RequestOutcome::Status(200),
        good: true,
        by: Some(Arc::new(Identity {
            service: "market-data-service".into(),
            version: version.into(),
            instance: format!("{version}-pod"),
        })),
        on: Some(ConnectionUse {
            connection: 1,
            request: 1,
        }),
    }
}

fn failed(mut answer: Answer, outcome: RequestOutcome) -> Answer {
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

fn by_phase(recordings: &[Recording]) -> FiguresByPhase {
    let answers = recordings.iter().flat_map(|it| &it.answers);
    FiguresByPhase::of(Phases::find(moments(), answers), recordings)
}

/// One answer every 100 ms, for five seconds; the new version from 1.2 s, the old one until 1.9 s.
fn a_release() -> Vec<Answer> {
    let answers = (0..50).map(|number| {
        let intended = number * 100_000;
        let is_new = match intended {
            0..1_200_000 => false,
            1_200_000..2_000_000 => number % 2 == 0,
            _ => true,
        };
        let version = if is_new { NEW } else { OLD };
        answer("new-connection", intended, 1_000, version)
    });
    answers.collect()
}

#[test]
fn a_release_has_its_five_phases() {
    let figures = by_phase(&[recording(Vantage::Inside, a_release())]);
    let requests = Phase::ALL.map(|phase| figures.phase(phase).requests);
    // Before 1 s; until 1.2 s; until the last blue, due at 1.9 s; until 3 s; from then on.
    assert_eq!(requests, [10, 2, 8, 10, 20]);
    let versions = figures.phase(Phase::AfterLastBlue).versions;
    assert_eq!(versions.keys().next().unwrap(), NEW);
    assert_eq!(figures.overall().failed(), 0);
    let lane = &figures.lanes[0];
    assert_eq!(lane.last_old, Some(1_900_000 + 1_000 - PATCH));
    assert_eq!(lane.pinned.connections, 0, "all were first requests");
}

#[test]
fn a_failure_is_attributed_and_bounds_the_rate() {
    let mut answers = a_release();
    answers[15] = failed(answers[15].clone(), RequestOutcome::Reset);
    answers[20] = failed(answers[20].clone(), RequestOutcome::Status(503));
    let figures = by_phase(&[recording(Vantage::Inside, answers)]);
    let all = figures.overall();
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
fn a_gap_belongs_to_the_phase_of_its_start_and_another_lane_does_not_hide_it() {
    let mut answers = a_release();
    // No good answer from 0.9 s to 1.4 s, across the patch.
    for answer in &mut answers[10..14] {
        *answer = failed(answer.clone(), RequestOutcome::Refused);
    }
    let busy = (0..5_000).map(|number| answer("pooled", number * 1_000, 500, NEW));
    answers.extend(busy);
    let figures = by_phase(&[recording(Vantage::Inside, answers)]);
    assert_eq!(figures.overall().longest_gap, 500_000);
    assert_eq!(figures.phase(Phase::Before).longest_gap, 500_000);
    assert_eq!(figures.phase(Phase::ScaleDown).longest_gap, 100_000);
}

#[test]
fn a_lane_without_a_good_answer_is_one_gap() {
    let answers = a_release().into_iter();
    let refused = answers.map(|answer| failed(answer, RequestOutcome::Refused));
    let figures = by_phase(&[recording(Vantage::Inside, refused.collect())]);
    assert_eq!(figures.overall().longest_gap, 4_901_000);
}

#[test]
fn a_connection_that_stays_with_the_old_version_is_pinned() {
    let on = |connection, request, intended| {
        let mut answer = answer("pooled", intended, 1_000, OLD);
        answer.on = Some(ConnectionUse {
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
        // Opened after the patch, but still to the old version.
        on(3, 1, 1_050_000),
    ];
    let figures = by_phase(&[recording(Vantage::Inside, answers)]);
    let pinned = figures.pinned();
    assert_eq!((pinned.connections, pinned.until), (2, 2_501_000 - PATCH));
}

#[test]
fn without_a_new_version_nothing_is_mixed() {
    let answers: Vec<Answer> = (0..50)
        .map(|number| answer("pooled", number * 100_000, 1_000, OLD))
        .collect();
    let figures = by_phase(&[recording(Vantage::Outside, answers)]);
    let requests = Phase::ALL.map(|phase| figures.phase(phase).requests);
    assert_eq!(requests, [10, 20, 0, 0, 20]);
}

#[test]
fn an_inconclusive_recording_has_a_reason() {
    let mut recording = recording(Vantage::Inside, a_release());
    assert_eq!(recording.inconclusive(), None);
    recording.lost = 1;
    assert!(recording.inconclusive().unwrap().contains("lost"));
    recording.lost = 0;
    recording.lag = Some(Lag {
        dropped: 1,
        ..Lag::default()
    });
    assert!(recording.inconclusive().unwrap().contains("fell behind"));
    recording.lag = None;
    assert!(recording.inconclusive().is_some());
    recording.lag = Some(Lag::default());
    recording.answers.clear();
    assert!(recording.inconclusive().is_some());
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let lane = prop::sample::select(vec!["new-connection", "pooled", "slow"]);
    let version = prop::sample::select(vec![OLD, NEW, "v9", ""]);
    let outcome = prop::sample::select(vec![
        RequestOutcome::Status(200),
        RequestOutcome::Status(503),
        RequestOutcome::Problem(503, "no database".into()),
        RequestOutcome::Reset,
        RequestOutcome::TimedOut,
        RequestOutcome::Dropped,
    ]);
    let (intended, took) = (0u64..5_000_000, 0u64..30_000_000);
    let on = (1u64..5, 1u32..4).prop_map(|(connection, request)| ConnectionUse {
        connection,
        request,
    });
    (lane, intended, took, version, outcome, on).prop_map(
        |(lane, intended, took, version, outcome, on)| Answer {
            good: outcome == RequestOutcome::Status(200),
            outcome,
            on: Some(on),
            ..answer(lane, intended, took, version)
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
        let figures = FiguresByPhase::of(phases, &[recording(Vantage::Inside, answers.clone())]);
        let all = figures.overall();
        let phases = Phase::ALL.map(|phase| figures.phase(phase));
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
            FiguresByPhase::of(phases.clone(), std::slice::from_ref(recording))
        };
        let both = FiguresByPhase::of(phases.clone(), &[inside.clone(), outside.clone()]);
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
