//! The operations of a deployer: deploy a version; promote, abort or end a release.

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::ServiceRelease;
use super::barrier::OthersState;
use crate::colour::Colour;
use crate::error::BlueGreenError;
use crate::event::{EventKind, ReleaseEvent};
use crate::group::{Member, Milestone};
use crate::objects::{ColourStatus, LIVE};
use crate::policy::Canary;
use crate::record::{ReleaseRecord, ReleaseStep};
use crate::step_error::Reason;
use crate::{Conclusion, FIELD_MANAGER, preflight};
use kubernetes::rollout::RolloutError;

impl<O: AsyncFnMut(&ReleaseEvent)> ServiceRelease<'_, O> {
    /// Releases `version`, after any unfinished release.
    pub(super) async fn deploy(
        &mut self,
        version: &str,
        manual: bool,
    ) -> Result<Conclusion, BlueGreenError> {
        if let Some(unfinished) = self.records.record.clone() {
            let concluded = self.end_unfinished(unfinished, version, manual).await?;
            if let Some(concluded) = concluded {
                return Ok(concluded);
            }
        }
        let colours = self.objects.colours().await?;
        let reconfigured = colours.reconfigured(self.deployer.service);
        if colours.live.version == version && !reconfigured {
            return self.already_live(colours.live).await;
        }
        if reconfigured {
            let idle = colours.idle.colour;
            let get = format!("get deployment {} -o yaml", self.objects.deployment(idle));
            let text = format!(
                "{idle} has another configuration than {}, which is live: it is released with {version} (`{}`)",
                colours.live.colour,
                self.objects.kubectl(&get)
            );
            self.progress(text).await;
        }
        let replicas = preflight::replicas(&self.objects, &colours.live).await?;
        preflight::check(&self.objects, &colours, replicas).await?;
        let policy = self.deployer.policy;
        preflight::evidence(self.deployer, policy.analysis, colours.live.colour).await?;
        let canary = self.canary().await?;
        let release = self.release_of_others(version).await?;
        self.until_all(Milestone::Preflighted).await?;
        let now = Timestamp::now();
        self.write(ReleaseRecord {
            release: release.unwrap_or_else(|| self.deployer.release.clone()),
            together: self.services(),
            version: version.to_owned(),
            old_version: colours.live.version,
            from: colours.live.colour,
            to: colours.idle.colour,
            replicas,
            manual,
            reconfigured,
            analysis: policy.analysis,
            canary,
            weight: 0,
            deployer: self.deployer.holder.to_string(),
            begun: now,
            step: ReleaseStep::BringUp,
            since: now,
            baseline: None,
            why: None,
        })
        .await?;
        self.resume().await
    }

    /// Returns how the ingress routes traffic to the new colour, if it can.
    async fn canary(&mut self) -> Result<Option<Canary>, BlueGreenError> {
        let Some(canary) = &self.deployer.policy.canary else {
            return Ok(None);
        };
        match self.objects.why_no_canary().await? {
            None => Ok(Some(canary.clone())),
            Some(because) => {
                self.emit(EventKind::CanarySkipped { because }).await;
                Ok(None)
            }
        }
    }

    /// The version is live. Its pods may still be unhealthy.
    async fn already_live(&mut self, live: ColourStatus) -> Result<Conclusion, BlueGreenError> {
        let (version, colour) = (live.version, live.colour);
        self.member.reached(Milestone::Preflighted);
        let selector = self.objects.selector(colour);
        let deadline = self.deployer.policy.green_ready;
        Ok(match self.follow_rollout(&selector, deadline, "").await {
            Ok(()) => {
                self.member.reached(Milestone::Drained);
                Conclusion::AlreadyLive { version, colour }
            }
            Err(RolloutError::Cluster(error)) => return Err(error.into()),
            Err(error) => Conclusion::LiveUnhealthy {
                version,
                colour,
                why: error.to_string(),
            },
        })
    }

    /// Switches to the version that waits at the gate.
    pub(super) async fn promote(&mut self) -> Result<Conclusion, BlueGreenError> {
        let mut record = self.record()?;
        if record.step != ReleaseStep::Gate {
            return Err(record.wrong_step(
                "promoted",
                "`cargo xtask blue-green deploy` with the same version continues it, `abort` rolls it back",
            ));
        }
        preflight::evidence(self.deployer, record.analysis, record.from).await?;
        record.manual = false;
        record.deployer = self.deployer.holder.to_string();
        // It may have waited for hours. Its pods are scaled again, and every check is repeated.
        record.step = ReleaseStep::BringUp;
        record.baseline = None;
        let colours = self.objects.colours().await?;
        let replicas = preflight::replicas(&self.objects, &colours.live).await?;
        record.replicas = record.replicas.max(replicas);
        self.until_all(Milestone::Preflighted).await?;
        self.write(record).await?;
        self.resume().await
    }

    /// Rolls the release back.
    pub(super) async fn abort(&mut self) -> Result<Conclusion, BlueGreenError> {
        let Some(record) = self.records.record.clone() else {
            return self.clear_idle().await;
        };
        if record.step == ReleaseStep::Retire
            || self.others_state(&record).await? == OthersState::Finishing
        {
            self.select_if_none_is_live(record.to).await?;
            return Err(record.wrong_step(
                "aborted",
                "the old colour is being retired; `cargo xtask blue-green deploy` finishes this with the same version, and goes back with the old version",
            ));
        }
        let why = record.why;
        let why = why.unwrap_or_else(|| "`abort` was requested".to_owned());
        self.roll_back(Reason::Failed(why), Instant::now()).await
    }

    /// Ends this release. The lock is ours, so nobody else writes a record now.
    pub(super) async fn end(&mut self) -> Result<Conclusion, BlueGreenError> {
        self.deployer.must_be_ours(self.records.record.as_ref())?;
        match self.record()?.step {
            ReleaseStep::Retire => self.resume().await,
            _ => self.abort().await,
        }
    }

    /// Deletes pods of the idle colour that belong to no release.
    async fn clear_idle(&mut self) -> Result<Conclusion, BlueGreenError> {
        if self.objects.live().await?.is_none() {
            return self.restore_selector().await;
        }
        let idle = self.objects.colours().await?.idle;
        if idle.pods() == 0 {
            return Err(BlueGreenError::NothingInProgress {
                service: self.deployer.service.to_owned(),
            });
        }
        self.changes.scale(idle.colour, 0).await?;
        Ok(Conclusion::RolledBack {
            why: format!("the pods of {} belong to no release", idle.colour),
            inconclusive: false,
        })
    }

    /// Repairs an active Service whose selector somebody has changed.
    async fn select_if_none_is_live(&mut self, colour: Colour) -> Result<(), BlueGreenError> {
        if self.objects.live().await?.is_none() {
            let moved = self.changes.move_traffic(None, colour).await?;
            self.emit(moved).await;
        }
        Ok(())
    }

    /// Makes the active Service, which selects neither colour or both, select the one that was
    /// live: the one that is marked as live and has ready pods.
    async fn restore_selector(&mut self) -> Result<Conclusion, BlueGreenError> {
        let mut candidates = Vec::new();
        for colour in Colour::ALL {
            let status = self.objects.colour(colour).await?;
            let mark = status.deployment.annotations().get(LIVE);
            if mark.is_some_and(|it| it == "true") && status.ready > 0 {
                candidates.push(colour);
            }
        }
        let [live] = candidates[..] else {
            let which = if candidates.is_empty() {
                "none"
            } else {
                "both"
            };
            let select = self.objects.kubectl(&format!(
                "set selector service/{} app.kubernetes.io/name={0},trii.co/track=blue --field-manager {FIELD_MANAGER}",
                self.deployer.service
            ));
            return Err(BlueGreenError::ChangedByOthers {
                what: format!(
                    "the active Service selects no colour, and {which} are marked as live and have ready pods"
                ),
                help: format!("choose one: `{select}`"),
            });
        };
        self.move_back(live).await?;
        Ok(Conclusion::RolledBack {
            why: format!("the active Service selected no colour: it selects {live} again"),
            inconclusive: false,
        })
    }

    /// Resumes a release that its deployer left unfinished, or rolls it back: `version` is wanted
    /// now. Returns its conclusion if it has the same version.
    async fn end_unfinished(
        &mut self,
        mut old: ReleaseRecord,
        version: &str,
        manual: bool,
    ) -> Result<Option<Conclusion>, BlueGreenError> {
        if old.step == ReleaseStep::Retire {
            self.select_if_none_is_live(old.to).await?;
        }
        let live = self.objects.live().await?;
        let (switched, not_switched) = (live == Some(old.to), live == Some(old.from));
        let same = old.version == version;
        let others = self.others_state(&old).await?;
        // Services whose release began together end it together.
        let is_finished = same || others == OthersState::Finishing || old.together.is_empty();
        // A release at the gate is not unfinished: it waits for a person.
        if old.step == ReleaseStep::Gate && !same {
            self.deployer.must_be_ours(Some(&old))?;
        }
        let resume_at = match old.step {
            _ if others == OthersState::RollingBack => None,
            // The live colour counts: somebody else may have moved traffic.
            ReleaseStep::Retire | ReleaseStep::Drain if switched && is_finished => Some(old.step),
            ReleaseStep::Switch | ReleaseStep::Analyse if switched && same => Some(old.step),
            ReleaseStep::BringUp
            | ReleaseStep::Check
            | ReleaseStep::Gate
            | ReleaseStep::Canary
            | ReleaseStep::Switch
                if not_switched && same =>
            {
                // An old baseline does not count.
                old.baseline = None;
                Some(ReleaseStep::BringUp)
            }
            _ => None,
        };
        let how = match (resume_at, same) {
            (Some(step), _) => format!("resumed at {step}"),
            (None, true) => "rolled back".to_owned(),
            (None, false) => format!("rolled back, as {version} is wanted now"),
        };
        self.emit(EventKind::Found {
            release: old.release.clone(),
            step: old.step,
            how,
        })
        .await;
        // The other members belong to the release that is wanted now.
        let own = Member::alone(self.deployer.service);
        let member = (!same).then(|| std::mem::replace(&mut self.member, own));
        let concluded = match resume_at {
            Some(step) => {
                old.step = step;
                old.manual = manual;
                old.deployer = self.deployer.holder.to_string();
                self.write(old).await?;
                self.resume().await?
            }
            None => {
                let unfinished = "its deployer left it unfinished".to_owned();
                let reason = Reason::Failed(old.why.unwrap_or(unfinished));
                self.roll_back(reason, Instant::now()).await?
            }
        };
        if let Some(member) = member {
            self.member = member;
        }
        Ok(same.then_some(concluded))
    }
}
