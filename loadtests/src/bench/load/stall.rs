//! What each generator tells of a server that stood still: 2 s of 10 s, at 1,000 requests/s.
//!
//! Of 10,000 requests 2,000 were due while it did, one after the other, so they took from 2 s
//! down to nothing: their longest tenth is 1 s and more, and so on. A client that waits for
//! its answers before it asks again has sent next to none of them, and sees none of it.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::time::sleep;

use super::generators::Generators;
use super::told::Told;
use crate::bench::error::BenchError;
use crate::bench::hello::Server;
use crate::threshold::{Threshold, judge_all};

const SECONDS: u64 = 10;
const PER_SECOND: u32 = 1_000;
const BEFORE: Duration = Duration::from_secs(4);
const STALL: Duration = Duration::from_secs(2);

/// In flight at most: all that are due meanwhile, and some.
const IN_FLIGHT: usize = 3_000;
/// Goose's users. They need a hundredth of that to come to the rate.
const USERS: u32 = 10;

/// The true p90, p95 and p99, in milliseconds.
pub const TRUE: [f64; 3] = [1_000.0, 1_500.0, 1_900.0];
/// A threshold that such a server must not pass.
pub const FAILS: &str = "p(99)<100ms";

/// What each told of a stall of its own.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub ours: [f64; 3],
    /// Whether [`FAILS`] held.
    pub passed: bool,
    pub k6: Option<[f64; 3]>,
    pub goose: [f64; 3],
}

/// Has one after the other ask, and the server stand still each time.
pub async fn measure(server: &Server, generators: &Generators) -> Result<Round, BenchError> {
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
    Ok(Round {
        ours: Told::by_arrivals(&result).latency,
        passed: judge_all(&[fails], &result).iter().all(|it| it.holds()),
        k6: k6.map(|told| told.latency),
        goose: while_it_stalls(server, goose).await?.latency,
    })
}

/// Has the server stand still once while `load` is made.
async fn while_it_stalls<T>(
    server: &Server,
    load: impl Future<Output = Result<T, BenchError>>,
) -> Result<T, BenchError> {
    let (loaded, stalled) = tokio::join!(load, stands_still(server));
    stalled?;
    loaded
}

/// Has the server stand still, once a load has begun.
pub async fn stands_still(server: &Server) -> Result<(), BenchError> {
    sleep(BEFORE).await;
    signal(server, Signal::SIGSTOP)?;
    sleep(STALL).await;
    signal(server, Signal::SIGCONT)
}

fn signal(server: &Server, signal: Signal) -> Result<(), BenchError> {
    // 0 would be whoever is in this group.
    let process = i32::try_from(server.process).ok().filter(|id| *id > 0);
    let sent = process
        .ok_or(Errno::ESRCH)
        .and_then(|process| kill(Pid::from_raw(process), signal));
    sent.map_err(|error| BenchError::Load {
        url: server.url.clone(),
        reason: format!("the server cannot be sent {signal}: {error}"),
    })
}
