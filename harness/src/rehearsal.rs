//! A command's course: an environment stood up, used, and taken down or left up.

use std::time::Duration;

use crate::environment::{Environment, EnvironmentFolder, Secrets};
use crate::exit::ExitCode;
use crate::home::Home;
use crate::interrupts::Interrupts;
use crate::run::event::{Failure, Happening, Stage, StageResult};
use crate::run::{Run, RunFolderError};
use crate::supervisor::{Message, Order, Supervisor, SupervisorError};

/// Why a course was left early. What it means has been recorded, where that was possible.
#[derive(Debug)]
pub enum Ending {
    /// A failure was recorded.
    Failed,
    /// Called off by a signal.
    Interrupted(ExitCode),
    /// The run folder cannot be written.
    RunFolder(RunFolderError),
    /// The supervisor cannot be used.
    Supervisor(SupervisorError),
}

impl From<RunFolderError> for Ending {
    fn from(error: RunFolderError) -> Self {
        Ending::RunFolder(error)
    }
}

impl From<SupervisorError> for Ending {
    fn from(error: SupervisorError) -> Self {
        Ending::Supervisor(error)
    }
}

/// An environment under way, and the run that is written about it.
pub struct Rehearsal<'a> {
    run: &'a mut Run,
    order: Order,
    supervisor: Supervisor,
    interrupts: &'a mut Interrupts,
}

impl<'a> Rehearsal<'a> {
    /// Starts the supervisor; `environment` is added to its own variables.
    pub async fn begin(
        run: &'a mut Run,
        order: Order,
        environment: &[(String, String)],
        interrupts: &'a mut Interrupts,
    ) -> Result<Rehearsal<'a>, Ending> {
        let supervisor = Supervisor::start(&order, environment).await?;
        Ok(Rehearsal {
            run,
            order,
            supervisor,
            interrupts,
        })
    }

    /// Waits until the environment answers.
    pub async fn until_up(&mut self) -> Result<(Environment, Secrets), Ending> {
        loop {
            let message = tokio::select! {
                message = self.supervisor.next() => message.ok_or_else(|| self.gone())?,
                code = self.interrupts.next() => return Err(Ending::Interrupted(code)),
            };
            match message {
                Message::Happened(happening) => self.run.record(happening)?,
                Message::Progress { stage, text } => self.run.progress(stage, &text),
                Message::Up(environment) => return self.with_secrets(*environment),
                Message::Failed(failure) => {
                    self.run.record(Happening::Failed { failure })?;
                    return Err(Ending::Failed);
                }
                Message::Down { .. } => return Err(self.gone()),
            }
        }
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
                self.run.record(Happening::Failed { failure })?;
                Err(Ending::Failed)
            }
        }
    }

    /// Does `work` with the environment; cut short when a part is lost, or by a signal.
    pub async fn while_up(
        &mut self,
        work: impl AsyncFnOnce(&mut Run) -> Result<(), RunFolderError>,
    ) -> Result<(), Ending> {
        let message = tokio::select! {
            done = work(self.run) => return Ok(done?),
            code = self.interrupts.next() => return Err(Ending::Interrupted(code)),
            message = self.supervisor.next() => message,
        };
        match message {
            Some(Message::Happened(lost @ Happening::PartLost { .. })) => {
                let failure = part_lost(&lost);
                self.run.record(lost)?;
                self.run.record(Happening::Failed { failure })?;
                Err(Ending::Failed)
            }
            // It was ended from elsewhere, by `down` or a signal.
            _ => Err(self.gone()),
        }
    }

    /// Lets the environment live on without this command.
    pub async fn leave_up(self) {
        self.supervisor.detach().await;
    }

    /// Takes the environment down. Returns what could not be removed.
    ///
    /// A second signal leaves at once: the supervisor goes on by itself.
    pub async fn take_down(mut self, deadline: Duration) -> Result<Vec<String>, Ending> {
        // The environment goes also when nothing can be written about it any more.
        let written = self.run.begin(Stage::Teardown);
        self.supervisor.request_stop().await;
        let taken_down = tokio::time::timeout(deadline, self.until_down());
        let left = match taken_down.await {
            Ok(left) => left?,
            Err(_) => vec![format!(
                "the supervisor of {}, still at work",
                self.order.name
            )],
        };
        self.supervisor.ended(Duration::from_secs(5)).await;
        written?;
        self.run.end_stages(match left.is_empty() {
            true => StageResult::Done,
            false => StageResult::Failed,
        })?;
        Ok(left)
    }

    async fn until_down(&mut self) -> Result<Vec<String>, Ending> {
        loop {
            tokio::select! {
                message = self.supervisor.next() => match message {
                    Some(Message::Down { left }) => return Ok(left),
                    Some(_) => {}
                    None => return Err(self.gone()),
                },
                code = self.interrupts.next() => return Err(Ending::Interrupted(code)),
            }
        }
    }

    fn gone(&self) -> Ending {
        let log = crate::supervisor::log(&self.order);
        Ending::Supervisor(SupervisorError::Gone { log })
    }
}

fn part_lost(lost: &Happening) -> Failure {
    let Happening::PartLost { part, how, log } = lost else {
        unreachable!("only called with a lost part");
    };
    Failure {
        what: format!("{part} ended while the environment was in use"),
        expected: format!("{part} up until the teardown"),
        seen: format!(
            "{how}; its last words: {}",
            crate::local::last_lines(log.as_ref())
        ),
        look_at: log.clone(),
        next: format!("less {log}"),
    }
}

/// Longer than all deadlines of a teardown together: what is still there then is left.
const TAKE_DOWN: Duration = Duration::from_secs(90);

/// What becomes of an environment after its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It is taken down.
    TakeDown,
    /// It stays up, without this command.
    LeaveUp,
}

/// Stands an environment up, does `work` with it, and takes it down or leaves it up.
///
/// An environment whose course was cut short is taken down in any case. The exit code is
/// recorded as the run's last event, unless the run folder cannot be written.
pub async fn rehearse(
    run: &mut Run,
    order: Order,
    environment: &[(String, String)],
    interrupts: &mut Interrupts,
    afterwards: Afterwards,
    work: impl AsyncFnOnce(&mut Run, &Environment, &Secrets) -> Result<(), RunFolderError>,
) -> Result<ExitCode, Ending> {
    let mut rehearsal = Rehearsal::begin(run, order, environment, interrupts).await?;
    let used = rehearsal.use_it(work).await;
    if used.is_ok() && afterwards == Afterwards::LeaveUp {
        rehearsal.leave_up().await;
        let code = verdict(run);
        run.finish(code)?;
        return Ok(code);
    }
    if used.is_err() {
        // The stage that was under way ends here; what a full disk keeps from being
        // written does not keep the environment from being taken down.
        let result = match used {
            Err(Ending::Interrupted(_)) => StageResult::Interrupted,
            _ => StageResult::Failed,
        };
        let _ = rehearsal.run.end_stages(result);
    }
    let left = rehearsal.take_down(TAKE_DOWN).await;
    conclude(run, used, left)
}

impl Rehearsal<'_> {
    async fn use_it(
        &mut self,
        work: impl AsyncFnOnce(&mut Run, &Environment, &Secrets) -> Result<(), RunFolderError>,
    ) -> Result<(), Ending> {
        let (environment, secrets) = self.until_up().await?;
        self.while_up(async |run| work(run, &environment, &secrets).await)
            .await
    }
}

fn conclude(
    run: &mut Run,
    used: Result<(), Ending>,
    left: Result<Vec<String>, Ending>,
) -> Result<ExitCode, Ending> {
    let code = match used {
        Ok(()) => verdict(run),
        Err(Ending::Failed) => ExitCode::NoEnvironment,
        Err(Ending::Interrupted(code)) => code,
        Err(ending) => return Err(ending),
    };
    let left = match left {
        Ok(left) => left,
        // A second signal, or the supervisor is gone: whoever types next has to clean up.
        Err(Ending::Interrupted(_) | Ending::Supervisor(_)) => {
            vec!["the teardown was not seen to end".to_owned()]
        }
        Err(ending) => return Err(ending),
    };
    let code = match left.is_empty() {
        true => code,
        false => {
            run.record(Happening::Failed {
                failure: Failure {
                    what: "not everything could be taken down".into(),
                    expected: "nothing left".into(),
                    seen: left.join("; "),
                    look_at: "cargo xtask status".into(),
                    next: "cargo xtask down --all".into(),
                },
            })?;
            ExitCode::CleanupIncomplete
        }
    };
    run.finish(code)?;
    Ok(code)
}

fn verdict(run: &Run) -> ExitCode {
    match run.failed_checks() {
        0 => ExitCode::Held,
        _ => ExitCode::CheckFailed,
    }
}
