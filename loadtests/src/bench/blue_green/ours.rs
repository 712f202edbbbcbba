//! Releases by our deployer: `cargo xtask blue-green deploy`.

use base::process::describe;
use blue_green::ReleaseStep;
use report::StageReport;
use tokio::process::Child;

use super::setup::BenchSetup;
use super::{Quality, SERVICE, footprint};
use crate::bench::error::BenchError;

const VERB: &str = "blue-green";

/// Its exit code if a version was rolled back.
const ROLLED_BACK: i32 = 1;

/// The parts of a release that the deployer cannot shorten, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spans {
    /// From when it creates the new pods until their rollout is complete.
    pub come_up: f64,
    /// From when it removes the old pods until none is left.
    pub end: f64,
}

impl Spans {
    /// From the steps of its report; none if the release did not finish.
    pub fn of(stages: &[StageReport]) -> Option<Spans> {
        let millis = |wanted: ReleaseStep| {
            let mut steps = stages.iter().flat_map(|stage| &stage.steps);
            let step = steps.find(|it| it.step == wanted.to_string());
            step.map(|it| it.millis as f64)
        };
        Some(Spans {
            come_up: millis(ReleaseStep::BringUp)?,
            end: millis(ReleaseStep::Retire)?,
        })
    }
}

/// Releases `version`, which must be kept if it is good, and rolled back if it is bad. Returns its
/// parts, and the command's peak memory in MiB.
pub async fn release(
    setup: &BenchSetup<'_>,
    version: &str,
    quality: Quality,
) -> Result<(Option<Spans>, Option<f64>), BenchError> {
    let scratch = setup.scratch;
    let before = scratch.runs();
    let mut child = start(setup, version)?;
    let pid = child.id();
    let (ended, memory) = footprint::during(|| pid, child.wait()).await;
    let ended = ended.map_err(BenchError::release("our deployer"))?;
    let report = scratch.report(VERB, &before)?;
    match (quality, ended.code()) {
        (Quality::Good, Some(0)) => Ok((Spans::of(&report.stages), memory)),
        (Quality::Bad | Quality::OneInTen, Some(ROLLED_BACK)) => Ok((None, memory)),
        _ => Err(scratch.failed(VERB, format!("of a {quality}: {}", describe(ended)))),
    }
}

/// Releases `version`, and kills the command right after it has moved traffic away from `before`.
pub async fn killed(setup: &BenchSetup<'_>, version: &str, before: &str) -> Result<(), BenchError> {
    let mut child = start(setup, version)?;
    tokio::select! {
        switched = setup.ours.switched(before) => { switched?; }
        ended = child.wait() => {
            let how = ended.map_or_else(|error| error.to_string(), describe);
            return Err(setup.scratch.failed(VERB, how));
        }
    }
    let killed = child.kill().await;
    killed.map_err(BenchError::release("killing our deployer"))
}

fn start(setup: &BenchSetup<'_>, version: &str) -> Result<Child, BenchError> {
    let words = [VERB, "deploy", "--service", SERVICE, "--version", version];
    setup.scratch.start(&words, &setup.config)
}

#[cfg(test)]
mod tests {
    use base::run::event::Stage;
    use report::{StageEnd, StepReport};

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
    fn the_spans_are_the_times_of_two_steps() {
        let mut steps = vec![("bring-up", 7_000), ("check", 50), ("switch", 10_000)];
        assert_eq!(Spans::of(&deploy(&steps)), None, "it is not finished");
        steps.push(("retire", 9_000));
        let expected = Spans {
            come_up: 7_000.0,
            end: 9_000.0,
        };
        assert_eq!(Spans::of(&deploy(&steps)), Some(expected));
    }
}
