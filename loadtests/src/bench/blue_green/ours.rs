//! A release by our deployer, as it is typed: `cargo xtask blue-green deploy`.

use harness::blue_green::Step;
use harness::process::bound::describe;
use harness::report::StageReport;
use tokio::process::Child;

use super::ground::Ground;
use super::{Quality, SERVICE, footprint};
use crate::bench::error::BenchError;

const VERB: &str = "blue-green";

/// What it ends with where a version did not hold and was taken back.
const TAKEN_BACK: i32 = 1;

/// How long a release was at what is not the deployer's to make shorter, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spans {
    /// From when it asks for the new pods until it sees their rollout complete.
    pub come_up: f64,
    /// From when it sends the old pods away until none is left.
    pub end: f64,
}

impl Spans {
    /// Of the steps of its report; none of a release that did not come to its end.
    pub fn of(stages: &[StageReport]) -> Option<Spans> {
        let millis = |wanted: Step| {
            let mut steps = stages.iter().flat_map(|stage| &stage.steps);
            let step = steps.find(|it| it.step == wanted.to_string());
            step.map(|it| it.millis as f64)
        };
        Some(Spans {
            come_up: millis(Step::BringUp)?,
            end: millis(Step::Retire)?,
        })
    }
}

/// Releases `version`, which is to be kept where it is good, and taken back where it is bad.
/// What it was made of, and the most memory that the command held.
pub async fn release(
    ground: &Ground<'_>,
    version: &str,
    quality: Quality,
) -> Result<(Option<Spans>, Option<f64>), BenchError> {
    let scratch = ground.scratch;
    let before = scratch.runs();
    let mut child = start(ground, version)?;
    let pid = child.id();
    let (ended, memory) = footprint::during(|| pid, child.wait()).await;
    let ended = ended.map_err(BenchError::release("our deployer"))?;
    let report = scratch.report(VERB, &before)?;
    match (quality, ended.code()) {
        (Quality::Good, Some(0)) => Ok((Spans::of(&report.stages), memory)),
        (Quality::Bad | Quality::OneInTen, Some(TAKEN_BACK)) => Ok((None, memory)),
        _ => Err(scratch.did_not_hold(VERB, format!("of a {quality}: {}", describe(ended)))),
    }
}

/// Has it release `version`, and kills it right after it has moved traffic away from `before`.
pub async fn killed(ground: &Ground<'_>, version: &str, before: &str) -> Result<(), BenchError> {
    let mut child = start(ground, version)?;
    tokio::select! {
        switched = ground.ours.switched(before) => { switched?; }
        ended = child.wait() => {
            let how = ended.map_or_else(|error| error.to_string(), describe);
            return Err(ground.scratch.did_not_hold(VERB, how));
        }
    }
    let killed = child.kill().await;
    killed.map_err(BenchError::release("killing our deployer"))
}

fn start(ground: &Ground<'_>, version: &str) -> Result<Child, BenchError> {
    let words = [VERB, "deploy", "--service", SERVICE, "--version", version];
    ground.scratch.start(&words, &ground.config)
}

#[cfg(test)]
mod tests {
    use harness::report::{StageEnd, StepReport};
    use harness::run::event::Stage;

    use super::*;

    fn deploy(steps: &[(&str, u64)]) -> [StageReport; 1] {
        let steps = steps.iter().map(|(step, millis)| StepReport {
            step: (*step).to_owned(),
            start_millis: 0,
            millis: *millis,
        });
        [StageReport {
            stage: Stage::Deploy,
            start_millis: 0,
            millis: 60_000,
            end: StageEnd::Done,
            steps: steps.collect(),
            notes: Vec::new(),
        }]
    }

    #[test]
    fn pods_come_up_in_the_one_step_and_end_in_the_other() {
        let mut of = vec![("bring-up", 7_000), ("check", 50), ("switch", 10_000)];
        assert_eq!(Spans::of(&deploy(&of)), None, "it has not come to its end");
        of.push(("retire", 9_000));
        let expected = Spans {
            come_up: 7_000.0,
            end: 9_000.0,
        };
        assert_eq!(Spans::of(&deploy(&of)), Some(expected));
    }
}
