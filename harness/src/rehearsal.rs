//! A command's course: an environment stood up, used, and taken down or left up.

mod standing;

use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use miette::Diagnostic;
use thiserror::Error;

use crate::bring_up::{last_lines, teardown_at_most};
use crate::environment::{Environment, EnvironmentFolder, Secrets};
use crate::exit::ExitCode;
use crate::home::Home;
use crate::interrupts::Interrupts;
use crate::run::event::{Failure, Happening, Stage, StageResult};
use crate::run::{Run, RunFolderError};
use crate::service::Service;
use crate::supervisor::{self, Message, Order, Supervisor};
use crate::sweep;

pub use standing::Standing;

/// What becomes of an environment after its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It is taken down.
    TakeDown,
    /// It stays up, without this command.
    LeaveUp,
}

/// The run folder cannot be written. The environment was taken down all the same.
#[derive(Debug, Error, Diagnostic)]
#[error("{error}{}", also_left(.left))]
#[diagnostic(help(
    "free space or make the folder writable (`df -h` and `ls -ld` on it tell), or choose another with --home; `cargo xtask down --all` removes what is left"
))]
pub struct Unwritten {
    error: RunFolderError,
    left: Vec<String>,
}

impl Unwritten {
    /// What the command ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self.left.is_empty() {
            true => ExitCode::NoEnvironment,
            false => ExitCode::CleanupIncomplete,
        }
    }
}

impl From<RunFolderError> for Unwritten {
    fn from(error: RunFolderError) -> Self {
        let left = Vec::new();
        Unwritten { error, left }
    }
}

fn also_left(left: &[String]) -> String {
    match left {
        [] => String::new(),
        left => format!("; left: {}", left.join("; ")),
    }
}

/// Stands an environment up, does `work` with it, and takes it down or leaves it up.
/// `variables` are added to the supervisor's own.
///
/// An environment whose course was cut short is taken down in any case. The exit code is
/// recorded as the run's last event.
///
/// # Errors
/// [`Unwritten`] when there is no place to record it in.
pub async fn rehearse(
    run: &mut Run,
    order: Order,
    variables: &[(String, String)],
    interrupts: &mut Interrupts,
    afterwards: Afterwards,
    work: impl AsyncFnOnce(&mut Run, &Environment, &Secrets) -> Result<(), RunFolderError>,
) -> Result<ExitCode, Unwritten> {
    let supervisor = match Supervisor::start(&order, variables).await {
        Ok(supervisor) => supervisor,
        Err(error) => {
            record_not_started(run, &order, &error)?;
            run.finish(ExitCode::NoEnvironment)?;
            return Ok(ExitCode::NoEnvironment);
        }
    };
    let mut rehearsal = Rehearsal {
        run,
        order,
        supervisor,
        interrupts,
    };
    let mut used = rehearsal.use_it(afterwards, work).await;
    let left = match (&used, afterwards) {
        (Ok(()), Afterwards::LeaveUp) => Vec::new(),
        _ => rehearsal.take_down(&mut used).await,
    };
    conclude(run, used, left)
}

/// Why a course was left early.
#[derive(Debug)]
enum Ending {
    /// A failure was recorded; what it means for the exit code.
    Failed(ExitCode),
    /// Called off by a signal.
    Interrupted(ExitCode),
    /// The run folder cannot be written.
    RunFolder(RunFolderError),
}

impl From<RunFolderError> for Ending {
    fn from(error: RunFolderError) -> Self {
        Ending::RunFolder(error)
    }
}

/// An environment under way, and the run that is written about it.
struct Rehearsal<'a> {
    run: &'a mut Run,
    order: Order,
    supervisor: Supervisor,
    interrupts: &'a mut Interrupts,
}

/// What cuts a course short.
enum Cut {
    /// The user, or the pipeline, calls it off.
    Signal(ExitCode),
    /// The supervisor says nothing any more.
    SupervisorGone,
    /// A part ended although nobody asked it to.
    PartLost {
        part: String,
        how: String,
        log: String,
    },
    /// The supervisor gives it up, because.
    Failed(Failure),
    /// Somebody else takes the environment down: why.
    Ending(String),
}

/// Waits for what the supervisor says next, or for what cuts the course short.
///
/// Signals first: Ctrl-C at a terminal may end a supervisor that is just starting, too.
async fn hear(supervisor: &mut Supervisor, interrupts: &mut Interrupts) -> Result<Message, Cut> {
    let message = tokio::select! {
        biased;
        code = interrupts.next() => return Err(Cut::Signal(code)),
        message = supervisor.next() => message,
    };
    match message {
        None | Some(Message::Down { .. }) => Err(Cut::SupervisorGone),
        Some(Message::Happened(Happening::PartLost { part, how, log })) => {
            Err(Cut::PartLost { part, how, log })
        }
        Some(Message::Failed(failure)) => Err(Cut::Failed(failure)),
        Some(Message::Ending { why }) => Err(Cut::Ending(why)),
        Some(message) => Ok(message),
    }
}

async fn until_cut_short(supervisor: &mut Supervisor, interrupts: &mut Interrupts) -> Cut {
    loop {
        if let Err(cut) = hear(supervisor, interrupts).await {
            return cut;
        }
    }
}

impl Rehearsal<'_> {
    async fn use_it(
        &mut self,
        afterwards: Afterwards,
        work: impl AsyncFnOnce(&mut Run, &Environment, &Secrets) -> Result<(), RunFolderError>,
    ) -> Result<(), Ending> {
        let (environment, secrets) = self.until_up().await?;
        self.while_up(async |run| work(run, &environment, &secrets).await)
            .await?;
        match afterwards {
            Afterwards::TakeDown => Ok(()),
            Afterwards::LeaveUp => self.leave_up().await,
        }
    }

    /// Waits until the environment answers.
    async fn until_up(&mut self) -> Result<(Environment, Secrets), Ending> {
        loop {
            if let Message::Up(environment) = self.hear_and_record().await? {
                return self.with_secrets(*environment);
            }
        }
    }

    /// Does `work` with the environment, unless cut short.
    async fn while_up(
        &mut self,
        work: impl AsyncFnOnce(&mut Run) -> Result<(), RunFolderError>,
    ) -> Result<(), Ending> {
        let cut = tokio::select! {
            biased;
            cut = until_cut_short(&mut self.supervisor, self.interrupts) => Some(cut),
            done = work(self.run) => {
                done?;
                self.cut_short_after_all().await
            }
        };
        match cut {
            Some(cut) => Err(self.end_by(cut).await?),
            None => Ok(()),
        }
    }

    /// A check may not have held because a part was lost, and be ahead of the news of that.
    async fn cut_short_after_all(&mut self) -> Option<Cut> {
        const A_MOMENT: Duration = Duration::from_millis(300);
        if ExitCode::of_checks(self.run.checks()) == ExitCode::Held {
            return None;
        }
        let cut_short = until_cut_short(&mut self.supervisor, self.interrupts);
        tokio::time::timeout(A_MOMENT, cut_short).await.ok()
    }

    /// Has the environment live on without this command.
    async fn leave_up(&mut self) -> Result<(), Ending> {
        self.supervisor.request_stay().await;
        loop {
            if let Message::Stays = self.hear_and_record().await? {
                return Ok(());
            }
        }
    }

    async fn hear_and_record(&mut self) -> Result<Message, Ending> {
        let message = match hear(&mut self.supervisor, self.interrupts).await {
            Ok(message) => message,
            Err(cut) => return Err(self.end_by(cut).await?),
        };
        match &message {
            Message::Happened(happening) => self.run.record(happening.clone())?,
            Message::Progress { stage, text } => self.run.progress(*stage, text),
            _ => {}
        }
        Ok(message)
    }

    /// Records why the course ends here.
    async fn end_by(&mut self, cut: Cut) -> Result<Ending, RunFolderError> {
        let mut code = ExitCode::NoEnvironment;
        let failure = match cut {
            Cut::Signal(code) => return Ok(Ending::Interrupted(code)),
            Cut::SupervisorGone => {
                let how = self.supervisor.bury().await;
                // What ended it may have been meant for both.
                if let Some(code) = self.interrupts.next().now_or_never() {
                    return Ok(Ending::Interrupted(code));
                }
                supervisor_gone(&self.order, how)
            }
            Cut::PartLost { part, how, log } => {
                let failure = part_lost(&part, &how, &self.run.folder().join(&log));
                // A service that dies under test is what the test is for; Postgres or
                // Redis that do are the environment's fault.
                if Service::of_part(&part).is_some() {
                    code = ExitCode::CheckFailed;
                }
                self.run.record(Happening::PartLost { part, how, log })?;
                failure
            }
            Cut::Failed(failure) => failure,
            Cut::Ending(why) => ended_by_others(&self.order, why),
        };
        self.fail(failure, code)
    }

    fn fail(&mut self, failure: Failure, code: ExitCode) -> Result<Ending, RunFolderError> {
        self.run.record(Happening::Failed { failure })?;
        Ok(Ending::Failed(code))
    }

    fn with_secrets(&mut self, environment: Environment) -> Result<(Environment, Secrets), Ending> {
        let home = Home::new(&self.order.home);
        let folder = EnvironmentFolder::of(&home, &environment.name);
        match folder.read_secrets(&environment.name) {
            Ok(secrets) => Ok((environment, secrets)),
            Err(error) => {
                let failure = Failure {
                    what: "the environment's secrets cannot be read".into(),
                    expected: "a file readable by this user".into(),
                    seen: error.to_string(),
                    look_at: folder.secrets_path().display().to_string(),
                    next: "cargo xtask down --all, then again".into(),
                };
                Err(self.fail(failure, ExitCode::NoEnvironment)?)
            }
        }
    }

    /// Takes the environment down. Returns what could not be removed.
    ///
    /// The first signal, now or before, lets it go on: what is wanted is under way. A
    /// second one leaves at once, and the supervisor goes on by itself.
    async fn take_down(&mut self, used: &mut Result<(), Ending>) -> Vec<String> {
        // The stage that was under way ends here. What a full disk keeps from being
        // written does not keep the environment from being taken down.
        let _ = match used {
            Ok(()) => Ok(()),
            Err(Ending::Interrupted(_)) => self.run.end_stages(StageResult::Interrupted),
            Err(_) => self.run.end_stages(StageResult::Failed),
        };
        let _ = self.run.begin(Stage::Teardown);
        if let Err(Ending::Interrupted(_)) = used {
            self.say_called_off();
        }
        self.supervisor.request_stop().await;
        let still_at_work = format!(
            "the supervisor of {} (process {}), still at work",
            self.order.name,
            self.supervisor.pid().unwrap_or_default()
        );
        let taken_down =
            tokio::time::timeout(teardown_at_most(self.order.stop), self.until_down(used)).await;
        let (result, left) = match taken_down {
            Ok(Taken::Down { left }) => {
                self.supervisor.ended(Duration::from_secs(5)).await;
                (done_if_empty(&left), left)
            }
            Ok(Taken::SupervisorGone) => {
                let left = self.sweep_from_here().await;
                (done_if_empty(&left), left)
            }
            Ok(Taken::LeftAlone) => (StageResult::Interrupted, vec![still_at_work]),
            Err(_) => (StageResult::Failed, vec![still_at_work]),
        };
        let _ = self.run.end_stages(result);
        left
    }

    async fn until_down(&mut self, used: &mut Result<(), Ending>) -> Taken {
        let mut called_off = matches!(used, Err(Ending::Interrupted(_)));
        loop {
            tokio::select! {
                biased;
                code = self.interrupts.next() => {
                    if called_off {
                        return Taken::LeftAlone;
                    }
                    called_off = true;
                    self.say_called_off();
                    // A failure says more than that its teardown was called off.
                    if used.is_ok() {
                        *used = Err(Ending::Interrupted(code));
                    }
                }
                message = self.supervisor.next() => match message {
                    Some(Message::Down { left }) => return Taken::Down { left },
                    Some(_) => {}
                    None => return Taken::SupervisorGone,
                }
            }
        }
    }

    fn say_called_off(&mut self) {
        let text = "called off: everything is taken down first; once more leaves at once";
        let _ = self.run.note(Stage::Teardown, text);
    }

    /// Nobody else does it now.
    async fn sweep_from_here(&mut self) -> Vec<String> {
        let how = self.supervisor.bury().await;
        let text = format!("what the supervisor owned is removed from here: {how}");
        let _ = self.run.note(Stage::Teardown, text);
        let swept = sweep::dead_owners(&Home::new(&self.order.home)).await;
        let (left, left_alone) = swept.of(&self.order.name);
        for text in left_alone {
            let _ = self.run.note(Stage::Teardown, text);
        }
        left
    }
}

/// How a teardown went.
enum Taken {
    /// To its end; what could not be removed.
    Down { left: Vec<String> },
    /// The supervisor did not see it through.
    SupervisorGone,
    /// A second signal: this command does not see it through.
    LeftAlone,
}

fn done_if_empty(left: &[String]) -> StageResult {
    match left {
        [] => StageResult::Done,
        _ => StageResult::Failed,
    }
}

fn record_not_started(
    run: &mut Run,
    order: &Order,
    error: &supervisor::StartError,
) -> Result<(), RunFolderError> {
    run.record(Happening::Failed {
        failure: Failure {
            what: "the environment did not come up".into(),
            expected: "a supervisor that can be started".into(),
            seen: error.to_string(),
            look_at: supervisor::log(order).display().to_string(),
            next: "cargo xtask doctor".into(),
        },
    })
}

fn supervisor_gone(order: &Order, how: String) -> Failure {
    let log = supervisor::log(order);
    let last_words = last_lines(&log);
    Failure {
        what: "the supervisor is gone, and the environment with it".into(),
        expected: "a supervisor that lives until the teardown".into(),
        seen: match last_words.is_empty() {
            true => how,
            false => format!("{how}; its last words: {last_words}"),
        },
        look_at: log.display().to_string(),
        next: "cargo xtask down --all".into(),
    }
}

fn part_lost(part: &str, how: &str, log: &Path) -> Failure {
    Failure {
        what: format!("{part} ended while the environment was in use"),
        expected: format!("{part} up until the teardown"),
        seen: format!("{how}; its last words: {}", last_lines(log)),
        look_at: log.display().to_string(),
        next: format!("less {}", log.display()),
    }
}

fn ended_by_others(order: &Order, why: String) -> Failure {
    Failure {
        what: format!("environment {} was taken down from elsewhere", order.name),
        expected: "an environment that is this command's alone".into(),
        seen: why,
        look_at: supervisor::log(order).display().to_string(),
        next: "again, under a --name of its own".into(),
    }
}

fn conclude(
    run: &mut Run,
    used: Result<(), Ending>,
    left: Vec<String>,
) -> Result<ExitCode, Unwritten> {
    let code = match used {
        Ok(()) => ExitCode::of_checks(run.checks()),
        Err(Ending::Failed(code)) => code,
        Err(Ending::Interrupted(code)) => code,
        Err(Ending::RunFolder(error)) => return Err(Unwritten { error, left }),
    };
    let recorded = record_left(run, code, &left).and_then(|code| {
        run.finish(code)?;
        Ok(code)
    });
    recorded.map_err(|error| Unwritten { error, left })
}

/// What it ends with: `code`, unless something is left.
fn record_left(run: &mut Run, code: ExitCode, left: &[String]) -> Result<ExitCode, RunFolderError> {
    if left.is_empty() {
        return Ok(code);
    }
    run.record(Happening::Failed {
        failure: Failure {
            what: "not everything could be taken down".into(),
            expected: "nothing left".into(),
            seen: left.join("; "),
            look_at: "cargo xtask status".into(),
            next: "cargo xtask down --all".into(),
        },
    })?;
    Ok(ExitCode::CleanupIncomplete)
}
