//! The changes over the runs of a baseline.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::change_points::change_points;
use super::comparable_runs::{ComparedRun, differing};
use super::compared_runs;
use super::metric::{ComparedMetric, Each};
use super::settings::Settings;
use crate::result::LoadResult;

/// The fewest runs of a history.
pub const FEWEST_OF_HISTORY: usize = 30;

/// The changes over many stored runs, of all versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct History {
    /// The number of runs.
    pub runs: usize,
    /// The reasons why no changes can be found.
    pub obstacles: Vec<String>,
    /// Endpoints that are in too few of the runs.
    pub left_out: Vec<String>,
    /// By endpoint, metric, then time.
    pub changes: Vec<Change>,
}

/// A lasting change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// The endpoint's name.
    pub endpoint: String,
    /// The metric.
    pub metric: ComparedMetric,
    /// The first run after the change.
    pub run: String,
    /// The mean over the runs before it, back to the previous change.
    pub before: f64,
    /// The mean over the runs after it, up to the next change.
    pub after: f64,
    /// From before to after, on the metric's scale ([`ComparedMetric::human_change`]).
    pub change: f64,
    /// Whether the new value is worse.
    pub worse: bool,
}

/// Finds the changes over `runs`, which are in chronological order and without their warm-up.
/// Changes within the floors are left out.
pub fn history(runs: &[LoadResult], settings: &Settings) -> History {
    let compared_runs = compared_runs("the baseline's", runs.iter(), 0);
    let mut history = History {
        runs: runs.len(),
        obstacles: obstacles(&compared_runs, settings),
        left_out: Vec::new(),
        changes: Vec::new(),
    };
    if !history.obstacles.is_empty() {
        return history;
    }
    for (endpoint, measured) in measured(&compared_runs) {
        if measured.len() < FEWEST_OF_HISTORY {
            history.left_out.push(endpoint.to_owned());
            continue;
        }
        for metric in ComparedMetric::ALL {
            let found = changes(endpoint, metric, &measured, settings);
            history.changes.extend(found);
        }
    }
    history
}

fn obstacles(runs: &[ComparedRun], settings: &Settings) -> Vec<String> {
    let mut obstacles: Vec<String> = settings.fault().into_iter().collect();
    let count = runs.len();
    if count < FEWEST_OF_HISTORY {
        let few = format!("there are {count} runs, {FEWEST_OF_HISTORY} are needed");
        obstacles.push(few);
    }
    obstacles.extend(runs.iter().filter_map(ComparedRun::obstacle));
    let mut neighbours = runs.windows(2);
    obstacles.extend(neighbours.find_map(|runs| differing(&runs[0], &runs[1])));
    obstacles
}

/// A run's name and its metrics.
type Measured<'a> = (&'a str, Each<f64>);

/// Returns for each endpoint the metrics of each run that has it.
fn measured<'a>(runs: &[ComparedRun<'a>]) -> BTreeMap<&'a str, Vec<Measured<'a>>> {
    let mut measured: BTreeMap<&str, Vec<Measured>> = BTreeMap::new();
    for run in runs {
        for endpoint in run.result.endpoints.keys() {
            if let Ok(series) = run.series(endpoint) {
                let of_endpoint = measured.entry(endpoint).or_default();
                of_endpoint.push((&run.result.run, series.measured()));
            }
        }
    }
    measured
}

fn changes(
    endpoint: &str,
    metric: ComparedMetric,
    measured: &[Measured],
    settings: &Settings,
) -> Vec<Change> {
    let measured = measured.iter();
    let values = measured.map(|(run, each)| (*run, each[metric as usize]));
    let known = values.filter(|(_, value)| value.is_finite());
    let (runs, values): (Vec<&str>, Vec<f64>) = known.unzip();
    let mut bounds = vec![0];
    bounds.extend(change_points(&values, settings.seed));
    bounds.push(values.len());
    let changes = bounds.windows(3).filter_map(|bounds| {
        let [from, at, to] = [bounds[0], bounds[1], bounds[2]];
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (before, after) = (mean(&values[from..at]), mean(&values[at..to]));
        let change = after - before;
        let before = metric.unscaled(before);
        (change.abs() > settings.floors.of(metric, before)).then(|| Change {
            endpoint: endpoint.to_owned(),
            metric,
            run: runs[at].to_owned(),
            before,
            after: metric.unscaled(after),
            change,
            worse: (change > 0.0) == metric.more_is_worse(),
        })
    });
    changes.collect()
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.runs;
        for obstacle in &self.obstacles {
            writeln!(f, "no changes can be found over {runs} runs: {obstacle}")?;
        }
        for endpoint in &self.left_out {
            writeln!(
                f,
                "{endpoint} is in fewer than {FEWEST_OF_HISTORY} of {runs} runs"
            )?;
        }
        if self.obstacles.is_empty() && self.changes.is_empty() {
            writeln!(f, "nothing changed over {runs} runs")?;
        }
        let mut changes = self.changes.iter();
        changes.try_for_each(|change| writeln!(f, "{change}"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (endpoint, metric, run) = (&self.endpoint, self.metric, &self.run);
        let direction = if self.worse { "worse" } else { "better" };
        let [before, after] = [self.before, self.after].map(|value| metric.human(value));
        let change = metric.human_change(self.change);
        write!(
            f,
            "{endpoint} {metric} is {direction} since run {run}: {before} to {after} ({change})"
        )
    }
}
