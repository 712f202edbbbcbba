//! Watches the traffic on a version, before the switch and after it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::ServiceRelease;
use crate::analysis::{self, Analysis};
use crate::changes;
use crate::colour::Colour;
use crate::error::BlueGreenError;
use crate::event::{EventKind, ReleaseEvent};
use crate::ingress;
use crate::objects::colour_of;
use crate::policy::{Evidence, Policy};
use crate::probe::{self, Probe, ProbeFrom};
use crate::prometheus;
use crate::record::ReleaseRecord;
use crate::step_error::{Reason, StepError};
use crate::traffic::histogram::Histogram;
use crate::traffic::{self, Reading, Window};

/// Between two reads of measured traffic.
const READ_EVERY: Duration = Duration::from_secs(1);

/// A request that is in flight at so many reads will not be answered.
const STUCK_READS: usize = 5;

/// How much longer an analysis may take that is inconclusive at its end.
const UNDECIDED: Duration = Duration::from_secs(5);

/// The timeout of a read of a pod's metrics.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a first reading is repeated until it has every pod.
const FIRST_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a new colour is watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchTimes {
    /// The colour that the active Service must select meanwhile.
    live: Colour,
    /// The duration without a breach.
    span: Duration,
    /// The time at the beginning whose latency does not count.
    warm_up: Duration,
    /// The additional time if the analysis is inconclusive at the end.
    undecided: Duration,
}

impl WatchTimes {
    /// For all traffic.
    pub fn of_all(record: &ReleaseRecord, policy: &Policy) -> WatchTimes {
        WatchTimes {
            live: record.to,
            span: policy.watch,
            warm_up: policy.warm_up,
            undecided: UNDECIDED,
        }
    }

    /// For a share of the traffic, which takes longer to be conclusive.
    pub fn of_weight(record: &ReleaseRecord, policy: &Policy) -> WatchTimes {
        let all = policy.watch * 100 / u32::from(record.weight.max(1));
        WatchTimes {
            live: record.from,
            undecided: all.saturating_sub(policy.watch) + UNDECIDED,
            ..WatchTimes::of_all(record, policy)
        }
    }

    /// For the drain of the old colour.
    pub fn of_drain(record: &ReleaseRecord, policy: &Policy) -> WatchTimes {
        WatchTimes {
            span: policy.drain,
            warm_up: Duration::ZERO,
            ..WatchTimes::of_all(record, policy)
        }
    }
}

/// What the analysis of a new colour is based on.
enum Source {
    Users(Box<UserTraffic>),
    /// The deployer's own requests.
    Probe,
    /// The restarts of its containers, with their number at the beginning.
    Restarts(u64),
}

/// Users' requests, from one reading to the next.
struct UserTraffic {
    last: Reading,
    /// The requests in flight at each of the last readings.
    in_flight: VecDeque<u64>,
    counted: Window,
    /// Before this time latency does not count.
    warm_at: Option<Instant>,
}

impl UserTraffic {
    fn add(&mut self, now: Reading) {
        let now = now.since(&self.last);
        let mut more = Window::between(&self.last, &now);
        if self.warm_at.is_some_and(|it| self.last.at() < it) {
            more.durations = Histogram::default();
        }
        self.in_flight.push_back(more.in_flight);
        self.counted = std::mem::take(&mut self.counted).and(more);
        if self.in_flight.len() > STUCK_READS {
            self.in_flight.pop_front();
            self.counted.stuck = self.in_flight.iter().min().copied().unwrap_or(0);
        }
        self.last = now;
    }
}

impl<O: AsyncFnMut(&ReleaseEvent)> ServiceRelease<'_, O> {
    /// Measures traffic on the live colour for the policy's time.
    pub(super) async fn baseline(
        &mut self,
        record: &ReleaseRecord,
    ) -> Result<Window, BlueGreenError> {
        let before = match self.before.take() {
            Some(before) => before,
            None => self.first_reading(record.analysis, record.from).await?,
        };
        let end = before.at() + self.deployer.policy.baseline;
        if Instant::now() < end {
            let text = format!("measuring traffic on {}, to compare with", record.from);
            self.progress(text).await;
            sleep_until(end).await;
        }
        let now = self.reading(record.analysis, record.from).await?;
        Ok(Window::between(&before, &now))
    }

    /// Sends requests to both colours for the policy's time, to the new one through its preview. A
    /// version that breaches a threshold here gets no users' traffic.
    pub(super) async fn probed_baseline(
        &mut self,
        record: &ReleaseRecord,
    ) -> Result<Window, StepError> {
        let (from, to) = (record.from, record.to);
        let text = format!("sending requests to {from} and {to}, to compare them");
        self.progress(text).await;
        let (active, preview) = (self.deployer.service, self.objects.preview());
        let end = self.begin_probe().await? + self.deployer.policy.baseline;
        loop {
            sleep(READ_EVERY).await;
            let Some(probe) = &mut self.probe else {
                return Ok(Window::default());
            };
            let baseline = probe.window(active, Duration::ZERO);
            let now = probe.window(&preview, self.deployer.policy.warm_up);
            let analysis = analysis::compare(&baseline, &now, &self.deployer.policy.thresholds);
            let text = format!("{to}, before the switch: {analysis}");
            self.progress(text.clone()).await;
            match analysis {
                Analysis::Breach { what } => {
                    self.emit(EventKind::Breached { what: what.clone() }).await;
                    return Err(StepError::failed(format!("before the switch: {what}")));
                }
                _ if Instant::now() < end => {}
                Analysis::Holds { .. } => {
                    self.emit(EventKind::Analysed { text }).await;
                    return Ok(baseline);
                }
                // The analysis after the switch will show it.
                Analysis::Inconclusive { .. } => return Ok(baseline),
            }
        }
    }

    /// Starts the deployer's own requests. Without them the analysis is inconclusive.
    async fn begin_probe(&mut self) -> Result<Instant, StepError> {
        // Boxed, as the future is large.
        let begun = Box::pin(Probe::begin(self.deployer, &self.objects)).await;
        let probe = begun.map_err(|why| {
            let why = format!("the prober sends no requests: {why}");
            StepError::RollBack(Reason::Inconclusive(why))
        })?;
        self.probe = Some(probe);
        Ok(Instant::now())
    }

    /// Discards the counts of another version, or of an earlier analysis.
    pub(super) fn count_anew(&mut self) {
        if let Some(probe) = &mut self.probe {
            probe.count_anew();
        }
    }

    /// Stops the deployer's own requests, and those of a dead deployer.
    pub(super) async fn end_probe(&mut self) {
        let ended = match self.probe.take() {
            Some(probe) => probe.end().await,
            None => Ok(()),
        };
        let may_be_left = self.deployer.policy.analysis == Evidence::Probe
            && self.deployer.probe_from != ProbeFrom::Here;
        let swept = match may_be_left {
            true => probe::sweep(&self.objects, self.deployer.helpers_namespace).await,
            false => Ok(()),
        };
        if let Err(why) = ended.and(swept) {
            self.progress(why).await;
        }
    }

    /// Watches the new colour, until a breach at the latest. Returns the last analysis.
    pub(super) async fn watch(
        &mut self,
        record: &ReleaseRecord,
        times: WatchTimes,
    ) -> Result<Analysis, StepError> {
        let baseline = record.baseline.clone().unwrap_or_default();
        let mut source = self.source(record, times.warm_up).await?;
        let mut end = Instant::now() + times.span;
        loop {
            sleep(READ_EVERY).await;
            let began = Instant::now();
            self.still_live(times.live).await?;
            let thresholds = &self.deployer.policy.thresholds;
            let analysis = match &mut source {
                Source::Users(users) => {
                    users.add(self.reading(record.analysis, record.to).await?);
                    analysis::compare(&baseline, &users.counted, thresholds)
                }
                Source::Probe => {
                    let service = self.deployer.service;
                    // Without a warm-up: the preview has had requests before.
                    let probe = self.probe.as_mut();
                    let now = probe.map(|it| it.window(service, Duration::ZERO));
                    analysis::compare(&baseline, &now.unwrap_or_default(), thresholds)
                }
                Source::Restarts(before) => {
                    let more = self.restarts(record.to).await?.saturating_sub(*before);
                    analysis::of_restarts(more)
                }
            };
            // Time without an API server does not count.
            let took = began.elapsed();
            if took > READ_EVERY * 3 {
                end += took;
            }
            self.progress(format!("{}: {analysis}", record.to)).await;
            if let Analysis::Breach { what } = &analysis {
                self.emit(EventKind::Breached { what: what.clone() }).await;
                return Ok(analysis);
            }
            let end = match analysis {
                Analysis::Inconclusive { .. } => end + times.undecided,
                _ => end,
            };
            if Instant::now() >= end {
                match source {
                    Source::Users(users) => self.on_new = Some(users.last),
                    Source::Probe => self.count_anew(),
                    Source::Restarts(_) => {}
                }
                return Ok(analysis);
            }
        }
    }

    async fn source(
        &mut self,
        record: &ReleaseRecord,
        warm_up: Duration,
    ) -> Result<Source, StepError> {
        Ok(match record.analysis {
            Evidence::Required | Evidence::Prometheus => {
                let last = match self.on_new.take() {
                    Some(reading) => reading,
                    None => self.first_reading(record.analysis, record.to).await?,
                };
                Source::Users(Box::new(UserTraffic {
                    last,
                    in_flight: VecDeque::new(),
                    counted: Window::default(),
                    warm_at: (!warm_up.is_zero()).then(|| Instant::now() + warm_up),
                }))
            }
            Evidence::Probe => {
                // There is none yet if this resumes another deployer's release.
                if self.probe.is_none() {
                    self.begin_probe().await?;
                }
                Source::Probe
            }
            Evidence::None => Source::Restarts(self.restarts(record.to).await?),
        })
    }

    /// Returns the restarts of a colour's containers.
    async fn restarts(&self, colour: Colour) -> Result<u64, BlueGreenError> {
        let pods = self.objects.pods(colour).await?;
        let restarts = pods.iter().map(traffic::restarts).sum::<i32>();
        Ok(u64::try_from(restarts).unwrap_or(0))
    }

    /// Checks that the active Service still selects this colour, and has a ready pod.
    async fn still_live(&mut self, live: Colour) -> Result<(), StepError> {
        let active = self.objects.active().await?;
        if colour_of(&active) != Some(live) {
            let error = changes::changed_by_others(&self.objects, &active);
            return Err(StepError::failed(error.to_string()));
        }
        let endpoints = self.objects.endpoints(self.deployer.service).await?;
        match endpoints.iter().any(|(_, ready)| *ready) {
            true => Ok(()),
            false => Err(StepError::failed(format!("no pod of {live} is ready"))),
        }
    }

    /// Reports an ingress whose metrics cannot be read.
    pub(super) async fn check_ingress(&mut self) {
        let Some(ingress) = &self.deployer.policy.ingress else {
            return;
        };
        if let Err(why) = ingress::refusals(&self.objects, ingress, READ_TIMEOUT).await {
            let text = format!("errors of the ingress itself are not counted: {why}");
            self.progress(text).await;
        }
    }

    /// Reads the counters to compare later ones with. It retries, because later counts of a pod
    /// without a first one mean nothing.
    pub(super) async fn first_reading(
        &self,
        analysis: Evidence,
        colour: Colour,
    ) -> Result<Reading, BlueGreenError> {
        let end = Instant::now() + FIRST_READ_TIMEOUT;
        loop {
            let reading = self.reading(analysis, colour).await?;
            if reading.unread().next().is_none() || Instant::now() >= end {
                return Ok(reading);
            }
            sleep(READ_EVERY / 4).await;
        }
    }

    async fn reading(&self, analysis: Evidence, colour: Colour) -> Result<Reading, BlueGreenError> {
        let pods = self.objects.pods(colour).await?;
        let (cluster, policy) = (self.deployer.cluster, self.deployer.policy);
        let reading = async {
            match (analysis, &policy.prometheus) {
                (Evidence::Prometheus, Some(prometheus)) => {
                    let objects = &self.objects;
                    let counters = prometheus::counters(prometheus, objects, colour, READ_TIMEOUT);
                    Reading::of_prometheus(&pods, counters.await)
                }
                _ => Reading::of(cluster, &pods, &policy.metrics, READ_TIMEOUT).await,
            }
        };
        let Some(ingress) = &policy.ingress else {
            return Ok(reading.await);
        };
        let refusals = ingress::refusals(&self.objects, ingress, READ_TIMEOUT);
        let (reading, refusals) = tokio::join!(reading, refusals);
        // A failure was reported before the switch, and does not stop the release.
        Ok(reading.with_refusals(refusals.unwrap_or_default()))
    }
}
