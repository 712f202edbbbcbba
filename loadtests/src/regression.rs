//! Whether a version is slower, or fails more, than another: verdicts one can act on.
//!
//! Each endpoint's p50, p95, p99, error share and throughput are held against each other,
//! with an interval by a block bootstrap over blocks and whole runs ([`REPLICATES`] replicates).
//! What is `regressed` is worse by more than chance explains, over all endpoints together,
//! *and* by more than matters; `unchanged` is only what is shown to be; for the rest it is
//! said why there is no verdict, and which change could have been seen.

use std::collections::BTreeMap;

mod calibration;
mod change_points;
mod comparison;
mod effect;
mod history;
mod holm;
mod judge;
mod metric;
mod series;
mod settings;
mod sides;
mod simulation;
mod table;
#[cfg(test)]
mod tests;

pub use calibration::{Calibration, calibrate};
pub use comparison::{Comparison, Numbers, Row};
pub use effect::REPLICATES;
pub use history::{Change, FEWEST_OF_HISTORY, History, history};
pub use metric::Metric;
pub use settings::{Floors, Settings};
pub use sides::FEWEST_BLOCKS;
#[cfg(test)]
pub(crate) use simulation::made_up_pairs;
pub use simulation::{Noise, Rates, Simulation, simulate};

/// What a comparison comes to: the report's word for it.
pub use harness::run::comparison::Verdict;

use effect::Effect;
use metric::Each;
use series::Series;
use sides::{Sides, Taken};

use crate::result::LoadResult;

/// Fewer pairs, or stored runs, do not tell how much runs differ from each other.
pub const FEWEST_RUNS: usize = 5;

/// Holds version B against version A, by runs that were made in turn: A, B, A, B, ...
///
/// Within each side all runs must be of the same versions; of all runs the rest of the
/// fingerprint must be the same.
pub fn compare_pairs(pairs: &[(LoadResult, LoadResult)], settings: &Settings) -> Comparison {
    let warm_up_blocks = settings.warm_up_blocks;
    let sides = Sides {
        a: taken("A's", pairs.iter().map(|(a, _)| a), warm_up_blocks),
        b: taken("B's", pairs.iter().map(|(_, b)| b), warm_up_blocks),
    };
    let of = format!("{} pairs of runs", pairs.len());
    let mut obstacles = sides.obstacles(settings);
    if pairs.len() < FEWEST_RUNS {
        let few = pairs.len();
        obstacles.push(format!("there are {few} pairs, {FEWEST_RUNS} are needed"));
    }
    compare(of, &sides, obstacles, settings, effect::of_pairs)
}

/// Holds one run against `stored` ones, whose warm-up was left out when they were stored.
///
/// How much runs differ from each other is taken from the stored ones: their machine must
/// have been as busy as the run's.
pub fn compare_with_stored(
    stored: &[LoadResult],
    run: &LoadResult,
    settings: &Settings,
) -> Comparison {
    let sides = Sides {
        a: taken("the baseline's", stored.iter(), 0),
        b: vec![Taken {
            label: format!("the run {}", run.run),
            result: run,
            warm_up_blocks: settings.warm_up_blocks,
        }],
    };
    let of = format!("run {} against {} stored runs", run.run, stored.len());
    let mut obstacles = sides.obstacles(settings);
    if stored.len() < FEWEST_RUNS {
        let few = stored.len();
        obstacles.push(format!(
            "the baseline has {few} runs, {FEWEST_RUNS} are needed"
        ));
    }
    compare(of, &sides, obstacles, settings, |stored, run, seed| {
        effect::of_baseline(stored, &run[0], seed)
    })
}

/// Why nothing could be held against `run`, whose first `warm_up_blocks` do not count.
pub fn unfit(run: &LoadResult, warm_up_blocks: u32) -> Option<String> {
    let taken = Taken {
        label: "the run".into(),
        result: run,
        warm_up_blocks,
    };
    taken.obstacle()
}

/// In what two runs differ that no two may that are compared: anything but their versions.
pub(crate) fn difference(one: &LoadResult, other: &LoadResult) -> Option<String> {
    let runs = [one, other];
    let [one, other] = runs.map(|result| Taken {
        label: format!("run {}", result.run),
        result,
        warm_up_blocks: 0,
    });
    sides::differing(&one, &other)
}

fn taken<'a>(
    whose: &str,
    runs: impl Iterator<Item = &'a LoadResult>,
    warm_up_blocks: u32,
) -> Vec<Taken<'a>> {
    let numbered = (1..).zip(runs);
    let taken = numbered.map(|(number, result)| Taken {
        label: format!("{whose} run {number} ({})", result.run),
        result,
        warm_up_blocks,
    });
    taken.collect()
}

/// What is known of a metric: its effect, or why there is none.
type Known = Result<Effect, String>;

fn compare(
    of: String,
    sides: &Sides,
    obstacles: Vec<String>,
    settings: &Settings,
    effects: impl Fn(&[Series], &[Series], u64) -> Each<Effect>,
) -> Comparison {
    let mut rows = Vec::new();
    if obstacles.is_empty() {
        let endpoints = (0..).zip(sides.endpoints()).map(|(number, endpoint)| {
            let seed = settings.seed.wrapping_add(number);
            (endpoint, know(sides, endpoint, seed, &effects))
        });
        let known: BTreeMap<&str, Each<Known>> = endpoints.collect();
        for metric in Metric::ALL {
            rows.extend(judge_all(metric, &known, settings));
        }
        rows.sort_by(|one, other| {
            (&one.endpoint, one.metric).cmp(&(&other.endpoint, other.metric))
        });
    }
    Comparison {
        of,
        obstacles,
        rows,
    }
}

fn know(
    sides: &Sides,
    endpoint: &str,
    seed: u64,
    effects: impl Fn(&[Series], &[Series], u64) -> Each<Effect>,
) -> Each<Known> {
    let (a, b) = match sides.series(endpoint) {
        Ok(series) => series,
        Err(why) => return Metric::ALL.map(|_| Err(why.clone())),
    };
    let effects = effects(&a, &b, seed);
    Metric::ALL.map(|metric| {
        let effect = effects[metric as usize];
        match sides.untold(metric, &a, &b) {
            Some(why) => Err(why),
            None if !effect.is_known() => Err(format!(
                "{metric} comes to no number: a change of {}, with a standard error of {}",
                effect.change, effect.standard_error
            )),
            None => Ok(effect),
        }
    })
}

/// Judges one metric of all endpoints, which share one error rate.
fn judge_all(metric: Metric, known: &BTreeMap<&str, Each<Known>>, settings: &Settings) -> Vec<Row> {
    let of_metric = || known.values().map(|each| &each[metric as usize]);
    let p_values: Vec<f64> = of_metric().flatten().map(Effect::p_value).collect();
    let mut levels = holm::levels(&p_values, 1.0 - settings.confidence).into_iter();
    let rows = known.keys().zip(of_metric()).map(|(endpoint, known)| {
        let judged = match known {
            Err(why) => (Verdict::NotComparable, why.clone(), None),
            Ok(effect) => {
                let level = levels.next().expect("one for each effect");
                let (verdict, reason, numbers) =
                    judge::judge(metric, effect, &settings.floors, level);
                (verdict, reason, Some(numbers))
            }
        };
        let (verdict, reason, numbers) = judged;
        Row {
            endpoint: (*endpoint).to_owned(),
            metric,
            verdict,
            reason,
            numbers,
        }
    });
    rows.collect()
}
