//! What arrivals of an open profile ask: quotes, as anybody may.
//!
//! Users who wait for an answer before they ask again are [`journeys`](crate::journeys)'.

use std::num::NonZeroU32;
use std::sync::Arc;

use harness::config::load::{Load, Stage};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method};
use miette::Diagnostic;
use serde_json::Value;
use thiserror::Error;

use crate::closed::Reach;
use crate::course::Course;
use crate::journeys::answer::price;
use crate::open::{self, Check, OpenError, Plan, Template};
use crate::result::Engine;
use crate::run::{Run, Session};
use crate::threshold::Threshold;

/// What the platform is seeded with.
const SYMBOLS: [&str; 4] = ["ECOPETROL", "ISA", "GEB", "CIBEST"];

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
    let plan = plan(&asked)?;
    let mut course = Course::of(Engine::Open, asked.thresholds, progress);
    let run = open::run(&plan, session, |now| {
        course.goes_on(now.elapsed, now.endpoints)
    });
    Ok(run.await?)
}

fn plan(asked: &Asked<'_>) -> std::io::Result<Plan> {
    let Asked { reach, load, .. } = asked;
    let target = harness::prober::through(reach.entry, reach.api_host, "/market-data")?;
    let most = reach.max_rate.map_or(u32::MAX, NonZeroU32::get);
    Ok(Plan {
        timeout: load.request_timeout,
        drain: load.drain,
        max_in_flight: asked.max_in_flight as usize,
        ..Plan::of(target, lines(asked.stages, most), templates())
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

fn templates() -> Vec<Template> {
    let one = |path: &dyn Fn(&str) -> String| SYMBOLS.map(path).to_vec();
    vec![
        template(
            "GET /market-data/quotes",
            6,
            vec!["/quotes".to_owned()],
            is_list_of_quotes,
        ),
        template(
            "GET /market-data/quotes/{symbol}",
            3,
            one(&|symbol| format!("/quotes/{symbol}")),
            |answer| price(&answer["price"]).is_some(),
        ),
        template(
            "GET /market-data/quotes/{symbol}/history",
            1,
            one(&|symbol| format!("/quotes/{symbol}/history?limit=50")),
            is_list_of_quotes,
        ),
    ]
}

fn template(
    name: &str,
    weight: u32,
    paths: Vec<String>,
    holds: impl Fn(&Value) -> bool + Send + Sync + 'static,
) -> Template {
    let reads = move |body: &[u8]| serde_json::from_slice(body).is_ok_and(|answer| holds(&answer));
    Template {
        name: name.to_owned(),
        weight,
        method: Method::GET,
        paths,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        good: Vec::new(),
        check: Some(Check {
            claim: "prices that are numbers above 0".to_owned(),
            holds: Arc::new(reads),
        }),
    }
}

fn is_list_of_quotes(answer: &Value) -> bool {
    let quotes = answer.as_array().filter(|quotes| !quotes.is_empty());
    quotes.is_some_and(|quotes| quotes.iter().all(|it| price(&it["price"]).is_some()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

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

    #[test]
    fn only_prices_are_good_answers() {
        assert!(is_list_of_quotes(&json!([{"price": "1.50"}])));
        for wrong in [
            json!([]),
            json!({}),
            json!([{"price": "dear"}]),
            json!([{}]),
        ] {
            assert!(!is_list_of_quotes(&wrong), "{wrong}");
        }
    }
}
