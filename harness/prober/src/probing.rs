//! A prober that runs: its thread, its answers, its end.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use miette::Diagnostic;
use thiserror::Error;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::answer::{Answer, Identity, Outcome};
use crate::clock::{Clock, cpu_of_this_thread};
use crate::lag::{Lag, Recorder};
use crate::lane::Asker;
use crate::spec::{Spec, SpecError};

/// A prober cannot start.
#[derive(Debug, Error, Diagnostic)]
pub enum StartError {
    /// What it is to do makes no sense.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Spec(#[from] SpecError),
    /// A target's name leads nowhere.
    #[error("{destination} does not resolve: {why}")]
    #[diagnostic(
        code(prober::resolve),
        help("is it the name of a Service, with its namespace, and does this side resolve it?")
    )]
    Resolve {
        /// Host and port.
        destination: String,
        /// The resolver's word.
        why: String,
    },
    /// A target cannot be asked at all.
    #[error("{url} cannot be asked: {why}")]
    #[diagnostic(
        code(prober::target),
        help("name the authority of its certificate, or ask a host that TLS knows")
    )]
    Tls {
        /// The target.
        url: String,
        /// Why not.
        why: String,
    },
    /// The system gives no thread.
    #[error("cannot start the prober's thread: {0}")]
    #[diagnostic(code(prober::thread))]
    Thread(#[from] io::Error),
}

/// A prober that runs. Dropped, it ends at once, and what is in flight is never told of.
pub struct Probing {
    clock: Clock,
    counts: Arc<Counts>,
    began: u64,
    stop: CancellationToken,
    ended: oneshot::Receiver<Lag>,
    _abandon: DropGuard,
}

/// What became of requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Good answers.
    pub good: u64,
    /// Sent, and without a good answer.
    pub failed: u64,
    /// Not sent.
    pub dropped: u64,
}

/// Asks as `spec` says, from now on. Every request that is due comes out of the receiver
/// once, when it has ended; after the last of all, the receiver has.
///
/// # Errors
/// [`StartError`]; then nothing was asked.
pub async fn start(spec: &Spec) -> Result<(Probing, UnboundedReceiver<Answer>), StartError> {
    spec.check()?;
    let (shared, receiver) = Shared::new();
    let (clock, counts) = (shared.clock, shared.counts.clone());
    let mut askers = Vec::new();
    for lane in &spec.lanes {
        askers.push(Arc::new(Asker::new(lane, shared.clone()).await?));
    }
    let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
    let (tell_ended, ended) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let begin = Instant::now();
    let work = Work {
        askers,
        begin,
        end: begin + Duration::from_secs_f64(spec.seconds),
        stop: stop.clone(),
        abandon: abandon.clone(),
    };
    thread::Builder::new()
        .name("prober".into())
        .spawn(move || {
            go_first();
            runtime.block_on(work.run());
            let lags = shared.lags.lock().unwrap_or_else(PoisonError::into_inner);
            let lag = lags.lag(cpu_of_this_thread(), begin.elapsed().as_secs_f64());
            // Nobody hears it when the prober was dropped.
            let _ = tell_ended.send(lag);
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

/// A thread that is scheduled late asks late, on a machine that has the whole platform on two
/// cores. In real time, by turns, it is run as soon as something is due (sched(7)); where a
/// control group has no such time to give, it comes before others. Where the system lets us do
/// neither (it takes CAP_SYS_NICE), the lag tells.
#[cfg(target_os = "linux")]
fn go_first() {
    use thread_priority::{
        RealtimeThreadSchedulePolicy::RoundRobin, ThreadPriority, ThreadSchedulePolicy::Realtime,
        set_thread_priority_and_policy, thread_native_id,
    };
    const BEFORE_OTHERS: i32 = -10;
    let least = ThreadPriority::Min;
    if set_thread_priority_and_policy(thread_native_id(), least, Realtime(RoundRobin)).is_err() {
        let this = Some(rustix::thread::gettid());
        // On Linux, of one thread: setpriority(2), "C library/kernel differences".
        let _ = rustix::process::setpriority_process(this, BEFORE_OTHERS);
    }
}

/// Elsewhere it would be the whole process's.
#[cfg(not(target_os = "linux"))]
fn go_first() {}

impl Probing {
    /// When the first requests were due, in microseconds since the Unix epoch.
    pub fn began(&self) -> u64 {
        self.began
    }

    /// The time by the prober's clock, in microseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.clock.micros(Instant::now())
    }

    /// What became of requests so far.
    pub fn so_far(&self) -> Counted {
        self.counts.read()
    }

    /// Has nothing be due any more. What is in flight goes on.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until nothing is due any more and the last request has ended. Each has its own
    /// deadline: after [`Probing::stop`] this takes the longest timeout of a lane at most.
    pub async fn ended(mut self) -> Lag {
        let lag = (&mut self.ended).await;
        lag.expect("the thread tells its lag at its end, or has panicked")
    }
}

/// What the thread does.
struct Work {
    askers: Vec<Arc<Asker>>,
    begin: Instant,
    end: Instant,
    stop: CancellationToken,
    abandon: CancellationToken,
}

impl Work {
    async fn run(self) {
        let in_flight = TaskTracker::new();
        let span = (self.begin, self.end);
        let lanes = self.askers.into_iter();
        let lanes: JoinSet<()> = lanes
            .map(|asker| asker.run(span, self.stop.clone(), in_flight.clone()))
            .collect();
        let to_its_end = async {
            lanes.join_all().await;
            in_flight.close();
            in_flight.wait().await;
        };
        tokio::select! {
            () = to_its_end => {}
            () = self.abandon.cancelled() => {}
        }
    }
}

/// What all lanes share.
pub(crate) struct Shared {
    pub clock: Clock,
    /// How many were tried.
    pub connections: AtomicU64,
    answers: UnboundedSender<Answer>,
    counts: Arc<Counts>,
    lags: Mutex<Recorder>,
    known: Mutex<Vec<Arc<Identity>>>,
}

impl Shared {
    pub fn new() -> (Arc<Shared>, UnboundedReceiver<Answer>) {
        let (answers, receiver) = unbounded_channel();
        let shared = Shared {
            clock: Clock::set(),
            connections: AtomicU64::default(),
            answers,
            counts: Arc::default(),
            lags: Mutex::new(Recorder::new()),
            known: Mutex::default(),
        };
        (Arc::new(shared), receiver)
    }

    pub fn tell(&self, answer: Answer) {
        self.counts.add(&answer);
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        match answer.outcome {
            Outcome::Dropped => lags.dropped(answer.sent_after),
            _ => lags.sent(answer.sent_after),
        }
        // Nobody listens any more once the receiver is dropped.
        let _ = self.answers.send(answer);
    }

    /// The same identity for the same pod: there are few, and many answers.
    pub fn known(&self, identity: Identity) -> Arc<Identity> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.iter().find(|known| ***known == identity) {
            return known.clone();
        }
        known.push(Arc::new(identity));
        known[known.len() - 1].clone()
    }
}

#[derive(Default)]
struct Counts {
    good: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    fn add(&self, answer: &Answer) {
        let count = match &answer.outcome {
            Outcome::Dropped => &self.dropped,
            _ if answer.good => &self.good,
            _ => &self.failed,
        };
        count.fetch_add(1, Relaxed);
    }

    fn read(&self) -> Counted {
        Counted {
            good: self.good.load(Relaxed),
            failed: self.failed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}
