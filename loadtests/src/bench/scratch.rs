//! The benchmark's harness home, in which it runs the real command line.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use base::file_lock;
use base::home::Home;
use base::ledger::{Ledger, Resource};
use base::process::describe;
use environments::bring_up::last_lines;
use environments::down;
use environments::environment::{Environment, EnvironmentFolder, EnvironmentName};
use environments::sweep;
use machine::engine::Engine;
use machine::tools::path_with;
use report::Report;
use tokio::process::{Child, Command};

use super::error::BenchError;
use super::memory::Peak;
use super::series::{SeriesCollector, Unit, millis_since};
use super::{BenchPlan, folder};

/// The target of all figures except those of a cluster.
pub const TARGET: &str = "local";
const NAME: &str = "bench";

/// The timeout of a command, a last resort: the command has shorter ones, the longest for the first
/// build of all images.
const ROUND_TIMEOUT: Duration = Duration::from_secs(75 * 60);

/// The home in which the benchmarks of `home` start their environments. `down --all` covers it.
pub fn scratch_home(home: &Home) -> Home {
    Home::new(folder(home).join("scratch"))
}

/// The benchmark's home. Only one benchmark can use it at a time.
pub struct Scratch {
    home: Home,
    /// The tools of the user's home, as this home has none.
    tools_dir: PathBuf,
    name: EnvironmentName,
    _lock: File,
}

pub struct MeasuredCommand {
    /// From its start to its end, in milliseconds.
    pub millis: f64,
    /// The peak memory of it and its supervisor, in MiB; `None` if unknown.
    memory: Option<f64>,
}

/// A command that has ended with a report.
pub struct MeasuredRun {
    /// From its start to its end, in milliseconds.
    pub millis: f64,
    pub report: Report,
    /// The peak memory of it and its supervisor, in MiB; `None` if unknown.
    pub memory: Option<f64>,
}

impl MeasuredRun {
    /// Adds the time of each stage and of the whole command to series that start with `name`.
    pub fn collect(&self, name: &str, into: &mut SeriesCollector) {
        for stage in &self.report.stages {
            let series = format!("{name}: {}", stage.stage);
            into.add(&series, Unit::Milliseconds, stage.millis as f64);
        }
        let whole = format!("{name}: the whole command");
        into.add(&whole, Unit::Milliseconds, self.millis);
    }
}

impl Scratch {
    /// Locks the home for this process.
    pub fn take(plan: &BenchPlan) -> Result<Scratch, BenchError> {
        let folder = folder(&plan.home);
        let lock = file_lock::try_lock(&folder.join("lock"))?;
        Ok(Scratch {
            home: scratch_home(&plan.home),
            tools_dir: plan.home.tools(),
            name: NAME.parse().expect("a constant that is a label"),
            _lock: lock,
        })
    }

    pub fn root(&self) -> PathBuf {
        self.home.root().to_owned()
    }

    /// Runs `cargo xtask <verb>` here (`up` or `e2e`), and reads its report.
    pub async fn rehearse(
        &self,
        verb: &'static str,
        target: &str,
        config: &Path,
    ) -> Result<MeasuredRun, BenchError> {
        let before = self.runs();
        let MeasuredCommand { millis, memory } = self.command(verb, target, config).await?;
        Ok(MeasuredRun {
            millis,
            report: self.report(verb, &before)?,
            memory,
        })
    }

    /// Runs `cargo xtask <verb>` here, with this executable.
    pub async fn command(
        &self,
        verb: &'static str,
        target: &str,
        config: &Path,
    ) -> Result<MeasuredCommand, BenchError> {
        let words = [&[verb], scenarios_of(verb), &["--target", target]].concat();
        let started = Instant::now();
        let mut child = self.start(&words, config)?;
        let folder = EnvironmentFolder::of(&self.home, &self.name);
        let mut memory = Peak::of(child.id().unwrap_or_default(), folder);
        let ended = memory.during(tokio::time::timeout(ROUND_TIMEOUT, child.wait()));
        let how = match ended.await {
            Ok(Ok(status)) if status.success() => None,
            Ok(Ok(status)) => Some(describe(status)),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no result within {ROUND_TIMEOUT:?}")),
        };
        let millis = millis_since(started);
        match how {
            Some(how) => Err(self.failed(verb, how)),
            None => Ok(MeasuredCommand {
                millis,
                memory: memory.mebibytes(),
            }),
        }
    }

    /// Starts `cargo xtask` with these arguments, with this executable.
    pub fn start(&self, words: &[&str], config: &Path) -> Result<Child, BenchError> {
        let (root, console) = (self.home.root(), self.console_path());
        std::fs::create_dir_all(root).map_err(BenchError::file("create", root))?;
        let console = File::create(&console).map_err(BenchError::file("write", &console))?;
        let own = std::env::current_exe().map_err(BenchError::file("find", Path::new("xtask")))?;
        Command::new(&own)
            .args(words)
            .args(["--name", NAME])
            .arg("--config")
            .arg(config)
            .arg("--home")
            .arg(self.home.root())
            .envs([path_with(&self.tools_dir)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(console)
            // A separate process group, as a terminal's Ctrl-C is for the benchmark. If the
            // command is killed, its supervisor tears everything down.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::file("start", &own))
    }

    fn console_path(&self) -> PathBuf {
        self.home.root().join("console.log")
    }

    /// The error for a command that failed.
    pub fn failed(&self, verb: &'static str, how: String) -> BenchError {
        let console = self.console_path();
        BenchError::Round {
            verb,
            how,
            last_lines: last_lines(&console),
            console,
            reports: self.home.reports(),
        }
    }

    /// The folders of all runs.
    pub fn runs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.home.reports());
        let entries = entries.into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// The report of the one new run.
    pub fn report(&self, verb: &'static str, before: &[PathBuf]) -> Result<Report, BenchError> {
        let read = || {
            let mut runs = self.runs().into_iter();
            let run = runs.find(|run| !before.contains(run))?;
            let json = std::fs::read(run.join("report.json")).ok()?;
            serde_json::from_slice(&json).ok()
        };
        let lacks = "everything: it does not exist, or cannot be read";
        read().ok_or_else(|| self.report_lacks(verb, lacks))
    }

    /// The error for an incomplete report.
    pub fn report_lacks(&self, verb: &'static str, lacks: &'static str) -> BenchError {
        BenchError::Report {
            verb,
            lacks,
            reports: self.home.reports(),
        }
    }

    /// The environment that `up` started.
    pub fn environment(&self) -> Result<Environment, BenchError> {
        Ok(EnvironmentFolder::of(&self.home, &self.name).read(&self.name)?)
    }

    /// Records in the ledger that a cluster and a network of this name will be created by hand.
    /// Removing the network also removes the containers on it.
    pub async fn record_by_hand(&self, engine: &Engine, name: &str) -> Result<(), BenchError> {
        let (name, engine) = (name.to_owned(), engine.host.clone());
        let cluster = Resource::Cluster {
            name: name.clone(),
            engine: engine.clone(),
        };
        let ledger = Ledger::at(self.home.ledger());
        ledger.record(NAME, cluster).await?;
        let network = Resource::Network { name, engine };
        ledger.record(NAME, network).await?;
        Ok(())
    }

    /// Tears down the environment and what was created by hand, and removes what dead processes
    /// left.
    pub async fn tear_down(&self) -> Result<(), BenchError> {
        let mut left = down::all(&self.home, None).await.left;
        left.extend(sweep::own(&self.home).await);
        match left.is_empty() {
            true => Ok(()),
            false => Err(BenchError::CleanupIncomplete {
                left,
                home: self.root(),
            }),
        }
    }

    /// Removes logs and reports, after everything was torn down.
    pub fn remove_files(&self) -> Result<(), BenchError> {
        let root = self.home.root();
        match std::fs::remove_dir_all(root) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(BenchError::file("remove", root)(error))
            }
            _ => Ok(()),
        }
    }
}

/// The scenarios of a measured rehearsal, so that new scenarios do not change the figures.
fn scenarios_of(verb: &str) -> &'static [&'static str] {
    match verb {
        "e2e" => &["--scenario", "smoke"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_benchmark_can_run() {
        let home = tempfile::tempdir().unwrap();
        let plan = BenchPlan {
            figures: Vec::new(),
            rounds: 1,
            home: Home::new(home.path()),
            workspace: home.path().to_owned(),
            config: home.path().join("harness.toml"),
        };
        let first = Scratch::take(&plan).unwrap();
        let second = Scratch::take(&plan).err().unwrap();
        assert!(matches!(second, BenchError::AlreadyRunning(_)));
        drop(first);
        Scratch::take(&plan).unwrap();
    }
}
