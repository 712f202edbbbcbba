//! How many requests a second each generator sustains on one core, of the same server on
//! another.

use std::fmt;

use serde_json::json;

use super::generators::{Generators, does_not_count};
use super::told::Told;
use crate::bench::error::BenchError;
use crate::bench::hello::Server;
use crate::bench::wrk::{CONNECTIONS, Wrk};

const SECONDS: u64 = 3;

/// Between what a generator holds and what it does not, by halving: 1/64 of where it began is
/// left.
const HALVINGS: u32 = 6;
/// Of each halving.
const TRY_SECONDS: u64 = 2;
/// Of what it is asked for, what one that holds a rate has answered: starting up costs each some.
const ANSWERED: f64 = 0.98;
/// The p99 of one that holds a rate, in milliseconds.
const IN_TIME: f64 = 20.0;
/// The engine's bound of requests in flight. It opens as many connections as it needs.
const IN_FLIGHT: usize = 2_000;

/// Its bound where it is asked for more than it can: as many are always in flight, and the rest
/// is dropped and counted.
const ALWAYS_IN_FLIGHT: usize = 4 * CONNECTIONS as usize;

/// What each sustained in one round, in answers a second.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// As many as its connections take.
    pub wrk: f64,
    /// Of its core, what the server used under wrk, 0 to 1.
    pub busy: f64,
    /// The highest rate it was asked for and held.
    pub oha: Option<f64>,
    /// As many as its users take.
    pub k6: Option<f64>,
    /// As many as its users take.
    pub goose: f64,
    /// As oha.
    pub ours: f64,
    /// As many as it can when asked for wrk's rate.
    pub ours_at_most: f64,
}

/// Has each make as much load as it can, one after the other.
///
/// wrk, k6 and Goose ask again as soon as they are answered: beside them stands what the engine
/// answers when it is asked for wrk's rate. oha and the engine have an open model: they are
/// asked for ever closer rates too, and hold one that they answer in time. k6 has such a model, but
/// holds a quarter of what its users take.
pub async fn measure(
    server: &Server,
    wrk: &Wrk,
    generators: &Generators,
) -> Result<Round, BenchError> {
    let url = &server.url;
    let (loaded, busy) = server.busy_during(wrk.load(url, SECONDS)).await?;
    let most = loaded?;
    let oha = async |rate| generators.oha(url, rate, TRY_SECONDS).await;
    let users = json!({
        "executor": "constant-vus", "vus": CONNECTIONS, "duration": format!("{SECONDS}s"),
    });
    let ours = async |rate| {
        let arrivals = generators.arrivals(url, rate, TRY_SECONDS, IN_FLIGHT);
        Ok(Some(Told::by_arrivals(&arrivals.await?)))
    };
    let as_wrk = generators.arrivals(url, most, SECONDS, ALWAYS_IN_FLIGHT);
    let at_most = Told::by_arrivals(&as_wrk.await?).per_second;
    let k6 = generators.k6(url, users, SECONDS).await?;
    let goose = generators.goose(url, CONNECTIONS, SECONDS, 0).await?;
    Ok(Round {
        wrk: most,
        busy,
        oha: held("oha", most, oha).await?,
        k6: k6.map(|told| told.per_second),
        goose: goose.per_second,
        ours: held("the engine", most, ours).await?.unwrap_or_default(),
        ours_at_most: at_most,
    })
}

/// The highest rate below `most` that a generator holds; none where there is no such generator.
///
/// # Errors
/// That it holds none at all: a share of that would be of nothing.
async fn held(
    who: &'static str,
    most: f64,
    asked: impl AsyncFn(f64) -> Result<Option<Told>, BenchError>,
) -> Result<Option<f64>, BenchError> {
    let (mut held, mut beyond) = (0.0, most);
    for _ in 0..HALVINGS {
        let rate = (held + beyond) / 2.0;
        match asked(rate).await? {
            None => return Ok(None),
            Some(told) if is_held(&told, rate) => held = rate,
            Some(_) => beyond = rate,
        }
    }
    match held > 0.0 {
        true => Ok(Some(held)),
        false => Err(does_not_count(who, "it held no rate, however low")),
    }
}

fn is_held(told: &Told, rate: f64) -> bool {
    let [.., p99] = told.latency;
    told.per_second >= ANSWERED * rate && p99 <= IN_TIME
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Round {
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

    /// What one says that answers so many a second at most, and late beyond.
    fn told(rate: f64, most: f64) -> Told {
        let p99 = if rate > most { 500.0 } else { 1.0 };
        Told {
            per_second: rate.min(most),
            latency: [0.5, 0.7, p99],
        }
    }

    #[tokio::test]
    async fn the_rate_is_closed_in_upon_from_below() {
        let asked = async |rate| Ok(Some(told(rate, 50_000.0)));
        let held = held("ours", 100_000.0, asked).await.unwrap().unwrap();
        assert!((48_400.0..=50_000.0).contains(&held), "{held}");
    }

    #[tokio::test]
    async fn one_that_is_not_there_has_none_and_one_that_holds_none_is_no_figure() {
        let lacking = held("oha", 100_000.0, async |_| Ok(None)).await;
        assert!(lacking.unwrap().is_none());
        let late = async |rate| Ok(Some(told(rate, 0.0)));
        let error = held("oha", 100_000.0, late).await.unwrap_err().to_string();
        assert!(error.contains("oha"), "{error}");
        assert!(error.contains("it held no rate"), "{error}");
    }
}
