//! What the engine holds in memory in the first minutes of an hour's soak at 50,000 requests/s.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::generators::{Generators, does_not_count};
use super::stall::stands_still;
use crate::bench::error::BenchError;
use crate::bench::hello::Server;
use crate::bench::memory::resident_mebibytes;
use crate::result::LoadResult;

const PER_SECOND: u32 = 50_000;
const SECONDS: u32 = 3600;
const IN_FLIGHT: u32 = 2_000;

/// Of the hour, what is looked at. The run is that of the hour all the same: how long its blocks
/// are goes by what it is asked for.
const LOOKED_AT_SECONDS: usize = 240;
/// Connections are made, buffers grow to their size: what counts is from minute 2 on. The server
/// stands still meanwhile: as many connections are made as the bound allows, and not one by one
/// with each pause that the machine makes later.
const WARM_UP_SECONDS: usize = 120;

/// Drain and summing up included.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// What a run held.
#[derive(Clone, Debug)]
pub struct Soak {
    /// From minute 2 on, once a second, MiB; empty where that cannot be told.
    pub mebibytes: Vec<f64>,
    /// Answers a second, from minute 2 on.
    pub per_second: f64,
}

impl Soak {
    /// How much more the last quarter of its time held on average than the first, as a share.
    pub fn growth(&self) -> Option<f64> {
        let quarter = self.mebibytes.len() / 4;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (_, last) = self.mebibytes.split_at(self.mebibytes.len() - quarter);
        (quarter > 0).then(|| mean(last) / mean(&self.mebibytes[..quarter]) - 1.0)
    }
}

/// Makes the load, and looks at the generator's memory every second.
pub async fn measure(server: &Server, generators: &Generators) -> Result<Soak, BenchError> {
    let log = generators.folder.join("soak.log");
    let [rate, lasts, bound] = [PER_SECOND, SECONDS, IN_FLIGHT].map(|it| it.to_string());
    let arguments = [server.url.as_str(), &rate, &lasts, &bound];
    let core = &generators.core;
    let mut generator = core.start("arrivals", &generators.ours, &arguments, &[], &log)?;
    let mut mebibytes = Vec::new();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looks = async {
        for _ in 0..LOOKED_AT_SECONDS {
            seconds.tick().await;
            mebibytes.extend(resident_mebibytes(generator.pid()));
        }
    };
    let ((), stood_still) = tokio::join!(looks, stands_still(server));
    let ended = generator.stop(ENDS_WITHIN).await;
    let said = std::fs::read_to_string(&log).map_err(BenchError::file("read", &log))?;
    let result: Result<LoadResult, _> = serde_json::from_str(said.trim());
    let result = result.map_err(|error| {
        let reason = format!("{error}; it ended with {ended:?} and said: {said}");
        does_not_count("the engine", reason)
    })?;
    stood_still?;
    mebibytes.drain(..WARM_UP_SECONDS.min(mebibytes.len()));
    Ok(Soak {
        mebibytes,
        per_second: per_second(&result),
    })
}

/// From minute 2 on, to the last block, which was broken off. 0 where it ended before.
fn per_second(result: &LoadResult) -> f64 {
    let last = result.blocks().saturating_sub(1);
    let first = last.min(WARM_UP_SECONDS as u32 * 1000 / result.block_millis as u32);
    let endpoints = result.endpoints.values();
    let whole = endpoints.flat_map(|endpoint| endpoint.blocks.range(first..last));
    let requests: u64 = whole.map(|(_, block)| block.requests).sum();
    let millis = (u64::from(last - first) * result.block_millis).max(1);
    requests as f64 * 1e3 / millis as f64
}
