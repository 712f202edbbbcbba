//! Arrivals on the platform: made here, or by several generators in its cluster.
//!
//! Users who wait for an answer before they ask again are [`journeys`](crate::journeys)'.

use std::num::NonZeroU32;

use harness::config::load::{Load, Stage};
use load_generator::order::Order;
use miette::Diagnostic;
use prober::Target;
use thiserror::Error;

use crate::closed::Reach;
use crate::course::Course;
use crate::generators::{Crew, GeneratorsError};
use crate::open::{self, OpenError};
use crate::result::Engine;
use crate::run::{Run, Session};
use crate::threshold::Threshold;

/// What is asked of the platform, and how.
pub struct Asked<'a> {
    /// Where it is reached.
    pub reach: &'a Reach<'a>,
    /// How long answers, and the end of a run, may take.
    pub load: &'a Load,
    /// Arrivals a second over time.
    pub stages: &'a [Stage],
    /// An arrival beyond so many in flight is dropped, and counted.
    pub max_in_flight: u32,
    /// Those that end a run do so.
    pub thresholds: &'a [Threshold],
    /// Who makes them in the cluster; none is this process.
    pub crew: Option<&'a Crew>,
}

/// Why there is no result.
#[derive(Debug, Error, Diagnostic)]
pub enum ArrivalsError {
    /// The environment's authority cannot be read.
    #[error("cannot read the environment's authority: {0}")]
    #[diagnostic(help("`cargo xtask up` makes the environment whole again"))]
    Authority(#[from] std::io::Error),
    /// The run cannot begin.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Open(#[from] OpenError),
    /// The generators in the cluster did not make it.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Generators(#[from] GeneratorsError),
}

/// Puts the load on, to its end, until it is called off, or a threshold ends it.
///
/// # Errors
/// [`ArrivalsError`].
pub async fn run(
    asked: Asked<'_>,
    session: Session,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Run, ArrivalsError> {
    let order = order(&asked)?;
    let mut course = Course::of(Engine::Open, asked.thresholds, progress);
    if let Some(crew) = asked.crew {
        return Ok(crew.run(&order, session, &mut course, progress).await?);
    }
    let plan = order.plan(0);
    let run = open::run(&plan, session, |now| {
        course.goes_on(now.elapsed, now.endpoints)
    });
    Ok(run.await?)
}

fn order(asked: &Asked<'_>) -> std::io::Result<Order> {
    let Asked { reach, load, .. } = asked;
    let outside = harness::prober::through(reach.entry, reach.api_host, "/market-data")?;
    let inside = asked.crew.map(|crew| crew.ingress.clone());
    let most = reach.max_rate.map_or(u32::MAX, NonZeroU32::get);
    Ok(Order {
        target: Target {
            connect: inside.or(outside.connect),
            ..outside
        },
        stages: lines(asked.stages, most),
        timeout: load.request_timeout,
        drain: load.drain,
        max_in_flight: asked.max_in_flight as usize,
        generators: asked.crew.map_or(1, |crew| crew.generators),
    })
}

/// Each stage leads from where the one before ended, at first none, to its own rate; none
/// exceeds the target's.
fn lines(stages: &[Stage], most: u32) -> Vec<open::Stage> {
    let mut from = 0.0;
    let mut lines = Vec::new();
    for stage in stages {
        let to = f64::from(stage.to.min(most));
        // A jump takes no time, and has no arrivals.
        if !stage.lasts.is_zero() {
            lines.push(open::Stage::ramp(from, to, stage.lasts));
        }
        from = to;
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stage(to: u32, seconds: u64) -> Stage {
        Stage {
            to,
            lasts: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn a_stage_begins_where_the_one_before_ended_and_a_jump_takes_no_time() {
        let seconds = Duration::from_secs;
        assert_eq!(
            lines(&[stage(40, 0), stage(40, 10), stage(80, 5)], u32::MAX),
            [
                open::Stage::constant(40.0, seconds(10)),
                open::Stage::ramp(40.0, 80.0, seconds(5)),
            ]
        );
    }

    #[test]
    fn a_target_bounds_every_rate() {
        let bounded = lines(&[stage(500, 10), stage(500, 10)], 100);
        assert!(bounded.iter().all(|it| it.to <= 100.0 && it.from <= 100.0));
    }
}
