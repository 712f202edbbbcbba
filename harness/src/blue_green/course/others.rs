//! How a release goes along with those of other services that are released with it.

use super::Course;
use crate::blue_green::course::stop::Stop;
use crate::blue_green::course::together::{Failed, Member, Progress};
use crate::blue_green::error::BlueGreenError;
use crate::blue_green::event::Event;
use crate::blue_green::record::{Book, Outcome, Record, Step};

/// What the others of a release that was left unfinished have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// All of them may be released, or taken back.
    Nothing,
    /// One of them is taken back: all of them are.
    Back,
    /// The old colour of one of them goes: all of them are finished.
    Forward,
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Stop {
        Stop::failed(failed.text())
    }
}

impl<O: AsyncFnMut(&Event)> Course<'_, O> {
    /// A record of other services than these is for whoever names those.
    pub(super) fn must_be_of_these(&self) -> Result<(), BlueGreenError> {
        match &self.book.record {
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

    /// The services of the release; none where it is one alone.
    pub(super) fn services(&self) -> Vec<String> {
        let services = self.member.as_ref().map_or_else(Vec::new, Member::services);
        match services.len() {
            1 => Vec::new(),
            _ => services,
        }
    }

    pub(super) fn reached(&self, progress: Progress) {
        if let Some(member) = &self.member {
            member.reached(progress);
        }
    }

    /// It is at this step.
    pub(super) fn reached_by(&self, step: Step) {
        self.reached(match step {
            Step::BringUp | Step::Check => Progress::Possible,
            Step::Gate | Step::Canary | Step::Switch | Step::Analyse => Progress::Ready,
            Step::Drain => Progress::Holds,
            Step::Retire => Progress::Drained,
            Step::Revert => Progress::Begun,
        });
        if let (Step::Retire, Some(member)) = (step, &self.member) {
            // Where a deployer before has decided it.
            let _ = member.go_forward();
        }
    }

    /// Waits until all of them are so far, before anything is changed.
    pub(super) async fn until_all(&self, progress: Progress) -> Result<(), BlueGreenError> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        member.reached(progress);
        let reached = member.until_all(progress).await;
        reached.map_err(|failed| BlueGreenError::Together {
            service: self.deployer.service.to_owned(),
            other: failed.service,
            why: failed.why,
        })
    }

    /// Waits until all are ready, and those hold that this one calls. To the gate all of them
    /// go, or none.
    pub(super) async fn wait_for_others(&mut self, next: Step) -> Result<Step, Stop> {
        let Some(member) = self.member.clone() else {
            return Ok(next);
        };
        member.ready(next == Step::Gate);
        if member.stops_at_gate().await? {
            return Ok(Step::Gate);
        }
        member.until_its_turn().await?;
        Ok(next)
    }

    /// It does not hold, nor do the others then. False: it is too late to take it back.
    pub(super) fn fail(&self, why: &str) -> bool {
        self.member.as_ref().is_none_or(|it| it.fail(why))
    }

    /// What became of the others, as they are written down.
    pub(super) async fn decided(&self, record: &Record) -> Result<Decided, BlueGreenError> {
        let mut decided = Decided::Nothing;
        for service in self.others(&record.together) {
            let book = Book::read(self.deployer.cluster, service).await?;
            let is_its = |it: &Record| it.release == record.release;
            let step = book.record.filter(is_its).map(|it| it.step);
            let ended = book.audit.iter().find(|it| is_its(&it.record));
            match (step, ended.map(|it| it.outcome)) {
                (Some(Step::Retire), _) | (_, Some(Outcome::Released)) => {
                    return Ok(Decided::Forward);
                }
                (Some(Step::Revert), _) | (_, Some(_)) => decided = Decided::Back,
                _ => {}
            }
        }
        Ok(decided)
    }

    /// The id of the release that others of these have begun with `version`.
    pub(super) async fn release_of_others(
        &self,
        version: &str,
    ) -> Result<Option<String>, BlueGreenError> {
        let services = self.services();
        for service in self.others(&services) {
            let book = Book::read(self.deployer.cluster, service).await?;
            let is_ours = |it: &Record| it.together == services && it.version == version;
            if let Some(record) = book.record.filter(is_ours) {
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
