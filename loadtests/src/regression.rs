//! Whether a version is slower, or fails more, than another.
//!
//! Each endpoint's p50, p95, p99, error share and throughput are compared, with an interval from a
//! block bootstrap over blocks and whole runs ([`REPLICATES`] replicates). `regressed` means worse
//! by more than chance explains, over all endpoints together, *and* by more than a relevant amount.
//! `unchanged` is also proven. Otherwise the reason explains why there is no verdict, and which
//! change could be detected.

use std::collections::BTreeMap;

mod calibration;
mod change_points;
mod comparable_runs;
mod comparison;
mod effect;
mod evaluate;
mod history;
mod metric;
mod series;
mod settings;
mod simulation;
mod table;
#[cfg(test)]
mod tests;

pub use calibration::{Calibration, calibrate};
pub use comparable_runs::FEWEST_BLOCKS;
pub use comparison::{Comparison, Numbers, Row};
pub use effect::REPLICATES;
pub use history::{Change, FEWEST_OF_HISTORY, History, history};
pub use metric::ComparedMetric;
pub use settings::{Floors, Settings};
pub use simulation::{Noise, Rates, Simulation, simulate};
#[cfg(test)]
pub(crate) use simulation::{simulated_pairs, simulated_result};

/// The verdict of a comparison, as in reports.
pub use base::run::comparison::ComparisonVerdict;

use comparable_runs::{ComparedRun, Sides};
use effect::Effect;
use metric::Each;
use series::BlockSeries;

use crate::result::LoadResult;

/// Fewer pairs, or stored runs, do not show how much runs differ from each other.
pub const FEWEST_RUNS: usize = 5;

/// Compares version B with version A, by runs that were made in turn: A, B, A, B, ...
///
/// The versions must be the same on each side, the rest of the fingerprint for all runs.
pub fn compare_pairs(pairs: &[(LoadResult, LoadResult)], settings: &Settings) -> Comparison {
    let warm_up_blocks = settings.warm_up_blocks;
    let sides = Sides {
        a: compared_runs("A's", pairs.iter().map(|(a, _)| a), warm_up_blocks),
        b: compared_runs("B's", pairs.iter().map(|(_, b)| b), warm_up_blocks),
    };
    let count = pairs.len();
    let mut obstacles = sides.obstacles(settings);
    if count < FEWEST_RUNS {
        obstacles.push(format!("there are {count} pairs, {FEWEST_RUNS} are needed"));
    }
    let of = format!("{count} pairs of runs");
    compare(of, &sides, obstacles, settings, effect::of_pairs)
}

/// Compares one run with `stored` ones, which have no warm-up.
///
/// The stored runs show how much runs differ. Their machine must have been as busy as the run's.
pub fn compare_with_stored(
    stored: &[LoadResult],
    run: &LoadResult,
    settings: &Settings,
) -> Comparison {
    let sides = Sides {
        a: compared_runs("the baseline's", stored.iter(), 0),
        b: vec![ComparedRun {
            label: format!("the run {}", run.run),
            result: run,
            warm_up_blocks: settings.warm_up_blocks,
        }],
    };
    let count = stored.len();
    let mut obstacles = sides.obstacles(settings);
    if count < FEWEST_RUNS {
        let few = format!("the baseline has {count} runs, {FEWEST_RUNS} are needed");
        obstacles.push(few);
    }
    let of = format!("run {} against {count} stored runs", run.run);
    compare(of, &sides, obstacles, settings, |stored, run, seed| {
        effect::of_baseline(stored, &run[0], seed)
    })
}

/// Returns why `run`, without its first `warm_up_blocks`, cannot be compared with any other.
pub fn unfit(run: &LoadResult, warm_up_blocks: u32) -> Option<String> {
    let run = ComparedRun {
        label: "the run".into(),
        result: run,
        warm_up_blocks,
    };
    run.obstacle()
}

/// Returns a difference of two runs, other than their versions, that makes them incomparable.
pub(crate) fn difference(one: &LoadResult, other: &LoadResult) -> Option<String> {
    let [one, other] = [one, other].map(|result| ComparedRun {
        label: format!("run {}", result.run),
        result,
        warm_up_blocks: 0,
    });
    comparable_runs::differing(&one, &other)
}

fn compared_runs<'a>(
    whose: &str,
    runs: impl Iterator<Item = &'a LoadResult>,
    warm_up_blocks: u32,
) -> Vec<ComparedRun<'a>> {
    let numbered = (1..).zip(runs);
    let runs = numbered.map(|(number, result)| ComparedRun {
        label: format!("{whose} run {number} ({})", result.run),
        result,
        warm_up_blocks,
    });
    runs.collect()
}

/// The effect on a metric, or the reason why it is unknown.
type EffectResult = Result<Effect, String>;

fn compare(
    of: String,
    sides: &Sides,
    obstacles: Vec<String>,
    settings: &Settings,
    effects: impl Fn(&[BlockSeries], &[BlockSeries], u64) -> Each<Effect>,
) -> Comparison {
    let mut rows = Vec::new();
    if obstacles.is_empty() {
        let endpoints = (0..).zip(sides.endpoints()).map(|(number, endpoint)| {
            let seed = settings.seed.wrapping_add(number);
            (endpoint, effects_on(sides, endpoint, seed, &effects))
        });
        let known: BTreeMap<&str, Each<EffectResult>> = endpoints.collect();
        for metric in ComparedMetric::ALL {
            rows.extend(evaluate_metric(metric, &known, settings));
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

fn effects_on(
    sides: &Sides,
    endpoint: &str,
    seed: u64,
    effects: impl Fn(&[BlockSeries], &[BlockSeries], u64) -> Each<Effect>,
) -> Each<EffectResult> {
    let (a, b) = match sides.series(endpoint) {
        Ok(series) => series,
        Err(why) => return ComparedMetric::ALL.map(|_| Err(why.clone())),
    };
    let effects = effects(&a, &b, seed);
    ComparedMetric::ALL.map(|metric| {
        let effect = effects[metric as usize];
        match sides.unmeasurable(metric, &a, &b) {
            Some(why) => Err(why),
            None if !effect.is_known() => Err(format!(
                "{metric} has no finite value: a change of {}, with a standard error of {}",
                effect.change, effect.standard_error
            )),
            None => Ok(effect),
        }
    })
}

/// Evaluates one metric of all endpoints, which share one error rate.
fn evaluate_metric(
    metric: ComparedMetric,
    known: &BTreeMap<&str, Each<EffectResult>>,
    settings: &Settings,
) -> Vec<Row> {
    let of_metric = || known.values().map(|each| &each[metric as usize]);
    let p_values: Vec<f64> = of_metric().flatten().map(Effect::p_value).collect();
    let mut levels = evaluate::levels(&p_values, 1.0 - settings.confidence).into_iter();
    let rows = known.keys().zip(of_metric()).map(|(endpoint, known)| {
        let (verdict, reason, numbers) = match known {
            Err(why) => (ComparisonVerdict::NotComparable, why.clone(), None),
            Ok(effect) => {
                let level = levels.next().expect("one for each effect");
                let (verdict, reason, numbers) =
                    evaluate::evaluate(metric, effect, &settings.floors, level);
                (verdict, reason, Some(numbers))
            }
        };
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
