//! The runs that are compared, and whether they are comparable.

use std::collections::BTreeSet;

use super::metric::ComparedMetric;
use super::series::{BlockSeries, Total};
use super::settings::Settings;
use crate::result::{Ended, Fingerprint, LoadResult, SCHEMA};

/// The fewest blocks of a run. Fewer do not show how blocks vary.
pub const FEWEST_BLOCKS: u32 = 10;

/// The fewest blocks with requests to an endpoint, for the same reason.
const FEWEST_WITH_REQUESTS: u32 = 5;

/// The fewest samples beyond a quantile.
const FEWEST_BEYOND: f64 = 5.0;

/// The largest share of failures. With more, latencies are not those of answers.
const MOST_FAILED: f64 = 0.1;

/// The runs of A and of B.
pub(super) struct Sides<'a> {
    pub a: Vec<ComparedRun<'a>>,
    pub b: Vec<ComparedRun<'a>>,
}

/// A run of a comparison.
pub(super) struct ComparedRun<'a> {
    /// `A's run 3 (01K..)`.
    pub label: String,
    pub result: &'a LoadResult,
    /// The number of blocks at its start that do not count.
    pub warm_up_blocks: u32,
}

impl<'a> ComparedRun<'a> {
    /// Returns why this run cannot be compared with any other.
    pub fn obstacle(&self) -> Option<String> {
        let ComparedRun { label, result, .. } = self;
        let generator = &result.generator;
        let counted = result.blocks().saturating_sub(self.warm_up_blocks);
        let obstacle = if result.schema != SCHEMA || result.block_millis == 0 {
            format!(
                "{label} has schema {} and blocks of {} ms; schema {SCHEMA} is needed",
                result.schema, result.block_millis
            )
        } else if result.ended == Ended::Interrupted {
            format!("{label} was interrupted")
        } else if let Ended::Aborted { threshold } = &result.ended {
            format!("{label} was aborted by the threshold `{threshold}`")
        } else if let Some(why) = &generator.bottleneck {
            format!("{label}: the load generator was the bottleneck: {why}")
        } else if !generator.cores_used.is_finite() {
            format!("{label}: the load generator's use of cores is not a number")
        } else if counted < FEWEST_BLOCKS {
            format!(
                "{label} has {counted} blocks after a warm-up of {}, {FEWEST_BLOCKS} are needed",
                self.warm_up_blocks
            )
        } else {
            return None;
        };
        Some(obstacle)
    }

    /// Returns one endpoint's blocks.
    pub fn series(&self, endpoint: &str) -> Result<BlockSeries, String> {
        let result = self.result;
        let label = &self.label;
        let endpoint = result.endpoints.get(endpoint);
        let endpoint = endpoint.ok_or_else(|| format!("{label} has no such endpoint"))?;
        let (from, to) = (self.warm_up_blocks, result.blocks());
        let series = BlockSeries::new(endpoint, from, to, result.block_millis);
        match series.total.blocks {
            blocks @ ..FEWEST_WITH_REQUESTS => Err(format!(
                "{label} has requests to it in only {blocks} blocks, {FEWEST_WITH_REQUESTS} are needed"
            )),
            _ => Ok(series),
        }
    }
}

impl<'a> Sides<'a> {
    pub fn endpoints(&self) -> BTreeSet<&'a str> {
        let names = self.all().flat_map(|run| run.result.endpoints.keys());
        names.map(String::as_str).collect()
    }

    fn all(&self) -> impl Iterator<Item = &ComparedRun<'a>> {
        self.a.iter().chain(&self.b)
    }

    /// Returns why nothing can be compared.
    pub fn obstacles(&self, settings: &Settings) -> Vec<String> {
        let settings = settings.fault().into_iter();
        let runs = self.all().filter_map(ComparedRun::obstacle);
        let mut neighbours = self.all().zip(self.all().skip(1));
        let different = neighbours.find_map(|(one, other)| differing(one, other));
        let versions = [&self.a, &self.b].into_iter().filter_map(|side| {
            let mut neighbours = side.windows(2);
            neighbours.find_map(|runs| differing_versions(&runs[0], &runs[1]))
        });
        settings
            .chain(runs)
            .chain(different)
            .chain(versions)
            .collect()
    }

    /// Returns one endpoint's blocks in all runs of A, and of B.
    pub fn series(&self, endpoint: &str) -> Result<(Vec<BlockSeries>, Vec<BlockSeries>), String> {
        let of = |side: &[ComparedRun]| -> Result<Vec<_>, String> {
            side.iter().map(|run| run.series(endpoint)).collect()
        };
        Ok((of(&self.a)?, of(&self.b)?))
    }

    /// Returns why a metric cannot be measured.
    pub fn unmeasurable(
        &self,
        metric: ComparedMetric,
        a: &[BlockSeries],
        b: &[BlockSeries],
    ) -> Option<String> {
        let q = metric.quantile()?;
        let mut runs = self.all().zip(a.iter().chain(b));
        runs.find_map(|(run, series)| {
            let why = unmeasurable_quantile(metric, q, series)?;
            Some(format!("{}: {why}", run.label))
        })
    }
}

fn unmeasurable_quantile(metric: ComparedMetric, q: f64, series: &BlockSeries) -> Option<String> {
    let Total {
        requests,
        failed,
        dropped,
        samples,
        ..
    } = series.total;
    let needed = FEWEST_BEYOND / (1.0 - q);
    let due = requests + dropped;
    // Rounded, as 1 - 0.99 is a little less than 0.01.
    let why = if (samples as f64) < needed.round() {
        format!("{samples} samples, and {metric} needs {needed:.0}")
    } else if failed as f64 > MOST_FAILED * requests as f64 {
        format!("{failed} of {requests} requests failed, so {metric} does not describe answers")
    } else if dropped as f64 > (1.0 - q) * due as f64 {
        format!("{dropped} of {due} arrivals were dropped, which may hide the {metric}")
    } else {
        return None;
    };
    Some(why)
}

/// Returns a difference of two runs that makes them incomparable.
pub(super) fn differing(one: &ComparedRun, other: &ComparedRun) -> Option<String> {
    // All fields but the versions: a new field is compared, too.
    let [left, right] = [one, other].map(|run| {
        let Fingerprint {
            target,
            profile,
            plan,
            versions: _,
            machine,
        } = &run.result.fingerprint;
        [
            ("target", target),
            ("profile", profile),
            ("plan", plan),
            ("machine", machine),
        ]
    });
    let other_engine = one.result.engine != other.result.engine;
    let (one, other) = (&one.label, &other.label);
    for ((name, left), (_, right)) in left.into_iter().zip(right) {
        if left != right {
            return Some(format!(
                "the {name} of {one} is `{left}`, that of {other} is `{right}`"
            ));
        }
    }
    other_engine.then(|| format!("{one} and {other} are from different engines"))
}

fn differing_versions(one: &ComparedRun, other: &ComparedRun) -> Option<String> {
    let [left, right] = [one, other].map(|run| &run.result.fingerprint.versions);
    let services: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let mut services = services.into_iter();
    let service = services.find(|service| left.get(*service) != right.get(*service))?;
    let [left, right] = [left, right].map(|versions| match versions.get(service) {
        Some(version) => version.as_str(),
        None => "none",
    });
    let (one, other) = (&one.label, &other.label);
    Some(format!(
        "the version of {service} was {left} in {one}, but {right} in {other}"
    ))
}
