//! The users of a release: a prober before the ingress.

use std::time::Duration;

use harness::environment::Environment;
use harness::prober::{self, Counted, Lane, Outside, Recording, Spec};
use harness::wait::{self, Observation};

use crate::bench::error::BenchError;

/// All lanes together, where nothing else is said.
pub const PER_SECOND: u64 = 200;

/// One in so many is on a connection of its own; the rest is on kept ones.
const ON_NEW_CONNECTIONS: u64 = 4;
const CONNECTIONS: usize = 8;

/// No release takes longer: the prober ends by itself then.
const LONGEST: f64 = 900.0;

/// For a few thousand answers.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Traffic that goes on.
pub struct Traffic {
    prober: Outside,
    per_second: u64,
}

impl Traffic {
    /// Has it begin, and has seen two seconds of it.
    pub async fn begin(
        environment: &Environment,
        path: &str,
        per_second: u64,
    ) -> Result<Traffic, BenchError> {
        let target = prober::through(&environment.entry, &environment.api_host, path);
        let target = target.map_err(BenchError::release("a prober"))?;
        let new = per_second / ON_NEW_CONNECTIONS;
        let kept = per_second - new;
        let spec = Spec {
            lanes: vec![
                Lane::new_connection(target.clone(), new as f64),
                Lane::pooled(target, kept as f64, CONNECTIONS),
            ],
            seconds: LONGEST,
        };
        let outside = Outside::start(&spec).await;
        let traffic = Traffic {
            prober: outside.map_err(BenchError::release("a prober"))?,
            per_second,
        };
        traffic.for_seconds(2).await?;
        Ok(traffic)
    }

    /// Goes on for so long, by what was answered.
    pub async fn for_seconds(&self, seconds: u64) -> Result<(), BenchError> {
        let answers = || {
            let counted = self.so_far();
            counted.good + counted.failed
        };
        let enough = answers() + seconds * self.per_second;
        let what = format!("{seconds} s of traffic are answered");
        let answered = wait::until(what, PATIENCE, LOOK_EVERY, async || match answers() {
            so_far if so_far >= enough => Observation::Ready(()),
            so_far => Observation::NotYet(format!("{so_far} of {enough} answers")),
        });
        Ok(answered.await?)
    }

    /// What became of requests so far.
    pub fn so_far(&self) -> Counted {
        self.prober.so_far()
    }

    /// Ends it: what is in flight is waited for.
    pub async fn end(self) -> Recording {
        self.prober.end().await
    }
}
