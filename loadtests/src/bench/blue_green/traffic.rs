//! The users of a release: a prober before the ingress.

use std::time::Duration;

use harness::prober::{self, Lane, Outside, Recording, Spec};
use harness::wait::{self, Observation};

use super::ground::Ground;
use crate::bench::error::BenchError;

/// All lanes together.
pub const PER_SECOND: u64 = 200;

/// Of these, on a connection of their own each; the rest is on kept ones.
const ON_NEW_CONNECTIONS: u64 = 50;
const CONNECTIONS: usize = 8;

/// What is asked: the path that a release is smoked on.
const PATH: &str = "/market-data/quotes";

/// No release takes longer: the prober ends by itself then.
const LONGEST: f64 = 900.0;

/// For a few thousand answers.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Traffic that goes on.
pub struct Traffic(Outside);

impl Traffic {
    /// Has it begin, and has seen two seconds of it.
    pub async fn begin(ground: &Ground<'_>) -> Result<Traffic, BenchError> {
        let environment = &ground.environment;
        let target = prober::through(&environment.entry, &environment.api_host, PATH);
        let target = target.map_err(BenchError::release("a prober"))?;
        let kept = PER_SECOND - ON_NEW_CONNECTIONS;
        let spec = Spec {
            lanes: vec![
                Lane::new_connection(target.clone(), ON_NEW_CONNECTIONS as f64),
                Lane::pooled(target, kept as f64, CONNECTIONS),
            ],
            seconds: LONGEST,
        };
        let outside = Outside::start(&spec).await;
        let traffic = Traffic(outside.map_err(BenchError::release("a prober"))?);
        traffic.for_seconds(2).await?;
        Ok(traffic)
    }

    /// Goes on for so long, by what was answered.
    pub async fn for_seconds(&self, seconds: u64) -> Result<(), BenchError> {
        let enough = self.so_far() + seconds * PER_SECOND;
        let what = format!("{seconds} s of traffic are answered");
        let answered = wait::until(what, PATIENCE, LOOK_EVERY, async || match self.so_far() {
            so_far if so_far >= enough => Observation::Ready(()),
            so_far => Observation::NotYet(format!("{so_far} of {enough} answers")),
        });
        Ok(answered.await?)
    }

    fn so_far(&self) -> u64 {
        let counted = self.0.so_far();
        counted.good + counted.failed
    }

    /// Ends it: what is in flight is waited for.
    pub async fn end(self) -> Recording {
        self.0.end().await
    }
}
