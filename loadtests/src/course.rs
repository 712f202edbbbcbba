//! The course of a run: told once a second, and ended by a threshold that says so.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::result::{Endpoint, Engine};
use crate::threshold::{Seen, Threshold, to_abort};

/// The course of a run so far.
pub struct Course<'a> {
    engine: Engine,
    seen: Seen,
    thresholds: &'a [Threshold],
    progress: &'a (dyn Fn(&str) + Sync),
}

impl<'a> Course<'a> {
    /// Of a run that begins.
    pub fn of(
        engine: Engine,
        thresholds: &'a [Threshold],
        progress: &'a (dyn Fn(&str) + Sync),
    ) -> Course<'a> {
        Course {
            engine,
            seen: Seen::nothing(engine),
            thresholds,
            progress,
        }
    }

    /// Adds what has ended since the last time. Breaks with the threshold that ends the run.
    pub fn goes_on(
        &mut self,
        elapsed: Duration,
        news: &BTreeMap<String, Endpoint>,
    ) -> ControlFlow<String> {
        for (name, endpoint) in news {
            self.seen.add(name, endpoint);
        }
        (self.progress)(&self.told(elapsed));
        match to_abort(self.thresholds, &self.seen, elapsed) {
            None => ControlFlow::Continue(()),
            Some(verdict) => ControlFlow::Break(verdict.threshold.to_string()),
        }
    }

    fn told(&self, elapsed: Duration) -> String {
        let whole = self.seen.whole();
        let (seconds, requests, failed) = (elapsed.as_secs(), whole.requests, whole.failed);
        let told = format!("{seconds} s: {requests} requests, {failed} failed");
        match self.engine {
            Engine::Closed => told,
            Engine::Open => format!("{told}, {} dropped", whole.dropped),
        }
    }
}
