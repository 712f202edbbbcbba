//! An environment with its supervisor, and the run that records it.

use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use miette::Diagnostic;
use thiserror::Error;

use base::exit::ExitCode;
use base::home::Home;
use base::interrupts::Interrupts;
use base::run::event::{Failure, Happening, Stage, StageResult};
use base::run::{Run, RunFolderError};
use environments::bring_up::{last_lines, teardown_at_most};
use environments::environment::{Environment, EnvironmentFolder};
use environments::supervisor::{self, Order, Supervisor, SupervisorMessage};
use environments::sweep;

use crate::invocation::RunningEnvironment;
use crate::outcome::{failed, held};
use crate::problem::Problem;

/// What happens to an environment after its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It is torn down.
    TearDown,
    /// It stays up after this command.
    LeaveUp,
}

/// The run folder cannot be written. The environment was still torn down.
#[derive(Debug, Error, Diagnostic)]
#[error("{error}{}", also_left(.left))]
#[diagnostic(help(
    "free space or make the folder writable (see `df -h` and `ls -ld`), or choose another with --home; `cargo xtask down --all` removes what is left"
))]
struct Unwritten {
    error: RunFolderError,
    left: Vec<String>,
}

impl From<Unwritten> for Problem {
    fn from(error: Unwritten) -> Self {
        let code = match error.left.is_empty() {
            true => ExitCode::NoEnvironment,
            false => ExitCode::CleanupIncomplete,
        };
        Problem::new(code, error)
    }
}

fn also_left(left: &[String]) -> String {
    match left {
        [] => String::new(),
        left => format!("; left: {}", left.join("; ")),
    }
}

/// Starts an environment, does `work` with it, and tears it down or leaves it up.
/// `variables` are added to the supervisor's environment variables.
///
/// If the work is interrupted, the environment is always torn down.
pub async fn use_environment(
    run: &mut Run,
    order: Order,
    variables: &[(String, String)],
    interrupts: &mut Interrupts,
    afterwards: Afterwards,
    work: impl AsyncFnOnce(&mut Run, &RunningEnvironment) -> Result<(), Ending>,
) -> Result<(), Problem> {
    let mut supervised = Supervised::start(run, order, variables, interrupts).await?;
    let mut used = supervised.bring_up_and_use(afterwards, work).await;
    match (&used, afterwards) {
        (Ok(()), Afterwards::LeaveUp) => {}
        _ => {
            let left = supervised.tear_down(&mut used).await;
            ended(supervised.run, used, left)?;
        }
    }
    held(ExitCode::of_checks(run.checks()))
}

/// Why the use of an environment ended early.
#[derive(Debug)]
pub enum Ending {
    /// A failure was recorded. The exit code for it.
    Failed(ExitCode),
    /// Cancelled by a signal.
    Interrupted(ExitCode),
    /// The run folder cannot be written.
    RunFolder(RunFolderError),
}

impl Ending {
    /// The end of work whose problem is recorded.
    pub fn of(problem: Problem) -> Ending {
        match problem.exit_code() {
            code @ (ExitCode::Interrupted | ExitCode::Terminated) => Ending::Interrupted(code),
            code => Ending::Failed(code),
        }
    }
}

impl From<RunFolderError> for Ending {
    fn from(error: RunFolderError) -> Self {
        Ending::RunFolder(error)
    }
}

/// An environment with its supervisor, and the run that records it.
pub struct Supervised<'a> {
    pub run: &'a mut Run,
    pub order: Order,
    pub supervisor: Supervisor,
    pub interrupts: &'a mut Interrupts,
}

/// What interrupts the use of an environment.
enum Interruption {
    /// The user, or the pipeline, cancels it.
    Signal(ExitCode),
    /// The supervisor has exited, or is exiting.
    SupervisorGone,
    /// A part ended unexpectedly.
    PartLost {
        part: String,
        is_service: bool,
        how: String,
        log: String,
    },
    /// The supervisor gives up.
    Failed(Failure),
    /// Another command tears the environment down. The reason.
    Ending(String),
}

/// Waits for the supervisor's next message, or for an interruption.
///
/// Signals come first: Ctrl-C at a terminal may also end a supervisor that is just starting.
async fn receive(
    supervisor: &mut Supervisor,
    interrupts: &mut Interrupts,
) -> Result<SupervisorMessage, Interruption> {
    let message = tokio::select! {
        biased;
        code = interrupts.next() => return Err(Interruption::Signal(code)),
        message = supervisor.next() => message,
    };
    match message {
        None | Some(SupervisorMessage::Down { .. }) => Err(Interruption::SupervisorGone),
        Some(SupervisorMessage::Happened(Happening::PartLost {
            part,
            is_service,
            how,
            log,
        })) => Err(Interruption::PartLost {
            part,
            is_service,
            how,
            log,
        }),
        Some(SupervisorMessage::Failed(failure)) => Err(Interruption::Failed(failure)),
        Some(SupervisorMessage::Ending { why }) => Err(Interruption::Ending(why)),
        Some(message) => Ok(message),
    }
}

async fn next_interruption(
    supervisor: &mut Supervisor,
    interrupts: &mut Interrupts,
) -> Interruption {
    loop {
        if let Err(interruption) = receive(supervisor, interrupts).await {
            return interruption;
        }
    }
}

impl<'a> Supervised<'a> {
    /// Starts the supervisor, which starts the environment.
    pub async fn start(
        run: &'a mut Run,
        order: Order,
        variables: &[(String, String)],
        interrupts: &'a mut Interrupts,
    ) -> Result<Self, Problem> {
        match Supervisor::start(&order, variables).await {
            Ok(supervisor) => Ok(Supervised {
                run,
                order,
                supervisor,
                interrupts,
            }),
            Err(error) => {
                let failure = not_started(&order, &error);
                Err(failed(run, ExitCode::NoEnvironment, [failure]))
            }
        }
    }

    async fn bring_up_and_use(
        &mut self,
        afterwards: Afterwards,
        work: impl AsyncFnOnce(&mut Run, &RunningEnvironment) -> Result<(), Ending>,
    ) -> Result<(), Ending> {
        let running = self.until_up().await?;
        self.while_up(async |run| work(run, &running).await).await?;
        match afterwards {
            Afterwards::TearDown => Ok(()),
            Afterwards::LeaveUp => self.leave_up().await,
        }
    }

    /// Waits until the environment is up, and returns it.
    pub async fn until_up(&mut self) -> Result<RunningEnvironment, Ending> {
        loop {
            if let SupervisorMessage::Up(environment) = self.receive_and_record().await? {
                return self.with_secrets(*environment);
            }
        }
    }

    /// Does `work` with the environment, until an interruption.
    async fn while_up(
        &mut self,
        work: impl AsyncFnOnce(&mut Run) -> Result<(), Ending>,
    ) -> Result<(), Ending> {
        let interruption = tokio::select! {
            biased;
            interruption = next_interruption(&mut self.supervisor, self.interrupts) => Some(interruption),
            done = work(self.run) => {
                done?;
                self.late_interruption().await
            }
        };
        match interruption {
            Some(interruption) => Err(self.end_by(interruption).await?),
            None => Ok(()),
        }
    }

    /// A check may fail because a part was lost, before the message about that part arrives.
    async fn late_interruption(&mut self) -> Option<Interruption> {
        const GRACE: Duration = Duration::from_millis(300);
        if ExitCode::of_checks(self.run.checks()) == ExitCode::Held {
            return None;
        }
        let interruption = next_interruption(&mut self.supervisor, self.interrupts);
        tokio::time::timeout(GRACE, interruption).await.ok()
    }

    /// Detaches the environment from this command.
    async fn leave_up(&mut self) -> Result<(), Ending> {
        self.supervisor.request_stay().await;
        loop {
            if let SupervisorMessage::Stays = self.receive_and_record().await? {
                return Ok(());
            }
        }
    }

    async fn receive_and_record(&mut self) -> Result<SupervisorMessage, Ending> {
        let message = match receive(&mut self.supervisor, self.interrupts).await {
            Ok(message) => message,
            Err(interruption) => return Err(self.end_by(interruption).await?),
        };
        match &message {
            SupervisorMessage::Happened(happening) => self.run.record(happening.clone())?,
            SupervisorMessage::Progress { stage, text } => self.run.progress(*stage, text),
            _ => {}
        }
        Ok(message)
    }

    /// Records why the use of the environment ends.
    async fn end_by(&mut self, interruption: Interruption) -> Result<Ending, RunFolderError> {
        let mut code = ExitCode::NoEnvironment;
        let failure = match interruption {
            Interruption::Signal(code) => return Ok(Ending::Interrupted(code)),
            Interruption::SupervisorGone => {
                let how = self.supervisor.kill().await;
                // The signal that ended it may have been sent to both.
                if let Some(code) = self.interrupts.next().now_or_never() {
                    return Ok(Ending::Interrupted(code));
                }
                supervisor_gone(&self.order, how)
            }
            Interruption::PartLost {
                part,
                is_service,
                how,
                log,
            } => {
                let failure = part_lost(&part, &how, &self.run.folder().join(&log));
                // A service that crashes fails the test. A backing service that crashes is a
                // failure of the environment.
                if is_service {
                    code = ExitCode::CheckFailed;
                }
                self.run.record(Happening::PartLost {
                    part,
                    is_service,
                    how,
                    log,
                })?;
                failure
            }
            Interruption::Failed(failure) => failure,
            Interruption::Ending(why) => ended_by_others(&self.order, why),
        };
        self.fail(failure, code)
    }

    fn fail(&mut self, failure: Failure, code: ExitCode) -> Result<Ending, RunFolderError> {
        self.run.record(Happening::Failed { failure })?;
        Ok(Ending::Failed(code))
    }

    fn with_secrets(&mut self, environment: Environment) -> Result<RunningEnvironment, Ending> {
        let home = Home::new(&self.order.home);
        let folder = EnvironmentFolder::of(&home, &environment.name);
        match folder.read_secrets(&environment.name) {
            Ok(secrets) => Ok(RunningEnvironment {
                environment,
                credentials: secrets.credentials(),
            }),
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

    /// Tears the environment down. Returns what could not be removed.
    ///
    /// The first signal, now or before, does not interrupt the teardown. A second one does: the
    /// supervisor then continues alone.
    pub async fn tear_down(&mut self, used: &mut Result<(), Ending>) -> Vec<String> {
        // Ends the current stage. If it cannot be recorded, as on a full disk, the environment is
        // still torn down.
        let _ = match used {
            Ok(()) => Ok(()),
            Err(Ending::Interrupted(_)) => self.run.end_stages(StageResult::Interrupted),
            Err(_) => self.run.end_stages(StageResult::Failed),
        };
        let _ = self.run.begin(Stage::Teardown);
        if let Err(Ending::Interrupted(_)) = used {
            self.note_cancelled();
        }
        self.supervisor.request_stop().await;
        let still_running = format!(
            "the supervisor of {} (process {}), still running",
            self.order.name,
            self.supervisor.pid().unwrap_or_default()
        );
        let torn_down =
            tokio::time::timeout(teardown_at_most(self.order.stop), self.until_down(used)).await;
        let (result, left) = match torn_down {
            Ok(TornDown::Down { left }) => {
                self.supervisor.ended(Duration::from_secs(5)).await;
                (done_if_empty(&left), left)
            }
            Ok(TornDown::SupervisorGone) => {
                let left = self.sweep_from_here().await;
                (done_if_empty(&left), left)
            }
            Ok(TornDown::LeftAlone) => (StageResult::Interrupted, vec![still_running]),
            Err(_) => (StageResult::Failed, vec![still_running]),
        };
        let _ = self.run.end_stages(result);
        left
    }

    async fn until_down(&mut self, used: &mut Result<(), Ending>) -> TornDown {
        let mut cancelled = matches!(used, Err(Ending::Interrupted(_)));
        loop {
            tokio::select! {
                biased;
                code = self.interrupts.next() => {
                    if cancelled {
                        return TornDown::LeftAlone;
                    }
                    cancelled = true;
                    self.note_cancelled();
                    // A failure is more important than a cancelled teardown.
                    if used.is_ok() {
                        *used = Err(Ending::Interrupted(code));
                    }
                }
                message = self.supervisor.next() => match message {
                    Some(SupervisorMessage::Down { left }) => return TornDown::Down { left },
                    Some(_) => {}
                    None => return TornDown::SupervisorGone,
                }
            }
        }
    }

    fn note_cancelled(&mut self) {
        let text = "cancelled: everything is torn down first; a second signal exits immediately";
        let _ = self.run.note(Stage::Teardown, text);
    }

    /// Removes what the supervisor owned, after it has exited. Returns what is left.
    async fn sweep_from_here(&mut self) -> Vec<String> {
        let how = self.supervisor.kill().await;
        let text = format!("this command removes what the supervisor owned: {how}");
        let _ = self.run.note(Stage::Teardown, text);
        let swept = sweep::dead_owners(&Home::new(&self.order.home)).await;
        let (left, left_alone) = swept.of(&self.order.name);
        for text in left_alone {
            let _ = self.run.note(Stage::Teardown, text);
        }
        left
    }
}

/// How a teardown ended.
enum TornDown {
    /// The supervisor finished. What could not be removed.
    Down { left: Vec<String> },
    /// The supervisor exited before it finished.
    SupervisorGone,
    /// A second signal: this command does not wait for the supervisor.
    LeftAlone,
}

fn done_if_empty(left: &[String]) -> StageResult {
    match left {
        [] => StageResult::Done,
        _ => StageResult::Failed,
    }
}

fn not_started(order: &Order, error: &supervisor::SupervisorError) -> Failure {
    Failure {
        what: "the environment did not come up".into(),
        expected: "a supervisor that can be started".into(),
        seen: error.to_string(),
        look_at: supervisor::log(order).display().to_string(),
        next: "cargo xtask doctor".into(),
    }
}

fn supervisor_gone(order: &Order, how: String) -> Failure {
    let log = supervisor::log(order);
    let last_lines = last_lines(&log);
    Failure {
        what: "the supervisor has exited, and the environment with it".into(),
        expected: "a supervisor that runs until the teardown".into(),
        seen: match last_lines.is_empty() {
            true => how,
            false => format!("{how}; its last lines: {last_lines}"),
        },
        look_at: log.display().to_string(),
        next: "cargo xtask down --all".into(),
    }
}

fn part_lost(part: &str, how: &str, log: &Path) -> Failure {
    Failure {
        what: format!("{part} ended while the environment was in use"),
        expected: format!("{part} up until the teardown"),
        seen: format!("{how}; its last lines: {}", last_lines(log)),
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
        next: "repeat with another --name".into(),
    }
}

/// Returns the result for an environment that was torn down: how its use ended, or a failed cleanup
/// if something is `left`.
pub fn ended(run: &mut Run, used: Result<(), Ending>, left: Vec<String>) -> Result<(), Problem> {
    let code = match used {
        Ok(()) => ExitCode::Held,
        Err(Ending::Failed(code) | Ending::Interrupted(code)) => code,
        Err(Ending::RunFolder(error)) => return Err(Unwritten { error, left }.into()),
    };
    if left.is_empty() {
        return held(code);
    }
    let failure = Failure {
        what: "not everything could be taken down".into(),
        expected: "nothing left".into(),
        seen: left.join("; "),
        look_at: "cargo xtask status".into(),
        next: "cargo xtask down --all".into(),
    };
    match run.record(Happening::Failed { failure }) {
        Ok(()) => Err(Problem::ended(ExitCode::CleanupIncomplete)),
        Err(error) => Err(Unwritten { error, left }.into()),
    }
}
