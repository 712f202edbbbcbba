//! Open-model load on the platform: from this process, or from several generators in its cluster.
//!
//! For users who wait for each answer see [`closed`](crate::closed).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use environments::config::load::{JourneyConfig, LoadConfig, LoadStage};
use load_generator::order::{LoadOrder, LoadStart};
use miette::Diagnostic;
use prober::ProbeTarget;
use thiserror::Error;

use crate::generators::{Generators, GeneratorsError};
use crate::journeys::JourneyFiles;
use crate::monitor::LoadMonitor;
use crate::open::{self, OpenError};
use crate::result::EngineKind;
use crate::run::{LoadRun, Session};
use crate::threshold::Threshold;
use crate::users::PlatformAccess;

/// An open-model load on the platform.
pub struct OpenLoad<'a> {
    /// How to reach the platform.
    pub reach: &'a PlatformAccess<'a>,
    /// The timeouts of requests, and of the end of a run.
    pub load: &'a LoadConfig,
    /// The journeys of the arrivals, with their weights. All are files.
    pub journeys: &'a BTreeMap<String, JourneyConfig>,
    /// Those files.
    pub files: &'a JourneyFiles,
    /// The rate over time, in arrivals a second.
    pub stages: &'a [LoadStage],
    /// An arrival that is due while this many are in flight is dropped, and counted.
    pub max_in_flight: u32,
    /// Some of them may abort the run.
    pub thresholds: &'a [Threshold],
    /// The generators in the cluster; if none, this process sends the requests.
    pub generators: Option<&'a Generators>,
}

/// Why there is no result.
#[derive(Debug, Error, Diagnostic)]
pub enum ArrivalsError {
    /// The environment's certificate authority cannot be read.
    #[error("cannot read the environment's certificate authority: {0}")]
    #[diagnostic(help("`cargo xtask up` repairs the environment"))]
    Authority(#[from] std::io::Error),
    /// The run cannot start.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Open(#[from] OpenError),
    /// The generators in the cluster failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Generators(#[from] GeneratorsError),
}

/// Runs the load to its end, until it is cancelled, or until a threshold aborts it.
///
/// # Errors
/// [`ArrivalsError`].
pub async fn run(
    load: OpenLoad<'_>,
    session: Session,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<LoadRun, ArrivalsError> {
    let order = order(&load)?;
    let start = start(&load);
    let mut monitor = LoadMonitor::of(EngineKind::Open, load.thresholds, progress);
    if let Some(generators) = load.generators {
        let run = generators.run(&order, start, session, &mut monitor, progress);
        return Ok(Box::pin(run).await?);
    }
    let plan = order.plan(0, start);
    let run = open::run(&plan, session, |progress| {
        monitor.update(progress.elapsed, progress.endpoints)
    });
    Ok(run.await?)
}

fn order(open: &OpenLoad<'_>) -> std::io::Result<LoadOrder> {
    let OpenLoad { reach, load, .. } = open;
    let outside = kubernetes::prober::through(reach.entry, reach.api_host, "")?;
    let inside = open.generators.map(|generators| generators.ingress.clone());
    let most = highest_rate(open.files, open.journeys, reach.max_rate);
    Ok(LoadOrder {
        target: ProbeTarget {
            connect: inside.or(outside.connect),
            ..outside
        },
        stages: ramps(open.stages, most),
        timeout: load.request_timeout,
        drain: load.drain,
        max_in_flight: open.max_in_flight as usize,
        generators: open.generators.map_or(1, |generators| generators.count),
        headers: reach.headers.clone(),
    })
}

/// Returns the highest rate of arrivals, in arrivals a second, if the target allows `max_rate`
/// requests a second.
pub fn highest_rate(
    files: &JourneyFiles,
    journeys: &BTreeMap<String, JourneyConfig>,
    max_rate: Option<NonZeroU32>,
) -> f64 {
    let requests = files.most_requests(journeys) as f64;
    max_rate.map_or(f64::INFINITY, |rate| f64::from(rate.get()) / requests)
}

/// Returns the arrivals that `stages` ask for in each of the first `blocks`, with no rate above
/// `most`.
pub fn asked(stages: &[LoadStage], most: f64, block: Duration, blocks: u32) -> Vec<f64> {
    let ramps = ramps(stages, most);
    let numbers = 0..blocks;
    numbers
        .map(|number| {
            let (from, to) = (block * number, block * (number + 1));
            let mut begins = Duration::ZERO;
            let of_each = ramps.iter().map(|ramp| {
                let [from, to] = [from, to].map(|at| at.saturating_sub(begins));
                begins += ramp.takes;
                arrivals_between(ramp, from, to)
            });
            of_each.sum()
        })
        .collect()
}

/// Returns the integral of the rate between two times after the start of the stage.
fn arrivals_between(stage: &open::RateStage, from: Duration, to: Duration) -> f64 {
    let [from, to] = [from, to].map(|at| at.min(stage.takes).as_secs_f64());
    let slope = (stage.to - stage.from) / stage.takes.as_secs_f64();
    let middle = slope.mul_add((from + to) / 2.0, stage.from);
    middle * (to - from)
}

fn start(open: &OpenLoad<'_>) -> LoadStart {
    let OpenLoad { reach, files, .. } = open;
    LoadStart {
        begin: None,
        journeys: files.written(open.journeys),
        users: files.variables(open.journeys, reach.credentials, reach.run),
    }
}

/// Returns the stages as ramps. Each starts at the last rate of the previous one, the first at 0.
/// No rate exceeds `most`.
fn ramps(stages: &[LoadStage], most: f64) -> Vec<open::RateStage> {
    let mut from = 0.0;
    let mut ramps = Vec::new();
    for stage in stages {
        let to = f64::from(stage.to).min(most);
        // A jump takes no time and has no arrivals.
        if !stage.lasts.is_zero() {
            ramps.push(open::RateStage::ramp(from, to, stage.lasts));
        }
        from = to;
    }
    ramps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(to: u32, seconds: u64) -> LoadStage {
        LoadStage {
            to,
            lasts: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn a_stage_starts_at_the_last_rate_and_a_jump_takes_no_time() {
        let seconds = Duration::from_secs;
        assert_eq!(
            ramps(&[stage(40, 0), stage(40, 10), stage(80, 5)], f64::INFINITY),
            [
                open::RateStage::constant(40.0, seconds(10)),
                open::RateStage::ramp(40.0, 80.0, seconds(5)),
            ]
        );
    }

    #[test]
    fn blocks_ask_for_the_integral_of_the_rate() {
        let stages = [stage(40, 0), stage(40, 10), stage(80, 5)];
        let second = Duration::from_secs(1);
        let by_second = asked(&stages, f64::INFINITY, second, 16);
        assert_eq!((by_second[0], by_second[9]), (40.0, 40.0));
        // The ramp rises by 8 arrivals/s each second.
        assert!((by_second[10] - 44.0).abs() < 1e-9, "{by_second:?}");
        assert!(by_second[15].abs() < 1e-9, "the plan is over");
        let in_fours = asked(&stages, f64::INFINITY, second * 4, 4);
        assert!((in_fours.iter().sum::<f64>() - 700.0).abs() < 1e-9);
        assert!(
            asked(&stages, 20.0, second, 15)
                .iter()
                .all(|it| *it <= 20.0)
        );
    }

    #[test]
    fn the_limit_of_a_target_bounds_every_rate() {
        let bounded = ramps(&[stage(500, 10), stage(500, 10)], 100.0);
        assert!(bounded.iter().all(|ramp| ramp.to.max(ramp.from) <= 100.0));
    }
}
