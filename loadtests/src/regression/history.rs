//! What changed over the runs of a baseline.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::change_points::change_points;
use super::metric::{Each, Metric};
use super::settings::Settings;
use super::sides::{Taken, differing};
use super::taken;
use crate::result::LoadResult;

/// Fewer runs are no history.
pub const FEWEST_OF_HISTORY: usize = 30;

/// What changed over many stored runs, whichever versions they are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct History {
    /// How many runs there are.
    pub runs: usize,
    /// Why no change can be told.
    pub obstacles: Vec<String>,
    /// Endpoints that too few of the runs have.
    pub left_out: Vec<String>,
    /// By endpoint, metric, then time.
    pub changes: Vec<Change>,
}

/// Something changed, and stayed so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// The endpoint's name.
    pub endpoint: String,
    /// What of it.
    pub metric: Metric,
    /// The first run after it.
    pub run: String,
    /// The mean over the runs before, back to the change before this one.
    pub before: f64,
    /// The same after.
    pub after: f64,
    /// From before to after, on the metric's scale ([`Metric::human_change`]).
    pub change: f64,
    /// Whether it is for the worse.
    pub worse: bool,
}

/// Finds what changed over `runs`, which are in the order of time and without their warm-up.
/// Changes within the floors are left out.
pub fn history(runs: &[LoadResult], settings: &Settings) -> History {
    let taken = taken("the baseline's", runs.iter(), 0);
    let mut history = History {
        runs: runs.len(),
        obstacles: obstacles(&taken, settings),
        left_out: Vec::new(),
        changes: Vec::new(),
    };
    if !history.obstacles.is_empty() {
        return history;
    }
    for (endpoint, measured) in measured(&taken) {
        if measured.len() < FEWEST_OF_HISTORY {
            history.left_out.push(endpoint.to_owned());
            continue;
        }
        for metric in Metric::ALL {
            history
                .changes
                .extend(changes(endpoint, metric, &measured, settings));
        }
    }
    history
}

fn obstacles(runs: &[Taken], settings: &Settings) -> Vec<String> {
    let mut obstacles: Vec<String> = settings.fault().into_iter().collect();
    if runs.len() < FEWEST_OF_HISTORY {
        let few = runs.len();
        obstacles.push(format!(
            "there are {few} runs, {FEWEST_OF_HISTORY} are needed"
        ));
    }
    obstacles.extend(runs.iter().filter_map(Taken::obstacle));
    let mut others = runs.iter().zip(runs.iter().skip(1));
    obstacles.extend(others.find_map(|(one, other)| differing(one, other)));
    obstacles
}

/// A run's name and its metrics.
type Measured<'a> = (&'a str, Each<f64>);

/// By endpoint, of each run that has it.
fn measured<'a>(runs: &[Taken<'a>]) -> BTreeMap<&'a str, Vec<Measured<'a>>> {
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
    metric: Metric,
    measured: &[Measured],
    settings: &Settings,
) -> Vec<Change> {
    let known = measured
        .iter()
        .map(|(run, each)| (*run, each[metric as usize]));
    let (runs, values): (Vec<&str>, Vec<f64>) = known.filter(|(_, it)| it.is_finite()).unzip();
    let points = change_points(&values, settings.seed);
    let bounds: Vec<usize> = [0]
        .into_iter()
        .chain(points)
        .chain([values.len()])
        .collect();
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
            writeln!(f, "no changes can be told over {runs} runs: {obstacle}")?;
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
        self.changes
            .iter()
            .try_for_each(|change| writeln!(f, "{change}"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change {
            endpoint,
            metric,
            run,
            ..
        } = self;
        let way = if self.worse { "worse" } else { "better" };
        let [before, after] = [self.before, self.after].map(|value| metric.human(value));
        let change = metric.human_change(self.change);
        write!(
            f,
            "{endpoint} {metric} is {way} since run {run}: {before} to {after} ({change})"
        )
    }
}
