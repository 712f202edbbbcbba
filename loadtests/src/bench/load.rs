//! The open-model engine beside other load generators, each on one core, of one server on
//! another; what they tell of a server that stands still; what the engine holds in memory; and
//! how often the regression verdicts are right.

mod generators;
mod judge;
mod peers;
mod rates;
mod soak;
mod stall;
#[cfg(test)]
mod tests;
mod told;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cores::Cores;
use super::error::BenchError;
use super::hello;
use super::release::{self, GENERATOR, RELEASE};
use super::results::Measured;
use super::scratch::Scratch;
use super::wrk::Wrk;
use super::{Plan, Progress};
use crate::regression::Rates;
use crate::result::Distribution;
use generators::{Generators, does_not_count};
use soak::Soak;

const STOP: Duration = Duration::from_secs(5);
/// For four times 200 comparisons.
const VERDICTS_SECONDS: u64 = 600;

/// What Goose counted of its own loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GooseLoop {
    /// How long its users were all there.
    pub seconds: f64,
    /// Requests that failed.
    pub failed: u64,
    /// From sending to the begin of the answer.
    pub latency: Distribution,
}

/// How often the regression verdicts are right, of runs that were made up.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct VerdictRates {
    /// A version against itself.
    pub same: Rates,
    /// One whose p95 is 10 % slower.
    pub slower: Rates,
    /// A version against itself on a machine whose runs differ by 5 %, and their blocks by 10 %.
    pub same_but_rough: Rates,
    /// The slower one there.
    pub slower_but_rough: Rates,
}

/// What the measurement needs of this machine, found.
pub struct Bench {
    wrk: Wrk,
    cores: Cores,
}

/// All that was seen.
struct Seen {
    rates: Vec<rates::Round>,
    stalls: Vec<stall::Round>,
    soak: Soak,
    verdicts: VerdictRates,
    /// Why there is no oha, no k6.
    lacking: Vec<String>,
}

impl Bench {
    /// Looks whether this machine has what is needed.
    pub fn prepare() -> Result<Bench, BenchError> {
        let cores = Cores::choose()?;
        let wrk = Wrk::on(cores.generator.clone())?;
        Ok(Bench { wrk, cores })
    }

    /// Has each generator make load in turn, as often as planned; the rest once.
    pub async fn measure(
        &self,
        plan: &Plan,
        scratch: &Scratch,
        progress: Progress<'_>,
    ) -> Result<Vec<Measured>, BenchError> {
        progress("load: builds what is measured: minutes, the first time");
        let folder = scratch.root();
        let generators = self.generators(plan, folder.clone(), progress).await?;
        let program = example(plan, "bare_server").await?;
        let verdicts = example(plan, "verdicts").await?;
        let (mut child, server) = hello::start(&self.cores.server, &program, &folder).await?;
        let (mut rates, mut stalls) = (Vec::new(), Vec::new());
        for round in 1..=plan.rounds {
            let rate = rates::measure(&server, &self.wrk, &generators).await?;
            progress(&format!("load: round {round} of {}: {rate}", plan.rounds));
            rates.push(rate);
            progress("load: the server stands still, once for each generator");
            stalls.push(stall::measure(&server, &generators).await?);
        }
        progress("load: looks at the engine's memory for four minutes");
        let soak = soak::measure(&server, &generators).await?;
        let stopped = child.stop(STOP).await;
        stopped.map_err(BenchError::file("stop", &program))?;
        progress("load: has the regression verdicts judge what is made up");
        let said = generators.run(&verdicts, &[], VERDICTS_SECONDS).await?;
        let rates_of_verdicts = serde_json::from_str(&said);
        let verdicts = rates_of_verdicts.map_err(|error| does_not_count("the verdicts", error))?;
        Ok(judge::judge(&Seen {
            rates,
            stalls,
            soak,
            verdicts,
            lacking: generators.lacking(),
        }))
    }

    async fn generators(
        &self,
        plan: &Plan,
        folder: PathBuf,
        progress: Progress<'_>,
    ) -> Result<Generators, BenchError> {
        std::fs::create_dir_all(&folder).map_err(BenchError::file("make", &folder))?;
        let tools = plan.home.tools();
        let ours = ["--package=load-generator", "--example=arrivals"];
        Ok(Generators {
            ours: release::build(&plan.workspace, GENERATOR, &ours, "arrivals").await?,
            goose: example(plan, "goose_loop").await?,
            oha: peers::oha(&tools, progress).await,
            k6: peers::k6(&tools, progress).await,
            core: self.cores.generator.clone(),
            folder,
        })
    }
}

/// Of this package's.
async fn example(plan: &Plan, name: &'static str) -> Result<PathBuf, BenchError> {
    let chosen = format!("--example={name}");
    let target = ["--package=loadtests", &chosen];
    release::build(&plan.workspace, RELEASE, &target, name).await
}
