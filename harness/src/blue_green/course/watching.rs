//! How a version is watched: what there was before the switch, and what there is after it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Course;
use crate::blue_green::analysis::{self, Analysis};
use crate::blue_green::colour::Colour;
use crate::blue_green::course::stop::{Stop, Why};
use crate::blue_green::error::BlueGreenError;
use crate::blue_green::event::{Event, Happened};
use crate::blue_green::ingress;
use crate::blue_green::objects::colour_of;
use crate::blue_green::policy::{Evidence, Policy};
use crate::blue_green::probe::{self, Probe, ProbeFrom};
use crate::blue_green::prometheus;
use crate::blue_green::record::Record;
use crate::blue_green::traffic::histogram::Histogram;
use crate::blue_green::traffic::{self, Reading, Window};
use crate::blue_green::{Deployer, changes};

/// Between two looks at measured traffic.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many looks, and what is in flight at all of them is not answered any more.
const STUCK: usize = 5;

/// Over the time of an analysis, where nothing can be said at its end.
const SECOND_LOOKS: Duration = Duration::from_secs(5);

/// For a pod to show what it has counted.
const READING: Duration = Duration::from_secs(2);

/// For each pod to be among those that a first reading has.
const FIRST_READING: Duration = Duration::from_secs(5);

/// How a new colour is watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// The colour that the active Service has to select meanwhile.
    live: Colour,
    /// For how long, where it holds.
    span: Duration,
    /// From the beginning, the time whose latency is not judged.
    warm_up: Duration,
    /// For how much longer, where nothing can be said at the end.
    undecided: Duration,
}

impl Watch {
    /// With all traffic. A pod that was slow to tell is asked again before a good version is
    /// taken back.
    pub fn of_all(record: &Record, policy: &Policy) -> Watch {
        Watch {
            live: record.to,
            span: policy.watch,
            warm_up: policy.warm_up,
            undecided: SECOND_LOOKS,
        }
    }

    /// With a share of it, which takes the longer to tell as much.
    pub fn of_weight(record: &Record, policy: &Policy) -> Watch {
        let all = policy.watch * 100 / u32::from(record.weight.max(1));
        Watch {
            live: record.from,
            undecided: all.saturating_sub(policy.watch) + SECOND_LOOKS,
            ..Watch::of_all(record, policy)
        }
    }

    /// While the old colour drains: whether there was enough traffic has been judged before.
    pub fn of_drain(record: &Record, policy: &Policy) -> Watch {
        Watch {
            span: policy.drain,
            warm_up: Duration::ZERO,
            ..Watch::of_all(record, policy)
        }
    }
}

/// What a new colour is watched by.
enum Watched {
    Users(Box<Users>),
    /// The course's own requests.
    Probe,
    /// How often its containers had been started again before.
    Restarts(u64),
}

/// Users' requests, from look to look.
struct Users {
    last: Reading,
    /// How many requests were in flight at each of the last looks.
    in_flight: VecDeque<u64>,
    counted: Window,
    /// Until then latency is not counted.
    warm_at: Option<Instant>,
}

impl Users {
    fn look(&mut self, now: Reading) {
        let now = now.since(&self.last);
        let mut more = Window::between(&self.last, &now);
        if self.warm_at.is_some_and(|it| self.last.at() < it) {
            more.durations = Histogram::default();
        }
        self.in_flight.push_back(more.in_flight);
        self.counted = std::mem::take(&mut self.counted).and(more);
        if self.in_flight.len() > STUCK {
            self.in_flight.pop_front();
            self.counted.stuck = self.in_flight.iter().min().copied().unwrap_or(0);
        }
        self.last = now;
    }
}

impl<O: AsyncFnMut(&Event)> Course<'_, O> {
    /// Measures traffic on the live colour for as long as the policy says.
    pub(super) async fn baseline(&mut self, record: &Record) -> Result<Window, BlueGreenError> {
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

    /// Asks both colours for as long, the new one by its preview: one that breaches gets no
    /// traffic of anybody else's.
    pub(super) async fn probed_baseline(&mut self, record: &Record) -> Result<Window, Stop> {
        let (from, to) = (record.from, record.to);
        self.progress(format!("asking {from} and {to}, to compare them"))
            .await;
        let (active, preview) = (self.deployer.service, self.objects.preview());
        let end = self.begin_probe().await? + self.deployer.policy.baseline;
        loop {
            sleep(LOOK_EVERY).await;
            let Some(probe) = &mut self.probe else {
                return Ok(Window::default());
            };
            let baseline = probe.window(active, Duration::ZERO);
            let now = probe.window(&preview, self.deployer.policy.warm_up);
            let analysis = analysis::judge(&baseline, &now, &self.deployer.policy.thresholds);
            let text = format!("{to}, before the switch: {analysis}");
            self.progress(text.clone()).await;
            match analysis {
                Analysis::Breach { what } => {
                    self.tell(Happened::Breached { what: what.clone() }).await;
                    return Err(Stop::failed(format!("before the switch: {what}")));
                }
                _ if Instant::now() < end => {}
                Analysis::Holds { .. } => {
                    self.tell(Happened::Analysed { text }).await;
                    return Ok(baseline);
                }
                // It is watched after the switch, too.
                Analysis::Inconclusive { .. } => return Ok(baseline),
            }
        }
    }

    /// Has the smoke requests asked. Where they cannot be, nobody can tell whether it holds.
    async fn begin_probe(&mut self) -> Result<Instant, Stop> {
        let Deployer {
            policy,
            smoke,
            probe_from,
            ..
        } = *self.deployer;
        // Large, and on top of what the course holds.
        let begun = Box::pin(Probe::begin(probe_from, &self.objects, policy, smoke)).await;
        let why = |why| format!("the prober does not ask: {why}");
        let probe = begun.map_err(|it| Stop::TakeBack(Why::Inconclusive(why(it))))?;
        self.probe = Some(probe);
        Ok(Instant::now())
    }

    /// What was asked until now was of another version, or has been judged.
    pub(super) fn count_anew(&mut self) {
        if let Some(probe) = &mut self.probe {
            probe.count_anew();
        }
    }

    /// Nothing of the deployer's own asks any more, nor what one that died has left.
    pub(super) async fn end_probe(&mut self) {
        let ended = match self.probe.take() {
            Some(probe) => probe.end().await,
            None => Ok(()),
        };
        let may_be_left = self.deployer.policy.analysis == Evidence::Probe
            && self.deployer.probe_from != ProbeFrom::Here;
        let swept = match may_be_left {
            true => probe::sweep(&self.objects).await,
            false => Ok(()),
        };
        if let Err(why) = ended.and(swept) {
            self.progress(why).await;
        }
    }

    /// Looks at the new colour, until it breaches at the longest. The last look is the verdict.
    pub(super) async fn watch(&mut self, record: &Record, watch: Watch) -> Result<Analysis, Stop> {
        let baseline = record.baseline.clone().unwrap_or_default();
        let mut watched = self.watched(record, watch.warm_up).await?;
        let mut end = Instant::now() + watch.span;
        loop {
            sleep(LOOK_EVERY).await;
            let looked = Instant::now();
            self.still_live(watch.live).await?;
            let thresholds = &self.deployer.policy.thresholds;
            let analysis = match &mut watched {
                Watched::Users(users) => {
                    users.look(self.reading(record.analysis, record.to).await?);
                    analysis::judge(&baseline, &users.counted, thresholds)
                }
                Watched::Probe => {
                    let service = self.deployer.service;
                    // It is warm: its preview was asked before.
                    let probe = self.probe.as_mut();
                    let now = probe.map(|it| it.window(service, Duration::ZERO));
                    analysis::judge(&baseline, &now.unwrap_or_default(), thresholds)
                }
                Watched::Restarts(before) => {
                    let more = self.restarts(record.to).await?.saturating_sub(*before);
                    analysis::judge_by_restarts(more)
                }
            };
            // For how long the API server is away nothing is seen of it.
            let took = looked.elapsed();
            if took > LOOK_EVERY * 3 {
                end += took;
            }
            self.progress(format!("{}: {analysis}", record.to)).await;
            if let Analysis::Breach { what } = &analysis {
                self.tell(Happened::Breached { what: what.clone() }).await;
                return Ok(analysis);
            }
            let undecided = matches!(analysis, Analysis::Inconclusive { .. });
            let end = if undecided {
                end + watch.undecided
            } else {
                end
            };
            if Instant::now() >= end {
                match watched {
                    Watched::Users(users) => self.on_new = Some(users.last),
                    Watched::Probe => self.count_anew(),
                    Watched::Restarts(_) => {}
                }
                return Ok(analysis);
            }
        }
    }

    /// What the new colour is watched by.
    async fn watched(&mut self, record: &Record, warm_up: Duration) -> Result<Watched, Stop> {
        Ok(match record.analysis {
            Evidence::Required | Evidence::Prometheus => {
                let last = match self.on_new.take() {
                    Some(reading) => reading,
                    None => self.first_reading(record.analysis, record.to).await?,
                };
                Watched::Users(Box::new(Users {
                    last,
                    in_flight: VecDeque::new(),
                    counted: Window::default(),
                    warm_at: (!warm_up.is_zero()).then(|| Instant::now() + warm_up),
                }))
            }
            Evidence::Probe => {
                // Whoever goes on with another's release has none yet.
                if self.probe.is_none() {
                    self.begin_probe().await?;
                }
                Watched::Probe
            }
            Evidence::None => Watched::Restarts(self.restarts(record.to).await?),
        })
    }

    /// How often containers of a colour were started again.
    async fn restarts(&self, colour: Colour) -> Result<u64, BlueGreenError> {
        let pods = self.objects.pods(colour).await?;
        let restarts = pods.iter().map(traffic::restarts).sum::<i32>();
        Ok(u64::try_from(restarts).unwrap_or(0))
    }

    /// The active Service selects what it has to, and somebody is there to take it.
    async fn still_live(&mut self, live: Colour) -> Result<(), Stop> {
        let active = self.objects.active().await?;
        if colour_of(&active) != Some(live) {
            let meddled = changes::meddled(&self.objects, &active);
            return Err(Stop::failed(meddled.to_string()));
        }
        let endpoints = self.objects.endpoints(self.deployer.service).await?;
        match endpoints.iter().any(|(_, ready)| *ready) {
            true => Ok(()),
            false => Err(Stop::failed(format!("no pod of {live} is ready"))),
        }
    }

    /// Says so where an ingress is to be asked and cannot be.
    pub(super) async fn tell_of_ingress(&mut self) {
        let Some(ingress) = &self.deployer.policy.ingress else {
            return;
        };
        if let Err(why) = ingress::refusals(&self.objects, ingress, READING).await {
            let text = format!("what the ingress answers by itself is not counted: {why}");
            self.progress(text).await;
        }
    }

    /// One to compare later ones with: what a pod that it lacks counts later says nothing.
    pub(super) async fn first_reading(
        &self,
        analysis: Evidence,
        colour: Colour,
    ) -> Result<Reading, BlueGreenError> {
        let end = Instant::now() + FIRST_READING;
        loop {
            let reading = self.reading(analysis, colour).await?;
            if reading.unread().next().is_none() || Instant::now() >= end {
                return Ok(reading);
            }
            sleep(LOOK_EVERY / 4).await;
        }
    }

    async fn reading(&self, analysis: Evidence, colour: Colour) -> Result<Reading, BlueGreenError> {
        let pods = self.objects.pods(colour).await?;
        let (cluster, policy) = (self.deployer.cluster, self.deployer.policy);
        let reading = async {
            match (analysis, &policy.prometheus) {
                (Evidence::Prometheus, Some(prometheus)) => {
                    let told = prometheus::counters(prometheus, &self.objects, colour, READING);
                    Reading::of_prometheus(&pods, told.await)
                }
                _ => Reading::of(cluster, &pods, &policy.metrics, READING).await,
            }
        };
        let Some(ingress) = &policy.ingress else {
            return Ok(reading.await);
        };
        let refusals = ingress::refusals(&self.objects, ingress, READING);
        let (reading, refusals) = tokio::join!(reading, refusals);
        // One that cannot be asked is told of before the switch, and does not stand in the way.
        Ok(reading.with_refusals(refusals.unwrap_or_default()))
    }
}
