//! Records the answers of all lanes.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::answer::{Answer, Identity, RequestOutcome};
use crate::clock::Clock;
use crate::lag::{Lag, LagRecorder};

/// The requests so far, by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Good answers.
    pub good: u64,
    /// Sent, without a good answer.
    pub failed: u64,
    /// Not sent.
    pub dropped: u64,
}

impl RequestCounts {
    /// Those that were sent, and have ended.
    pub fn ended(&self) -> u64 {
        self.good + self.failed
    }
}

/// Shared by all lanes.
pub(crate) struct AnswerRecorder {
    pub clock: Clock,
    /// The number of connection attempts.
    pub connections: AtomicU64,
    answers: UnboundedSender<Answer>,
    pub counts: Arc<Counters>,
    lags: Mutex<LagRecorder>,
    interned: Mutex<Vec<Arc<Identity>>>,
}

impl AnswerRecorder {
    pub fn new() -> (Arc<AnswerRecorder>, UnboundedReceiver<Answer>) {
        let (answers, receiver) = unbounded_channel();
        let recorder = AnswerRecorder {
            clock: Clock::set(),
            connections: AtomicU64::default(),
            answers,
            counts: Arc::default(),
            lags: Mutex::new(LagRecorder::new()),
            interned: Mutex::default(),
        };
        (Arc::new(recorder), receiver)
    }

    pub fn record(&self, answer: Answer) {
        self.counts.add(&answer);
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        match answer.outcome {
            RequestOutcome::Dropped => lags.dropped(answer.sent_after),
            _ => lags.sent(answer.sent_after),
        }
        // This fails once the receiver is dropped.
        let _ = self.answers.send(answer);
    }

    /// Returns a shared identity: there are few pods, and many answers.
    pub fn interned(&self, identity: Identity) -> Arc<Identity> {
        let mut interned = self.interned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interned) = interned.iter().find(|interned| ***interned == identity) {
            return interned.clone();
        }
        interned.push(Arc::new(identity));
        interned[interned.len() - 1].clone()
    }

    /// Returns the lag so far.
    pub fn lag(&self, cpu_seconds: f64, seconds: f64) -> Lag {
        let lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.lag(cpu_seconds, seconds)
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    good: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    fn add(&self, answer: &Answer) {
        let count = match &answer.outcome {
            RequestOutcome::Dropped => &self.dropped,
            _ if answer.good => &self.good,
            _ => &self.failed,
        };
        count.fetch_add(1, Relaxed);
    }

    pub fn read(&self) -> RequestCounts {
        RequestCounts {
            good: self.good.load(Relaxed),
            failed: self.failed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}
