//! How a release ends: the old colour is retired, or gets its traffic back.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{Course, switch};
use crate::blue_green::Conclusion;
use crate::blue_green::colour::Colour;
use crate::blue_green::course::stop::Why;
use crate::blue_green::error::BlueGreenError;
use crate::blue_green::event::{Event, Happened};
use crate::blue_green::record::{Outcome, Record, Step};
use crate::blue_green::traffic::Window;
use crate::cluster::rollout;
use crate::run::millis;

/// Between two looks at pods that end.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// For an old colour that has lost some of its pods to have them again.
const CAPACITY: Duration = Duration::from_secs(10);

/// An ingress controller takes up a change within seconds.
const INGRESS_FOLLOWS: Duration = Duration::from_secs(10);

/// After so long without a request, nothing routes to a colour any more.
const WITHOUT_REQUESTS: Duration = Duration::from_secs(1);

/// Over a pod's grace period, until the kubelet has told that it ended.
const AFTER_GRACE: Duration = Duration::from_secs(30);

impl<O: AsyncFnMut(&Event)> Course<'_, O> {
    /// The old colour's pods end. From here on there is no way back but another release.
    pub(super) async fn retire(&mut self, record: &Record) -> Result<Conclusion, BlueGreenError> {
        self.changes.mark(record.to, true).await?;
        self.changes.mark(record.from, false).await?;
        self.empty(record.from).await?;
        // What it differs in from then on, the chart has changed since.
        self.changes.configure_as_live(record.from).await?;
        self.restore_autoscalers().await?;
        self.book.conclude(Outcome::Released).await?;
        let (version, colour) = (record.version.clone(), record.to);
        self.tell(Happened::Released {
            version: version.clone(),
            colour,
        })
        .await;
        Ok(Conclusion::Released { version, colour })
    }

    /// Their autoscalers have both colours again.
    async fn restore_autoscalers(&self) -> Result<(), BlueGreenError> {
        for colour in Colour::ALL {
            self.changes.restore_autoscaler(colour).await?;
        }
        Ok(())
    }

    /// Scales a colour to 0 and waits until its pods have ended, each in its grace period.
    async fn empty(&mut self, colour: Colour) -> Result<(), BlueGreenError> {
        self.changes.scale(colour, 0).await?;
        let mut end = None;
        let mut told = 0;
        loop {
            let pods = self.objects.all_pods(colour).await?;
            if pods.is_empty() {
                self.tell(Happened::Retired { colour }).await;
                return Ok(());
            }
            let grace = pods.iter().filter_map(|pod| {
                let spec = pod.spec.as_ref()?;
                u64::try_from(spec.termination_grace_period_seconds?).ok()
            });
            let grace = Duration::from_secs(grace.max().unwrap_or(30));
            let end = *end.get_or_insert_with(|| Instant::now() + grace + AFTER_GRACE);
            if Instant::now() >= end {
                let text = format!("{} pods of {colour} do not end", pods.len());
                self.progress(text).await;
                return Ok(());
            }
            if pods.len() != told {
                told = pods.len();
                self.progress(format!("{told} pods of {colour} are draining"))
                    .await;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Brings all traffic to the old colour, verifies that, and empties the new one.
    /// `since` is when it was known that this has to be.
    pub(super) async fn take_back(
        &mut self,
        why: Why,
        since: Instant,
    ) -> Result<Conclusion, BlueGreenError> {
        let mut record = self.record()?;
        record.why = Some(why.text().to_owned());
        record.step = Step::Revert;
        record.deployer = self.deployer.holder.to_string();
        record.since = Timestamp::now();
        self.write(record.clone()).await?;
        self.tell(Happened::Began { step: Step::Revert }).await;
        self.fail(why.text());
        if let Some(member) = &self.member {
            member.until_callers_are_back().await;
        }
        let switched = self.objects.live().await? != Some(record.from);
        self.delete_canaries(&record).await?;
        let had_traffic = switched || record.weight > 0;
        let is_verified = match switched {
            true => {
                self.revert(&record).await?;
                true
            }
            false => had_traffic && self.requests_cease(&record).await?,
        };
        if is_verified {
            self.tell(Happened::Reverted {
                why: why.text().to_owned(),
                millis: millis(since.elapsed()),
            })
            .await;
        }
        if let Some(member) = &self.member {
            member.is_back();
        }
        self.changes.mark(record.from, true).await?;
        self.changes.mark(record.to, false).await?;
        self.changes.show(record.to).await?;
        self.empty(record.to).await?;
        self.restore_autoscalers().await?;
        let outcome = match had_traffic {
            true => Outcome::Reverted,
            false => Outcome::TakenBack,
        };
        self.book.conclude(outcome).await?;
        let inconclusive = matches!(why, Why::Inconclusive(_));
        let why = why.text().to_owned();
        Ok(match outcome {
            Outcome::Reverted => Conclusion::Reverted { why, inconclusive },
            _ => Conclusion::TakenBack { why, inconclusive },
        })
    }

    /// Waits until the ingress has taken up that its canaries are deleted: the new colour's pods
    /// must not end before. False: requests still come after [`INGRESS_FOLLOWS`].
    async fn requests_cease(&mut self, record: &Record) -> Result<bool, BlueGreenError> {
        let mut last = self.first_reading(record.analysis, record.to).await?;
        let end = Instant::now() + INGRESS_FOLLOWS;
        loop {
            sleep(WITHOUT_REQUESTS).await;
            let now = self.first_reading(record.analysis, record.to).await?;
            let more = Window::between(&last, &now);
            if more.requests == 0 && more.in_flight == 0 {
                return Ok(true);
            }
            if Instant::now() >= end {
                let text = format!(
                    "{} is still asked {INGRESS_FOLLOWS:?} after its canary Ingresses were deleted",
                    record.to
                );
                self.progress(text).await;
                return Ok(false);
            }
            last = now;
        }
    }

    async fn revert(&mut self, record: &Record) -> Result<(), BlueGreenError> {
        self.old_colour_can(record).await?;
        let patched = Instant::now();
        let moved = self.changes.move_traffic(None, record.from).await?;
        self.tell(moved).await;
        let service = self.deployer.service;
        let settled = switch::settled(&self.objects, service, record.from, patched).await;
        let settled = settled.map_err(|stop| stop.or(|seen| self.not_back(record.from, seen)))?;
        self.tell(settled).await;
        let smoked = self.smoke(service, &record.old_version).await;
        smoked.map_err(|stop| stop.or(|seen| self.not_back(record.from, seen)))
    }

    pub(super) fn not_back(&self, colour: Colour, seen: &str) -> BlueGreenError {
        let look = self.objects.kubectl("get pods,endpointslices");
        BlueGreenError::Meddled {
            what: format!("traffic is not back on {colour}: {seen}"),
            help: format!("look at once: `{look}`"),
        }
    }

    /// An autoscaler or a hand may have taken its pods: it gets as many as it had at the switch.
    /// Some of them are waited for shortly, all of them where it has none: what is live may be
    /// worse than few pods.
    async fn old_colour_can(&mut self, record: &Record) -> Result<(), BlueGreenError> {
        let old = self.objects.side(record.from).await?;
        if old.ready >= record.replicas {
            return Ok(());
        }
        let text = format!(
            "{} has {} ready pods, where it had {}: scaling up",
            record.from, old.ready, record.replicas
        );
        self.progress(text).await;
        self.changes.hold(record.from, record.replicas).await?;
        self.changes.scale(record.from, record.replicas).await?;
        let deadline = match old.ready {
            0 => self.deployer.policy.green_ready,
            _ => CAPACITY,
        };
        let selector = self.objects.selector(record.from);
        let up = rollout::complete(self.deployer.cluster, &selector, deadline, &|_| {}).await;
        match up {
            Err(error) if old.ready == 0 => Err(BlueGreenError::Meddled {
                what: format!("{} cannot take traffic back: {error}", record.from),
                help: "traffic stays where it is; look at its pods".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
