//! The load generators: how each is asked for load, on one core, with as many connections.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::subprocess;

use super::GooseLoop;
use super::peers::Peer;
use super::told::Told;
use crate::bench::cores::Core;
use crate::bench::error::BenchError;
use crate::bench::wrk::CONNECTIONS;
use crate::result::LoadResult;

/// Beyond its time: to start, to finish what is in flight, and to sum up.
const GRACE: Duration = Duration::from_secs(30);

const K6_SCRIPT: &str = include_str!("k6.js");

/// The generators beside wrk.
pub struct Generators {
    pub core: Core,
    /// Where they run.
    pub folder: PathBuf,
    /// The engine.
    pub ours: PathBuf,
    /// Goose's own loop.
    pub goose: PathBuf,
    pub oha: Peer,
    pub k6: Peer,
}

impl Generators {
    /// Has `program` make load for so many seconds, and returns what it printed.
    ///
    /// # Errors
    /// When it fails, or takes much longer.
    pub async fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        seconds: u64,
    ) -> Result<String, BenchError> {
        let mut argv = self.core.command(program);
        argv.extend(arguments.iter().map(|word| (*word).to_owned()));
        let deadline = Duration::from_secs(seconds) + GRACE;
        Ok(subprocess::output_in(&self.folder, &argv, deadline).await?)
    }

    /// Which of the others are not measured, and why.
    pub fn lacking(&self) -> Vec<String> {
        let peers = [("oha", &self.oha), ("k6", &self.k6)];
        let lacking = peers.into_iter().filter_map(|(name, peer)| {
            let why = peer.as_ref().err()?;
            Some(format!("{name} was not measured: {why}"))
        });
        lacking.collect()
    }

    /// The open-model engine, at a rate.
    pub async fn arrivals(
        &self,
        url: &str,
        per_second: f64,
        seconds: u64,
        in_flight: usize,
    ) -> Result<LoadResult, BenchError> {
        let [rate, lasts, bound] = [
            per_second.to_string(),
            seconds.to_string(),
            in_flight.to_string(),
        ];
        let arguments = [url, &rate, &lasts, &bound];
        let said = self.run(&self.ours, &arguments, seconds).await?;
        serde_json::from_str(&said).map_err(|error| does_not_count("the engine", error))
    }

    /// Goose's users, who ask again as soon as they are answered; together so many times a
    /// second, where that is not 0.
    pub async fn goose(
        &self,
        url: &str,
        users: u32,
        seconds: u64,
        at_most: u32,
    ) -> Result<Told, BenchError> {
        let [users, lasts, at_most] = [users.to_string(), seconds.to_string(), at_most.to_string()];
        let arguments = [url, &users, &lasts, &at_most];
        let said = self.run(&self.goose, &arguments, seconds).await?;
        let counted: GooseLoop =
            serde_json::from_str(&said).map_err(|error| does_not_count("Goose", error))?;
        Told::by_goose(&counted).map_err(|reason| does_not_count("Goose", reason))
    }

    /// oha, at a rate: `None` where it cannot be had.
    pub async fn oha(
        &self,
        url: &str,
        per_second: f64,
        seconds: u64,
    ) -> Result<Option<Told>, BenchError> {
        let Ok(program) = &self.oha else {
            return Ok(None);
        };
        let rate = format!("{per_second:.0}");
        let (connections, lasts) = (CONNECTIONS.to_string(), format!("{seconds}s"));
        let load = [
            "-q",
            &rate,
            "--latency-correction",
            "-c",
            &connections,
            "-z",
            &lasts,
        ];
        let shows = ["--no-tui", "--output-format", "json", url];
        let arguments = [&load[..], &shows].concat();
        let said = self.run(program, &arguments, seconds).await?;
        let told = Told::by_oha(&said).map_err(|reason| does_not_count("oha", reason))?;
        Ok(Some(told))
    }

    /// k6, with one of its executors: `None` where it cannot be had.
    pub async fn k6(
        &self,
        url: &str,
        scenario: serde_json::Value,
        seconds: u64,
    ) -> Result<Option<Told>, BenchError> {
        let Ok(program) = &self.k6 else {
            return Ok(None);
        };
        let folder = &self.folder;
        let (script, summary) = (folder.join("k6.js"), folder.join("k6.json"));
        std::fs::write(&script, K6_SCRIPT).map_err(BenchError::file("write", &script))?;
        let export = format!("--summary-export={}", summary.display());
        let [target, scenario] = [format!("URL={url}"), format!("SCENARIO={scenario}")];
        let script = script.display().to_string();
        let arguments = [
            "run",
            "--quiet",
            "--no-usage-report",
            &export,
            "--env",
            &target,
            "--env",
            &scenario,
            &script,
        ];
        self.run(program, &arguments, seconds).await?;
        let said = std::fs::read_to_string(&summary);
        let said = said.map_err(BenchError::file("read", &summary))?;
        let told = Told::by_k6(&said).map_err(|reason| does_not_count("k6", reason))?;
        Ok(Some(told))
    }
}

pub fn does_not_count(who: &'static str, reason: impl ToString) -> BenchError {
    BenchError::Generator {
        who,
        reason: reason.to_string(),
    }
}
