//! Environments that a command stands up one after the other in one run.

use super::{Ending, Rehearsal, Unwritten, record_left, record_not_started};
use crate::environment::{Environment, Secrets};
use crate::exit::ExitCode;
use crate::interrupts::Interrupts;
use crate::run::Run;
use crate::supervisor::{Order, Supervisor};

/// An environment that lives no longer than this, and is to be taken [`down`](Self::down).
pub struct Standing {
    /// The environment.
    pub environment: Environment,
    /// Its secrets.
    pub secrets: Secrets,
    order: Order,
    supervisor: Supervisor,
}

impl Standing {
    /// Stands it up, as stages of the run; `variables` are added to the supervisor's own. Or
    /// what the run ends with: then what there was of it is taken down.
    ///
    /// # Errors
    /// [`Unwritten`].
    pub async fn up(
        run: &mut Run,
        order: Order,
        variables: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<Result<Standing, ExitCode>, Unwritten> {
        let supervisor = match Supervisor::start(&order, variables).await {
            Ok(supervisor) => supervisor,
            Err(error) => {
                record_not_started(run, &order, &error)?;
                return Ok(Err(ExitCode::NoEnvironment));
            }
        };
        let mut rehearsal = Rehearsal {
            run,
            order,
            supervisor,
            interrupts,
        };
        let ending = match rehearsal.until_up().await {
            Ok((environment, secrets)) => {
                return Ok(Ok(Standing {
                    environment,
                    secrets,
                    order: rehearsal.order,
                    supervisor: rehearsal.supervisor,
                }));
            }
            Err(ending) => ending,
        };
        let mut used = Err(ending);
        let left = rehearsal.take_down(&mut used).await;
        ended(run, used, left).map(|code| Err(code.unwrap_or(ExitCode::NoEnvironment)))
    }

    /// Takes it down, as a stage of the run. What the run ends with, where a signal came
    /// meanwhile or something is left.
    ///
    /// # Errors
    /// [`Unwritten`].
    pub async fn down(
        self,
        run: &mut Run,
        interrupts: &mut Interrupts,
    ) -> Result<Option<ExitCode>, Unwritten> {
        let mut rehearsal = Rehearsal {
            run,
            order: self.order,
            supervisor: self.supervisor,
            interrupts,
        };
        let mut used = Ok(());
        let left = rehearsal.take_down(&mut used).await;
        ended(run, used, left)
    }
}

fn ended(
    run: &mut Run,
    used: Result<(), Ending>,
    left: Vec<String>,
) -> Result<Option<ExitCode>, Unwritten> {
    let code = match used {
        Ok(()) if left.is_empty() => return Ok(None),
        Ok(()) => ExitCode::CleanupIncomplete,
        Err(Ending::Failed(code) | Ending::Interrupted(code)) => code,
        Err(Ending::RunFolder(error)) => return Err(Unwritten { error, left }),
    };
    match record_left(run, code, &left) {
        Ok(code) => Ok(Some(code)),
        Err(error) => Err(Unwritten { error, left }),
    }
}
