//! The open-model engine: arrivals at a given rate, which does not depend on the server.
//!
//! Arrival `i` is due at a time that follows from the [`LoadPlan`] alone, and is sent then. Its
//! latency counts from when it was due: a server that stalls for two seconds delays every request
//! that was due in that time. A client that waits for each answer before it sends the next request
//! would see one slow request ("coordinated omission"; Gil Tene, "How not to measure latency"). An
//! arrival that is due while too many requests are in flight is dropped, and counted in its block.
//!
//! An arrival is one run of a journey. Its first request is measured three ways: from when it was
//! due to its end (a block's `latency`), from when it was started to its end (`service_time`, which
//! includes opening a connection if there was none), and from when it was due to when it was started
//! (the generator's `lag`). A request that follows is due when it is sent. No request is retried.
//!
//! Time is monotonic: a change of the machine's clock has no effect.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use miette::Diagnostic;
use prober::ProberError;
use prober::cpu_of_this_process;
use prober::transport::{HTTP_1_1, HTTP_2, Transport};
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::raw_log::{RawLogError, RawLogWriter};
use crate::result::{Ended, Endpoint, EngineKind, Generator, LoadResult, SCHEMA, block_of};
pub use crate::run::{LoadRun, Session};

mod alarm;
mod busy;
mod connection;
pub mod files;
mod health;
mod journeys;
mod origin;
mod plan;
mod recorder;
mod schedule;
mod slots;
mod threads;
mod timer;
mod totals;
mod turns;
mod worker;

pub use files::TooFewFiles;
pub use health::cores;
pub use plan::{ConnectionMode, GeneratorShare, LoadPlan, PlanError};
pub use schedule::{RateStage, Schedule};

use connection::Dial;
use journeys::PreparedJourneys;
use recorder::WorkerCounts;
use threads::Threads;
use totals::Totals;
use worker::{Job, WorkerShare};

/// From the start until the first arrival is due: threads take a moment to start.
const LEAD: Duration = Duration::from_millis(20);
/// How often the caller gets the progress of a run.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The progress of a run since the previous one. Sums of these are exact.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Since the first arrival was due.
    pub elapsed: Duration,
    /// The requests that have ended and the arrivals that were dropped since then, by name.
    pub endpoints: &'a BTreeMap<String, Endpoint>,
}

/// A run cannot start.
#[derive(Debug, Error, Diagnostic)]
pub enum OpenError {
    /// The plan is invalid.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(#[from] PlanError),
    /// The operating system allows too few open files.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Files(#[from] TooFewFiles),
    /// The target's name does not resolve, or its certificate authority is invalid.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Target(#[from] ProberError),
    /// The raw log cannot be created.
    #[error(transparent)]
    #[diagnostic(transparent)]
    RawLog(#[from] RawLogError),
    /// The operating system cannot start a thread.
    #[error("cannot start a thread of the load generator: {0}")]
    #[diagnostic(
        code(loadtests::thread),
        help("are there enough memory and processes left?")
    )]
    Thread(#[from] io::Error),
}

/// Generates the load of `plan`. Calls `on_progress` once a second, and at the end. `on_progress`
/// breaks with the threshold that aborts the run.
///
/// If the future is dropped, the run stops immediately and leaves nothing behind.
///
/// # Errors
/// [`OpenError`], before the first request. The failures of a target that is down are measured.
pub async fn run(
    plan: &LoadPlan,
    session: Session,
    mut on_progress: impl FnMut(Progress<'_>) -> ControlFlow<String>,
) -> Result<LoadRun, OpenError> {
    let used_before = cpu_of_this_process();
    let stop = session.stop.child_token();
    let mut job = job(plan, stop.clone()).await?;
    let started = session.begin.unwrap_or_else(|| Timestamp::now() + LEAD);
    let begin = monotonic(started);
    job.begin = begin;
    let writer = session.raw_log.as_deref();
    let writer = writer.map(|path| RawLogWriter::create(path, started, job.journeys.names()));
    let writer = writer.transpose()?;
    let job = Arc::new(job);
    let (counts, counted) = unbounded_channel();
    let shares = shares(plan, &job, writer.as_ref(), &counts);
    drop(counts);
    let threads = Threads::start(shares)?;
    let mut collector = Collector {
        counted,
        totals: Totals::of(job.journeys.names()),
        begin,
        stop,
        aborted: None,
    };
    collector.run(&mut on_progress).await;
    let busiest = threads.join()?;
    let raw_log = writer.map(RawLogWriter::finish);
    let Collector {
        totals, aborted, ..
    } = collector;
    let unlogged = match &raw_log {
        Some(Ok(written)) => written.missing,
        _ => 0,
    };
    let generator = Generator {
        // A run that was interrupted before its start took no time.
        cores_used: (cpu_of_this_process() - used_before) / begin.elapsed().max(LEAD).as_secs_f64(),
        cores: cores(),
        bottleneck: health::bottleneck(&totals.lag, busiest, totals.without_port, unlogged),
        lag: totals.lag,
    };
    let ended = match aborted {
        Some(threshold) => Ended::Aborted { threshold },
        None if session.stop.is_cancelled() => Ended::Interrupted,
        None => Ended::Whole,
    };
    let result = LoadResult {
        schema: SCHEMA,
        run: session.run,
        engine: EngineKind::Open,
        fingerprint: session
            .fingerprint
            .answered_in(totals.versions.by_service()),
        begun: started,
        block_millis: job.block.as_millis() as u64,
        ended,
        generator,
        endpoints: totals.endpoints,
    };
    Ok(LoadRun { result, raw_log })
}

/// What all workers share; `begin` is set later.
async fn job(plan: &LoadPlan, stop: CancellationToken) -> Result<Job, OpenError> {
    plan.check()?;
    let schedule = Schedule::new(&plan.stages);
    let schedule = schedule.map_err(|reason| PlanError::new("stages", reason))?;
    let journeys = PreparedJourneys::of(plan)?;
    files::allow(plan.connections_at_most())?;
    Ok(Job {
        journeys,
        block: block_of(schedule.takes()),
        schedule,
        connections: plan.connections,
        timeout: plan.timeout,
        drain: plan.drain,
        workers: plan.workers * plan.part.of,
        dial: dial(plan).await?,
        headers: plan.headers.clone(),
        begin: Instant::now(),
        stop,
    })
}

/// Converts a time to one of the monotonic clock.
fn monotonic(at: Timestamp) -> Instant {
    let (now, remaining) = (Instant::now(), at.duration_since(Timestamp::now()));
    match remaining.is_negative() {
        false => now + remaining.unsigned_abs(),
        true => now.checked_sub(remaining.unsigned_abs()).unwrap_or(now),
    }
}

async fn dial(plan: &LoadPlan) -> Result<Dial, ProberError> {
    let protocol = match plan.connections {
        ConnectionMode::New | ConnectionMode::KeepAlive => HTTP_1_1,
        ConnectionMode::Http2 { .. } => HTTP_2,
    };
    let transport = Arc::new(Transport::to(&plan.target, protocol).await?);
    Ok(Arc::new(move || {
        let transport = transport.clone();
        Box::pin(async move { transport.open().await })
    }))
}

/// Divides the limit of requests in flight among the workers.
fn shares(
    plan: &LoadPlan,
    job: &Arc<Job>,
    writer: Option<&RawLogWriter>,
    counts: &UnboundedSender<WorkerCounts>,
) -> Vec<WorkerShare> {
    let of = plan.workers;
    let shares = (0..of).map(|number| WorkerShare {
        job: job.clone(),
        number: plan.part.number * of + number,
        bound: GeneratorShare { number, of }.share(plan.max_in_flight),
        log: writer.map(RawLogWriter::sink),
        counts: counts.clone(),
    });
    shares.collect()
}

/// Adds up the workers' counts while they run.
struct Collector {
    counted: UnboundedReceiver<WorkerCounts>,
    totals: Totals,
    begin: Instant,
    stop: CancellationToken,
    aborted: Option<String>,
}

impl Collector {
    /// Runs until the last worker has ended.
    async fn run(&mut self, on_progress: &mut impl FnMut(Progress<'_>) -> ControlFlow<String>) {
        let mut seconds = interval_at(self.begin + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                counts = self.counted.recv() => match counts {
                    Some(counts) => self.totals.add(counts),
                    None => break,
                },
                _ = seconds.tick() => {
                    let flow = self.report(on_progress);
                    if let (ControlFlow::Break(threshold), None) = (flow, &self.aborted) {
                        self.aborted = Some(threshold);
                        self.stop.cancel();
                    }
                }
            }
        }
        // The run has ended: a threshold can no longer abort it.
        let _ = self.report(on_progress);
    }

    fn report(
        &mut self,
        on_progress: &mut impl FnMut(Progress<'_>) -> ControlFlow<String>,
    ) -> ControlFlow<String> {
        let since_last = self.totals.since_last();
        on_progress(Progress {
            elapsed: self.begin.elapsed(),
            endpoints: &since_last,
        })
    }
}

#[cfg(test)]
mod tests;
