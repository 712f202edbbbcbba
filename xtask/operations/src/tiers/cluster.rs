//! The cluster that the tests of the cluster tier share, with the platform on it.

use std::time::Duration;

use tokio::time::timeout;

use base::run::event::Failure;
use environments::bring_up::teardown_at_most;
use environments::environment::{Environment, TEST_ENVIRONMENT, TEST_HOME};
use environments::supervisor::{self, Order, Supervisor, SupervisorMessage};

/// A cluster that is up. It is torn down when this value is dropped, or before.
pub struct SharedCluster {
    supervisor: Supervisor,
    order: Order,
    environment: Environment,
}

impl SharedCluster {
    /// Starts it. `variables` are added to the supervisor's environment variables.
    pub async fn start(
        order: Order,
        variables: &[(String, String)],
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<SharedCluster, Box<Failure>> {
        let started = Supervisor::start(&order, variables).await;
        let mut supervisor = started.map_err(|error| gone(&order, error.to_string()))?;
        loop {
            match supervisor.next().await {
                Some(SupervisorMessage::Up(environment)) => {
                    return Ok(SharedCluster {
                        supervisor,
                        order,
                        environment: *environment,
                    });
                }
                Some(SupervisorMessage::Progress { text, .. }) => progress(&text),
                Some(SupervisorMessage::Failed(failure)) => {
                    torn_down(&mut supervisor, &order).await;
                    return Err(Box::new(failure));
                }
                Some(_) => {}
                None => return Err(gone(&order, supervisor.kill().await)),
            }
        }
    }

    /// Returns the environment variables by which tests find it.
    pub fn variables(&self) -> [(String, String); 2] {
        [
            (TEST_HOME.to_owned(), self.order.home.display().to_string()),
            (
                TEST_ENVIRONMENT.to_owned(),
                self.environment.name.to_string(),
            ),
        ]
    }

    /// Tears it down. Returns what is left.
    pub async fn tear_down(mut self) -> Vec<String> {
        self.supervisor.request_stop().await;
        torn_down(&mut self.supervisor, &self.order).await
    }
}

async fn torn_down(supervisor: &mut Supervisor, order: &Order) -> Vec<String> {
    let down = async {
        loop {
            match supervisor.next().await {
                Some(SupervisorMessage::Down { left }) => return left,
                Some(_) => {}
                None => return vec!["its supervisor has exited".to_owned()],
            }
        }
    };
    let left = timeout(teardown_at_most(order.stop), down).await;
    supervisor.ended(Duration::from_secs(5)).await;
    left.unwrap_or_else(|_| vec!["its supervisor, still running".to_owned()])
}

fn gone(order: &Order, seen: String) -> Box<Failure> {
    Box::new(Failure {
        what: "the cluster for the tests did not come up".into(),
        expected: "a supervisor that keeps running".into(),
        seen,
        look_at: supervisor::log(order).display().to_string(),
        next: "cargo xtask down --all".into(),
    })
}
