//! How many requests a second each generator sustains on one core, of the same server on
//! another.

use std::fmt;

use serde_json::json;

use super::generators::Generators;
use super::told::Told;
use crate::bench::error::BenchError;
use crate::bench::hello::Server;
use crate::bench::wrk::{CONNECTIONS, Wrk};
use crate::result::LoadResult;

const SECONDS: u64 = 3;

/// Between what the engine holds and what it does not, by halving: 1/32 of wrk's rate is left.
const HALVINGS: u32 = 5;
/// Of each halving.
const TRY_SECONDS: u64 = 2;
/// The engine's bound of requests in flight. It opens as many connections as it needs.
const IN_FLIGHT: usize = 2_000;

/// What each sustained in one round, in answers a second.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub wrk: f64,
    /// Of its core, what the server used under wrk, 0 to 1.
    pub busy: f64,
    pub oha: Option<f64>,
    pub k6: Option<f64>,
    pub goose: f64,
    /// The highest rate the engine was asked for and held.
    pub ours: f64,
}

/// Has each make as much load as it can, one after the other.
///
/// oha and the engine are asked for rates: oha for wrk's, which is more than it can; the engine
/// for ever closer ones. k6 and Goose have users who ask again as soon as they are answered, as
/// wrk has: at a rate beyond what it can k6 does less.
pub async fn measure(
    server: &Server,
    wrk: &Wrk,
    generators: &Generators,
) -> Result<Round, BenchError> {
    let url = &server.url;
    let (loaded, busy) = server.busy_during(wrk.load(url, SECONDS)).await?;
    let most = loaded?;
    let users = json!({
        "executor": "constant-vus", "vus": CONNECTIONS, "duration": format!("{SECONDS}s")
    });
    Ok(Round {
        wrk: most,
        busy,
        oha: rate(generators.oha(url, most, SECONDS).await?),
        k6: rate(generators.k6(url, users, SECONDS).await?),
        goose: generators
            .goose(url, CONNECTIONS, SECONDS, 0)
            .await?
            .per_second,
        ours: held(generators, url, most).await?,
    })
}

fn rate(told: Option<Told>) -> Option<f64> {
    told.map(|told| told.per_second)
}

/// The highest rate that the engine holds, up to `most`.
async fn held(generators: &Generators, url: &str, most: f64) -> Result<f64, BenchError> {
    let (mut held, mut beyond) = (0.0, most);
    for _ in 0..HALVINGS {
        let rate = (held + beyond) / 2.0;
        let result = generators
            .arrivals(url, rate, TRY_SECONDS, IN_FLIGHT)
            .await?;
        match is_held(&result) {
            true => held = rate,
            false => beyond = rate,
        }
    }
    Ok(held)
}

/// Whether every arrival was sent when it was due and answered.
fn is_held(result: &LoadResult) -> bool {
    let whole = result.whole();
    let lag = result.generator.lag.quantile(0.99);
    whole.failed + whole.dropped == 0 && lag.is_some_and(|lag| lag <= prober::lag::P99_AT_MOST)
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Round {
            wrk, goose, ours, ..
        } = self;
        write!(f, "ours {ours:.0}/s, wrk {wrk:.0}/s, Goose {goose:.0}/s")?;
        for (name, rate) in [("oha", self.oha), ("k6", self.k6)] {
            if let Some(rate) = rate {
                write!(f, ", {name} {rate:.0}/s")?;
            }
        }
        Ok(())
    }
}
