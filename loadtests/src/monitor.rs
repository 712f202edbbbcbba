//! Follows a run: reports its progress once a second, and lets thresholds abort it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::result::{Endpoint, EngineKind};
use crate::threshold::{ObservedLoad, Threshold, to_abort};

/// Follows a run.
pub struct LoadMonitor<'a> {
    engine: EngineKind,
    observed: ObservedLoad,
    thresholds: &'a [Threshold],
    progress: &'a (dyn Fn(&str) + Sync),
}

impl<'a> LoadMonitor<'a> {
    /// Creates a monitor for a new run.
    pub fn of(
        engine: EngineKind,
        thresholds: &'a [Threshold],
        progress: &'a (dyn Fn(&str) + Sync),
    ) -> LoadMonitor<'a> {
        LoadMonitor {
            engine,
            observed: ObservedLoad::nothing(engine),
            thresholds,
            progress,
        }
    }

    /// Adds the requests since the last call. Breaks with the threshold that aborts the run.
    pub fn update(
        &mut self,
        elapsed: Duration,
        since_last: &BTreeMap<String, Endpoint>,
    ) -> ControlFlow<String> {
        for (name, endpoint) in since_last {
            self.observed.add(name, endpoint);
        }
        (self.progress)(&self.summary(elapsed));
        match to_abort(self.thresholds, &self.observed, elapsed) {
            None => ControlFlow::Continue(()),
            Some(verdict) => ControlFlow::Break(verdict.threshold.to_string()),
        }
    }

    fn summary(&self, elapsed: Duration) -> String {
        let whole = self.observed.whole();
        let (seconds, requests, failed) = (elapsed.as_secs(), whole.requests, whole.failed);
        let text = format!("{seconds} s: {requests} requests, {failed} failed");
        match self.engine {
            EngineKind::Closed => text,
            EngineKind::Open => format!("{text}, {} dropped", whole.dropped),
        }
    }
}
