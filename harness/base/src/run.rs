//! A run and its folder. Each event is written when it happens.

pub mod comparison;
pub mod counts;
pub mod event;
pub mod load;
pub mod release;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use miette::Diagnostic;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use thiserror::Error;

use crate::exit::ExitCode;
use crate::home::Home;
use counts::Counts;
use event::{Check, CheckOutcome, Event, Failure, Happening, Host, Stage, StageResult};

/// The messages of a run to its observer, usually the console.
pub enum News<'a> {
    /// An event, which is also in `events.jsonl`.
    Happened(&'a Happening),
    /// The progress of a long step. It is not recorded.
    Progress(Stage, &'a str),
}

/// Observes a run.
pub type Listener = Box<dyn FnMut(News<'_>) + Send>;

/// Writes a run's folder.
pub struct Run {
    id: String,
    folder: PathBuf,
    events: File,
    begun: Instant,
    checks: Counts,
    /// The stages that have started and not finished.
    open: Vec<(Stage, Instant)>,
    listener: Listener,
}

/// The run folder cannot be written, so that nothing can be reported.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot write the run folder: {}: {source}", path.display())]
#[diagnostic(help(
    "free space or make the folder writable (see `df -h` and `ls -ld`), or choose another with --home"
))]
pub struct RunFolderError {
    path: PathBuf,
    source: std::io::Error,
}

/// The file of a run's events, one JSON line each.
pub const EVENTS: &str = "events.jsonl";
/// The folder of the logs, one file for each child process.
pub const LOGS: &str = "logs";

impl Run {
    /// Creates the folder and writes the first event. `verb` is the subcommand, and part of the id.
    /// `command` is the whole command line.
    pub fn start(
        home: &Home,
        verb: &str,
        command: &str,
        platform: &str,
        target: &str,
        environment: &str,
        listener: Listener,
    ) -> Result<Run, RunFolderError> {
        let id = run_id(verb);
        let folder = home.reports().join(&id);
        let error = |path: &Path| {
            let path = path.to_owned();
            |source| RunFolderError { path, source }
        };
        let logs = folder.join(LOGS);
        std::fs::create_dir_all(&logs).map_err(error(&logs))?;
        let file = folder.join(EVENTS);
        let events = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&file)
            .map_err(error(&file))?;
        let mut run = Run {
            id: id.clone(),
            folder,
            events,
            begun: Instant::now(),
            checks: Counts::default(),
            open: Vec::new(),
            listener,
        };
        run.record(Happening::RunStarted {
            run: id,
            command: command.to_owned(),
            platform: platform.to_owned(),
            target: target.to_owned(),
            environment: environment.to_owned(),
            host: this_host(),
        })?;
        Ok(run)
    }

    /// Returns the run's id, which is also the name of its folder.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the run's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the counts of the checks so far.
    pub fn checks(&self) -> Counts {
        self.checks
    }

    /// Records an event and reports it to the listener.
    pub fn record(&mut self, what: Happening) -> Result<(), RunFolderError> {
        (self.listener)(News::Happened(&what));
        match &what {
            Happening::StageStarted { stage } => self.open.push((*stage, Instant::now())),
            Happening::StageFinished { stage, .. } => self.open.retain(|(open, _)| open != stage),
            _ => {}
        }
        let event = Event {
            at: Timestamp::now(),
            what,
        };
        let written = serde_json::to_string(&event)
            .map_err(std::io::Error::other)
            .and_then(|line| self.events.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|source| RunFolderError {
            path: self.folder.join(EVENTS),
            source,
        })
    }

    /// Reports the progress of a long step to the listener. It is not recorded.
    pub fn progress(&mut self, stage: Stage, text: &str) {
        (self.listener)(News::Progress(stage, text));
    }

    /// Returns a function that reports progress from any thread.
    pub fn progress_reporter(&mut self, stage: Stage) -> impl Fn(&str) + Sync {
        let shared = Mutex::new(self);
        move |text| {
            if let Ok(mut run) = shared.lock() {
                run.progress(stage, text);
            }
        }
    }

    /// Records a note.
    pub fn note(&mut self, stage: Stage, text: impl Into<String>) -> Result<(), RunFolderError> {
        let text = text.into();
        self.record(Happening::Note { stage, text })
    }

    /// Records the start of a stage.
    pub fn begin(&mut self, stage: Stage) -> Result<(), RunFolderError> {
        self.record(Happening::StageStarted { stage })
    }

    /// Records the end of every stage that is still running.
    pub fn end_stages(&mut self, result: StageResult) -> Result<(), RunFolderError> {
        while let Some((stage, begun)) = self.open.pop() {
            self.record(Happening::StageFinished {
                stage,
                millis: millis(begun.elapsed()),
                result,
            })?;
        }
        Ok(())
    }

    /// Runs a check of `scenario`, for at most `deadline`, and records it.
    pub async fn check(
        &mut self,
        scenario: &str,
        name: &str,
        deadline: Duration,
        observe: impl Future<Output = CheckOutcome>,
    ) -> Result<(), RunFolderError> {
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(deadline, observe).await {
            Ok(outcome) => outcome,
            Err(_) => CheckOutcome::Failed {
                failure: Failure {
                    what: format!("{name}: no result in time"),
                    expected: format!("a result within {deadline:?}"),
                    seen: "still waiting".into(),
                    look_at: format!("{}", self.folder.join(LOGS).display()),
                    next: "cargo xtask status; if it is only slow, a longer [deadlines] check in harness.toml".into(),
                },
            },
        };
        let check = Check {
            name: name.to_owned(),
            millis: millis(begun.elapsed()),
            outcome,
        };
        self.checked(scenario, check)
    }

    /// Records a check that has already run.
    pub fn checked(&mut self, scenario: &str, check: Check) -> Result<(), RunFolderError> {
        self.checks.add(&check.outcome);
        self.record(Happening::CheckFinished {
            scenario: scenario.to_owned(),
            check,
        })
    }

    /// Writes the last event.
    pub fn finish(&mut self, exit_code: ExitCode) -> Result<(), RunFolderError> {
        let millis = millis(self.begun.elapsed());
        self.record(Happening::RunFinished { exit_code, millis })
    }
}

/// Returns the duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Readable, unique, and sorted by time: `20261125-034512-e2e-7f3a`.
fn run_id(verb: &str) -> String {
    let now = Timestamp::now().strftime("%Y%m%d-%H%M%S");
    format!("{now}-{verb}-{:04x}", rand::random::<u16>())
}

/// Returns a description of this machine.
pub fn this_host() -> Host {
    let wanted = RefreshKind::nothing()
        .with_memory(MemoryRefreshKind::nothing().with_ram())
        .with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(wanted).ok();
    let system = system.as_ref();
    let cpu = system.and_then(|system| system.cpus().first());
    let processor = cpu.map(|cpu| cpu.brand().trim().to_owned());
    Host {
        system: System::long_os_version().unwrap_or_else(|_| "unknown".into()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_mib: system.map_or(0, System::total_memory) / (1024 * 1024),
        processor: processor.filter(|name| !name.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn checks_are_counted_by_outcome_and_one_that_hangs_fails() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let quiet = Box::new(|_: News<'_>| {});
        let mut run = Run::start(&home, "e2e", "e2e", "TRII", "local", "default", quiet).unwrap();
        let deadline = Duration::from_millis(20);
        let outcomes = [
            CheckOutcome::Passed { seen: "200".into() },
            CheckOutcome::Inconclusive {
                because: "no data".into(),
            },
            CheckOutcome::Skipped {
                because: "no cluster".into(),
            },
        ];
        for outcome in outcomes {
            run.check("smoke", "it holds", deadline, async { outcome })
                .await
                .unwrap();
        }
        let inconclusive = StageResult::Inconclusive;
        assert_eq!(StageResult::of_checks(run.checks()), inconclusive);
        run.check("smoke", "it ends", deadline, std::future::pending())
            .await
            .unwrap();
        let counts = Counts {
            passed: 1,
            failed: 1,
            inconclusive: 1,
            skipped: 1,
        };
        assert_eq!(run.checks(), counts);
        assert_eq!(StageResult::of_checks(counts), StageResult::Failed);
    }
}
