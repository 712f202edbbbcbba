//! One invocation and its folder: what happened, written down as it happens.

pub mod comparison;
pub mod counts;
pub mod event;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use miette::Diagnostic;
use sysinfo::{CpuRefreshKind, RefreshKind};
use thiserror::Error;

use crate::exit::ExitCode;
use crate::home::Home;
use counts::Counts;
use event::{Check, Event, Failure, Happening, Host, Outcome, Stage, StageResult};

/// What a run tells whoever follows it: the console, mostly.
pub enum News<'a> {
    /// Something that is also in `events.jsonl`.
    Happened(&'a Happening),
    /// What a long step is doing right now; not kept.
    Progress(Stage, &'a str),
}

/// Follows a run while it goes on.
pub type Listener = Box<dyn FnMut(News<'_>) + Send>;

/// Writes a run's folder.
pub struct Run {
    id: String,
    folder: PathBuf,
    events: File,
    begun: Instant,
    checks: Counts,
    /// Stages that have begun and not finished.
    open: Vec<(Stage, Instant)>,
    listener: Listener,
}

/// The run folder cannot be written, so nothing that happens could be reported.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot write the run folder: {}: {source}", path.display())]
#[diagnostic(help(
    "free space or make the folder writable (`df -h` and `ls -ld` on it tell), or choose another with --home"
))]
pub struct RunFolderError {
    path: PathBuf,
    source: std::io::Error,
}

/// The events of a run, one JSON line each.
pub const EVENTS: &str = "events.jsonl";
/// The logs of every child, one file each.
pub const LOGS: &str = "logs";

impl Run {
    /// Makes the folder and writes the first event. `verb` is the subcommand and part of
    /// the id; `command` is all that was typed.
    pub fn start(
        home: &Home,
        verb: &str,
        command: &str,
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
            target: target.to_owned(),
            environment: environment.to_owned(),
            host: this_host(),
        })?;
        Ok(run)
    }

    /// The run's id, also the name of its folder.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The checks that were made so far.
    pub fn checks(&self) -> Counts {
        self.checks
    }

    /// Writes an event and tells the listener.
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

    /// Tells the listener what a long step is doing; not kept.
    pub fn progress(&mut self, stage: Stage, text: &str) {
        (self.listener)(News::Progress(stage, text));
    }

    /// The same for work that tells by a plain function, from whichever thread.
    pub fn teller(&mut self, stage: Stage) -> impl Fn(&str) + Sync {
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

    /// Records that a stage begins.
    pub fn begin(&mut self, stage: Stage) -> Result<(), RunFolderError> {
        self.record(Happening::StageStarted { stage })
    }

    /// Records the end of every stage that has begun and not ended.
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

    /// Makes one observation of `scenario`, for at most `deadline`, and records it.
    pub async fn check(
        &mut self,
        scenario: &str,
        name: &str,
        deadline: Duration,
        observe: impl Future<Output = Outcome>,
    ) -> Result<(), RunFolderError> {
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(deadline, observe).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed {
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

    /// Records an observation that was made already.
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

/// Whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Sorts by time, reads by eye, and is not taken twice: `20261125-034512-e2e-7f3a`.
fn run_id(verb: &str) -> String {
    let now = Timestamp::now().strftime("%Y%m%d-%H%M%S");
    format!("{now}-{verb}-{:04x}", rand::random::<u16>())
}

/// The machine this runs on.
pub fn this_host() -> Host {
    let memory = sysinfo::System::new().map(|mut system| {
        system.refresh_memory();
        system.total_memory()
    });
    Host {
        system: sysinfo::System::long_os_version().unwrap_or_else(|_| "unknown".into()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_mib: memory.unwrap_or(0) / (1024 * 1024),
        processor: processor(),
    }
}

fn processor() -> Option<String> {
    let wanted = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = sysinfo::System::new_with_specifics(wanted).ok()?;
    let name = system.cpus().first()?.brand().trim().to_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn checks_are_counted_by_outcome_and_one_that_never_ends_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let quiet = Box::new(|_: News<'_>| {});
        let mut run = Run::start(&home, "e2e", "e2e", "local", "default", quiet).unwrap();
        let soon = Duration::from_millis(20);
        let outcomes = [
            Outcome::Passed { seen: "200".into() },
            Outcome::Inconclusive {
                because: "no data".into(),
            },
            Outcome::Skipped {
                because: "no cluster".into(),
            },
        ];
        for outcome in outcomes {
            run.check("smoke", "it holds", soon, async { outcome })
                .await
                .unwrap();
        }
        let (inconclusive, exit_code) = (StageResult::Inconclusive, ExitCode::Inconclusive);
        assert_eq!(StageResult::of_checks(run.checks()), inconclusive);
        assert_eq!(ExitCode::of_checks(run.checks()), exit_code);
        run.check("smoke", "it ends", soon, std::future::pending())
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
        assert_eq!(ExitCode::of_checks(counts), ExitCode::CheckFailed);
    }
}
