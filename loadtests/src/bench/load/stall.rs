//! What each generator reports about a server that stalls for 2 s of 10 s, at 1,000 requests/s.
//!
//! Of 10,000 requests 2,000 are due during the stall, one after the other, so that they take from 2
//! s down to 0: the longest tenth of all takes 1 s and more, and so on. A client that waits for
//! each answer before it sends the next request sends almost none of them, and does not see the
//! stall.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::time::sleep;

use super::generator_figures::GeneratorFigures;
use super::generators::BenchGenerators;
use crate::bench::error::BenchError;
use crate::bench::hello::ServerUnderLoad;
use crate::threshold::{Threshold, evaluate_all};

const SECONDS: u64 = 10;
const PER_SECOND: u32 = 1_000;
const BEFORE: Duration = Duration::from_secs(4);
const STALL: Duration = Duration::from_secs(2);

/// The most requests in flight: all that are due during the stall, and some more.
const IN_FLIGHT: usize = 3_000;
/// Goose's users, more than enough for the rate.
const USERS: u32 = 10;

/// The true p90, p95 and p99, in milliseconds.
pub const TRUE: [f64; 3] = [1_000.0, 1_500.0, 1_900.0];
/// A threshold that such a server must not pass.
pub const FAILS: &str = "p(99)<100ms";

/// The p90, p95 and p99 that each generator reported, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct StallRound {
    pub ours: [f64; 3],
    /// Whether [`FAILS`] held.
    pub passed: bool,
    pub k6: Option<[f64; 3]>,
    pub goose: [f64; 3],
}

/// Runs one generator after the other, with a stall of the server each time.
pub async fn measure(
    server: &ServerUnderLoad,
    generators: &BenchGenerators,
) -> Result<StallRound, BenchError> {
    let url = &server.url;
    let rate = f64::from(PER_SECOND);
    let arrivals = generators.arrivals(url, rate, SECONDS, IN_FLIGHT);
    let result = while_it_stalls(server, arrivals).await?;
    let fails: Threshold = FAILS.parse().expect("a constant that is a threshold");
    let arrives = json!({
        "executor": "constant-arrival-rate", "rate": PER_SECOND, "timeUnit": "1s",
        "duration": format!("{SECONDS}s"), "preAllocatedVUs": IN_FLIGHT,
    });
    let k6 = while_it_stalls(server, generators.k6(url, arrives, SECONDS)).await?;
    let goose = generators.goose(url, USERS, SECONDS, PER_SECOND);
    Ok(StallRound {
        ours: GeneratorFigures::by_arrivals(&result).latency,
        passed: evaluate_all(&[fails], &result).iter().all(|it| it.holds()),
        k6: k6.map(|figures| figures.latency),
        goose: while_it_stalls(server, goose).await?.latency,
    })
}

async fn while_it_stalls<T>(
    server: &ServerUnderLoad,
    load: impl Future<Output = Result<T, BenchError>>,
) -> Result<T, BenchError> {
    let (loaded, stalled) = tokio::join!(load, stall(server));
    stalled?;
    loaded
}

/// Stalls the server, after the load has been running for some time.
pub async fn stall(server: &ServerUnderLoad) -> Result<(), BenchError> {
    sleep(BEFORE).await;
    signal(server, Signal::SIGSTOP)?;
    sleep(STALL).await;
    signal(server, Signal::SIGCONT)
}

fn signal(server: &ServerUnderLoad, signal: Signal) -> Result<(), BenchError> {
    // 0 would be every process of this group.
    let process = i32::try_from(server.process).ok().filter(|id| *id > 0);
    let sent = process
        .ok_or(Errno::ESRCH)
        .and_then(|process| kill(Pid::from_raw(process), signal));
    sent.map_err(|error| BenchError::Load {
        url: server.url.clone(),
        reason: format!("the server cannot be sent {signal}: {error}"),
    })
}
