//! Runs the load generators, each on one core, with the same number of connections.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::process;

use super::GooseLoop;
use super::generator_figures::GeneratorFigures;
use super::peers::Peer;
use crate::bench::cores::Core;
use crate::bench::error::BenchError;
use crate::bench::wrk::CONNECTIONS;
use crate::result::LoadResult;

/// Additional time to start, to finish requests in flight, and to sum up.
const GRACE: Duration = Duration::from_secs(30);

const K6_SCRIPT: &str = include_str!("k6.js");

/// The programs of the generators other than wrk.
pub struct BenchGenerators {
    pub core: Core,
    /// Their working directory.
    pub folder: PathBuf,
    /// The open-model engine.
    pub ours: PathBuf,
    /// Goose's own loop.
    pub goose: PathBuf,
    pub oha: Peer,
    pub k6: Peer,
}

impl BenchGenerators {
    /// Runs `program` for this many seconds, and returns its output. Fails if it takes much longer.
    pub async fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        seconds: u64,
    ) -> Result<String, BenchError> {
        let mut argv = self.core.command(program);
        argv.extend(arguments.iter().map(|word| (*word).to_owned()));
        let deadline = Duration::from_secs(seconds) + GRACE;
        Ok(process::output_in(&self.folder, &argv, deadline).await?)
    }

    /// Returns which other generators are not measured, and why.
    pub fn lacking(&self) -> Vec<String> {
        let peers = [("oha", &self.oha), ("k6", &self.k6)];
        let lacking = peers.into_iter().filter_map(|(name, peer)| {
            let why = peer.as_ref().err()?;
            Some(format!("{name} was not measured: {why}"))
        });
        lacking.collect()
    }

    /// Runs the open-model engine at a rate.
    pub async fn arrivals(
        &self,
        url: &str,
        per_second: f64,
        seconds: u64,
        in_flight: usize,
    ) -> Result<LoadResult, BenchError> {
        let (rate, duration) = (per_second.to_string(), seconds.to_string());
        let in_flight = in_flight.to_string();
        let arguments = [url, &rate, &duration, &in_flight];
        let output = self.run(&self.ours, &arguments, seconds).await?;
        serde_json::from_str(&output).map_err(BenchError::does_not_count("the engine"))
    }

    /// Runs Goose's users, who send the next request as soon as they have an answer; together at
    /// most `at_most` per second, unless that is 0.
    pub async fn goose(
        &self,
        url: &str,
        users: u32,
        seconds: u64,
        at_most: u32,
    ) -> Result<GeneratorFigures, BenchError> {
        let [users, at_most] = [users, at_most].map(|number| number.to_string());
        let duration = seconds.to_string();
        let arguments = [url, &users, &duration, &at_most];
        let output = self.run(&self.goose, &arguments, seconds).await?;
        let counted: GooseLoop =
            serde_json::from_str(&output).map_err(BenchError::does_not_count("Goose"))?;
        GeneratorFigures::by_goose(&counted).map_err(BenchError::does_not_count("Goose"))
    }

    /// Runs oha at a rate; `None` if it is not available.
    pub async fn oha(
        &self,
        url: &str,
        per_second: f64,
        seconds: u64,
    ) -> Result<Option<GeneratorFigures>, BenchError> {
        let Ok(program) = &self.oha else {
            return Ok(None);
        };
        let rate = format!("{per_second:.0}");
        let (connections, duration) = (CONNECTIONS.to_string(), format!("{seconds}s"));
        let load = ["-q", &rate, "-c", &connections, "-z", &duration];
        let options = ["--latency-correction", "--no-tui", "--output-format"];
        let arguments = [&load[..], &options, &["json", url]].concat();
        let output = self.run(program, &arguments, seconds).await?;
        let figures = GeneratorFigures::by_oha(&output);
        figures.map(Some).map_err(BenchError::does_not_count("oha"))
    }

    /// Runs k6 with one of its executors; `None` if it is not available.
    pub async fn k6(
        &self,
        url: &str,
        scenario: serde_json::Value,
        seconds: u64,
    ) -> Result<Option<GeneratorFigures>, BenchError> {
        let Ok(program) = &self.k6 else {
            return Ok(None);
        };
        let folder = &self.folder;
        let (script, summary) = (folder.join("k6.js"), folder.join("k6.json"));
        std::fs::write(&script, K6_SCRIPT).map_err(BenchError::file("write", &script))?;
        let export = format!("--summary-export={}", summary.display());
        let [target, scenario] = [format!("URL={url}"), format!("SCENARIO={scenario}")];
        let script = script.display().to_string();
        let options = ["run", "--quiet", "--no-usage-report", &export];
        let environment = ["--env", &target, "--env", &scenario, &script];
        let arguments = [&options[..], &environment].concat();
        self.run(program, &arguments, seconds).await?;
        let output = std::fs::read_to_string(&summary);
        let output = output.map_err(BenchError::file("read", &summary))?;
        let figures = GeneratorFigures::by_k6(&output);
        figures.map(Some).map_err(BenchError::does_not_count("k6"))
    }
}
