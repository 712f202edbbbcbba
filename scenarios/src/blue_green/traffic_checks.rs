//! What traffic during a release must look like, as checks.

use harness::blue_green::Step;
use harness::prober::{Cut, Figures, Moments, Phase, Phases, Recording};
use harness::run::RunFolderError;

use super::ground::Ground;
use super::log::Log;
use crate::{Mismatch, Scenario, Unmet};

/// A release, and the traffic that went on meanwhile.
pub struct Watched {
    /// The version that was live.
    pub old: String,
    /// The version that was to be.
    pub new: String,
    /// What the deployer told.
    pub log: Log,
    /// What the probers saw.
    pub recordings: Vec<Recording>,
}

impl Watched {
    /// The traffic, cut at the deployer's moments; none where traffic was never moved.
    pub fn cut(&self) -> Option<Cut> {
        let micros = |at: jiff::Timestamp| u64::try_from(at.as_microsecond()).unwrap_or(0);
        let moments = Moments {
            patch: micros(self.log.patched()?),
            scale_down: self.log.began(Step::Retire).map(micros),
            old: self.old.clone(),
            new: self.new.clone(),
        };
        let answers = self.recordings.iter().flat_map(|it| &it.answers);
        Some(Cut::of(Phases::find(moments, answers), &self.recordings))
    }

    /// Why the traffic proves nothing, unless it does.
    fn inconclusive(&self) -> Option<String> {
        self.recordings.iter().find_map(|it| {
            let why = it.inconclusive()?;
            Some(format!("{}: {why}", it.from))
        })
    }

    /// Of `cut`, this traffic's: that none of it failed, and that this says something.
    fn none_failed(&self, ground: &Ground<'_>, cut: Option<Cut>) -> Result<Cut, Unmet> {
        let cut = cut.ok_or_else(|| {
            ground.trouble("traffic that was moved", "the release never came to it")
        })?;
        let whole = cut.overall();
        if whole.failed() > 0 {
            return Err(failed(ground, &whole, self).into());
        }
        match self.inconclusive() {
            Some(why) => Err(Unmet::Inconclusive(why)),
            None => Ok(cut),
        }
    }
}

/// Notes each phase, and checks that no request failed and that `evidence`, which is asked
/// then, is enough.
pub async fn nothing_failed(
    scenario: &mut Scenario<'_>,
    ground: &Ground<'_>,
    watched: &Watched,
    claim: &str,
    evidence: impl FnOnce(&Cut) -> Result<String, Unmet>,
) -> Result<(), RunFolderError> {
    let cut = watched.cut();
    for recording in &watched.recordings {
        if let Some(clock) = recording.clock {
            scenario.note(format!("{}: {clock}", recording.from))?;
        }
    }
    if let Some(cut) = &cut {
        tell_phases(scenario, cut)?;
    }
    scenario
        .judge(claim, async {
            let cut = watched.none_failed(ground, cut)?;
            Ok(((), evidence(&cut)?))
        })
        .await?;
    Ok(())
}

/// "0 of 31204 requests failed: at most 0.0097 % with 95 % confidence".
pub fn none_of(figures: &Figures) -> String {
    let bound = figures.error_rate_at_most().map_or_else(String::new, |it| {
        format!(": at most {:.4} % with 95 % confidence", it * 100.0)
    });
    format!(
        "{} of {} requests failed{bound}",
        figures.failed(),
        figures.requests
    )
}

fn failed(ground: &Ground<'_>, figures: &Figures, watched: &Watched) -> Mismatch {
    let kinds = figures.failures.iter().take(5);
    let kinds: Vec<String> = kinds
        .map(|(kind, count)| format!("{count} x {kind}"))
        .collect();
    Mismatch {
        expected: format!(
            "none of {} requests fails while {} becomes {}",
            figures.requests, watched.old, watched.new
        ),
        seen: format!("{}: {}", none_of(figures), kinds.join("; ")),
        look_at: "the phases above".into(),
        next: ground.next(),
    }
}

/// A line a phase, and one for the connections that stayed.
fn tell_phases(scenario: &mut Scenario<'_>, cut: &Cut) -> Result<(), RunFolderError> {
    for phase in Phase::ALL {
        let figures = cut.phase(phase);
        if figures.requests == 0 {
            continue;
        }
        // A request of 20 s says nothing of how fast the others are.
        let mut quick = Figures::default();
        let lanes = cut.lanes.iter().filter(|it| &*it.lane != "slow");
        for figures in lanes.filter_map(|it| it.by_phase.get(&phase)) {
            quick.merge(figures);
        }
        let ms = |quantile| quick.latency_at(quantile).unwrap_or(0) as f64 / 1000.0;
        let versions = figures.versions.iter();
        let versions: Vec<String> = versions
            .map(|(it, count)| format!("{count} by {it}"))
            .collect();
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
        let last = lane.last_old.map_or_else(
            || "none of the old version after the patch".to_owned(),
            |it| {
                format!(
                    "the old version's last answer {:.0} ms after the patch",
                    it as f64 / 1000.0
                )
            },
        );
        scenario.note(format!("{} {}: {last}", lane.from, lane.lane))?;
    }
    let pinned = cut.pinned();
    scenario.note(format!(
        "{} connections stayed with the old version, until {:.0} ms after the patch",
        pinned.connections,
        pinned.until as f64 / 1000.0
    ))
}
