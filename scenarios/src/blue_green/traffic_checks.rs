//! Checks of the traffic during a release.

use blue_green::ReleaseStep;
use kubernetes::prober::{Figures, FiguresByPhase, Moments, Phase, Phases, Recording};

use super::attempt::EventLog;
use super::release_traffic::{self, micros};
use super::replica_watch::ReadyReplicas;
use super::setup::Setup;
use crate::{Mismatch, RunResult, Scenario, Unmet, late_requests};

/// A release with the traffic during it.
pub struct ObservedRelease {
    /// The version that was live.
    pub old: String,
    /// The version that was released.
    pub new: String,
    /// The deployer's events.
    pub log: EventLog,
    /// The probers' recordings.
    pub recordings: Vec<Recording>,
    /// The ready replicas during it.
    pub replicas: Vec<ReadyReplicas>,
}

impl ObservedRelease {
    /// Returns the traffic by phase of the release; none if traffic was never moved.
    pub fn cut(&self) -> Option<FiguresByPhase> {
        let moments = Moments {
            patch: micros(self.log.patched()?),
            scale_down: self.log.began(ReleaseStep::Retire).map(micros),
            old: self.old.clone(),
            new: self.new.clone(),
        };
        let answers = self.recordings.iter().flat_map(|it| &it.answers);
        let phases = Phases::find(moments, answers);
        Some(FiguresByPhase::of(phases, &self.recordings))
    }

    /// Returns `cut`, the figures of this traffic, if no request failed and they are conclusive.
    fn none_failed(
        &self,
        setup: &Setup<'_>,
        cut: Option<FiguresByPhase>,
    ) -> Result<FiguresByPhase, Unmet> {
        let cut = cut.ok_or_else(|| {
            setup.mismatch("traffic that was moved", "the release did not get that far")
        })?;
        if let Some(why) = late_requests::no_evidence(&self.recordings) {
            return Err(Unmet::Inconclusive(why));
        }
        let overall = cut.overall();
        if overall.failed() > 0 {
            return Err(failed(setup, &overall, self).into());
        }
        match Recording::any_inconclusive(&self.recordings) {
            Some(why) => Err(Unmet::Inconclusive(why)),
            None => Ok(cut),
        }
    }
}

/// Notes the figures of each phase. Checks that no request failed, and that there is enough
/// `evidence`.
pub async fn check_nothing_failed(
    scenario: &mut Scenario<'_>,
    setup: &Setup<'_>,
    observed: &ObservedRelease,
    claim: &str,
    evidence: impl FnOnce(&FiguresByPhase) -> Result<String, Unmet>,
) -> RunResult {
    let cut = observed.cut();
    for recording in &observed.recordings {
        if let Some(clock) = recording.clock {
            scenario.note(format!("{}: {clock}", recording.from))?;
        }
    }
    if let Some(cut) = &cut {
        note_phases(scenario, cut)?;
        if let Some(traffic) = release_traffic::of(&observed.recordings, &observed.replicas, cut) {
            scenario.released(traffic)?;
        }
    }
    scenario
        .evaluate(claim, async {
            let cut = observed.none_failed(setup, cut)?;
            Ok(((), evidence(&cut)?))
        })
        .await?;
    Ok(())
}

fn failed(setup: &Setup<'_>, figures: &Figures, observed: &ObservedRelease) -> Mismatch {
    let kinds = figures.failures.iter().take(5);
    let kinds = kinds.map(|(kind, count)| format!("{count} x {kind}"));
    let kinds: Vec<String> = kinds.collect();
    Mismatch {
        expected: format!(
            "none of {} requests fails while {} becomes {}",
            figures.requests, observed.old, observed.new
        ),
        seen: format!("{}: {}", figures.failed_share(), kinds.join("; ")),
        look_at: "the phases above".into(),
        next: setup.next(),
    }
}

/// Notes one line for each phase and each lane, and one for pinned connections.
fn note_phases(scenario: &mut Scenario<'_>, cut: &FiguresByPhase) -> RunResult {
    for phase in Phase::ALL {
        let figures = cut.phase(phase);
        if figures.requests == 0 {
            continue;
        }
        let quick = release_traffic::quick(cut, phase);
        let ms = |quantile| quick.latency_at(quantile).unwrap_or(0) as f64 / 1000.0;
        let versions = figures.versions.iter();
        let versions = versions.map(|(it, count)| format!("{count} by {it}"));
        let versions: Vec<String> = versions.collect();
        scenario.note(format!(
            "{phase}: {} requests, {} failed; p50 {:.1} ms, p99 {:.1} ms; longest gap {:.0} ms; {}",
            figures.requests,
            figures.failed(),
            ms(0.5),
            ms(0.99),
            quick.longest_gap as f64 / 1000.0,
            versions.join(", ")
        ))?;
    }
    for lane in &cut.lanes {
        let last = match lane.last_old.map(|it| it as f64 / 1000.0) {
            Some(ms) => format!("the old version's last answer {ms:.0} ms after the patch"),
            None => "none of the old version after the patch".to_owned(),
        };
        scenario.note(format!("{} {}: {last}", lane.from, lane.lane))?;
    }
    let pinned = cut.pinned();
    scenario.note(format!(
        "{} connections stayed with the old version, until {:.0} ms after the patch",
        pinned.connections,
        pinned.until as f64 / 1000.0
    ))
}
