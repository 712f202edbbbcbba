//! `--out json=FILE[.gz]`: a line for every metric, and for each of its points.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::error::OutputError;
use super::file::OutputFile;
use super::metric::{Contains, K6Metric, K6MetricKind};
use super::request::{CheckSample, Iteration, RequestEnd, RequestSample, TlsVersion};
use crate::threshold::{Tag, Threshold, go_duration};

/// Writes the points of a run. If it is dropped before [`finish`](Self::finish), it leaves no file.
pub struct JsonStream {
    file: OutputFile,
    thresholds: Vec<Threshold>,
    declared: BTreeSet<K6Metric>,
    lines: String,
    is_incomplete: bool,
}

impl JsonStream {
    /// Creates the file that will be at `path`, compressed if that ends in `.gz`. Thresholds are
    /// written with their metrics.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: &Path, thresholds: &[Threshold]) -> Result<JsonStream, OutputError> {
        Ok(JsonStream::onto(OutputFile::create(path)?, thresholds))
    }

    fn onto(file: OutputFile, thresholds: &[Threshold]) -> JsonStream {
        JsonStream {
            file,
            thresholds: thresholds.to_vec(),
            declared: BTreeSet::new(),
            lines: String::new(),
            is_incomplete: false,
        }
    }

    /// Writes the nine points of a request that has ended.
    ///
    /// # Errors
    /// If they cannot be written. The file is then not kept.
    pub fn request(&mut self, sample: &RequestSample) -> Result<(), OutputError> {
        let parts = sample.timings;
        let duration = parts.sending + parts.waiting + parts.receiving;
        let tags = json(&request_tags(sample));
        // Formatted once for all points.
        let ended = sample.ended.to_string();
        let failed = f64::from(u8::from(!is_expected(sample.ending)));
        for (metric, value) in [
            (K6Metric::REQUESTS, 1.0),
            (K6Metric::DURATION, millis(duration)),
            (K6Metric::BLOCKED, millis(parts.blocked)),
            (K6Metric::CONNECTING, millis(parts.connecting)),
            (K6Metric::TLS_HANDSHAKING, millis(parts.tls_handshaking)),
            (K6Metric::SENDING, millis(parts.sending)),
            (K6Metric::WAITING, millis(parts.waiting)),
            (K6Metric::RECEIVING, millis(parts.receiving)),
            (K6Metric::FAILED, failed),
        ] {
            self.point(metric, &ended, value, &tags);
        }
        self.write()
    }

    /// Writes the point of a check.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn check(&mut self, check: &CheckSample) -> Result<(), OutputError> {
        let tags = json(&Tags {
            check: Some(check.name),
            group: Some(""),
            scenario: check.scenario,
        });
        let passed = f64::from(u8::from(check.passed));
        self.point(K6Metric::CHECKS, &check.at.to_string(), passed, &tags);
        self.write()
    }

    /// Writes the bytes sent, if known, and received. k6 does so once an iteration.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn data(
        &mut self,
        scenario: &str,
        at: Timestamp,
        sent: Option<u64>,
        received: u64,
    ) -> Result<(), OutputError> {
        let tags = json(&Tags::of_iteration(scenario));
        let at = at.to_string();
        if let Some(sent) = sent {
            self.point(K6Metric::DATA_SENT, &at, sent as f64, &tags);
        }
        self.point(K6Metric::DATA_RECEIVED, &at, received as f64, &tags);
        self.write()
    }

    /// Writes the two points of an iteration, after those of its requests and data.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn iteration(&mut self, iteration: &Iteration) -> Result<(), OutputError> {
        let tags = json(&Tags::of_iteration(iteration.scenario));
        let ended = iteration.ended.to_string();
        let lasted = millis(iteration.lasted);
        self.point(K6Metric::ITERATION_DURATION, &ended, lasted, &tags);
        self.point(K6Metric::ITERATIONS, &ended, 1.0, &tags);
        self.write()
    }

    /// Writes the number of dropped arrivals.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn dropped(
        &mut self,
        scenario: &str,
        at: Timestamp,
        count: u64,
    ) -> Result<(), OutputError> {
        let tags = json(&Tags {
            group: None,
            ..Tags::of_iteration(scenario)
        });
        self.point(K6Metric::DROPPED, &at.to_string(), count as f64, &tags);
        self.write()
    }

    /// Writes the number of users, and the most that are possible. k6 does so once a second.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn users(&mut self, at: Timestamp, now: u64, most: u64) -> Result<(), OutputError> {
        let at = at.to_string();
        self.point(K6Metric::VUS, &at, now as f64, "{}");
        self.point(K6Metric::VUS_MAX, &at, most as f64, "{}");
        self.write()
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// If it cannot be finished, or if a part of it could not be written before.
    pub fn finish(self) -> Result<(), OutputError> {
        match self.is_incomplete {
            true => Err(OutputError::Incomplete {
                path: self.file.path().to_owned(),
            }),
            false => self.file.keep(),
        }
    }

    fn point(&mut self, metric: K6Metric, at: &str, value: f64, tags: &str) {
        if self.declared.insert(metric) {
            self.lines += &json(&Declaration::of(metric, &self.thresholds));
            self.lines.push('\n');
        }
        let K6Metric { name, .. } = metric;
        let written = writeln!(
            self.lines,
            r#"{{"metric":"{name}","type":"Point","data":{{"time":"{at}","value":{value},"tags":{tags}}}}}"#,
        );
        written.expect("writing to a string never fails");
    }

    fn write(&mut self) -> Result<(), OutputError> {
        let written = self.file.write(self.lines.as_bytes());
        self.lines.clear();
        self.is_incomplete |= written.is_err();
        written
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of strings are JSON")
}

fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

/// Returns whether k6 expects the response by default.
fn is_expected(ending: RequestEnd) -> bool {
    matches!(
        ending,
        RequestEnd::Answered {
            status: 200..400,
            ..
        }
    )
}

/// Sorted by name, as in k6.
#[derive(Default, Serialize)]
struct RequestTags<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    expected_response: &'static str,
    group: &'static str,
    method: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<&'static str>,
    scenario: &'a str,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'static str>,
    url: &'a str,
}

fn request_tags<'a>(sample: &'a RequestSample) -> RequestTags<'a> {
    let tags = RequestTags {
        expected_response: match is_expected(sample.ending) {
            true => "true",
            false => "false",
        },
        method: sample.method,
        name: sample.endpoint,
        scenario: sample.scenario,
        url: sample.endpoint,
        ..RequestTags::default()
    };
    match &sample.ending {
        RequestEnd::Answered {
            status,
            protocol,
            tls,
        } => RequestTags {
            error_code: (*status >= 400).then(|| (1000 + status).to_string()),
            proto: Some(protocol.name()),
            status: status.to_string(),
            tls_version: tls.map(TlsVersion::name),
            ..tags
        },
        RequestEnd::Failed(failure) => {
            let (code, message) = failure.code_and_message();
            RequestTags {
                error: Some(message),
                error_code: Some(code.to_string()),
                status: "0".to_owned(),
                ..tags
            }
        }
    }
}

/// The tags of other points, sorted by name.
#[derive(Serialize)]
struct Tags<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'static str>,
    scenario: &'a str,
}

impl Tags<'_> {
    fn of_iteration(scenario: &str) -> Tags<'_> {
        Tags {
            check: None,
            group: Some(""),
            scenario,
        }
    }
}

/// The line that declares a metric.
#[derive(Serialize)]
struct Declaration {
    #[serde(rename = "type")]
    line: &'static str,
    data: Declared,
    metric: &'static str,
}

#[derive(Serialize)]
struct Declared {
    name: &'static str,
    #[serde(rename = "type")]
    kind: K6MetricKind,
    contains: Contains,
    thresholds: Vec<DeclaredThreshold>,
    submetrics: Option<Vec<Submetric>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DeclaredThreshold {
    Plain(String),
    #[serde(rename_all = "camelCase")]
    Aborting {
        threshold: String,
        abort_on_fail: bool,
        delay_abort_eval: Option<String>,
    },
}

#[derive(PartialEq, Serialize)]
struct Submetric {
    name: String,
    suffix: String,
    tags: BTreeMap<&'static str, String>,
}

impl Declaration {
    fn of(metric: K6Metric, thresholds: &[Threshold]) -> Declaration {
        let of_metric = |threshold: &&Threshold| K6Metric::from(threshold.metric) == metric;
        let (of_all, of_some): (Vec<&Threshold>, Vec<&Threshold>) = thresholds
            .iter()
            .filter(of_metric)
            .partition(|threshold| threshold.selector.0.is_empty());
        let mut submetrics: Vec<_> = of_some
            .into_iter()
            .map(|threshold| Submetric::new(threshold.metric.name(), &threshold.selector.0))
            .collect();
        if metric == K6Metric::DURATION {
            // k6 always declares this one.
            submetrics.push(Submetric::new(metric.name, &[Tag::Expected]));
        }
        let mut distinct = Vec::new();
        for submetric in submetrics {
            if !distinct.contains(&submetric) {
                distinct.push(submetric);
            }
        }
        Declaration {
            line: "Metric",
            metric: metric.name,
            data: Declared {
                name: metric.name,
                kind: metric.kind,
                contains: metric.contains,
                thresholds: of_all.into_iter().map(DeclaredThreshold::of).collect(),
                submetrics: (!distinct.is_empty()).then_some(distinct),
            },
        }
    }
}

impl DeclaredThreshold {
    fn of(threshold: &Threshold) -> DeclaredThreshold {
        let expression = threshold.expression.to_string();
        match threshold.abort_on_fail {
            false => DeclaredThreshold::Plain(expression),
            true => DeclaredThreshold::Aborting {
                threshold: expression,
                abort_on_fail: true,
                delay_abort_eval: threshold.delay.map(go_duration),
            },
        }
    }
}

impl Submetric {
    fn new(metric: &str, tags: &[Tag]) -> Submetric {
        let suffix: Vec<_> = tags.iter().map(Tag::to_string).collect();
        let suffix = suffix.join(",");
        Submetric {
            name: format!("{metric}{{{suffix}}}"),
            suffix,
            tags: tags.iter().map(Tag::key_and_value).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
