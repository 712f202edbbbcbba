//! A running prober.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::answer::Answer;
use crate::clock::{Clock, cpu_of_this_thread};
use crate::lag::Lag;
use crate::lane::LaneRunner;
use crate::recorder::{AnswerRecorder, Counters, RequestCounts};
use crate::spec::{ProberError, Spec};

/// A running prober. If it is dropped, it stops immediately and cancels the requests in flight.
pub struct Probing {
    clock: Clock,
    counts: Arc<Counters>,
    began: u64,
    stop: CancellationToken,
    ended: oneshot::Receiver<Lag>,
    _abandon: DropGuard,
}

/// Starts to send requests by `spec`. The receiver yields the answer of each request that was due,
/// and ends after the last one.
///
/// # Errors
/// [`ProberError`], before any request is sent.
pub async fn start(spec: &Spec) -> Result<(Probing, UnboundedReceiver<Answer>), ProberError> {
    spec.check()?;
    let (recorder, receiver) = AnswerRecorder::new();
    let (clock, counts) = (recorder.clock, recorder.counts.clone());
    let mut runners = Vec::new();
    for lane in &spec.lanes {
        runners.push(Arc::new(
            LaneRunner::new(lane, &spec.headers, recorder.clone()).await?,
        ));
    }
    let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
    let (send_lag, ended) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let begin = Instant::now();
    let work = Work {
        runners,
        begin,
        end: begin + Duration::from_secs_f64(spec.seconds),
        stop: stop.clone(),
        abandon: abandon.clone(),
    };
    thread::Builder::new()
        .name("prober".into())
        .spawn(move || {
            raise_priority();
            runtime.block_on(work.run());
            let lag = recorder.lag(cpu_of_this_thread(), begin.elapsed().as_secs_f64());
            // This fails if the prober was dropped.
            let _ = send_lag.send(lag);
        })?;
    let probing = Probing {
        clock,
        counts,
        began: clock.micros(begin),
        stop,
        ended,
        _abandon: abandon.drop_guard(),
    };
    Ok((probing, receiver))
}

/// On a busy machine, a thread that is scheduled late sends late. With a real-time policy (round
/// robin, sched(7)) it runs as soon as a request is due. If its control group has no real-time
/// budget, it gets a higher priority. If the system allows neither (both need CAP_SYS_NICE), the
/// lag shows it.
#[cfg(target_os = "linux")]
fn raise_priority() {
    use thread_priority::{
        RealtimeThreadSchedulePolicy::RoundRobin, ThreadPriority, ThreadSchedulePolicy::Realtime,
        set_thread_priority_and_policy, thread_native_id,
    };
    const BEFORE_OTHERS: i32 = -10;
    let least = ThreadPriority::Min;
    if set_thread_priority_and_policy(thread_native_id(), least, Realtime(RoundRobin)).is_err() {
        let this = Some(rustix::thread::gettid());
        // Linux sets it for one thread: setpriority(2), "C library/kernel differences".
        let _ = rustix::process::setpriority_process(this, BEFORE_OTHERS);
    }
}

/// On other systems it would apply to the whole process.
#[cfg(not(target_os = "linux"))]
fn raise_priority() {}

impl Probing {
    /// Returns when the first requests were due, in microseconds since the Unix epoch.
    pub fn began(&self) -> u64 {
        self.began
    }

    /// Returns the time by the prober's clock, in microseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.clock.micros(Instant::now())
    }

    /// Returns the requests so far, by result.
    pub fn so_far(&self) -> RequestCounts {
        self.counts.read()
    }

    /// Stops new requests. Requests in flight continue.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the last request to end, and returns the lag. After [`Probing::stop`] this takes
    /// at most the longest timeout of a lane.
    pub async fn ended(mut self) -> Lag {
        let lag = (&mut self.ended).await;
        lag.expect("the thread sends its lag before it exits, or has panicked")
    }
}

/// The work of the prober's thread.
struct Work {
    runners: Vec<Arc<LaneRunner>>,
    begin: Instant,
    end: Instant,
    stop: CancellationToken,
    abandon: CancellationToken,
}

impl Work {
    async fn run(self) {
        let in_flight = TaskTracker::new();
        let span = (self.begin, self.end);
        let lanes = self.runners.into_iter();
        let lanes: JoinSet<()> = lanes
            .map(|runner| runner.run(span, self.stop.clone(), in_flight.clone()))
            .collect();
        let finished = async {
            lanes.join_all().await;
            in_flight.close();
            in_flight.wait().await;
        };
        tokio::select! {
            () = finished => {}
            () = self.abandon.cancelled() => {}
        }
    }
}
