//! Environments that a command starts one after another in one run.

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::Run;
use environments::supervisor::{Order, Supervisor};

use crate::invocation::RunningEnvironment;
use crate::problem::Problem;
use crate::supervised::{Supervised, ended};

/// An environment that the command that started it must [tear down](Self::tear_down).
pub struct EphemeralEnvironment {
    pub running: RunningEnvironment,
    order: Order,
    supervisor: Supervisor,
}

impl EphemeralEnvironment {
    /// Starts it, as stages of the run. `variables` are added to the supervisor's environment
    /// variables.
    pub async fn start(
        run: &mut Run,
        order: Order,
        variables: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<Self, Problem> {
        let mut supervised = Supervised::start(run, order, variables, interrupts).await?;
        match supervised.until_up().await {
            Ok(running) => Ok(EphemeralEnvironment {
                running,
                order: supervised.order,
                supervisor: supervised.supervisor,
            }),
            Err(ending) => {
                let mut used = Err(ending);
                let left = supervised.tear_down(&mut used).await;
                let ended = ended(supervised.run, used, left).err();
                Err(ended.unwrap_or(Problem::ended(ExitCode::NoEnvironment)))
            }
        }
    }

    /// Tears it down, as a stage of the run.
    pub async fn tear_down(
        self,
        run: &mut Run,
        interrupts: &mut Interrupts,
    ) -> Result<(), Problem> {
        let mut supervised = Supervised {
            run,
            order: self.order,
            supervisor: self.supervisor,
            interrupts,
        };
        let mut used = Ok(());
        let left = supervised.tear_down(&mut used).await;
        ended(run, used, left)
    }
}
