//! The engine's memory in the first minutes of an hour at 50,000 requests/s.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::generators::BenchGenerators;
use super::stall::stall;
use crate::bench::error::BenchError;
use crate::bench::hello::ServerUnderLoad;
use crate::bench::memory::resident_mebibytes;
use crate::result::LoadResult;

const PER_SECOND: u32 = 50_000;
const SECONDS: u32 = 3600;
const IN_FLIGHT: u32 = 2_000;

/// How much of the hour is measured. The run is still planned for the hour, which decides the
/// length of its blocks.
const MEASURED_SECONDS: usize = 240;
/// In this time connections open and buffers grow: what counts is from minute 2 on. The server
/// stalls in this time, so that all connections up to the limit open now, and not one by one with
/// each later pause of the machine.
const WARM_UP_SECONDS: usize = 120;

/// To drain and to sum up.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Soak {
    /// The memory from minute 2 on, once a second, in MiB; empty if it cannot be measured.
    pub mebibytes: Vec<f64>,
    /// Answers per second, from minute 2 on.
    pub per_second: f64,
}

impl Soak {
    /// The growth of the mean memory from the first quarter of the time to the last, as a share.
    pub fn growth(&self) -> Option<f64> {
        let quarter = self.mebibytes.len() / 4;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (_, last) = self.mebibytes.split_at(self.mebibytes.len() - quarter);
        (quarter > 0).then(|| mean(last) / mean(&self.mebibytes[..quarter]) - 1.0)
    }
}

/// Runs the load, and measures the generator's memory every second.
pub async fn measure(
    server: &ServerUnderLoad,
    generators: &BenchGenerators,
) -> Result<Soak, BenchError> {
    let log = generators.folder.join("soak.log");
    let [rate, duration, in_flight] = [PER_SECOND, SECONDS, IN_FLIGHT].map(|it| it.to_string());
    let arguments = [server.url.as_str(), &rate, &duration, &in_flight];
    let core = &generators.core;
    let mut generator = core.start("arrivals", &generators.ours, &arguments, &[], &log)?;
    let mut mebibytes = Vec::new();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let measuring = async {
        for _ in 0..MEASURED_SECONDS {
            seconds.tick().await;
            mebibytes.extend(resident_mebibytes(generator.pid()));
        }
    };
    let ((), stalled) = tokio::join!(measuring, stall(server));
    let ended = generator.stop(STOP_TIMEOUT).await;
    let output = std::fs::read_to_string(&log).map_err(BenchError::file("read", &log))?;
    let result: Result<LoadResult, _> = serde_json::from_str(output.trim());
    let result = result
        .map_err(|error| format!("{error}; it exited with {ended:?}, with the output: {output}"))
        .map_err(BenchError::does_not_count("the engine"))?;
    stalled?;
    mebibytes.drain(..WARM_UP_SECONDS.min(mebibytes.len()));
    Ok(Soak {
        mebibytes,
        per_second: per_second(&result),
    })
}

/// The rate from minute 2 on, without the last block, which is incomplete. 0 if it ended before.
fn per_second(result: &LoadResult) -> f64 {
    let last = result.blocks().saturating_sub(1);
    let first = last.min(WARM_UP_SECONDS as u32 * 1000 / result.block_millis as u32);
    let endpoints = result.endpoints.values();
    let whole = endpoints.flat_map(|endpoint| endpoint.blocks.range(first..last));
    let requests: u64 = whole.map(|(_, block)| block.requests).sum();
    let millis = (u64::from(last - first) * result.block_millis).max(1);
    requests as f64 * 1e3 / millis as f64
}
