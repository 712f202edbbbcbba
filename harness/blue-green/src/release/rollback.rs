//! Rolls a release back: traffic returns to the old colour, and the new one's pods end.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{ServiceRelease, switch};
use crate::Conclusion;
use crate::colour::Colour;
use crate::error::BlueGreenError;
use crate::event::{EventKind, ReleaseEvent};
use crate::record::{ReleaseOutcome, ReleaseRecord, ReleaseStep};
use crate::step_error::Reason;
use crate::traffic::Window;
use base::run::millis;
use kubernetes::rollout;

/// How long an old colour that has lost some of its pods may take to replace them.
const SCALE_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// An ingress controller applies a change within seconds.
const INGRESS_TIMEOUT: Duration = Duration::from_secs(10);

/// A colour without a request for so long receives no traffic any more.
const WITHOUT_REQUESTS: Duration = Duration::from_secs(1);

impl<O: AsyncFnMut(&ReleaseEvent)> ServiceRelease<'_, O> {
    /// Moves all traffic to the old colour, verifies that, and scales the new one to 0. `since` is
    /// the time of the reason.
    pub(super) async fn roll_back(
        &mut self,
        reason: Reason,
        since: Instant,
    ) -> Result<Conclusion, BlueGreenError> {
        let mut record = self.record()?;
        record.why = Some(reason.text().to_owned());
        record.step = ReleaseStep::Revert;
        record.deployer = self.deployer.holder.to_string();
        record.since = Timestamp::now();
        self.write(record.clone()).await?;
        self.emit(EventKind::Began {
            step: ReleaseStep::Revert,
        })
        .await;
        self.member.fail(reason.text());
        self.member.until_callers_are_back().await;
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
        let why = reason.text().to_owned();
        if is_verified {
            self.emit(EventKind::Reverted {
                why: why.clone(),
                millis: millis(since.elapsed()),
            })
            .await;
        }
        self.member.is_back();
        self.changes.mark(record.from, true).await?;
        self.changes.mark(record.to, false).await?;
        self.changes.show(record.to).await?;
        self.empty(record.to).await?;
        self.restore_autoscalers().await?;
        let inconclusive = matches!(reason, Reason::Inconclusive(_));
        let (outcome, conclusion) = match had_traffic {
            true => (
                ReleaseOutcome::Reverted,
                Conclusion::Reverted { why, inconclusive },
            ),
            false => (
                ReleaseOutcome::RolledBack,
                Conclusion::RolledBack { why, inconclusive },
            ),
        };
        self.records.conclude(outcome).await?;
        Ok(conclusion)
    }

    /// Waits until the ingress has noticed that its canaries are deleted: the new colour's pods
    /// must not end before. False: requests still arrive after [`INGRESS_TIMEOUT`].
    async fn requests_cease(&mut self, record: &ReleaseRecord) -> Result<bool, BlueGreenError> {
        let mut last = self.first_reading(record.analysis, record.to).await?;
        let end = Instant::now() + INGRESS_TIMEOUT;
        loop {
            sleep(WITHOUT_REQUESTS).await;
            let now = self.first_reading(record.analysis, record.to).await?;
            let more = Window::between(&last, &now);
            if more.requests == 0 && more.in_flight == 0 {
                return Ok(true);
            }
            if Instant::now() >= end {
                let text = format!(
                    "{} still receives requests {INGRESS_TIMEOUT:?} after its canary Ingresses were deleted",
                    record.to
                );
                self.progress(text).await;
                return Ok(false);
            }
            last = now;
        }
    }

    async fn revert(&mut self, record: &ReleaseRecord) -> Result<(), BlueGreenError> {
        self.scale_up_old_colour(record).await?;
        self.move_back(record.from).await?;
        let service = self.deployer.service;
        let smoked = self.smoke(service, record.from, &record.old_version).await;
        smoked.map_err(|error| error.or(|cause| self.not_back(record.from, cause)))
    }

    /// Moves traffic to the old colour. It does not matter what the active Service selects now.
    pub(super) async fn move_back(&mut self, colour: Colour) -> Result<(), BlueGreenError> {
        let patched = Instant::now();
        let moved = self.changes.move_traffic(None, colour).await?;
        self.emit(moved).await;
        let settled = switch::settled(&self.objects, self.deployer.service, colour, patched).await;
        let settled = settled.map_err(|error| error.or(|cause| self.not_back(colour, cause)))?;
        self.emit(settled).await;
        Ok(())
    }

    fn not_back(&self, colour: Colour, cause: &str) -> BlueGreenError {
        let get = self.objects.kubectl("get pods,endpointslices");
        BlueGreenError::ChangedByOthers {
            what: format!("traffic is not back on {colour}: {cause}"),
            help: format!("check this now: `{get}`"),
        }
    }

    /// Replaces pods of the old colour that an autoscaler or a person has removed since the switch.
    /// If some are left, the wait is short: the new version may be worse than few pods.
    async fn scale_up_old_colour(&mut self, record: &ReleaseRecord) -> Result<(), BlueGreenError> {
        let old = self.objects.colour(record.from).await?;
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
        let timeout = match old.ready {
            0 => self.deployer.policy.green_ready,
            _ => SCALE_UP_TIMEOUT,
        };
        let selector = self.objects.selector(record.from);
        let up = rollout::complete(self.deployer.cluster, &selector, timeout, &|_| {}).await;
        match up {
            Err(error) if old.ready == 0 => Err(BlueGreenError::ChangedByOthers {
                what: format!("{} cannot take traffic again: {error}", record.from),
                help: "traffic stays where it is; look at its pods".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
