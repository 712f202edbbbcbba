//! The file of `--summary-export FILE`, the argument of `handleSummary`, and the text at a run's end.

mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::error::OutputError;
use super::file::OutputFile;
use super::metric::{K6Metric, K6MetricKind};
use crate::result::{EngineKind, LoadResult};
use crate::threshold::{
    Metric, ObservedLoad, Selector, Statistic, Tag, Tally, ThresholdResult, millis_of,
};

/// A few numbers for each metric of a run, as in k6.
#[derive(Clone, Debug)]
pub struct Summary {
    lasted: Duration,
    metrics: BTreeMap<String, MetricSummary>,
}

#[derive(Clone, Debug)]
struct MetricSummary {
    metric: K6Metric,
    values: Vec<(&'static str, f64)>,
    /// Each expression, and whether it held.
    thresholds: Vec<(String, bool)>,
}

/// k6's default statistics of a trend.
const TREND: [(&str, Statistic); 6] = [
    ("avg", Statistic::Average),
    ("min", Statistic::Min),
    ("med", Statistic::Median),
    ("max", Statistic::Max),
    ("p(90)", Statistic::Percentile(90.0)),
    ("p(95)", Statistic::Percentile(95.0)),
];

/// The id of the root group: the MD5 sum of its name, which is empty.
const ROOT: &str = "d41d8cd98f00b204e9800998ecf8427e";

impl Summary {
    /// Summarises a result and its thresholds.
    pub fn of(result: &LoadResult, verdicts: &[ThresholdResult]) -> Summary {
        let load = ObservedLoad::all(result);
        let mut summary = Summary {
            lasted: Duration::from_secs_f64(result.seconds()),
            metrics: BTreeMap::new(),
        };
        for (metric, selector) in default_metrics(result.engine, &load) {
            summary.add(&load, metric, &selector);
        }
        for verdict in verdicts {
            let threshold = &verdict.threshold;
            let summary = summary.add(&load, threshold.metric, &threshold.selector);
            let expression = threshold.expression.to_string();
            summary.thresholds.push((expression, verdict.holds()));
        }
        summary
    }

    fn add(
        &mut self,
        load: &ObservedLoad,
        metric: Metric,
        selector: &Selector,
    ) -> &mut MetricSummary {
        let name = format!("{metric}{selector}");
        self.metrics.entry(name).or_insert_with(|| MetricSummary {
            metric: metric.into(),
            values: values(metric, &load.of(selector), self.lasted),
            thresholds: Vec::new(),
        })
    }

    /// Returns the content of `--summary-export`. There a threshold that *held* is `false`, as in k6.
    pub fn export(&self) -> Value {
        let fields = |summary: &MetricSummary| -> Map<String, Value> {
            let k6_name = |name| match name {
                "rate" if summary.metric.kind == K6MetricKind::Rate => "value",
                other => other,
            };
            let values = summary.values.iter();
            let values = values.map(|(name, value)| (k6_name(name).to_owned(), number(*value)));
            values.collect()
        };
        json!({
            "root_group": { "name": "", "path": "", "id": ROOT, "groups": {}, "checks": {} },
            "metrics": self.metrics(fields, |held| json!(!held)),
        })
    }

    /// Returns the argument of `handleSummary(data)`.
    pub fn data(&self) -> Value {
        let fields = |summary: &MetricSummary| -> Map<String, Value> {
            let values = summary.values.iter();
            let values = values.map(|(name, value)| ((*name).to_owned(), number(*value)));
            Map::from_iter([
                ("type".to_owned(), json!(summary.metric.kind)),
                ("contains".to_owned(), json!(summary.metric.contains)),
                ("values".to_owned(), values.collect()),
            ])
        };
        json!({
            "root_group": { "name": "", "path": "", "id": ROOT, "groups": [], "checks": [] },
            "options": {
                "summaryTrendStats": TREND.map(|(name, _)| name),
                "summaryTimeUnit": "",
                "noColor": false,
            },
            "state": {
                "isStdOutTTY": false,
                "isStdErrTTY": false,
                "testRunDurationMs": number(self.lasted.as_secs_f64() * 1000.0),
            },
            "metrics": self.metrics(fields, |held| json!({ "ok": held })),
        })
    }

    /// Returns each metric with its `fields`, and with each of its thresholds, if any.
    fn metrics(
        &self,
        fields: impl Fn(&MetricSummary) -> Map<String, Value>,
        threshold: impl Fn(bool) -> Value,
    ) -> Value {
        let metrics = self.metrics.iter().map(|(name, summary)| {
            let mut fields = fields(summary);
            if !summary.thresholds.is_empty() {
                let thresholds = summary.thresholds.iter();
                let thresholds = thresholds.map(|(text, held)| (text.clone(), threshold(*held)));
                fields.insert("thresholds".into(), thresholds.collect());
            }
            (name.clone(), Value::Object(fields))
        });
        metrics.collect()
    }

    /// Writes [`export`](Self::export) to `path`, atomically.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_export(&self, path: &Path) -> Result<(), OutputError> {
        let mut file = OutputFile::create(path)?;
        file.write(format!("{:#}\n", self.export()).as_bytes())?;
        file.keep()
    }
}

/// Returns the metrics of every run: as in k6, only those with samples.
fn default_metrics(engine: EngineKind, load: &ObservedLoad) -> Vec<(Metric, Selector)> {
    let whole = load.of(&Selector::default());
    let all = |metric| (metric, Selector::default());
    let mut summary = Vec::new();
    if whole.sum.requests > 0 {
        summary.extend([
            all(Metric::Requests),
            all(Metric::Duration),
            all(Metric::Failed),
            all(Metric::Checks),
            all(Metric::Received),
        ]);
        if engine == EngineKind::Open {
            summary.push(all(Metric::Iterations));
        }
        if whole.unexpected() == 0 {
            let expected = Selector(vec![Tag::Expected]);
            summary.push((Metric::Duration, expected));
        }
    }
    if whole.sum.dropped > 0 {
        summary.push(all(Metric::Dropped));
    }
    summary
}

fn values(metric: Metric, tally: &Tally, lasted: Duration) -> Vec<(&'static str, f64)> {
    let sum = &tally.sum;
    match metric {
        Metric::Duration => {
            // Zeros without samples, as in k6. The threshold shows that there were none.
            let value = |statistic| millis_of(&sum.latency, statistic).unwrap_or(0.0);
            TREND.map(|(name, it)| (name, value(it))).to_vec()
        }
        Metric::Requests => counted(sum.requests, lasted),
        Metric::Iterations => counted(sum.arrivals, lasted),
        Metric::Received => counted(sum.received, lasted),
        Metric::Dropped => counted(sum.dropped, lasted),
        Metric::Failed => share(tally.unexpected(), sum.requests),
        Metric::ErrorShare => share(sum.failed, sum.requests),
        Metric::Checks => share(tally.good(), sum.requests),
    }
}

fn counted(count: u64, lasted: Duration) -> Vec<(&'static str, f64)> {
    let rate = match lasted.is_zero() {
        true => 0.0,
        false => count as f64 / lasted.as_secs_f64(),
    };
    vec![("count", count as f64), ("rate", rate)]
}

/// Returns a rate. As in k6, the requests for which it is true are `passes`, even if they failed.
fn share(passes: u64, of: u64) -> Vec<(&'static str, f64)> {
    let rate = match of {
        0 => 0.0,
        of => passes as f64 / of as f64,
    };
    let fails = of.saturating_sub(passes);
    vec![
        ("rate", rate),
        ("passes", passes as f64),
        ("fails", fails as f64),
    ]
}

/// Returns whole numbers without a fraction, as some readers expect integers.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value < 2f64.powi(53) {
        true => json!(value as u64),
        false => json!(value),
    }
}
