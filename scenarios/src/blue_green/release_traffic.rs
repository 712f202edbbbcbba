//! The traffic during a release, for the report's charts.

use base::run::release::{
    BLOCKS_AT_MOST, ColourReplicas, LaneTraffic, LatencyBlocks, PhaseTraffic, ReleaseTraffic,
};
use blue_green::Colour;
use jiff::Timestamp;
use kubernetes::prober::{Answer, Figures, FiguresByPhase, LaneFigures, Phase, Recording};

use super::replica_watch::ReadyReplicas;

/// The shortest block, in milliseconds: enough answers for a percentile.
const SHORTEST_BLOCK: u64 = 500;

/// Returns the traffic by block of time; none if there are no answers.
pub fn of(
    recordings: &[Recording],
    replicas: &[ReadyReplicas],
    cut: &FiguresByPhase,
) -> Option<ReleaseTraffic> {
    let answers = || recordings.iter().flat_map(|it| &it.answers);
    let blocks = Blocks::of(answers())?;
    let phases = Phase::ALL
        .into_iter()
        .filter_map(|it| phase(it, cut, &blocks));
    let moments = &cut.phases.moments;
    let lanes = cut.lanes.iter().map(|lane| {
        let vantage = recordings.iter().filter(|it| it.from == lane.from);
        let answers = vantage.flat_map(|it| &it.answers);
        let answers = answers.filter(|it| it.lane == lane.lane);
        blocks.lane(lane, answers, [&moments.old, &moments.new])
    });
    Some(ReleaseTraffic {
        scenario: String::new(),
        old: moments.old.clone(),
        new: moments.new.clone(),
        block_millis: blocks.millis,
        phases: phases.collect(),
        lanes: lanes.collect(),
        replicas: blocks.replicas(replicas),
        latency: blocks.latency(answers().filter(|it| is_quick(&it.lane))),
    })
}

/// Returns the time since the Unix epoch, in microseconds, as answers have it.
pub fn micros(at: Timestamp) -> u64 {
    u64::try_from(at.as_microsecond()).unwrap_or(0)
}

/// Requests of 20 s say nothing about latency and gaps.
pub fn is_quick(lane: &str) -> bool {
    lane != "slow"
}

/// Returns the figures of the quick requests in a phase.
pub fn quick(cut: &FiguresByPhase, phase: Phase) -> Figures {
    let mut quick = Figures::default();
    let lanes = cut.lanes.iter().filter(|it| is_quick(&it.lane));
    for figures in lanes.filter_map(|it| it.by_phase.get(&phase)) {
        quick.merge(figures);
    }
    quick
}

fn phase(phase: Phase, cut: &FiguresByPhase, blocks: &Blocks) -> Option<PhaseTraffic> {
    let figures = cut.phase(phase);
    if figures.requests == 0 {
        return None;
    }
    let quick = quick(cut, phase);
    Some(PhaseTraffic {
        phase: phase.to_string(),
        from_millis: cut.phases.begins(phase).map_or(0, |it| blocks.after(it)),
        requests: figures.requests,
        failed: figures.failed(),
        p50: quick.latency_at(0.5),
        p99: quick.latency_at(0.99),
        longest_gap: quick.longest_gap,
    })
}

/// The blocks of a release.
struct Blocks {
    /// When the first request was due, in microseconds since the Unix epoch.
    first: u64,
    millis: u64,
    count: usize,
}

impl Blocks {
    fn of<'a>(answers: impl Iterator<Item = &'a Answer> + Clone) -> Option<Blocks> {
        let due = answers.map(|it| it.intended);
        let (first, last) = (due.clone().min()?, due.max()?);
        let millis = (last - first) / 1000 + 1;
        let longer = millis.div_ceil(BLOCKS_AT_MOST).next_multiple_of(100);
        let block = longer.max(SHORTEST_BLOCK);
        Some(Blocks {
            first,
            millis: block,
            count: usize::try_from(millis.div_ceil(block)).unwrap_or(0),
        })
    }

    /// Returns the milliseconds from the first request to this time.
    fn after(&self, at: u64) -> u64 {
        at.saturating_sub(self.first) / 1000
    }

    /// Returns the number of the block of this time; the last one, if it is after the end.
    fn number(&self, at: u64) -> usize {
        let number = self.after(at) / self.millis;
        usize::try_from(number)
            .unwrap_or(usize::MAX)
            .min(self.count - 1)
    }

    fn lane<'a>(
        &self,
        figures: &LaneFigures,
        answers: impl Iterator<Item = &'a Answer>,
        [old, new]: [&String; 2],
    ) -> LaneTraffic {
        let mut lane = LaneTraffic {
            from: figures.from.to_string(),
            lane: figures.lane.to_string(),
            longest_gap: figures.overall.longest_gap,
            longest_gap_from_millis: self.after(figures.longest_gap_began),
            old: vec![0; self.count],
            new: vec![0; self.count],
            other: vec![0; self.count],
            failed: vec![0; self.count],
        };
        for answer in answers {
            let number = self.number(answer.intended);
            lane.failed[number] += u64::from(answer.failed());
            match answer.version() {
                Some(version) if version == old => lane.old[number] += 1,
                Some(version) if version == new => lane.new[number] += 1,
                None if answer.outcome.status().is_none() => {}
                _ => lane.other[number] += 1,
            }
        }
        lane
    }

    /// Returns the last numbers of each block. A block without any has those of the block before.
    fn replicas(&self, seen: &[ReadyReplicas]) -> Vec<ColourReplicas> {
        if seen.is_empty() {
            return Vec::new();
        }
        let of = |(index, colour): (usize, Colour)| {
            let mut ready = vec![None; self.count];
            let since_start = seen.iter().filter(|it| micros(it.at) >= self.first);
            for it in since_start {
                ready[self.number(micros(it.at))] = Some(it.ready[index]);
            }
            for number in 1..self.count {
                ready[number] = ready[number].or(ready[number - 1]);
            }
            ColourReplicas {
                colour: colour.to_string(),
                ready,
            }
        };
        Colour::ALL.into_iter().enumerate().map(of).collect()
    }

    fn latency<'a>(&self, answers: impl Iterator<Item = &'a Answer>) -> LatencyBlocks {
        let mut times = vec![Vec::new(); self.count];
        for answer in answers.filter(|it| it.good) {
            times[self.number(answer.intended)].push(answer.took);
        }
        times.iter_mut().for_each(|it| it.sort_unstable());
        LatencyBlocks {
            p50: times.iter().map(|it| at_percent(it, 50)).collect(),
            p99: times.iter().map(|it| at_percent(it, 99)).collect(),
        }
    }
}

/// Returns the nearest rank of sorted times.
fn at_percent(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubernetes::prober::{Identity, Moments, Phases, RequestOutcome, Vantage};

    use super::*;

    /// An answer of `version`, or a reset, that was due after `millis`.
    fn answer(lane: &str, millis: u64, version: Option<&str>) -> Answer {
        Answer {
            lane: Arc::from(lane),
            intended: 1_000_000_000 + millis * 1000,
            sent_after: 0,
            took: 2_000,
            good: version.is_some(),
            outcome: match version {
                Some(_) => RequestOutcome::Status(200),
                None => RequestOutcome::Reset,
            },
            by: version.map(|version| {
                Arc::new(Identity {
                    version: version.to_owned(),
                    ..Identity::default()
                })
            }),
            on: None,
        }
    }

    #[test]
    fn answers_are_counted_by_version_and_block_and_the_gap_has_its_time() {
        let answers = vec![
            answer("pooled", 0, Some("v1")),
            answer("pooled", 400, Some("v1")),
            answer("pooled", 700, None),
            answer("pooled", 1_700, Some("v2")),
            answer("pooled", 1_900, Some("v3")),
            answer("slow", 1_600, Some("v1")),
        ];
        let recordings = [Recording {
            from: Vantage::Outside,
            answers,
            began: 0,
            ended: 0,
            lag: None,
            lost: 0,
            clock: None,
        }];
        let moments = Moments {
            patch: 1_000_600_000,
            scale_down: None,
            old: "v1".into(),
            new: "v2".into(),
        };
        let phases = Phases::find(moments, recordings.iter().flat_map(|it| &it.answers));
        let cut = FiguresByPhase::of(phases, &recordings);
        let ready = |millis: i64, ready| ReadyReplicas {
            at: Timestamp::from_millisecond(1_000_000 + millis).unwrap(),
            ready,
        };
        let replicas = [
            ready(600, [2, 0]),
            ready(900, [2, 1]),
            ready(1_700, [0, 2]),
            // After the last request.
            ready(5_000, [0, 3]),
        ];
        let traffic = of(&recordings, &replicas, &cut).unwrap();
        let [blue, green] = &traffic.replicas[..] else {
            panic!("{:?}", traffic.replicas)
        };
        assert_eq!(blue.ready, [None, Some(2), Some(2), Some(0)]);
        assert_eq!(green.ready, [None, Some(1), Some(1), Some(3)]);
        assert_eq!(traffic.block_millis, 500);
        let pooled = &traffic.lanes[0];
        assert_eq!(pooled.old, [2, 0, 0, 0]);
        assert_eq!(pooled.new, [0, 0, 0, 1]);
        assert_eq!(pooled.other, [0, 0, 0, 1]);
        assert_eq!(pooled.failed, [0, 1, 0, 0]);
        // From the end of the answer at 400 ms to that of the one at 1700 ms.
        assert_eq!(
            (pooled.longest_gap, pooled.longest_gap_from_millis),
            (1_300_000, 402)
        );
        assert_eq!(traffic.latency.p99, [Some(2_000), None, None, Some(2_000)]);
        let phases = traffic
            .phases
            .iter()
            .map(|it| (it.phase.as_str(), it.from_millis));
        let phases: Vec<_> = phases.collect();
        assert_eq!(phases[..2], [("before", 0), ("patch to first green", 600)]);
    }

    #[test]
    fn a_long_release_has_longer_blocks() {
        let answers = [answer("pooled", 0, None), answer("pooled", 900_000, None)];
        let blocks = Blocks::of(answers.iter()).unwrap();
        assert_eq!(blocks.millis, 7_600);
        assert!(blocks.count as u64 <= BLOCKS_AT_MOST);
        assert_eq!(blocks.number(answers[1].intended), blocks.count - 1);
        assert!(Blocks::of([].iter()).is_none());
    }
}
