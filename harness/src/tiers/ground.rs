//! The one cluster that the tests of the cluster tier share, with the platform on it.

use std::time::Duration;

use tokio::time::timeout;

use crate::bring_up::teardown_at_most;
use crate::environment::Environment;
use crate::run::event::Failure;
use crate::supervisor::{self, Message, Order, Supervisor};

/// By these variables tests are told where it is: the harness home, and the
/// environment's name.
pub const HOME: &str = "TRII_TEST_HOME";
/// See [`HOME`].
pub const ENVIRONMENT: &str = "TRII_TEST_ENVIRONMENT";

/// A cluster that is up, and ends with this value at the latest.
pub struct Ground {
    supervisor: Supervisor,
    order: Order,
    environment: Environment,
}

impl Ground {
    /// Stands it up; `variables` are added to the supervisor's own.
    ///
    /// # Errors
    /// Why not. What there was of it is taken down.
    pub async fn up(
        order: Order,
        variables: &[(String, String)],
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Ground, Box<Failure>> {
        let started = Supervisor::start(&order, variables).await;
        let mut supervisor = started.map_err(|error| gone(&order, error.to_string()))?;
        loop {
            match supervisor.next().await {
                Some(Message::Up(environment)) => {
                    return Ok(Ground {
                        supervisor,
                        order,
                        environment: *environment,
                    });
                }
                Some(Message::Progress { text, .. }) => progress(&text),
                Some(Message::Failed(failure)) => {
                    taken_down(&mut supervisor, &order).await;
                    return Err(Box::new(failure));
                }
                Some(_) => {}
                None => return Err(gone(&order, supervisor.bury().await)),
            }
        }
    }

    /// What tests are told.
    pub fn variables(&self) -> [(String, String); 2] {
        [
            (HOME.to_owned(), self.order.home.display().to_string()),
            (ENVIRONMENT.to_owned(), self.environment.name.to_string()),
        ]
    }

    /// Takes it down. Returns what is left.
    pub async fn down(mut self) -> Vec<String> {
        self.supervisor.request_stop().await;
        taken_down(&mut self.supervisor, &self.order).await
    }
}

async fn taken_down(supervisor: &mut Supervisor, order: &Order) -> Vec<String> {
    let down = async {
        loop {
            match supervisor.next().await {
                Some(Message::Down { left }) => return left,
                Some(_) => {}
                None => return vec!["its supervisor is gone".to_owned()],
            }
        }
    };
    let left = timeout(teardown_at_most(order.stop), down).await;
    supervisor.ended(Duration::from_secs(5)).await;
    left.unwrap_or_else(|_| vec!["its supervisor, still at work".to_owned()])
}

fn gone(order: &Order, seen: String) -> Box<Failure> {
    Box::new(Failure {
        what: "the cluster for the tests did not come up".into(),
        expected: "a supervisor that lives".into(),
        seen,
        look_at: supervisor::log(order).display().to_string(),
        next: "cargo xtask down --all".into(),
    })
}
