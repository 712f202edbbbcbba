//! The open-model engine compared with other load generators, each on one core, with one server on
//! another; what they report about a server that stalls; the engine's memory; and how often the
//! regression verdicts are right.

mod figures;
mod generator_figures;
mod generators;
mod peers;
mod rates;
mod soak;
mod stall;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cargo_build::{self, GENERATOR, RELEASE};
use super::cores::Cores;
use super::error::BenchError;
use super::hello;
use super::results::Measured;
use super::scratch::Scratch;
use super::wrk::Wrk;
use super::{BenchPlan, Progress};
use crate::regression::Rates;
use crate::result::Distribution;
use generators::BenchGenerators;
use soak::Soak;

/// For four times 200 comparisons.
const VERDICTS_SECONDS: u64 = 600;

/// The results of Goose's own loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GooseLoop {
    /// How long all its users were running.
    pub seconds: f64,
    /// Requests that failed.
    pub failed: u64,
    /// From sending a request to the start of its response.
    pub latency: Distribution,
}

/// How often the regression verdicts are right on simulated runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct VerdictRates {
    /// A version compared with itself.
    pub same: Rates,
    /// A version whose p95 is 10 % slower.
    pub slower: Rates,
    /// A version compared with itself on a machine whose runs differ by 5 %, and blocks by 10 %.
    pub same_but_rough: Rates,
    /// The slower version on that machine.
    pub slower_but_rough: Rates,
}

pub struct LoadBench {
    wrk: Wrk,
    cores: Cores,
}

struct LoadMeasurements {
    rates: Vec<rates::RateRound>,
    stalls: Vec<stall::StallRound>,
    soak: Soak,
    verdicts: VerdictRates,
    /// Why there is no oha or k6.
    lacking: Vec<String>,
}

impl LoadBench {
    pub fn prepare() -> Result<LoadBench, BenchError> {
        let cores = Cores::choose()?;
        let wrk = Wrk::on(cores.generator.clone())?;
        Ok(LoadBench { wrk, cores })
    }

    /// Runs each generator in turn, in every round; the rest once.
    pub async fn measure(
        &self,
        plan: &BenchPlan,
        scratch: &Scratch,
        progress: Progress<'_>,
    ) -> Result<Vec<Measured>, BenchError> {
        progress("load: builds the server and the load generators: minutes, the first time");
        let folder = scratch.root();
        let generators = self.generators(plan, folder.clone(), progress).await?;
        let program = example(plan, "bare_server").await?;
        let verdicts = example(plan, "verdicts").await?;
        let (child, server) = hello::start(&self.cores.server, &program, &folder).await?;
        let (mut rates, mut stalls) = (Vec::new(), Vec::new());
        for round in 1..=plan.rounds {
            let rate = rates::measure(&server, &self.wrk, &generators).await?;
            progress(&format!("load: round {round} of {}: {rate}", plan.rounds));
            rates.push(rate);
            progress("load: the server stalls, once for each generator");
            stalls.push(stall::measure(&server, &generators).await?);
        }
        progress("load: measures the engine's memory for four minutes");
        let soak = soak::measure(&server, &generators).await?;
        hello::stop(child, &program).await?;
        progress("load: evaluates the regression verdicts on simulated runs");
        let output = generators.run(&verdicts, &[], VERDICTS_SECONDS).await?;
        let verdicts = serde_json::from_str(&output);
        let verdicts = verdicts.map_err(BenchError::does_not_count("the verdicts"))?;
        Ok(figures::figures(&LoadMeasurements {
            rates,
            stalls,
            soak,
            verdicts,
            lacking: generators.lacking(),
        }))
    }

    async fn generators(
        &self,
        plan: &BenchPlan,
        folder: PathBuf,
        progress: Progress<'_>,
    ) -> Result<BenchGenerators, BenchError> {
        std::fs::create_dir_all(&folder).map_err(BenchError::file("create", &folder))?;
        let tools = plan.home.tools();
        let ours = ["--package=load-generator", "--example=arrivals"];
        Ok(BenchGenerators {
            ours: cargo_build::build(&plan.workspace, GENERATOR, &ours, "arrivals").await?,
            goose: example(plan, "goose_loop").await?,
            oha: peers::oha(&tools, progress).await,
            k6: peers::k6(&tools, progress).await,
            core: self.cores.generator.clone(),
            folder,
        })
    }
}

/// Builds an example of this package.
async fn example(plan: &BenchPlan, name: &'static str) -> Result<PathBuf, BenchError> {
    let chosen = format!("--example={name}");
    let target = ["--package=loadtests", &chosen];
    cargo_build::build(&plan.workspace, RELEASE, &target, name).await
}
