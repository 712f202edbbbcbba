//! The open-model engine: arrivals at a stated rate, whatever the answers do.
//!
//! Arrival `i` is due at a time that follows from the [`Plan`] alone, and is sent then, on its
//! own. Its latency counts from when it was due: a server that stands still for two seconds
//! shows in every request that was due meanwhile, where a client that waits for its answer
//! before it asks again would show one ("coordinated omission"; Gil Tene, "How not to measure
//! latency"). An arrival that is due while the bound of requests in flight is reached is
//! dropped, and counted in its block.
//!
//! Each request is measured three ways: from when it was due to its end (a block's `latency`),
//! from when it was set about to its end (`service_time`; it holds the making of a connection
//! where one was made), and from when it was due to when it was set about (the generator's
//! `lag`). Nothing is tried twice.
//!
//! Time is the monotonic clock's: a machine whose clock is set meanwhile changes nothing.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use miette::Diagnostic;
use prober::StartError;
use prober::cpu_of_this_process;
use prober::way::{HTTP_1_1, HTTP_2, Way};
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::raw_log::{RawLogError, Writer};
use crate::result::{Ended, Endpoint, Engine, Generator, LoadResult, SCHEMA, block_of};
pub use crate::run::{Run, Session};

mod alarm;
mod busy;
mod collected;
pub mod files;
mod health;
mod line;
mod names;
mod plan;
mod record;
mod requests;
mod schedule;
mod slots;
mod threads;
mod timer;
mod worker;

pub use files::TooFewFiles;
pub use health::cores;
pub use names::{NAMES_AT_MOST, Names, OTHER};
pub use plan::{Check, Connections, Holds, Part, Plan, PlanError, Template};
pub use schedule::{Schedule, Stage};

use collected::Collected;
use health::Health;
use line::Dial;
use record::Counts;
use requests::Requests;
use threads::Threads;
use worker::{Job, Share};

/// Until the first arrival is due: threads take a moment to start.
const LEAD: Duration = Duration::from_millis(20);
/// How often the caller hears of a run.
const TOLD: Duration = Duration::from_secs(1);

/// What a run did since its caller last heard of it: sums of these are exact.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Since the first arrival was due.
    pub elapsed: Duration,
    /// What has ended or was dropped meanwhile, by name.
    pub endpoints: &'a BTreeMap<String, Endpoint>,
}

/// A run that cannot begin.
#[derive(Debug, Error, Diagnostic)]
pub enum OpenError {
    /// The plan makes no sense.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(#[from] PlanError),
    /// The system gives too few open files for the bound.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Files(#[from] TooFewFiles),
    /// The target cannot be asked: its name does not resolve, its authority is none.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Target(#[from] StartError),
    /// The raw log cannot be begun.
    #[error(transparent)]
    #[diagnostic(transparent)]
    RawLog(#[from] RawLogError),
    /// The system gives no thread.
    #[error("cannot start a thread of the load generator: {0}")]
    #[diagnostic(
        code(loadtests::thread),
        help("is there memory, and room for processes?")
    )]
    Thread(#[from] io::Error),
}

/// Makes the load that `plan` says. Once a second, and at the end, `on_progress` is given what
/// has ended since; it breaks with the threshold that ends the run.
///
/// Dropped, the run ends at once and nothing of it is left.
///
/// # Errors
/// [`OpenError`]; then nothing was sent. A target that is down is no error of this kind: its
/// failures are measured.
pub async fn run(
    plan: &Plan,
    session: Session,
    mut on_progress: impl FnMut(Progress<'_>) -> ControlFlow<String>,
) -> Result<Run, OpenError> {
    let used_before = cpu_of_this_process();
    let stop = session.stop.child_token();
    let mut job = job(plan, stop.clone()).await?;
    let begun = session.begin.unwrap_or_else(|| Timestamp::now() + LEAD);
    let begin = monotonic(begun);
    job.begin = begin;
    let writer = session.raw_log.as_deref();
    let writer = writer.map(|path| Writer::create(path, begun, job.requests.names()));
    let writer = writer.transpose()?;
    let job = Arc::new(job);
    let (counts, counted) = unbounded_channel();
    let shares = shares(plan, &job, writer.as_ref(), &counts);
    drop(counts);
    let threads = Threads::start(shares)?;
    let mut collecting = Collecting {
        counted,
        collected: Collected::of(job.requests.names()),
        begin,
        stop,
        aborted: None,
    };
    collecting.run(&mut on_progress).await;
    let busiest = threads.join()?;
    let raw_log = writer.map(Writer::finish);
    let Collecting {
        collected, aborted, ..
    } = collecting;
    let health = Health {
        lag: &collected.lag,
        busiest,
        without_port: collected.without_port,
        unlogged: match &raw_log {
            Some(Ok(written)) => written.missing,
            _ => 0,
        },
    };
    let generator = Generator {
        // One that was interrupted before its begin has taken no time from there.
        cores_used: (cpu_of_this_process() - used_before) / begin.elapsed().max(LEAD).as_secs_f64(),
        cores: cores(),
        bottleneck: health.bottleneck(),
        lag: collected.lag,
    };
    let ended = match aborted {
        Some(threshold) => Ended::Aborted { threshold },
        None if session.stop.is_cancelled() => Ended::Interrupted,
        None => Ended::Whole,
    };
    let result = LoadResult {
        schema: SCHEMA,
        run: session.run,
        engine: Engine::Open,
        fingerprint: session.fingerprint.answered_in(collected.versions),
        begun,
        block_millis: job.block.as_millis() as u64,
        ended,
        generator,
        endpoints: collected.endpoints,
    };
    Ok(Run { result, raw_log })
}

/// All that workers share, but for the begin.
async fn job(plan: &Plan, stop: CancellationToken) -> Result<Job, OpenError> {
    plan.check()?;
    let schedule = Schedule::new(&plan.stages);
    let schedule = schedule.map_err(|why| PlanError::new("stages", why))?;
    let requests = Requests::of(plan)?;
    files::allow(plan.connections_at_most())?;
    Ok(Job {
        requests,
        block: block_of(schedule.takes()),
        schedule,
        connections: plan.connections,
        timeout: plan.timeout,
        drain: plan.drain,
        workers: plan.workers * plan.part.of,
        dial: dial(plan).await?,
        begin: Instant::now(),
        stop,
    })
}

/// The moment, by the clock that nobody sets; one that has passed is in the past there too.
fn monotonic(at: Timestamp) -> Instant {
    let (now, left) = (Instant::now(), at.duration_since(Timestamp::now()));
    match left.is_negative() {
        false => now + left.unsigned_abs(),
        true => now.checked_sub(left.unsigned_abs()).unwrap_or(now),
    }
}

async fn dial(plan: &Plan) -> Result<Dial, StartError> {
    let protocol = match plan.connections {
        Connections::New | Connections::Kept => HTTP_1_1,
        Connections::Http2 { .. } => HTTP_2,
    };
    let way = Arc::new(Way::to(&plan.target, protocol).await?);
    Ok(Arc::new(move || {
        let way = way.clone();
        Box::pin(async move { way.open().await })
    }))
}

/// The bound is divided among the workers, to the last one.
fn shares(
    plan: &Plan,
    job: &Arc<Job>,
    writer: Option<&Writer>,
    counts: &tokio::sync::mpsc::UnboundedSender<Counts>,
) -> Vec<Share> {
    let shares = (0..plan.workers).map(|number| Share {
        job: job.clone(),
        number: plan.part.number * plan.workers + number,
        bound: (Part {
            number,
            of: plan.workers,
        })
        .share(plan.max_in_flight),
        log: writer.map(Writer::sink),
        counts: counts.clone(),
    });
    shares.collect()
}

/// Adds up what workers count, while they do.
struct Collecting {
    counted: UnboundedReceiver<Counts>,
    collected: Collected,
    begin: Instant,
    stop: CancellationToken,
    aborted: Option<String>,
}

impl Collecting {
    /// Until the last worker has ended.
    async fn run(&mut self, on_progress: &mut impl FnMut(Progress<'_>) -> ControlFlow<String>) {
        let mut seconds = interval_at(self.begin + TOLD, TOLD);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                counts = self.counted.recv() => match counts {
                    Some(counts) => self.collected.add(counts),
                    None => break,
                },
                _ = seconds.tick() => {
                    let told = self.tell(on_progress);
                    if let (ControlFlow::Break(threshold), None) = (told, &self.aborted) {
                        self.aborted = Some(threshold);
                        self.stop.cancel();
                    }
                }
            }
        }
        // It has come to its end: nothing ends it any more.
        let _ = self.tell(on_progress);
    }

    fn tell(
        &mut self,
        on_progress: &mut impl FnMut(Progress<'_>) -> ControlFlow<String>,
    ) -> ControlFlow<String> {
        let news = self.collected.news();
        on_progress(Progress {
            elapsed: self.begin.elapsed(),
            endpoints: &news,
        })
    }
}

#[cfg(test)]
mod tests;
