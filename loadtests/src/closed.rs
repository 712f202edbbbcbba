//! The closed engine: users who wait for their answers, run by Goose.
//!
//! Goose starts and stops the users, and runs their journeys with think times. [`journeys`] send
//! the requests, and the [`UserRecorder`] measures them. Goose's own metrics do not include wrong
//! answers, and stop at the response's headers.

mod goose_output;
mod health;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use environments::config::load::{JourneyConfig, LoadConfig, LoadStage};
use goose::GooseAttack;
use goose::config::GooseConfiguration;
use jiff::Timestamp;
use miette::Diagnostic;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::journeys::{self, JourneyFiles};
use crate::monitor::LoadMonitor;
use crate::names::Names;
use crate::open::TooFewFiles;
use crate::open::files;
use crate::raw_log::{RawLogError, RawLogWriter};
use crate::result::{Ended, Endpoint, EngineKind, LoadResult, SCHEMA, block_of};
use crate::run::{LoadRun, Session};
use crate::threshold::Threshold;
use crate::users::{RecorderLog, UserContext, UserRecorder};
pub use goose_output::Muted;
use health::GeneratorWatch;

/// How often Goose is requested to stop. It ignores requests before its start.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

/// The time for Goose to stop. It checks twice a second whether its users have ended.
const GOOSE_STOP_TIMEOUT: Duration = Duration::from_secs(5);

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Goose's kill switch applies to the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A closed-model load on the platform.
pub struct ClosedLoad<'a> {
    /// The timeouts.
    pub load: &'a LoadConfig,
    /// The journeys of the users, with their weights.
    pub journeys: &'a BTreeMap<String, JourneyConfig>,
    /// The journeys that files describe.
    pub files: &'a JourneyFiles,
    /// The number of users over time.
    pub stages: &'a [LoadStage],
    /// Some of them may abort the run.
    pub thresholds: &'a [Threshold],
}

/// Why there is no result.
#[derive(Debug, Error, Diagnostic)]
pub enum ClosedError {
    /// Goose failed.
    #[error("the load could not be run: {0}")]
    #[diagnostic(help("docs/load.md describes profiles of users"))]
    Goose(String),
    /// The raw log cannot be created.
    #[error(transparent)]
    #[diagnostic(transparent)]
    RawLog(#[from] RawLogError),
    /// The operating system allows too few open files for the users.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Files(#[from] TooFewFiles),
}

/// Reserves SIGINT for [`base::interrupts`]. Otherwise Goose would replace the handler when it
/// starts. Call this before anything else listens for signals.
///
/// # Errors
/// If the operating system refuses.
pub fn keep_sigint() -> std::io::Result<()> {
    match ctrlc::set_handler(|| {}) {
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// Runs the load to its end, until it is cancelled, or until a threshold aborts it. Then requests
/// in flight have [`LoadConfig::drain`] to end. Only one load runs at a time in a process.
///
/// # Errors
/// [`ClosedError`].
pub async fn run(
    load: ClosedLoad<'_>,
    session: Session,
    users: &Arc<UserContext>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<LoadRun, ClosedError> {
    let _one = ONE_AT_A_TIME.lock().await;
    goose_output::reserve_logger();
    let most = load.stages.iter().map(|stage| stage.to).max();
    files::allow(most.unwrap_or_default() as usize)?;
    let goose = goose(&load, users).map_err(|error| ClosedError::Goose(error.to_string()))?;
    let block = block_of(load.stages.iter().map(|stage| stage.lasts).sum());
    let begun = (Instant::now(), Timestamp::now());
    let (writer, log) = raw_log(session.raw_log.as_deref(), begun.1, load.files)?;
    users.recorder.begin(begun, block, log);
    let watch = GeneratorWatch::begin();
    let stop = session.stop.child_token();
    let mut collector = Collector {
        recorder: &users.recorder,
        monitor: LoadMonitor::of(EngineKind::Closed, load.thresholds, progress),
        endpoints: BTreeMap::new(),
        stop: stop.clone(),
        aborted: None,
    };
    let attacking = async {
        let attacked = goose.execute().await;
        attacked.map_err(|error| ClosedError::Goose(error.to_string()))
    };
    let ended = tokio::select! {
        ended = stoppable(attacking, users, &stop, load.load.drain, progress) => ended?,
        never = collector.run() => match never {},
    };
    let ended = match collector.aborted.take() {
        Some(threshold) => Ended::Aborted { threshold },
        None => ended,
    };
    let generator = watch.end().await;
    collector.collect();
    let (begun, versions) = users.recorder.end();
    let result = LoadResult {
        schema: SCHEMA,
        run: session.run,
        engine: EngineKind::Closed,
        fingerprint: session.fingerprint.answered_in(versions.by_service()),
        begun,
        block_millis: block.as_millis() as u64,
        ended,
        generator,
        endpoints: collector.endpoints,
    };
    // The recorder has written its last records.
    let raw_log = writer.map(RawLogWriter::finish);
    Ok(LoadRun { result, raw_log })
}

/// Creates the raw log. Returns also the recorder's access to it.
fn raw_log(
    path: Option<&Path>,
    begun: Timestamp,
    files: &JourneyFiles,
) -> Result<(Option<RawLogWriter>, Option<RecorderLog>), RawLogError> {
    let Some(path) = path else {
        return Ok((None, None));
    };
    let mut names = Names::default();
    for name in journeys::endpoint::ALL.into_iter().chain(files.endpoints()) {
        names.number(name);
    }
    let writer = RawLogWriter::create(path, begun, names.listed())?;
    let sink = writer.sink();
    Ok((Some(writer), Some(RecorderLog { names, sink })))
}

fn goose(
    load: &ClosedLoad<'_>,
    users: &Arc<UserContext>,
) -> Result<GooseAttack, goose::GooseError> {
    let configuration = GooseConfiguration::parse_args_default(&[
        "--test-plan",
        &plan(load.stages),
        "--no-metrics",
        "--no-print-metrics",
        "--no-telnet",
        "--no-websocket",
        "--quiet",
    ])?;
    let mut goose = GooseAttack::initialize_with_config(configuration)?
        // One unused client for all: creating one for each user takes seconds.
        .set_client_builder_without_cookies(
            goose::client::GooseClientBuilder::new().without_cookies(),
        )?;
    for (name, journey) in load.journeys {
        let scenario = journeys::scenario(name, journey, load.files, users)?;
        goose = goose.register_scenario(scenario);
    }
    Ok(goose)
}

/// Returns Goose's test plan: `users,seconds;...`. Goose runs forever if the last step has users.
fn plan(stages: &[LoadStage]) -> String {
    // Goose cannot start with 0 users.
    let steps = stages.iter().skip_while(|stage| stage.to == 0);
    let steps = steps.map(|stage| (stage.to, stage.lasts.as_secs()));
    let mut steps: Vec<(u32, u64)> = steps.collect();
    if steps.last().is_some_and(|(users, _)| *users > 0) {
        steps.push((0, 0));
    }
    let step = |(users, seconds): &(u32, u64)| format!("{users},{seconds}");
    steps.iter().map(step).collect::<Vec<_>>().join(";")
}

/// Runs Goose. If it is cancelled, it sends no new requests, and requests in flight have `drain` to
/// end. Then the run is interrupted, even if Goose has not stopped.
async fn stoppable(
    attacking: impl Future<Output = Result<goose::metrics::GooseMetrics, ClosedError>>,
    users: &UserContext,
    cancelled: &CancellationToken,
    drain: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Ended, ClosedError> {
    let mut attacking = pin!(attacking);
    tokio::select! {
        // First: a run that is cancelled before it starts sends nothing.
        biased;
        () = cancelled.cancelled() => {}
        attacked = &mut attacking => return attacked.map(|_| Ended::Whole),
    }
    users.stopped.cancel();
    let cut_off = async {
        sleep(drain).await;
        users.cut_off.cancel();
        std::future::pending::<Infallible>().await
    };
    let ending = async {
        tokio::select! {
            attacked = attacking => attacked.map(|_| Ended::Interrupted),
            never = cut_off => match never {},
            never = stop_goose() => match never {},
        }
    };
    let ended = timeout(drain + GOOSE_STOP_TIMEOUT, ending).await;
    // The counts are complete, as all requests were cut off.
    ended.unwrap_or_else(|_| {
        progress("Goose did not stop its users in time: they end with this command");
        Ok(Ended::Interrupted)
    })
}

/// Requests Goose to stop, repeatedly.
async fn stop_goose() -> Infallible {
    let mut ticks = interval(STOP_INTERVAL);
    loop {
        ticks.tick().await;
        goose::trigger_killswitch("cancelled");
    }
}

/// Adds up the users' results during the run.
struct Collector<'a> {
    recorder: &'a UserRecorder,
    monitor: LoadMonitor<'a>,
    endpoints: BTreeMap<String, Endpoint>,
    stop: CancellationToken,
    aborted: Option<String>,
}

impl Collector<'_> {
    /// Collects once a second.
    async fn run(&mut self) -> Infallible {
        let mut seconds = interval(PROGRESS_INTERVAL);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            seconds.tick().await;
            self.collect();
        }
    }

    fn collect(&mut self) {
        let (elapsed, since_last) = self.recorder.since_last();
        let flow = self.monitor.update(elapsed, &since_last);
        for (name, endpoint) in since_last {
            self.endpoints.entry(name).or_default().add(&endpoint);
        }
        if let (ControlFlow::Break(threshold), None) = (flow, &self.aborted) {
            self.aborted = Some(threshold);
            self.stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_ends_without_users_and_starts_with_some() {
        let of = |stages: &[(u32, u64)]| {
            let stages = stages.iter().map(|(to, seconds)| LoadStage {
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
