//! `metrics.txt`: the numbers of a run, for charts over many runs.
//!
//! The format is OpenMetrics 1.0. Every family is a gauge, and no sample has a time: then the file
//! is also one of Prometheus' text format, which has no other type in common and whose readers
//! (node_exporter, the Pushgateway) refuse times. Gauges also fit what the numbers are: those of
//! one run that has ended, which the next run replaces. Percentiles are gauges with a label, as a
//! summary would have counts and sums that grow.
//!
//! Labels have few values over time, so that the nights of a month are one line of a chart. What
//! differs from run to run is in `rehearsal_run_info` alone.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

use super::model::{Report, RunVerdict};
use base::run::comparison::ComparisonVerdict;
use base::run::load::{EndpointMeasurement, LoadMeasurement, Percentiles};
use base::run::release::ReleaseTraffic;

/// The prefix of all names.
const PREFIX: &str = "rehearsal";
/// The name of all endpoints together.
const ALL_ENDPOINTS: &str = "(all)";

/// Renders `metrics.txt`.
pub(super) fn render(report: &Report) -> Result<String, fmt::Error> {
    let common = labels([
        ("platform", &report.platform),
        ("target", &report.target),
        ("command", command(&report.command)),
    ]);
    let mut families = of_run(report);
    families.extend(of_loads(&report.loads));
    families.extend(of_releases(&report.releases));
    families.push(of_comparisons(report));
    encode(common, families)
}

/// Renders the numbers of one load on `target`, as in `metrics.txt`.
pub fn load_metrics(target: &str, load: &LoadMeasurement) -> String {
    let families = of_loads(std::slice::from_ref(load));
    let text = encode(labels([("target", target)]), families);
    text.expect("a string takes any text")
}

type Labels = Vec<(&'static str, String)>;

/// A family of gauges. A series that is given twice has the later value, as a file with both would
/// be refused.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    series: BTreeMap<Labels, f64>,
}

impl Family {
    fn new(
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Self {
        Family {
            name,
            help,
            unit: None,
            series: series.into_iter().collect(),
        }
    }

    /// A family of times, whose name ends in `_seconds`.
    fn seconds(
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Self {
        Family {
            unit: Some(Unit::Seconds),
            ..Family::new(name, help, series)
        }
    }
}

/// Returns labels. An empty one is left out, which is the same to readers.
fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    pairs
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
}

/// Returns a single series, without labels of its own.
fn one(value: impl Into<Option<f64>>) -> Option<(Labels, f64)> {
    value.into().map(|value| (Labels::new(), value))
}

/// Returns the command without its options, which may have a name for each run: `load run smoke`.
fn command(arguments: &str) -> &str {
    let end = arguments.find(" -").unwrap_or(arguments.len());
    &arguments[..end]
}

/// Returns the value as `report.json` has it.
fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn of_run(report: &Report) -> Vec<Family> {
    let (commit, dirty) = match &report.checkout {
        Some(checkout) => (checkout.commit.as_str(), checkout.dirty),
        None => ("", false),
    };
    let info = labels([
        ("run", &report.run),
        ("arguments", &report.command),
        ("environment", &report.environment),
        ("version", &report.platform_version),
        ("commit", commit),
        ("dirty", if dirty { "true" } else { "false" }),
    ]);
    let held = report.verdict == RunVerdict::Held;
    let verdict = labels([("verdict", &word(report.verdict))]);
    let started = report.started_at.map(|at| at.as_duration().as_secs_f64());
    let checks = [
        ("passed", report.checks.passed),
        ("failed", report.checks.failed),
        ("inconclusive", report.checks.inconclusive),
        ("skipped", report.checks.skipped),
    ];
    let checks = checks.map(|(result, count)| (labels([("result", result)]), count as f64));
    let mut stages: BTreeMap<String, u64> = BTreeMap::new();
    for stage in &report.stages {
        let millis = stages.entry(stage.stage.to_string()).or_default();
        *millis = millis.saturating_add(stage.millis);
    }
    let stages = stages
        .iter()
        .map(|(stage, millis)| (labels([("stage", stage)]), from_millis(*millis)));
    vec![
        Family::new("run_info", "What ran, always 1", [(info, 1.0)]),
        Family::new("run_held", "1 if the run held, else 0", one(flag(held))),
        Family::new("run_verdict", "1 for the verdict", [(verdict, 1.0)]),
        Family::new(
            "run_exit_code",
            "The exit code; none if the run did not finish",
            one(report.exit_code.map(|code| f64::from(u8::from(code)))),
        ),
        Family::seconds(
            "run_start_time",
            "When the run started, since 1970 in UTC",
            one(started),
        ),
        Family::seconds(
            "run_duration",
            "How long the run took",
            one(from_millis(report.millis)),
        ),
        Family::new("checks", "Checks by result", checks),
        Family::seconds("stage_duration", "How long each stage took", stages),
    ]
}

fn of_loads(loads: &[LoadMeasurement]) -> Vec<Family> {
    let endpoints = || {
        loads.iter().flat_map(|load| {
            let endpoints = load.endpoints.iter();
            endpoints.map(move |it| (of_endpoint(load, &it.name), it))
        })
    };
    let count = |count: fn(&EndpointMeasurement) -> u64| {
        endpoints().map(move |(labels, it)| (labels, count(it) as f64))
    };
    let whole = loads
        .iter()
        .map(|load| (of_endpoint(load, ALL_ENDPOINTS), &load.whole));
    let latencies = endpoints()
        .chain(whole)
        .flat_map(|(labels, it)| percentiles(labels, it.latency.as_ref()));
    let lags = loads
        .iter()
        .flat_map(|load| percentiles(of_load(load), load.generator.lag.as_ref()));
    let bottlenecks = loads.iter().map(|load| {
        let is_one = load.generator.bottleneck.is_some();
        (of_load(load), flag(is_one))
    });
    let versions = loads.iter().flat_map(|load| {
        let versions = load.versions.iter();
        versions.map(|(service, version)| {
            let version = labels([("service", service), ("version", version)]);
            ([of_load(load), version].concat(), 1.0)
        })
    });
    vec![
        Family::new(
            "load_requests",
            "Requests that were sent and have ended",
            count(|it| it.requests),
        ),
        Family::new(
            "load_failed_requests",
            "Requests without a good answer",
            count(|it| it.failed),
        ),
        Family::new(
            "load_dropped_arrivals",
            "Arrivals that were due and not sent",
            count(|it| it.dropped),
        ),
        Family::seconds(
            "load_latency",
            "Latency at percentiles, from when requests were due (open) or sent (closed)",
            latencies,
        ),
        Family::seconds(
            "load_generator_lag",
            "How late the load generator started requests, at percentiles",
            lags,
        ),
        Family::new(
            "load_generator_bottleneck",
            "1 if the load generator was the bottleneck: the latency is then not that of the platform",
            bottlenecks,
        ),
        Family::new(
            "load_version_info",
            "The versions that answered, always 1",
            versions,
        ),
    ]
}

/// Returns the families of the releases, all of a scenario together.
fn of_releases(releases: &[ReleaseTraffic]) -> Vec<Family> {
    let mut scenarios: BTreeMap<&str, (f64, f64, u64)> = BTreeMap::new();
    for release in releases {
        let (requests, failed, gap) = scenarios.entry(&release.scenario).or_default();
        for phase in &release.phases {
            *requests += phase.requests as f64;
            *failed += phase.failed as f64;
            *gap = phase.longest_gap.max(*gap);
        }
    }
    let each = |value: fn(&(f64, f64, u64)) -> f64| {
        let scenarios = scenarios.iter();
        scenarios.map(move |(name, it)| (labels([("scenario", name)]), value(it)))
    };
    vec![
        Family::new(
            "release_requests",
            "Requests that were sent during releases",
            each(|(requests, _, _)| *requests),
        ),
        Family::new(
            "release_failed_requests",
            "Requests without a good answer during releases",
            each(|(_, failed, _)| *failed),
        ),
        Family::seconds(
            "release_longest_gap",
            "The longest time without a good answer during releases",
            each(|(_, _, gap)| from_micros(*gap)),
        ),
    ]
}

fn of_comparisons(report: &Report) -> Family {
    let mut verdicts: BTreeMap<(&str, &str), ComparisonVerdict> = BTreeMap::new();
    for row in report.comparisons.iter().flat_map(|it| &it.rows) {
        let of = (row.endpoint.as_str(), row.metric.as_str());
        let most_urgent = verdicts.entry(of).or_insert(row.verdict);
        *most_urgent = row.verdict.max(*most_urgent);
    }
    let series = verdicts.iter().map(|((endpoint, metric), verdict)| {
        let verdict = verdict.to_string();
        let of = [
            ("endpoint", *endpoint),
            ("metric", metric),
            ("verdict", &verdict),
        ];
        (labels(of), 1.0)
    });
    Family::new("comparison_verdict", "1 for the verdict", series)
}

fn of_load(load: &LoadMeasurement) -> Labels {
    labels([("load", &load.of)])
}

fn of_endpoint(load: &LoadMeasurement, endpoint: &str) -> Labels {
    labels([("load", &load.of), ("endpoint", endpoint)])
}

fn percentiles(of: Labels, times: Option<&Percentiles>) -> Vec<(Labels, f64)> {
    let Some(times) = times else {
        return Vec::new();
    };
    let points = [
        ("50", times.p50),
        ("95", times.p95),
        ("99", times.p99),
        ("100", times.max),
    ];
    let series = points.map(|(percentile, micros)| {
        let labels = [&of[..], &labels([("percentile", percentile)])].concat();
        (labels, from_micros(micros))
    });
    series.into()
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn from_millis(millis: u64) -> f64 {
    millis as f64 / 1e3
}

fn from_micros(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// The families of a file, in their order.
#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for family in self.0.iter().filter(|it| !it.series.is_empty()) {
            let unit = family.unit.as_ref();
            let mut gauges =
                encoder.encode_descriptor(family.name, family.help, unit, MetricType::Gauge)?;
            for (labels, value) in &family.series {
                gauges.encode_family(labels)?.encode_gauge(value)?;
            }
        }
        Ok(())
    }
}

/// Encodes the families, with the labels that all have.
fn encode(common: Labels, families: Vec<Family>) -> Result<String, fmt::Error> {
    let common = common
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()));
    let mut registry = Registry::with_prefix_and_labels(PREFIX, common);
    registry.register_collector(Box::new(Families(families)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}
