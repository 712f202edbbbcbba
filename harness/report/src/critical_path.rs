//! The critical path of a run: what its end waited for, found backwards from the end.
//!
//! The record has times and no dependencies. So each part is taken to have waited for the one that
//! ended last before it began, as viewers of build traces do.

use base::run::event::Stage;

use super::model::{CriticalPart, Report};

/// A part that ends this much after the next one began has ended before it: both times are rounded.
const TOLERANCE_MILLIS: u64 = 5;

/// Returns the parts in the order of time. Together they are as long as the run, except for the
/// time in which no stage ran.
pub(super) fn of(report: &Report) -> Vec<CriticalPart> {
    let mut parts = Vec::new();
    let mut candidates = steps_and_scenarios(report);
    let mut until = report.millis;
    while until > 0 {
        let last = last_before(&candidates, until);
        let end = last.map_or(0, |index| candidates[index].end_millis());
        between_steps(report, end, until, &mut parts);
        let Some(index) = last else { break };
        let mut part = candidates.swap_remove(index);
        part.millis = until.min(part.end_millis()) - part.start_millis;
        until = part.start_millis;
        parts.push(part);
    }
    parts.reverse();
    parts
}

fn steps_and_scenarios(report: &Report) -> Vec<CriticalPart> {
    let part = |stage: Stage, what: &str, start_millis: u64, millis: u64| CriticalPart {
        stage,
        what: Some(what.to_owned()),
        start_millis,
        millis,
    };
    let stages = report.stages.iter();
    let steps = stages.flat_map(|stage| stage.steps.iter().map(move |step| (stage.stage, step)));
    let steps = steps.map(|(stage, it)| part(stage, &it.step, it.start_millis, it.millis));
    let scenarios = report.scenarios.iter();
    let scenarios =
        scenarios.map(|it| part(Stage::Verify, &it.scenario, it.start_millis, it.millis));
    steps.chain(scenarios).filter(|it| it.millis > 0).collect()
}

/// Returns the part that ended last before `until`; of several the longest.
fn last_before(candidates: &[CriticalPart], until: u64) -> Option<usize> {
    let ended = candidates.iter().enumerate().filter(|(_, it)| {
        it.start_millis < until && it.end_millis() <= until.saturating_add(TOLERANCE_MILLIS)
    });
    let last = ended.max_by_key(|(_, it)| (it.end_millis().min(until), it.millis));
    last.map(|(index, _)| index)
}

/// Adds the stages between two steps, from the last to the first.
fn between_steps(report: &Report, from: u64, until: u64, parts: &mut Vec<CriticalPart>) {
    let mut until = until;
    while from < until {
        let running = report
            .stages
            .iter()
            .map(|it| (it, it.start_millis.max(from), it.end_millis().min(until)))
            .filter(|(_, start, end)| start < end)
            .max_by_key(|(_, start, end)| (*end, *start));
        let Some((stage, start, end)) = running else {
            return;
        };
        parts.push(CriticalPart {
            stage: stage.stage,
            what: None,
            start_millis: start,
            millis: end - start,
        });
        until = start;
    }
}

#[cfg(test)]
mod tests {
    use base::run::event::Stage::{self, Deploy, Plan, Provision};
    use proptest::prelude::*;

    use super::*;
    use crate::model::{StageEnd, StageReport, StepReport};

    fn stage(stage: Stage, times: (u64, u64), steps: &[(&str, u64, u64)]) -> StageReport {
        let steps = steps.iter().map(|(step, start, end)| StepReport {
            step: (*step).to_owned(),
            start_millis: *start,
            millis: end - start,
        });
        StageReport {
            stage,
            start_millis: times.0,
            millis: times.1 - times.0,
            end: StageEnd::Done,
            steps: steps.collect(),
            notes: Vec::new(),
        }
    }

    fn report(stages: Vec<StageReport>) -> Report {
        Report {
            millis: stages
                .iter()
                .map(StageReport::end_millis)
                .max()
                .unwrap_or(0),
            stages,
            ..Report::default()
        }
    }

    #[test]
    fn of_parallel_steps_the_one_that_ended_last_was_waited_for() {
        let report = report(vec![
            stage(Plan, (0, 10), &[]),
            stage(
                Provision,
                (10, 900),
                &[("images", 20, 400), ("cluster", 10, 903), ("tools", 10, 20)],
            ),
            stage(
                Deploy,
                (900, 1500),
                &[("chart", 900, 1300), ("short", 950, 990)],
            ),
        ]);
        let path = of(&report);
        let path: Vec<_> = path
            .iter()
            .map(|it| (it.stage, it.what.as_deref(), it.start_millis, it.millis))
            .collect();
        assert_eq!(
            path,
            [
                (Plan, None, 0, 10),
                (Provision, Some("cluster"), 10, 890),
                (Deploy, Some("chart"), 900, 400),
                (Deploy, None, 1300, 200),
            ]
        );
    }

    proptest! {
        #[test]
        fn the_parts_are_in_order_and_do_not_overlap(
            steps in prop::collection::vec((0_u64..500, 0_u64..500), 0..12),
            millis in 0_u64..1_000,
        ) {
            let steps: Vec<_> = steps.iter().map(|(start, it)| ("step", *start, start + it)).collect();
            let report = report(vec![stage(Deploy, (0, millis), &steps)]);
            let path = of(&report);
            let mut at = 0;
            for part in &path {
                prop_assert!(part.start_millis >= at && part.millis > 0, "{path:?}");
                at = part.end_millis();
            }
            // The stage covers the whole run.
            prop_assert_eq!(path.iter().map(|it| it.millis).sum::<u64>(), millis);
        }
    }
}
