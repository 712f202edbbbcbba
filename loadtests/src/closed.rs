//! The closed engine: users who wait for their answers, by Goose.
//!
//! Goose starts and ends the users, and has each go on with its journey and think. What is
//! asked and measured is [`journeys`]' and the [`Recorder`]'s: Goose's own
//! metrics know nothing of answers that are wrong, and end at the answer's head.

mod generator;
mod ground;
mod recorder;
mod silence;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose::GooseAttack;
use goose::config::GooseConfiguration;
use harness::config::load::{Load, Stage};
use jiff::Timestamp;
use miette::Diagnostic;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::course::Course;
use crate::journeys;
use crate::open::files;
use crate::open::{Names, TooFewFiles};
use crate::raw_log::{RawLogError, Writer};
use crate::result::{Ended, Endpoint, Engine, LoadResult, SCHEMA, block_of};
use crate::run::{Run, Session};
use crate::threshold::Threshold;
use generator::Watch;
pub use ground::{Ground, Reach};
use recorder::Log;
pub use recorder::{Recorder, Sample, Unanswered};
pub use silence::Muted;

/// How often Goose is told to stop until it has: it forgets what it was told before it began.
const REMIND_EVERY: Duration = Duration::from_millis(100);

/// Goose looks twice a second whether its users have ended.
const GOOSE_ENDS_WITHIN: Duration = Duration::from_secs(5);

const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Goose's switch to stop is the process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// What is run.
pub struct Attack<'a> {
    /// What users do.
    pub load: &'a Load,
    /// How many of them over time.
    pub stages: &'a [Stage],
    /// Those that end a run do so.
    pub thresholds: &'a [Threshold],
}

/// Why there is no result.
#[derive(Debug, Error, Diagnostic)]
pub enum ClosedError {
    /// Goose would not begin, or not go on.
    #[error("the load could not be run: {0}")]
    #[diagnostic(help("docs/load.md says what a profile of users may be"))]
    Goose(String),
    /// The raw log cannot be begun.
    #[error(transparent)]
    #[diagnostic(transparent)]
    RawLog(#[from] RawLogError),
    /// The system gives too few open files for the users.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Files(#[from] TooFewFiles),
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

/// Puts the load on, to its end, until it is called off, or a threshold ends it; then what is
/// in flight has [`Load::drain`] to be answered. One at a time in a process.
///
/// # Errors
/// [`ClosedError`].
pub async fn run(
    attack: Attack<'_>,
    session: Session,
    ground: &Arc<Ground>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Run, ClosedError> {
    let _one = ONE_AT_A_TIME.lock().await;
    silence::keep();
    let users = attack.stages.iter().map(|stage| stage.to).max();
    files::allow(users.unwrap_or_default() as usize)?;
    let goose = goose(&attack, ground).map_err(|error| ClosedError::Goose(error.to_string()))?;
    let block = block_of(attack.stages.iter().map(|stage| stage.lasts).sum());
    let begun = (Instant::now(), Timestamp::now());
    let (writer, log) = raw_log(session.raw_log.as_deref(), begun.1)?;
    ground.recorder.begin(begun, block, log);
    let watch = Watch::begin();
    let stop = session.stop.child_token();
    let mut collecting = Collecting {
        recorder: &ground.recorder,
        course: Course::of(Engine::Closed, attack.thresholds, progress),
        endpoints: BTreeMap::new(),
        stop: stop.clone(),
        aborted: None,
    };
    let attacking = async {
        let attacked = goose.execute().await;
        attacked.map_err(|error| ClosedError::Goose(error.to_string()))
    };
    let ended = tokio::select! {
        ended = stoppable(attacking, ground, &stop, attack.load.drain, progress) => ended?,
        never = collecting.go_on() => match never {},
    };
    let ended = match collecting.aborted.take() {
        Some(threshold) => Ended::Aborted { threshold },
        None => ended,
    };
    let generator = watch.end().await;
    collecting.collect();
    let (begun, versions) = ground.recorder.end();
    let result = LoadResult {
        schema: SCHEMA,
        run: session.run,
        engine: Engine::Closed,
        fingerprint: session.fingerprint.answered_in(versions),
        begun,
        block_millis: block.as_millis() as u64,
        ended,
        generator,
        endpoints: collecting.endpoints,
    };
    // Its last records came when the recorder ended.
    let raw_log = writer.map(Writer::finish);
    Ok(Run { result, raw_log })
}

/// The raw log, and where its records are put.
fn raw_log(
    path: Option<&Path>,
    begun: Timestamp,
) -> Result<(Option<Writer>, Option<Log>), RawLogError> {
    let Some(path) = path else {
        return Ok((None, None));
    };
    let mut names = Names::default();
    for name in journeys::endpoint::ALL {
        names.number(name);
    }
    let writer = Writer::create(path, begun, names.listed())?;
    let sink = writer.sink();
    Ok((Some(writer), Some(Log { names, sink })))
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

/// The attack; called off, it gets no new requests and its users this long to end. Then it is
/// interrupted, whether Goose has noticed or not.
async fn stoppable(
    attacking: impl Future<Output = Result<goose::metrics::GooseMetrics, ClosedError>>,
    ground: &Ground,
    called_off: &CancellationToken,
    drain: Duration,
    progress: &(dyn Fn(&str) + Sync),
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
    let ended = timeout(drain + GOOSE_ENDS_WITHIN, ending).await;
    // All requests were cut: what was counted until then is all there is, and is kept.
    ended.unwrap_or_else(|_| {
        progress("Goose has not stopped its users in time: they end with this command");
        Ok(Ended::Interrupted)
    })
}

/// Tells Goose to stop, for ever.
async fn remind() -> Infallible {
    let mut ticks = interval(REMIND_EVERY);
    loop {
        ticks.tick().await;
        goose::trigger_killswitch("called off");
    }
}

/// Adds up what users are answered, while they are.
struct Collecting<'a> {
    recorder: &'a Recorder,
    course: Course<'a>,
    endpoints: BTreeMap<String, Endpoint>,
    stop: CancellationToken,
    aborted: Option<String>,
}

impl Collecting<'_> {
    /// Once a second, for ever.
    async fn go_on(&mut self) -> Infallible {
        let mut seconds = interval(TOLD_EVERY);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            seconds.tick().await;
            self.collect();
        }
    }

    fn collect(&mut self) {
        let (elapsed, news) = self.recorder.news();
        let told = self.course.goes_on(elapsed, &news);
        for (name, endpoint) in news {
            self.endpoints.entry(name).or_default().add(&endpoint);
        }
        if let (ControlFlow::Break(threshold), None) = (told, &self.aborted) {
            self.aborted = Some(threshold);
            self.stop.cancel();
        }
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
