//! The runs that are held against each other, and whether they can be.

use std::collections::BTreeSet;

use super::metric::Metric;
use super::series::Series;
use super::settings::Settings;
use crate::result::{Ended, Fingerprint, LoadResult, SCHEMA};

/// A run with fewer blocks tells nothing of how they vary.
pub const FEWEST_BLOCKS: u32 = 10;

/// An endpoint that is asked in fewer of them does not either.
const FEWEST_ASKED: u32 = 5;

/// A quantile is known by the samples beyond it.
const FEWEST_BEYOND: f64 = 5.0;

/// Where a larger share failed, latencies are not those of answers.
const MOST_FAILED: f64 = 0.1;

/// The runs of A and of B.
pub(super) struct Sides<'a> {
    pub a: Vec<Taken<'a>>,
    pub b: Vec<Taken<'a>>,
}

/// A run that takes part.
pub(super) struct Taken<'a> {
    /// `A's run 3 (01K..)`.
    pub label: String,
    pub result: &'a LoadResult,
    /// How many blocks at its begin do not count.
    pub warm_up_blocks: u32,
}

impl<'a> Taken<'a> {
    /// Why this run cannot be compared with any.
    pub fn obstacle(&self) -> Option<String> {
        let Taken { label, result, .. } = self;
        let generator = &result.generator;
        let counted = result.blocks().saturating_sub(self.warm_up_blocks);
        if result.schema != SCHEMA || result.block_millis == 0 {
            Some(format!(
                "{label} is of schema {} with blocks of {} ms, where schema {SCHEMA} is needed",
                result.schema, result.block_millis
            ))
        } else if result.ended == Ended::Interrupted {
            Some(format!("{label} was interrupted"))
        } else if let Ended::Aborted { threshold } = &result.ended {
            Some(format!(
                "{label} was aborted by the threshold `{threshold}`"
            ))
        } else if let Some(why) = &generator.bottleneck {
            Some(format!(
                "{label}: the load generator was the bottleneck: {why}"
            ))
        } else if !generator.cores_used.is_finite() {
            Some(format!(
                "{label}: the load generator's use of cores is no number"
            ))
        } else if counted < FEWEST_BLOCKS {
            Some(format!(
                "{label} has {counted} blocks after a warm-up of {}, {FEWEST_BLOCKS} are needed",
                self.warm_up_blocks
            ))
        } else {
            None
        }
    }

    /// One endpoint's blocks.
    pub fn series(&self, endpoint: &str) -> Result<Series, String> {
        let result = self.result;
        let found = result.endpoints.get(endpoint);
        let found = found.ok_or(format!("{} has no such endpoint", self.label))?;
        let (from, to) = (self.warm_up_blocks, result.blocks());
        let series = Series::new(found, from, to, result.block_millis);
        match series.total.blocks {
            asked @ ..FEWEST_ASKED => Err(format!(
                "{} has requests to it in only {asked} blocks, {FEWEST_ASKED} are needed",
                self.label
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

    fn all(&self) -> impl Iterator<Item = &Taken<'a>> {
        self.a.iter().chain(&self.b)
    }

    /// Why nothing can be compared.
    pub fn obstacles(&self, settings: &Settings) -> Vec<String> {
        let settings = settings.fault().into_iter();
        let runs = self.all().filter_map(Taken::obstacle);
        let mut others = self.all().zip(self.all().skip(1));
        let apart = others.find_map(|(one, other)| differing(one, other));
        let versions = [&self.a, &self.b].into_iter().filter_map(|side| {
            let mut others = side.iter().zip(side.iter().skip(1));
            others.find_map(|(one, other)| differing_versions(one, other))
        });
        settings.chain(runs).chain(apart).chain(versions).collect()
    }

    /// One endpoint's blocks in all runs of A, and of B.
    pub fn series(&self, endpoint: &str) -> Result<(Vec<Series>, Vec<Series>), String> {
        let of = |side: &[Taken]| -> Result<Vec<_>, String> {
            side.iter().map(|run| run.series(endpoint)).collect()
        };
        Ok((of(&self.a)?, of(&self.b)?))
    }

    /// Why a metric of theirs cannot be told.
    pub fn untold(&self, metric: Metric, a: &[Series], b: &[Series]) -> Option<String> {
        let q = metric.quantile()?;
        let mut runs = self.all().zip(a.iter().chain(b));
        runs.find_map(|(run, series)| {
            let why = untold_quantile(metric, q, series)?;
            Some(format!("{}: {why}", run.label))
        })
    }
}

fn untold_quantile(metric: Metric, q: f64, series: &Series) -> Option<String> {
    let total = &series.total;
    let samples = total.samples;
    let needed = FEWEST_BEYOND / (1.0 - q);
    let due = total.requests + total.dropped;
    let (failed, dropped) = (total.failed, total.dropped);
    // 500, where (1 - 0.99) is a little less than 0.01.
    if (samples as f64) < needed.round() {
        Some(format!("{samples} samples, and {metric} needs {needed:.0}"))
    } else if failed as f64 > MOST_FAILED * total.requests as f64 {
        let requests = total.requests;
        Some(format!(
            "{failed} of {requests} requests failed, so {metric} is not of answers"
        ))
    } else if dropped as f64 > (1.0 - q) * due as f64 {
        Some(format!(
            "{dropped} of {due} arrivals were dropped, and {metric} may be among them"
        ))
    } else {
        None
    }
}

/// In what two runs differ that no two may.
pub(super) fn differing(one: &Taken, other: &Taken) -> Option<String> {
    let fields = |run: &Taken| {
        let Fingerprint {
            target,
            profile,
            plan,
            versions: _,
            machine,
        } = run.result.fingerprint.clone();
        [target, profile, plan, machine]
    };
    let names = ["target", "profile", "plan", "machine"];
    let mut pairs = names
        .into_iter()
        .zip(fields(one).into_iter().zip(fields(other)));
    if let Some((name, (left, right))) = pairs.find(|(_, (left, right))| left != right) {
        let (one, other) = (&one.label, &other.label);
        return Some(format!(
            "the {name} of {one} is `{left}`, that of {other} is `{right}`"
        ));
    }
    (one.result.engine != other.result.engine)
        .then(|| format!("{} and {} are by different engines", one.label, other.label))
}

fn differing_versions(one: &Taken, other: &Taken) -> Option<String> {
    let [left, right] = [one, other].map(|run| &run.result.fingerprint.versions);
    let services: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let service = services
        .into_iter()
        .find(|it| left.get(*it) != right.get(*it))?;
    let version = |of: Option<&String>| of.map_or("none", String::as_str).to_owned();
    Some(format!(
        "the version of {service} was {} in {}, and {} in {}",
        version(left.get(service)),
        one.label,
        version(right.get(service)),
        other.label
    ))
}
