//! The closed engine: users who wait for their answers, by Goose.
//!
//! Goose starts and ends the users, and has each go on with its journey and think. What is
//! asked and measured is [`journeys`]' and the [`Recorder`]'s: Goose's own
//! metrics know nothing of answers that are wrong, and end at the answer's head.

mod generator;
mod ground;
mod recorder;
mod silence;

use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use goose::GooseAttack;
use goose::config::GooseConfiguration;
use harness::config::load::{Load, Stage};
use miette::Diagnostic;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::journeys;
use crate::result::{Ended, Engine, Fingerprint, LoadResult, SCHEMA};
use generator::Watch;
pub use ground::{Ground, Reach};
pub use recorder::{Recorder, Sample, Tally};
pub use silence::Muted;

/// How often Goose is told to stop until it has: it forgets what it was told before it began.
const REMIND_EVERY: Duration = Duration::from_millis(100);

/// Goose looks twice a second whether its users have ended.
const GOOSE_ENDS_WITHIN: Duration = Duration::from_secs(5);

const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Goose's switch to stop is the process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// What is run, and as what its result is known.
pub struct Attack<'a> {
    /// The run's id.
    pub run: &'a str,
    /// What users do.
    pub load: &'a Load,
    /// How many of them over time.
    pub stages: &'a [Stage],
    /// What its result can be compared with; the versions are those that answer.
    pub fingerprint: Fingerprint,
}

/// Why there is no result.
#[derive(Debug, Error, Diagnostic)]
pub enum ClosedError {
    /// Goose would not begin, or not go on.
    #[error("the load could not be run: {0}")]
    #[diagnostic(help("docs/load.md says what a profile of users may be"))]
    Goose(String),
    /// Goose did not stop.
    #[error("the load did not end within {0:?} of being called off")]
    #[diagnostic(help("nothing of it outlives this command; run it again"))]
    Stuck(Duration),
}

/// Keeps SIGINT for those who wait for it by [`harness::interrupts`]. Goose takes it when it
/// starts, overwriting who had it before, unless somebody has taken it by the same crate: call
/// this before anything else listens for signals.
///
/// # Errors
/// When the system refuses.
pub fn keep_sigint() -> std::io::Result<()> {
    match ctrlc::set_handler(|| {}) {
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// Puts the load on, to its end or until it is called off; then what is in flight has
/// [`Load::drain`] to be answered. One at a time in a process.
///
/// # Errors
/// [`ClosedError`].
pub async fn run(
    attack: Attack<'_>,
    ground: &Arc<Ground>,
    called_off: &CancellationToken,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<LoadResult, ClosedError> {
    let _one = ONE_AT_A_TIME.lock().await;
    silence::keep();
    let goose = goose(&attack, ground).map_err(|error| ClosedError::Goose(error.to_string()))?;
    ground.recorder.begin();
    let watch = Watch::begin();
    let ended = {
        let attacking = async {
            let attacked = goose.execute().await;
            attacked.map_err(|error| ClosedError::Goose(error.to_string()))
        };
        tokio::select! {
            ended = stoppable(attacking, ground, called_off, attack.load.drain) => ended?,
            never = report(&ground.recorder, progress) => match never {},
        }
    };
    let generator = watch.end().await;
    let recorded = ground.recorder.end();
    Ok(LoadResult {
        schema: SCHEMA,
        run: attack.run.to_owned(),
        engine: Engine::Closed,
        fingerprint: Fingerprint {
            versions: recorded.versions,
            ..attack.fingerprint
        },
        begun: recorded.begun,
        block_millis: recorder::BLOCK_MILLIS,
        ended,
        generator,
        endpoints: recorded.endpoints,
    })
}

fn goose(attack: &Attack<'_>, ground: &Arc<Ground>) -> Result<GooseAttack, goose::GooseError> {
    let configuration = GooseConfiguration::parse_args_default(&[
        "--test-plan",
        &plan(attack.stages),
        "--no-metrics",
        "--no-print-metrics",
        "--no-telnet",
        "--no-websocket",
        "--quiet",
    ])?;
    let mut goose = GooseAttack::initialize_with_config(configuration)?
        // One for all, and not used: a client of its own for each user costs seconds to make.
        .set_client_builder_without_cookies(
            goose::client::GooseClientBuilder::new().without_cookies(),
        )?;
    for (journey, habit) in &attack.load.journeys {
        goose = goose.register_scenario(journeys::scenario(*journey, habit, ground)?);
    }
    Ok(goose)
}

/// As Goose has it: `users,seconds` by `;`. It goes on for ever with those of the last step,
/// if there are any.
fn plan(stages: &[Stage]) -> String {
    // It cannot begin by keeping nobody.
    let steps = stages.iter().skip_while(|stage| stage.to == 0);
    let steps = steps.map(|stage| (stage.to, stage.lasts.as_secs()));
    let mut steps: Vec<(u32, u64)> = steps.collect();
    if steps.last().is_some_and(|(users, _)| *users > 0) {
        steps.push((0, 0));
    }
    let steps = steps
        .iter()
        .map(|(users, seconds)| format!("{users},{seconds}"));
    steps.collect::<Vec<_>>().join(";")
}

/// The attack; called off, it gets no new requests and its users this long to end.
async fn stoppable(
    attacking: impl Future<Output = Result<goose::metrics::GooseMetrics, ClosedError>>,
    ground: &Ground,
    called_off: &CancellationToken,
    drain: Duration,
) -> Result<Ended, ClosedError> {
    let mut attacking = pin!(attacking);
    tokio::select! {
        attacked = &mut attacking => return attacked.map(|_| Ended::Whole),
        () = called_off.cancelled() => {}
    }
    ground.stop();
    let cut = async {
        sleep(drain).await;
        ground.cut();
        std::future::pending::<Infallible>().await
    };
    let ending = async {
        tokio::select! {
            attacked = attacking => attacked.map(|_| Ended::Interrupted),
            never = cut => match never {},
            never = remind() => match never {},
        }
    };
    let at_most = drain + GOOSE_ENDS_WITHIN;
    let ended = timeout(at_most, ending).await;
    ended.unwrap_or(Err(ClosedError::Stuck(at_most)))
}

/// Tells Goose to stop, for ever.
async fn remind() -> Infallible {
    let mut ticks = interval(REMIND_EVERY);
    loop {
        ticks.tick().await;
        goose::trigger_killswitch("called off");
    }
}

/// Says how it goes, for ever.
async fn report(recorder: &Recorder, progress: &(dyn Fn(&str) + Sync)) -> Infallible {
    let mut ticks = interval(PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        progress(&recorder.tally().to_string());
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            requests, failed, ..
        } = self;
        let seconds = self.elapsed.as_secs();
        write!(f, "{seconds} s: {requests} requests, {failed} failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_ends_with_nobody_and_does_not_begin_so() {
        let of = |stages: &[(u32, u64)]| {
            let stages = stages.iter().map(|(to, seconds)| Stage {
                to: *to,
                lasts: Duration::from_secs(*seconds),
            });
            plan(&stages.collect::<Vec<_>>())
        };
        assert_eq!(of(&[(2, 0), (2, 30)]), "2,0;2,30;0,0");
        assert_eq!(of(&[(0, 5), (20, 60), (0, 30)]), "20,60;0,30");
        assert_eq!(of(&[(5, 1), (0, 1), (5, 1)]), "5,1;0,1;5,1;0,0");
    }
}
