//! The rate that each generator sustains on one core, with the same server on another.

use std::fmt;

use serde_json::json;

use super::generator_figures::GeneratorFigures;
use super::generators::BenchGenerators;
use crate::bench::error::BenchError;
use crate::bench::hello::ServerUnderLoad;
use crate::bench::wrk::{CONNECTIONS, Wrk};

const SECONDS: u64 = 3;

/// The steps of the bisection between a rate that a generator sustains and one that it does not:
/// 1/64 of the first interval is left.
const HALVINGS: u32 = 6;
/// The duration of each step.
const TRY_SECONDS: u64 = 2;
/// The share of the rate that is answered if a generator sustains it: each loses some at its start.
const ANSWERED: f64 = 0.98;
/// The highest p99 of a sustained rate, in milliseconds.
const IN_TIME: f64 = 20.0;
/// The engine's limit of requests in flight. It opens as many connections as it needs.
const IN_FLIGHT: usize = 2_000;

/// The limit if the rate is more than the engine can send: this many requests are always in flight,
/// and the rest is dropped and counted.
const ALWAYS_IN_FLIGHT: usize = 4 * CONNECTIONS as usize;

/// The rates of one round, in answers per second.
#[derive(Clone, Copy, Debug)]
pub struct RateRound {
    /// The rate of wrk's connections.
    pub wrk: f64,
    /// The share of its core that the server used under wrk, 0 to 1.
    pub busy: f64,
    /// The highest rate that oha sustained.
    pub oha: Option<f64>,
    /// The rate of k6's users.
    pub k6: Option<f64>,
    /// The rate of Goose's users.
    pub goose: f64,
    /// The highest rate that the engine sustained.
    pub ours: f64,
    /// The engine's rate with wrk's rate as its target.
    pub ours_at_most: f64,
}

/// Measures the highest rate of each generator, one after the other.
///
/// wrk, k6 and Goose send the next request as soon as they have an answer. They are compared with
/// the engine's rate when its target is wrk's rate. oha and the engine have an open model:
/// bisection finds the highest rate that they sustain in time. k6 has an open model too, but
/// sustains only a quarter of the rate of its users.
pub async fn measure(
    server: &ServerUnderLoad,
    wrk: &Wrk,
    generators: &BenchGenerators,
) -> Result<RateRound, BenchError> {
    let url = &server.url;
    let (loaded, busy) = server.busy_during(wrk.load(url, SECONDS)).await?;
    let most = loaded?;
    let oha = async |rate| generators.oha(url, rate, TRY_SECONDS).await;
    let users = json!({
        "executor": "constant-vus", "vus": CONNECTIONS, "duration": format!("{SECONDS}s"),
    });
    let ours = async |rate| {
        let arrivals = generators.arrivals(url, rate, TRY_SECONDS, IN_FLIGHT);
        Ok(Some(GeneratorFigures::by_arrivals(&arrivals.await?)))
    };
    let as_wrk = generators.arrivals(url, most, SECONDS, ALWAYS_IN_FLIGHT);
    let at_most = GeneratorFigures::by_arrivals(&as_wrk.await?).per_second;
    let k6 = generators.k6(url, users, SECONDS).await?;
    let goose = generators.goose(url, CONNECTIONS, SECONDS, 0).await?;
    Ok(RateRound {
        wrk: most,
        busy,
        oha: sustained("oha", most, oha).await?,
        k6: k6.map(|figures| figures.per_second),
        goose: goose.per_second,
        ours: sustained("the engine", most, ours)
            .await?
            .unwrap_or_default(),
        ours_at_most: at_most,
    })
}

/// Returns the highest rate below `most` that a generator sustains, or none if the generator is not
/// available. Fails if it sustains no rate.
async fn sustained(
    who: &'static str,
    most: f64,
    run_at: impl AsyncFn(f64) -> Result<Option<GeneratorFigures>, BenchError>,
) -> Result<Option<f64>, BenchError> {
    let (mut sustained, mut beyond) = (0.0, most);
    for _ in 0..HALVINGS {
        let rate = (sustained + beyond) / 2.0;
        match run_at(rate).await? {
            None => return Ok(None),
            Some(figures) if is_sustained(&figures, rate) => sustained = rate,
            Some(_) => beyond = rate,
        }
    }
    let error = BenchError::does_not_count(who);
    match sustained > 0.0 {
        true => Ok(Some(sustained)),
        false => Err(error("it sustained no rate, however low")),
    }
}

fn is_sustained(figures: &GeneratorFigures, rate: f64) -> bool {
    let [.., p99] = figures.latency;
    figures.per_second >= ANSWERED * rate && p99 <= IN_TIME
}

impl fmt::Display for RateRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RateRound {
            wrk,
            goose,
            ours,
            ours_at_most,
            ..
        } = self;
        write!(
            f,
            "ours {ours:.0}/s held, {ours_at_most:.0}/s at most, wrk {wrk:.0}/s, Goose {goose:.0}/s"
        )?;
        for (name, rate) in [("oha", self.oha), ("k6", self.k6)] {
            if let Some(rate) = rate {
                write!(f, ", {name} {rate:.0}/s")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures at `rate`: at most `most` answers a second, and late answers at higher rates.
    fn figures(rate: f64, most: f64) -> GeneratorFigures {
        let p99 = if rate > most { 500.0 } else { 1.0 };
        GeneratorFigures {
            per_second: rate.min(most),
            latency: [0.5, 0.7, p99],
        }
    }

    #[tokio::test]
    async fn bisection_finds_the_rate_from_below() {
        let run_at = async |rate| Ok(Some(figures(rate, 50_000.0)));
        let rate = sustained("ours", 100_000.0, run_at).await;
        let rate = rate.unwrap().unwrap();
        assert!((48_400.0..=50_000.0).contains(&rate), "{rate}");
    }

    #[tokio::test]
    async fn a_missing_generator_has_no_rate_and_one_that_sustains_none_is_an_error() {
        let missing = sustained("oha", 100_000.0, async |_| Ok(None)).await;
        assert!(missing.unwrap().is_none());
        let late = async |rate| Ok(Some(figures(rate, 0.0)));
        let error = sustained("oha", 100_000.0, late).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("oha"), "{error}");
        assert!(error.contains("it sustained no rate"), "{error}");
    }
}
