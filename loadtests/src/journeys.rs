//! What simulated users do, each journey as a Goose scenario. Every answer is checked: one
//! that came in time and says something wrong is a failure, too.

mod analysis;
pub(crate) mod answer;
mod browse;
pub(crate) mod endpoint;
mod order;
mod portfolio;
mod visitor;

use std::sync::Arc;

use goose::GooseError;
use goose::goose::{Scenario, Transaction};
use harness::config::load::{Habit, Journey};

use crate::closed::Ground;
use visitor::Visitor;

/// The journey: a user arrives once, then makes its steps one after the other, again and
/// again, and thinks after each.
pub(crate) fn scenario(
    journey: Journey,
    habit: &Habit,
    ground: &Arc<Ground>,
) -> Result<Scenario, GooseError> {
    let (least, most) = habit.thinks.clone().into_inner();
    let scenario = Scenario::new(journey.name())
        .set_host(&ground.base)
        .set_weight(habit.weight as usize)?
        .set_wait_time(least, most)?;
    let steps = match journey {
        Journey::Browse => browse::steps(ground),
        Journey::Portfolio => portfolio::steps(ground),
        Journey::Order => order::steps(ground),
        Journey::Analysis => analysis::steps(ground),
    };
    let registered = steps
        .into_iter()
        .fold(scenario, Scenario::register_transaction);
    Ok(registered)
}

/// What is known to a user that arrives: `know` says it of a visitor.
fn arrives<T: Clone + Send + Sync + 'static>(
    ground: &Arc<Ground>,
    know: impl Fn(Visitor) -> T + Send + Sync + 'static,
) -> Transaction {
    let ground = Arc::clone(ground);
    let arrive = Transaction::new(Arc::new(move |user| {
        user.set_session_data(know(Visitor::new(&ground)));
        Box::pin(std::future::ready(Ok(())))
    }));
    arrive.set_on_start()
}
