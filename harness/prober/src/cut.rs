//! Recordings, cut into the phases of a release.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::answer::Answer;
use crate::figures::Figures;
use crate::phase::{Phase, Phases};
use crate::recording::{Recording, Vantage};

/// Recordings, cut into the phases of a release.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Where the phases begin.
    pub phases: Phases,
    /// Each lane of each recording.
    pub lanes: Vec<LaneFigures>,
}

/// One lane of one recording. Times are microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneFigures {
    /// Where it was asked from.
    pub from: Vantage,
    /// Its name.
    pub lane: Arc<str>,
    /// Of each phase in which something was due.
    pub by_phase: BTreeMap<Phase, Figures>,
    /// Of all phases together.
    pub whole: Figures,
    /// How long after the patch the old version's last answer came; none where it answered
    /// nothing that was due after the patch.
    pub last_old: Option<u64>,
    /// Connections that stayed with the old version.
    pub pinned: Pinned,
}

/// Kept connections on which the old version still answered what was due after the patch: a
/// selector's change moves no connection that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// How many.
    pub connections: u64,
    /// How long after the patch the last such answer came; 0 where there is none.
    pub until: u64,
}

impl Cut {
    /// Cuts recordings at the same moments.
    pub fn of(phases: Phases, recordings: &[Recording]) -> Cut {
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
        Cut { phases, lanes }
    }

    /// All lanes together, in one phase.
    pub fn phase(&self, phase: Phase) -> Figures {
        let lanes = self.lanes.iter();
        merged(lanes.filter_map(|lane| lane.by_phase.get(&phase)))
    }

    /// All lanes together, in all phases.
    pub fn overall(&self) -> Figures {
        merged(self.lanes.iter().map(|lane| &lane.whole))
    }

    /// The pinned connections of all lanes.
    pub fn pinned(&self) -> Pinned {
        let lanes = self.lanes.iter().map(|lane| lane.pinned);
        lanes.fold(Pinned::default(), |all, one| Pinned {
            connections: all.connections + one.connections,
            until: all.until.max(one.until),
        })
    }
}

fn merged<'a>(all: impl Iterator<Item = &'a Figures>) -> Figures {
    let mut merged = Figures::default();
    all.for_each(|one| merged.merge(one));
    merged
}

impl LaneFigures {
    fn of(from: Vantage, lane: Arc<str>, answers: &[&Answer], phases: &Phases) -> LaneFigures {
        let mut by_phase: BTreeMap<Phase, Figures> = BTreeMap::new();
        for answer in answers {
            let phase = phases.of(answer.intended);
            by_phase.entry(phase).or_default().add(answer);
        }
        for (began, gap) in gaps(answers) {
            // One that began in a phase in which nothing was due is of no phase's requests.
            if let Some(figures) = by_phase.get_mut(&phases.of(began)) {
                figures.longest_gap = figures.longest_gap.max(gap);
            }
        }
        let mut whole = merged(by_phase.values());
        let longest = gaps(answers).map(|(_, gap)| gap).max();
        whole.longest_gap = longest.unwrap_or(0);
        let still_old = StillOld::of(answers, phases);
        LaneFigures {
            from,
            lane,
            by_phase,
            whole,
            last_old: still_old.last,
            pinned: still_old.pinned,
        }
    }
}

/// Times without a good answer: when each began, and how long it was. From the first request
/// due to the first good answer, from each good answer to the next, and from the last to the
/// end of the last request.
fn gaps(answers: &[&Answer]) -> impl Iterator<Item = (u64, u64)> {
    let first = answers.iter().map(|answer| answer.intended).min();
    let last = answers.iter().map(|answer| answer.ended()).max();
    let good = answers.iter().filter(|answer| answer.good);
    let mut moments: Vec<u64> = good.map(|answer| answer.ended()).collect();
    moments.extend(first.into_iter().chain(last));
    moments.sort_unstable();
    let pairs: Vec<(u64, u64)> = moments
        .windows(2)
        .map(|pair| (pair[0], pair[1] - pair[0]))
        .collect();
    pairs.into_iter()
}

/// What the old version still answered after the patch.
struct StillOld {
    last: Option<u64>,
    pinned: Pinned,
}

impl StillOld {
    fn of(answers: &[&Answer], phases: &Phases) -> StillOld {
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
            // The first request of a connection is what the selector decides.
            if let Some(on) = answer.on.filter(|on| on.request > 1) {
                connections.insert(on.connection);
                until = until.max(after);
            }
        }
        StillOld {
            last,
            pinned: Pinned {
                connections: connections.len() as u64,
                until,
            },
        }
    }
}
