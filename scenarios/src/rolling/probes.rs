//! Requests during an upgrade: through the ingress, and from inside the cluster to Services.

use std::time::Duration;

use base::wait::{self, Observation};
use environments::config::{Probe, ProbeUrl};
use kubernetes::prober::{
    self, Answer, Figures, IdentityHeaders, Inside, Lane, Outside, Owner, ProbeTarget, Recording,
    Spec,
};

use super::Setup;
use crate::{Mismatch, RunResult, Scenario, Unmet, late_requests};

/// Requests a second from each vantage: a tenth of them on new connections, whose TLS handshakes
/// are expensive on a machine that runs everything. Without keep-alive all of them.
const RATE: f64 = 60.0;
const ON_NEW_CONNECTIONS: f64 = 0.1;
const CONNECTIONS: usize = 4;
/// For slow requests, in seconds.
const SLOW_TIMEOUT: f64 = 30.0;
/// The probers stop after this number of seconds, which is longer than any scenario.
const MAX_SECONDS: f64 = 900.0;

/// For a prober to start, and for the answers that a scenario waits for.
const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(200);

/// Running probers.
pub struct Probes {
    outside: Option<Outside>,
    inside: Option<Inside>,
}

/// Starts the probers. If they do not start, records that and returns none.
pub async fn start(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult<Option<Probes>> {
    started(scenario, Probes::start(setup).await).await
}

/// As [`start`], but waits until all answers of a new prober are good. A new Service is reached only
/// once the nodes have its rules, and a pooled connection from before would lead elsewhere.
pub async fn start_once_reached(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
) -> RunResult<Option<Probes>> {
    let probes = match reached(setup).await {
        Ok(()) => Probes::start(setup).await,
        Err(mismatch) => Err(mismatch),
    };
    started(scenario, probes).await
}

async fn started(
    scenario: &mut Scenario<'_>,
    probes: Result<Probes, Mismatch>,
) -> RunResult<Option<Probes>> {
    match probes {
        Ok(probes) => Ok(Some(probes)),
        Err(mismatch) => {
            let claim = "requests are answered";
            scenario.record_failure(claim, mismatch).await?;
            Ok(None)
        }
    }
}

async fn reached(setup: &Setup<'_>) -> Result<(), Mismatch> {
    let what = "every request is answered";
    let reached = wait::until(what, TIMEOUT, POLL_EVERY, async || {
        let trial = async { Probes::start(setup).await?.end(setup).await };
        let recordings = match trial.await {
            Ok(recordings) => recordings,
            Err(mismatch) => return Observation::NotYet(mismatch.seen),
        };
        let mut answers = recordings.iter().flat_map(|it| &it.answers);
        match answers.find(|it| !it.good) {
            None => Observation::Ready(()),
            Some(bad) => Observation::NotYet(format!("{}: {}", bad.lane, bad.outcome)),
        }
    });
    let expected = "a Service that is reached";
    reached
        .await
        .map_err(|error| setup.mismatch(expected, error))
}

impl Probes {
    /// Starts the probers, and waits for their first answers.
    async fn start(setup: &Setup<'_>) -> Result<Probes, Mismatch> {
        let through = |host: &str, path: &str| prober::through(setup.subject.entry, host, path);
        let (mut outside, mut inside) = (Requests::default(), Requests::default());
        let headers = &setup.subject.version_sources.headers;
        let quick = setup.probes.probes.iter().map(|probe| (probe, false));
        let slow = setup.probes.slow_probes.iter().map(|probe| (probe, true));
        for (Probe { status, url, .. }, is_slow) in quick.chain(slow) {
            match url {
                ProbeUrl::Ingress { host, path } => {
                    let target = through(host, path);
                    let target = target.map_err(|error| setup.mismatch("a route", error))?;
                    outside.add((target, *status), is_slow);
                }
                ProbeUrl::Service { name, port, path } => {
                    let namespace = &setup.cluster.namespace;
                    let target = prober::service(name, namespace, *port, path);
                    inside.add((target, *status), is_slow);
                }
            }
        }
        let outside = match outside.spec(headers, true) {
            None => None,
            Some(spec) => {
                let started = Outside::start(&spec).await;
                let failed = |error| setup.mismatch("a prober on this machine", error);
                Some(started.map_err(failed)?)
            }
        };
        let inside = match inside.spec(headers, setup.probes.keep_alive) {
            None => None,
            Some(spec) => {
                let client = setup.cluster.client().clone();
                let ours = (setup.prober_image, &Owner::this_process());
                let namespace = setup.helpers_namespace;
                let started = Inside::start(client, namespace, ours, &spec, TIMEOUT).await;
                let failed = |error| setup.mismatch("a prober in the cluster", error);
                Some(started.map_err(failed)?)
            }
        };
        let probes = Probes { outside, inside };
        probes.until(10).await;
        Ok(probes)
    }

    /// Waits until there are this many more answers.
    pub async fn until(&self, more: u64) {
        let enough = self.so_far() + more;
        let waiting = wait::until("answers", TIMEOUT, POLL_EVERY, async || {
            match self.so_far() {
                answers if answers >= enough => Observation::Ready(()),
                answers => Observation::NotYet(format!("{answers} answers")),
            }
        });
        // The checks count the answers themselves.
        let _ = waiting.await;
    }

    fn so_far(&self) -> u64 {
        let outside = self.outside.as_ref();
        let outside = outside.map_or(0, |it| it.so_far().ended());
        outside + self.inside.as_ref().map_or(0, Inside::so_far)
    }

    /// Stops the probers, and waits for requests in flight.
    async fn end(self, setup: &Setup<'_>) -> Result<Vec<Recording>, Mismatch> {
        let mut recordings = Vec::new();
        if let Some(outside) = self.outside {
            recordings.push(outside.end().await);
        }
        if let Some(inside) = self.inside {
            let ended = inside.end().await;
            recordings.push(ended.map_err(|error| setup.mismatch("a recording", error))?);
        }
        Ok(recordings)
    }
}

/// A target, and the status of a good answer if it is not any below 400.
type Request = (ProbeTarget, Option<u16>);

/// The requests of one prober.
#[derive(Default)]
struct Requests {
    quick: Vec<Request>,
    slow: Vec<Request>,
}

impl Requests {
    fn add(&mut self, request: Request, is_slow: bool) {
        match is_slow {
            true => self.slow.push(request),
            false => self.quick.push(request),
        }
    }

    /// Returns the specification, if there are targets. The names of lanes are unique.
    fn spec(self, headers: &IdentityHeaders, keep_alive: bool) -> Option<Spec> {
        let rate = RATE / self.quick.len().max(1) as f64;
        let on_new = if keep_alive { ON_NEW_CONNECTIONS } else { 1.0 };
        let quick = self.quick.into_iter().flat_map(|(target, status)| {
            let pooled = Lane::pooled(target.clone(), rate * (1.0 - on_new), CONNECTIONS);
            let lanes = [Lane::new_connection(target, rate * on_new), pooled];
            lanes.map(|lane| (lane, status))
        });
        let quick = quick.filter(|(lane, _)| lane.rate > 0.0);
        let slow = self.slow.into_iter();
        let slow = slow.map(|(target, status)| (Lane::slow(target, 1.0, SLOW_TIMEOUT), status));
        let lanes = quick.chain(slow).map(|(lane, status)| Lane {
            name: format!("{} {}", lane.name, lane.target.url),
            good: status.into_iter().collect(),
            ..lane
        });
        let lanes: Vec<Lane> = lanes.collect();
        (!lanes.is_empty()).then_some(Spec {
            lanes,
            seconds: MAX_SECONDS,
            headers: headers.clone(),
        })
    }
}

/// Stops the probers. Checks that none of at least `least` requests failed. If some did, says which,
/// and when, counted from `since`.
pub async fn check_nothing_failed(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    probes: Probes,
    (least, since): (u64, u64),
) -> RunResult {
    let recordings = probes.end(setup).await;
    let claim = "no request fails meanwhile";
    scenario
        .evaluate(claim, async {
            let figures = none_failed(setup, &recordings?, since)?;
            match figures.requests {
                few if few < least => Err(Unmet::Inconclusive(format!(
                    "{few} requests are fewer than {least}"
                ))),
                _ => Ok(((), figures.failed_share())),
            }
        })
        .await?;
    Ok(())
}

fn none_failed(setup: &Setup<'_>, recordings: &[Recording], since: u64) -> Result<Figures, Unmet> {
    let answers = recordings.iter().flat_map(|it| &it.answers);
    let mut figures = Figures::default();
    answers.clone().for_each(|answer| figures.add(answer));
    if let Some(why) = late_requests::no_evidence(recordings) {
        return Err(Unmet::Inconclusive(why));
    }
    if figures.failed() > 0 {
        let seen = format!(
            "{}; {}",
            figures.failed_share(),
            losses(answers, since).join("; ")
        );
        let expected = format!("none of {} requests fails", figures.requests);
        return Err(setup.mismatch(&expected, seen).into());
    }
    match Recording::any_inconclusive(recordings) {
        Some(why) => Err(Unmet::Inconclusive(why)),
        None => Ok(figures),
    }
}

/// Formats what each lane lost, and when it lost the first and the last.
fn losses<'a>(answers: impl Iterator<Item = &'a Answer>, since: u64) -> Vec<String> {
    let mut failed: Vec<&Answer> = answers.filter(|it| !it.good).collect();
    failed.sort_by(|a, b| (&a.lane, a.intended).cmp(&(&b.lane, b.intended)));
    let lanes = failed.chunk_by(|a, b| a.lane == b.lane);
    lanes
        .map(|lost| {
            let seconds = |at: &Answer| (at.intended as f64 - since as f64) / 1e6;
            let (first, last) = (lost[0], lost[lost.len() - 1]);
            format!(
                "{} of {} from {:.1} s to {:.1} s after the start of the upgrade, first: {}",
                lost.len(),
                first.lane,
                seconds(first),
                seconds(last),
                first.outcome
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubernetes::prober::RequestOutcome;

    use super::*;

    fn answer(lane: &str, intended: u64, outcome: RequestOutcome) -> Answer {
        Answer {
            lane: Arc::from(lane),
            intended,
            sent_after: 0,
            took: 1000,
            good: outcome == RequestOutcome::Status(200),
            outcome,
            by: None,
            on: None,
        }
    }

    #[test]
    fn losses_are_told_by_lane_with_their_time() {
        let (ok, refused) = (RequestOutcome::Status(200), RequestOutcome::Refused);
        let answers = [
            answer("pooled a", 4_500_000, refused.clone()),
            answer("pooled b", 1_000_000, ok.clone()),
            answer("pooled a", 2_000_000, RequestOutcome::Status(502)),
            answer("pooled b", 7_000_000, refused),
            answer("pooled a", 3_000_000, ok),
        ];
        let told = losses(answers.iter(), 1_000_000);
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn each_target_is_requested_on_new_and_on_pooled_connections() {
        let (none, mut requests) = (IdentityHeaders::default(), Requests::default());
        assert_eq!(Requests::default().spec(&none, true), None);
        for path in ["a", "b"] {
            requests.add((ProbeTarget::of(format!("http://x/{path}")), None), false);
        }
        requests.add(
            (ProbeTarget::of("http://x/slow".to_owned()), Some(401)),
            true,
        );
        let spec = requests.spec(&none, true).unwrap();
        spec.check().unwrap();
        let quick: f64 = spec.lanes.iter().map(|it| it.rate).sum::<f64>() - 1.0;
        assert!((quick - RATE).abs() < 1e-6, "{quick}");
        assert_eq!(spec.lanes.len(), 5);
        assert_eq!(spec.lanes[4].good, [401]);
        assert_eq!(spec.lanes[0].good, [0; 0]);
    }

    #[test]
    fn without_keep_alive_every_request_has_a_new_connection() {
        let mut requests = Requests::default();
        requests.add((ProbeTarget::of("http://x/".to_owned()), None), false);
        let spec = requests.spec(&IdentityHeaders::default(), false).unwrap();
        spec.check().unwrap();
        let lanes: Vec<(&str, f64)> = spec.lanes.iter().map(|it| (&*it.name, it.rate)).collect();
        assert_eq!(lanes, [("new-connection http://x/", RATE)]);
    }
}
