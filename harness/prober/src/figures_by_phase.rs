//! The figures of recordings in each phase of a release.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::answer::Answer;
use crate::figures::Figures;
use crate::phase::{Phase, Phases};
use crate::recording::{Recording, Vantage};

/// The figures of recordings in each phase of a release.
#[derive(Clone, Debug)]
pub struct FiguresByPhase {
    /// The phases.
    pub phases: Phases,
    /// Each lane of each recording.
    pub lanes: Vec<LaneFigures>,
}

/// One lane of one recording. Times are microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneFigures {
    /// The origin of its requests.
    pub from: Vantage,
    /// Its name.
    pub lane: Arc<str>,
    /// The figures of each phase in which a request was due.
    pub by_phase: BTreeMap<Phase, Figures>,
    /// The figures of all phases together.
    pub overall: Figures,
    /// When the longest gap of all phases began, in microseconds since the Unix epoch.
    pub longest_gap_began: u64,
    /// When the old version's last answer came, after the patch; none if it answered no request
    /// that was due after the patch.
    pub last_old: Option<u64>,
    /// Connections that stayed with the old version.
    pub pinned: Pinned,
}

/// Pooled connections on which the old version answered requests that were due after the patch. A
/// change of the selector does not move open connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// The number of connections.
    pub connections: u64,
    /// When the last such answer came, after the patch; 0 without any.
    pub until: u64,
}

impl FiguresByPhase {
    /// Groups the answers of all recordings by the same phases.
    pub fn of(phases: Phases, recordings: &[Recording]) -> FiguresByPhase {
        let lanes = recordings.iter().flat_map(|recording| {
            let mut lanes: BTreeMap<Arc<str>, Vec<&Answer>> = BTreeMap::new();
            for answer in &recording.answers {
                lanes.entry(answer.lane.clone()).or_default().push(answer);
            }
            let from = recording.from;
            let lanes = lanes.into_iter();
            lanes.map(move |(lane, answers)| (from, lane, answers))
        });
        let lanes = lanes
            .map(|(from, lane, answers)| LaneFigures::of(from, lane, &answers, &phases))
            .collect();
        FiguresByPhase { phases, lanes }
    }

    /// Returns the figures of all lanes in one phase.
    pub fn phase(&self, phase: Phase) -> Figures {
        let lanes = self.lanes.iter();
        merged(lanes.filter_map(|lane| lane.by_phase.get(&phase)))
    }

    /// Returns the figures of all lanes in all phases.
    pub fn overall(&self) -> Figures {
        merged(self.lanes.iter().map(|lane| &lane.overall))
    }

    /// Returns the pinned connections of all lanes.
    pub fn pinned(&self) -> Pinned {
        let lanes = self.lanes.iter().map(|lane| lane.pinned);
        lanes.fold(Pinned::default(), |sum, lane| Pinned {
            connections: sum.connections + lane.connections,
            until: sum.until.max(lane.until),
        })
    }
}

fn merged<'a>(figures: impl Iterator<Item = &'a Figures>) -> Figures {
    figures.fold(Figures::default(), |mut merged, other| {
        merged.merge(other);
        merged
    })
}

impl LaneFigures {
    fn of(from: Vantage, lane: Arc<str>, answers: &[&Answer], phases: &Phases) -> LaneFigures {
        let mut by_phase: BTreeMap<Phase, Figures> = BTreeMap::new();
        for answer in answers {
            let phase = phases.of(answer.intended);
            by_phase.entry(phase).or_default().add(answer);
        }
        for (began, gap) in gaps(answers) {
            // A gap that began in a phase without requests belongs to no phase.
            if let Some(figures) = by_phase.get_mut(&phases.of(began)) {
                figures.longest_gap = figures.longest_gap.max(gap);
            }
        }
        let mut overall = merged(by_phase.values());
        let longest = gaps(answers).max_by_key(|(_, gap)| *gap);
        let (longest_gap_began, longest_gap) = longest.unwrap_or_default();
        overall.longest_gap = longest_gap;
        let (last_old, pinned) = old_after_patch(answers, phases);
        LaneFigures {
            from,
            lane,
            by_phase,
            overall,
            longest_gap_began,
            last_old,
            pinned,
        }
    }
}

/// Returns the start and length of each time without a good answer: from the first request due to
/// the first good answer, from each good answer to the next, and from the last one to the end of
/// the last request.
fn gaps(answers: &[&Answer]) -> impl Iterator<Item = (u64, u64)> {
    let first = answers.iter().map(|answer| answer.intended).min();
    let last = answers.iter().map(|answer| answer.ended()).max();
    let good = answers.iter().filter(|answer| answer.good);
    let mut moments: Vec<u64> = good.map(|answer| answer.ended()).collect();
    moments.extend(first.into_iter().chain(last));
    moments.sort_unstable();
    let ends = moments.clone().into_iter().skip(1);
    let gaps = moments.into_iter().zip(ends);
    gaps.map(|(start, end)| (start, end - start))
}

/// Returns when the old version's last answer came, after the patch, and the pinned connections.
fn old_after_patch(answers: &[&Answer], phases: &Phases) -> (Option<u64>, Pinned) {
    let moments = &phases.moments;
    let mut connections = BTreeSet::new();
    let (mut last, mut until) = (None, 0);
    for answer in answers {
        let is_old = answer.version() == Some(moments.old.as_str());
        if !is_old || answer.intended < moments.patch {
            continue;
        }
        let after = answer.ended() - moments.patch;
        last = last.max(Some(after));
        // The selector affects only the first request of a connection.
        if let Some(on) = answer.on.filter(|on| on.request > 1) {
            connections.insert(on.connection);
            until = until.max(after);
        }
    }
    let connections = connections.len() as u64;
    (last, Pinned { connections, until })
}
