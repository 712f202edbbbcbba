//! What `--summary-export FILE` writes, and what `handleSummary` is given.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::error::OutputError;
use super::file::OutputFile;
use super::metric::{Kind, Metric};
use crate::result::{Engine, LoadResult};
use crate::threshold::{self, Seen, Selector, Statistic, Tag, Tally, Verdict, millis_of};

/// A run in a few numbers for each metric, as k6 tells it.
#[derive(Clone, Debug)]
pub struct Summary {
    lasted: Duration,
    metrics: BTreeMap<String, Told>,
}

#[derive(Clone, Debug)]
struct Told {
    metric: Metric,
    values: Vec<(&'static str, f64)>,
    /// By expression, whether it held.
    thresholds: Vec<(String, bool)>,
}

/// What k6 tells of a trend where nobody asks for more.
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
    /// A result, and what thresholds came to.
    pub fn of(result: &LoadResult, verdicts: &[Verdict]) -> Summary {
        let seen = Seen::all(result);
        let mut summary = Summary {
            lasted: Duration::from_secs_f64(result.seconds()),
            metrics: BTreeMap::new(),
        };
        for (metric, selector) in always_told(result.engine, &seen) {
            summary.tell(&seen, metric, &selector);
        }
        for verdict in verdicts {
            let threshold = &verdict.threshold;
            let told = summary.tell(&seen, threshold.metric, &threshold.selector);
            let expression = threshold.expression.to_string();
            told.thresholds.push((expression, verdict.holds()));
        }
        summary
    }

    fn tell(&mut self, seen: &Seen, metric: threshold::Metric, selector: &Selector) -> &mut Told {
        let name = format!("{metric}{selector}");
        self.metrics.entry(name).or_insert_with(|| Told {
            metric: metric.into(),
            values: values(metric, &seen.of(selector), self.lasted),
            thresholds: Vec::new(),
        })
    }

    /// What `--summary-export` writes. A threshold is `false` there where it *held*: k6 says
    /// whether it was crossed.
    pub fn export(&self) -> Value {
        let metrics = self.metrics.iter().map(|(name, told)| {
            let named = |value| match value {
                "rate" if told.metric.kind == Kind::Rate => "value",
                other => other,
            };
            let values = told.values.iter();
            let mut fields: Map<_, _> = values
                .map(|(value, is)| (named(value).to_owned(), number(*is)))
                .collect();
            if !told.thresholds.is_empty() {
                let crossed = told
                    .thresholds
                    .iter()
                    .map(|(it, held)| (it.clone(), json!(!held)));
                fields.insert("thresholds".into(), crossed.collect());
            }
            (name.clone(), Value::Object(fields))
        });
        json!({
            "root_group": { "name": "", "path": "", "id": ROOT, "groups": {}, "checks": {} },
            "metrics": metrics.collect::<Map<_, _>>(),
        })
    }

    /// What `handleSummary(data)` is given.
    pub fn data(&self) -> Value {
        let metrics = self.metrics.iter().map(|(name, told)| {
            let values = told
                .values
                .iter()
                .map(|(it, is)| ((*it).to_owned(), number(*is)));
            let mut fields = Map::from_iter([
                ("type".to_owned(), json!(told.metric.kind)),
                ("contains".to_owned(), json!(told.metric.contains)),
                ("values".to_owned(), values.collect()),
            ]);
            if !told.thresholds.is_empty() {
                let held = told.thresholds.iter();
                let held = held.map(|(it, held)| (it.clone(), json!({ "ok": held })));
                fields.insert("thresholds".into(), held.collect());
            }
            (name.clone(), Value::Object(fields))
        });
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
            "metrics": metrics.collect::<Map<_, _>>(),
        })
    }

    /// Writes [`export`](Self::export) to `path`, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_export(&self, path: &Path) -> Result<(), OutputError> {
        let mut file = OutputFile::create(path)?;
        file.write(format!("{:#}\n", self.export()).as_bytes())?;
        file.keep()
    }
}

/// What is told of every run: as in k6, only what has samples.
fn always_told(engine: Engine, seen: &Seen) -> Vec<(threshold::Metric, Selector)> {
    let whole = seen.of(&Selector::default());
    let all = |metric| (metric, Selector::default());
    let mut told = Vec::new();
    if whole.sum.requests > 0 {
        told.extend([
            all(threshold::Metric::Requests),
            all(threshold::Metric::Duration),
            all(threshold::Metric::Failed),
            all(threshold::Metric::Checks),
            all(threshold::Metric::Received),
        ]);
        if engine == Engine::Open {
            told.push(all(threshold::Metric::Iterations));
        }
        if whole.unexpected() == 0 {
            let expected = Selector(vec![Tag::Expected]);
            told.push((threshold::Metric::Duration, expected));
        }
    }
    if whole.sum.dropped > 0 {
        told.push(all(threshold::Metric::Dropped));
    }
    told
}

fn values(metric: threshold::Metric, tally: &Tally, lasted: Duration) -> Vec<(&'static str, f64)> {
    let sum = &tally.sum;
    match metric {
        threshold::Metric::Duration => {
            // Zeros for no samples, as k6; the threshold says that there were none.
            let told = TREND.map(|(name, it)| (name, millis_of(&sum.latency, it).unwrap_or(0.0)));
            told.to_vec()
        }
        threshold::Metric::Requests | threshold::Metric::Iterations => {
            counted(sum.requests, lasted)
        }
        threshold::Metric::Received => counted(sum.received, lasted),
        threshold::Metric::Dropped => counted(sum.dropped, lasted),
        threshold::Metric::Failed => share(tally.unexpected(), sum.requests),
        threshold::Metric::ErrorShare => share(sum.failed, sum.requests),
        threshold::Metric::Checks => share(tally.good(), sum.requests),
    }
}

fn counted(count: u64, lasted: Duration) -> Vec<(&'static str, f64)> {
    let rate = match lasted.is_zero() {
        true => 0.0,
        false => count as f64 / lasted.as_secs_f64(),
    };
    vec![("count", count as f64), ("rate", rate)]
}

/// Those it is true of `pass`, whatever it is: k6 says so of failed requests too.
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

/// Whole numbers without a fraction: some readers take counts for integers.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value < 2f64.powi(53) {
        true => json!(value as u64),
        false => json!(value),
    }
}
