//! How a release waits for those of the other services.

use super::ServiceRelease;
use crate::error::BlueGreenError;
use crate::event::ReleaseEvent;
use crate::group::Milestone;
use crate::record::{RecordMap, ReleaseOutcome, ReleaseRecord, ReleaseStep};
use crate::step_error::StepError;

/// The state of an unfinished release by the records of the other services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OthersState {
    /// All services can be finished, or rolled back.
    Undecided,
    /// One service is rolled back: all must be.
    RollingBack,
    /// The old colour of one service is retired: all must be finished.
    Finishing,
}

impl<O: AsyncFnMut(&ReleaseEvent)> ServiceRelease<'_, O> {
    /// Refuses the record of a release of other services.
    pub(super) fn must_be_of_these(&self) -> Result<(), BlueGreenError> {
        match &self.records.record {
            Some(record) if record.together != self.services() => Err(BlueGreenError::OfSeveral {
                release: record.release.clone(),
                version: record.version.clone(),
                together: match record.together.is_empty() {
                    true => vec![self.deployer.service.to_owned()],
                    false => record.together.clone(),
                },
            }),
            _ => Ok(()),
        }
    }

    /// Returns the services of the release; none for a release of one service.
    pub(super) fn services(&self) -> Vec<String> {
        let services = self.member.services();
        match services.len() {
            1 => Vec::new(),
            _ => services,
        }
    }

    /// Reports the milestone of a step.
    pub(super) fn reached_by(&self, step: ReleaseStep) {
        self.member.reached(match step {
            ReleaseStep::BringUp | ReleaseStep::Check => Milestone::Preflighted,
            ReleaseStep::Gate
            | ReleaseStep::Canary
            | ReleaseStep::Switch
            | ReleaseStep::Analyse => Milestone::Ready,
            ReleaseStep::Drain => Milestone::Verified,
            ReleaseStep::Retire => Milestone::Drained,
            ReleaseStep::Revert => Milestone::Started,
        });
        if step == ReleaseStep::Retire {
            // An earlier deployer may have decided this already.
            let _ = self.member.finish();
        }
    }

    /// Waits until all services have reached a milestone, before anything is changed.
    pub(super) async fn until_all(&self, milestone: Milestone) -> Result<(), BlueGreenError> {
        self.member.reached(milestone);
        let reached = self.member.until_all(milestone).await;
        reached.map_err(|failure| BlueGreenError::Together {
            service: self.deployer.service.to_owned(),
            other: failure.service,
            why: failure.why,
        })
    }

    /// Waits until all services are ready, and until those that this one calls are verified. If one
    /// stops at the gate, all do.
    pub(super) async fn wait_for_others(
        &mut self,
        next: ReleaseStep,
    ) -> Result<ReleaseStep, StepError> {
        self.member.ready(next == ReleaseStep::Gate);
        if self.member.stops_at_gate().await? {
            return Ok(ReleaseStep::Gate);
        }
        self.member.until_its_turn().await?;
        Ok(next)
    }

    /// Reads the state of the release from the records of the other services.
    pub(super) async fn others_state(
        &self,
        record: &ReleaseRecord,
    ) -> Result<OthersState, BlueGreenError> {
        let mut state = OthersState::Undecided;
        for service in self.others(&record.together) {
            let theirs = RecordMap::read(self.deployer.cluster, service).await?;
            let is_its = |it: &ReleaseRecord| it.release == record.release;
            let step = theirs.record.filter(is_its).map(|it| it.step);
            let ended = theirs.audit.iter().find(|it| is_its(&it.record));
            match (step, ended.map(|it| it.outcome)) {
                (Some(ReleaseStep::Retire), _) | (_, Some(ReleaseOutcome::Released)) => {
                    return Ok(OthersState::Finishing);
                }
                (Some(ReleaseStep::Revert), _) | (_, Some(_)) => state = OthersState::RollingBack,
                _ => {}
            }
        }
        Ok(state)
    }

    /// Returns the id of the release of `version` that others of these services have started.
    pub(super) async fn release_of_others(
        &self,
        version: &str,
    ) -> Result<Option<String>, BlueGreenError> {
        let services = self.services();
        for service in self.others(&services) {
            let theirs = RecordMap::read(self.deployer.cluster, service).await?;
            let is_ours = |it: &ReleaseRecord| it.together == services && it.version == version;
            if let Some(record) = theirs.record.filter(is_ours) {
                return Ok(Some(record.release));
            }
        }
        Ok(None)
    }

    fn others<'s>(&self, services: &'s [String]) -> impl Iterator<Item = &'s str> {
        let own = self.deployer.service.to_owned();
        let names = services.iter().map(String::as_str);
        names.filter(move |it| **it != own)
    }
}
