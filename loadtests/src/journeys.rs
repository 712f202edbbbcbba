//! The journeys of simulated users, as Goose scenarios. A wrong answer is also a failure. Most are
//! files; those that must calculate are code.

pub(crate) mod checks;
pub(crate) mod endpoint;
mod file;
mod money;
mod order;
mod portfolio;
mod visitor;

use std::sync::Arc;

use environments::config::load::{Journey, JourneyConfig, JourneySource};
use goose::GooseError;
use goose::goose::{Scenario, Transaction};

use crate::users::UserContext;
pub use file::JourneyFiles;
use visitor::Visitor;

/// Returns the journey as a scenario: a user arrives once, then repeats the steps and thinks.
pub(crate) fn scenario(
    name: &str,
    journey: &JourneyConfig,
    files: &JourneyFiles,
    users: &Arc<UserContext>,
) -> Result<Scenario, GooseError> {
    let (least, most) = journey.thinks.clone().into_inner();
    let scenario = Scenario::new(name)
        .set_host(&users.base)
        .set_weight(journey.weight as usize)?
        .set_wait_time(least, most)?;
    let steps = match &journey.source {
        JourneySource::Code(Journey::Portfolio) => portfolio::steps(users),
        JourneySource::Code(Journey::Order) => order::steps(users),
        JourneySource::File(_) => files.steps(name, users),
    };
    let steps = steps.into_iter();
    Ok(steps.fold(scenario, Scenario::register_transaction))
}

/// Returns the first step of a user, which sets its session data.
fn arrives<T: Clone + Send + Sync + 'static>(
    users: &Arc<UserContext>,
    session_data: impl Fn(Visitor) -> T + Send + Sync + 'static,
) -> Transaction {
    let users = Arc::clone(users);
    let arrive = Transaction::new(Arc::new(move |user| {
        user.set_session_data(session_data(Visitor::new(&users)));
        Box::pin(std::future::ready(Ok(())))
    }));
    arrive.set_on_start()
}
