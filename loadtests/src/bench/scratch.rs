//! The benchmark's own harness home, and the real command line run in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::bring_up::last_lines;
use harness::down;
use harness::engine::Engine;
use harness::environment::{Environment, EnvironmentFolder, EnvironmentName};
use harness::file_lock;
use harness::home::Home;
use harness::ledger::{Ledger, Resource};
use harness::process::bound::describe;
use harness::report::Report;
use harness::sweep;
use harness::tiers::path_with;
use tokio::process::{Child, Command};

use super::error::BenchError;
use super::memory::Peak;
use super::{Plan, folder};

/// The target that is measured, but for the figures of a cluster.
pub const TARGET: &str = "local";
const NAME: &str = "bench";

/// Only a last resort: the command has a deadline of its own for all it waits for, the
/// longest of them for the first build of all images.
const LONGEST_ROUND: Duration = Duration::from_secs(75 * 60);

/// Where the benchmarks of `home` stand their environments up. `down --all` looks there.
pub fn scratch_home(home: &Home) -> Home {
    Home::new(folder(home).join("scratch"))
}

/// The benchmark's home, for one benchmark at a time.
pub struct Scratch {
    home: Home,
    /// The tools of the home that is benchmarked: this one has none.
    tools_dir: PathBuf,
    name: EnvironmentName,
    _lock: File,
}

/// One command, run to its end.
pub struct Ran {
    /// From its start to its end, milliseconds.
    pub millis: f64,
    /// The most that it and its supervisor held, MiB; `None` where that cannot be told.
    memory: Option<f64>,
}

/// One command that leaves a report, run to its end.
pub struct Course {
    /// From its start to its end, milliseconds.
    pub millis: f64,
    /// What it reported.
    pub report: Report,
    /// The most that it and its supervisor held, MiB; `None` where that cannot be told.
    pub memory: Option<f64>,
}

impl Scratch {
    /// Takes it for this process.
    pub fn take(plan: &Plan) -> Result<Scratch, BenchError> {
        let folder = folder(&plan.home);
        let lock = file_lock::try_lock(&folder.join("lock"))?;
        Ok(Scratch {
            home: scratch_home(&plan.home),
            tools_dir: plan.home.tools(),
            name: NAME.parse().expect("a constant that is a label"),
            _lock: lock,
        })
    }

    /// Its folder.
    pub fn root(&self) -> PathBuf {
        self.home.root().to_owned()
    }

    /// Runs `cargo xtask <verb>` here, which is `up` or `e2e`, and reads its report.
    pub async fn rehearse(
        &self,
        verb: &'static str,
        target: &str,
        config: &Path,
    ) -> Result<Course, BenchError> {
        let before = self.runs();
        let Ran { millis, memory } = self.command(verb, target, config).await?;
        Ok(Course {
            millis,
            report: self.report(verb, &before)?,
            memory,
        })
    }

    /// Runs `cargo xtask <verb>` here, by this very executable.
    pub async fn command(
        &self,
        verb: &'static str,
        target: &str,
        config: &Path,
    ) -> Result<Ran, BenchError> {
        let words = [&[verb], scenarios_of(verb), &["--target", target]].concat();
        let begun = Instant::now();
        let mut child = self.start(&words, config)?;
        let folder = EnvironmentFolder::of(&self.home, &self.name);
        let mut memory = Peak::of(child.id().unwrap_or_default(), folder);
        let ended = memory.during(tokio::time::timeout(LONGEST_ROUND, child.wait()));
        let how = match ended.await {
            Ok(Ok(status)) if status.success() => None,
            Ok(Ok(status)) => Some(describe(status)),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no result within {LONGEST_ROUND:?}")),
        };
        let millis = begun.elapsed().as_secs_f64() * 1000.0;
        match how {
            Some(how) => Err(self.did_not_hold(verb, how)),
            None => Ok(Ran {
                millis,
                memory: memory.mebibytes(),
            }),
        }
    }

    /// Starts `cargo xtask` with these words, by this very executable.
    pub fn start(&self, words: &[&str], config: &Path) -> Result<Child, BenchError> {
        let console = self.console()?;
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
            // A group of its own: a terminal's Ctrl-C is for the benchmark. Killed, the
            // command leaves its supervisor to take everything down.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::file("start", &own))
    }

    fn console_path(&self) -> PathBuf {
        self.home.root().join("console.log")
    }

    fn console(&self) -> Result<File, BenchError> {
        let (root, path) = (self.home.root(), self.console_path());
        std::fs::create_dir_all(root).map_err(BenchError::file("make", root))?;
        File::create(&path).map_err(BenchError::file("write", &path))
    }

    /// The error for a command that did not do what it was to.
    pub fn did_not_hold(&self, verb: &'static str, how: String) -> BenchError {
        let console = self.console_path();
        BenchError::Round {
            verb,
            how,
            last_words: last_lines(&console),
            console,
            reports: self.home.reports(),
        }
    }

    /// The folders of the runs there are.
    pub fn runs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.home.reports());
        let entries = entries.into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// The report of the one run that was not there before.
    pub fn report(&self, verb: &'static str, before: &[PathBuf]) -> Result<Report, BenchError> {
        let reports = self.home.reports();
        let read = || {
            let mut runs = self.runs().into_iter();
            let run = runs.find(|run| !before.contains(run))?;
            let json = std::fs::read(run.join("report.json")).ok()?;
            serde_json::from_slice(&json).ok()
        };
        read().ok_or(BenchError::Report {
            verb,
            lacks: "everything: it is not there, or cannot be read",
            reports: reports.clone(),
        })
    }

    /// The error for a report without what is measured.
    pub fn report_lacks(&self, verb: &'static str, lacks: &'static str) -> BenchError {
        BenchError::Report {
            verb,
            lacks,
            reports: self.home.reports(),
        }
    }

    /// The environment that `up` left up.
    pub fn environment(&self) -> Result<Environment, BenchError> {
        Ok(EnvironmentFolder::of(&self.home, &self.name).read(&self.name)?)
    }

    /// Writes down that a cluster of this name is about to be made by hand, and a network,
    /// which takes along what is on it.
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

    /// Takes down what is up here or was made by hand, and removes what dead ones left.
    pub async fn take_down(&self) -> Result<(), BenchError> {
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

    /// Removes logs and reports; all must be down.
    pub fn remove_files(&self) -> Result<(), BenchError> {
        let root = self.home.root();
        remove_directory(root).map_err(BenchError::file("remove", root))
    }
}

/// What a rehearsal proves when it is measured: scenarios that are added must not change the
/// figures.
fn scenarios_of(verb: &str) -> &'static [&'static str] {
    match verb {
        "e2e" => &["--scenario", "smoke"],
        _ => &[],
    }
}

/// Removes a directory; one that is not there is removed.
fn remove_directory(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_benchmark_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let plan = Plan {
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
