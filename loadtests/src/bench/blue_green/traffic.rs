//! The users of a release: a prober outside the ingress.

use std::time::Duration;

use base::wait::{self, Observation};
use environments::environment::Environment;
use kubernetes::prober::{self, IdentityHeaders, Lane, Outside, Recording, RequestCounts, Spec};

use crate::bench::error::BenchError;

/// The default rate of all lanes together.
pub const PER_SECOND: u64 = 200;

/// One in this many requests is on a new connection; the rest is on pooled ones.
const ON_NEW_CONNECTIONS: u64 = 4;
const CONNECTIONS: usize = 8;

/// The prober ends after this many seconds, which is longer than any release.
const LONGEST: f64 = 900.0;

/// Time enough for a few thousand answers.
const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(100);

pub struct BenchTraffic {
    prober: Outside,
    per_second: u64,
}

impl BenchTraffic {
    /// Starts it, and waits for two seconds of answers.
    pub async fn start(
        environment: &Environment,
        headers: &IdentityHeaders,
        path: &str,
        per_second: u64,
    ) -> Result<BenchTraffic, BenchError> {
        let target = prober::through(&environment.entry, &environment.api_host, path);
        let target = target.map_err(BenchError::release("a prober"))?;
        let new = per_second / ON_NEW_CONNECTIONS;
        let pooled = per_second - new;
        let spec = Spec {
            lanes: vec![
                Lane::new_connection(target.clone(), new as f64),
                Lane::pooled(target, pooled as f64, CONNECTIONS),
            ],
            seconds: LONGEST,
            headers: headers.clone(),
        };
        let outside = Outside::start(&spec).await;
        let traffic = BenchTraffic {
            prober: outside.map_err(BenchError::release("a prober"))?,
            per_second,
        };
        traffic.for_seconds(2).await?;
        Ok(traffic)
    }

    /// Waits for this many seconds of answers.
    pub async fn for_seconds(&self, seconds: u64) -> Result<(), BenchError> {
        let answers = || self.so_far().ended();
        let enough = answers() + seconds * self.per_second;
        let what = format!("{seconds} s of traffic are answered");
        let answered = wait::until(what, TIMEOUT, POLL_EVERY, async || match answers() {
            so_far if so_far >= enough => Observation::Ready(()),
            so_far => Observation::NotYet(format!("{so_far} of {enough} answers")),
        });
        Ok(answered.await?)
    }

    /// The requests so far, by result.
    pub fn so_far(&self) -> RequestCounts {
        self.prober.so_far()
    }

    /// Stops it, and waits for the requests in flight.
    pub async fn end(self) -> Recording {
        self.prober.end().await
    }
}
