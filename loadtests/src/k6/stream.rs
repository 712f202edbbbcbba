//! `--out json=FILE[.gz]`: a line for every metric, and for every point of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::error::OutputError;
use super::file::OutputFile;
use super::metric::{Contains, Kind, Metric};
use super::request::{Check, Ending, Iteration, Sample};
use crate::threshold::{Tag, Threshold, go_duration};

/// Writes the points of a run as they come about. Dropped before [`finish`](Self::finish), it
/// leaves no file.
pub struct JsonStream {
    file: OutputFile,
    thresholds: Vec<Threshold>,
    declared: BTreeSet<Metric>,
    lines: String,
    lost: bool,
}

impl JsonStream {
    /// Begins the file that will be at `path`, compressed where that ends in `.gz`. The
    /// thresholds are written with the metrics they are of.
    ///
    /// # Errors
    /// When there can be no file.
    pub fn create(path: &Path, thresholds: &[Threshold]) -> Result<JsonStream, OutputError> {
        Ok(JsonStream::onto(OutputFile::create(path)?, thresholds))
    }

    fn onto(file: OutputFile, thresholds: &[Threshold]) -> JsonStream {
        JsonStream {
            file,
            thresholds: thresholds.to_vec(),
            declared: BTreeSet::new(),
            lines: String::new(),
            lost: false,
        }
    }

    /// Writes the nine points of a request that has ended.
    ///
    /// # Errors
    /// When they cannot be written; then the file will not be kept.
    pub fn request(&mut self, sample: &Sample) -> Result<(), OutputError> {
        let parts = sample.timings;
        let duration = parts.sending + parts.waiting + parts.receiving;
        let tags = json(&request_tags(sample));
        // Once, not once a point.
        let ended = sample.ended.to_string();
        let failed = f64::from(u8::from(!is_expected(sample.ending)));
        for (metric, value) in [
            (Metric::REQUESTS, 1.0),
            (Metric::DURATION, millis(duration)),
            (Metric::BLOCKED, millis(parts.blocked)),
            (Metric::CONNECTING, millis(parts.connecting)),
            (Metric::TLS_HANDSHAKING, millis(parts.tls_handshaking)),
            (Metric::SENDING, millis(parts.sending)),
            (Metric::WAITING, millis(parts.waiting)),
            (Metric::RECEIVING, millis(parts.receiving)),
            (Metric::FAILED, failed),
        ] {
            self.point(metric, &ended, value, &tags);
        }
        self.write()
    }

    /// Writes the point of a check.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn check(&mut self, check: &Check) -> Result<(), OutputError> {
        let tags = json(&CheckTags {
            check: check.name,
            group: "",
            scenario: check.scenario,
        });
        let passed = f64::from(u8::from(check.passed));
        self.point(Metric::CHECKS, &check.at.to_string(), passed, &tags);
        self.write()
    }

    /// Writes how much was sent, where that is known, and received. k6 does once an iteration.
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
        let tags = json(&IterationTags {
            group: "",
            scenario,
        });
        let at = at.to_string();
        if let Some(sent) = sent {
            self.point(Metric::DATA_SENT, &at, sent as f64, &tags);
        }
        self.point(Metric::DATA_RECEIVED, &at, received as f64, &tags);
        self.write()
    }

    /// Writes the two points of an iteration that has ended: after those of its requests, and
    /// its data.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn iteration(&mut self, iteration: &Iteration) -> Result<(), OutputError> {
        let tags = json(&IterationTags {
            group: "",
            scenario: iteration.scenario,
        });
        let ended = iteration.ended.to_string();
        for (metric, value) in [
            (Metric::ITERATION_DURATION, millis(iteration.lasted)),
            (Metric::ITERATIONS, 1.0),
        ] {
            self.point(metric, &ended, value, &tags);
        }
        self.write()
    }

    /// Writes that so many arrivals were dropped.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn dropped(
        &mut self,
        scenario: &str,
        at: Timestamp,
        count: u64,
    ) -> Result<(), OutputError> {
        let tags = json(&DroppedTags { scenario });
        self.point(Metric::DROPPED, &at.to_string(), count as f64, &tags);
        self.write()
    }

    /// Writes how many users there are, and how many there can be. k6 does once a second.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn users(&mut self, at: Timestamp, now: u64, most: u64) -> Result<(), OutputError> {
        let at = at.to_string();
        self.point(Metric::VUS, &at, now as f64, "{}");
        self.point(Metric::VUS_MAX, &at, most as f64, "{}");
        self.write()
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When it cannot be written to its end, or a part of it was lost before.
    pub fn finish(self) -> Result<(), OutputError> {
        match self.lost {
            true => Err(OutputError::Incomplete {
                path: self.file.path().to_owned(),
            }),
            false => self.file.keep(),
        }
    }

    fn point(&mut self, metric: Metric, at: &str, value: f64, tags: &str) {
        if self.declared.insert(metric) {
            self.lines += &json(&Declaration::of(metric, &self.thresholds));
            self.lines.push('\n');
        }
        let Metric { name, .. } = metric;
        let written = writeln!(
            self.lines,
            r#"{{"metric":"{name}","type":"Point","data":{{"time":"{at}","value":{value},"tags":{tags}}}}}"#,
        );
        written.expect("a string takes what is written");
    }

    fn write(&mut self) -> Result<(), OutputError> {
        let written = self.file.write(self.lines.as_bytes());
        self.lines.clear();
        self.lost |= written.is_err();
        written
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of strings are JSON")
}

fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

/// As k6 does where the script does not say otherwise.
fn is_expected(ending: Ending) -> bool {
    matches!(
        ending,
        Ending::Answered {
            status: 200..400,
            ..
        }
    )
}

/// In the order of their names, as k6 writes them.
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

fn request_tags<'a>(sample: &'a Sample) -> RequestTags<'a> {
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
        Ending::Answered {
            status,
            protocol,
            tls,
        } => RequestTags {
            error_code: (*status >= 400).then(|| (1000 + status).to_string()),
            proto: Some(protocol.name()),
            status: status.to_string(),
            tls_version: tls.map(|it| it.name()),
            ..tags
        },
        Ending::Failed(failure) => {
            let (code, words) = failure.code_and_words();
            RequestTags {
                error: Some(words),
                error_code: Some(code.to_string()),
                status: "0".to_owned(),
                ..tags
            }
        }
    }
}

#[derive(Serialize)]
struct CheckTags<'a> {
    check: &'a str,
    group: &'static str,
    scenario: &'a str,
}

#[derive(Serialize)]
struct IterationTags<'a> {
    group: &'static str,
    scenario: &'a str,
}

#[derive(Serialize)]
struct DroppedTags<'a> {
    scenario: &'a str,
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
    kind: Kind,
    contains: Contains,
    thresholds: Vec<Stated>,
    submetrics: Option<Vec<Submetric>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Stated {
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
    fn of(metric: Metric, thresholds: &[Threshold]) -> Declaration {
        let of_it = thresholds
            .iter()
            .filter(|it| Metric::from(it.metric) == metric);
        let (whole, parts): (Vec<_>, Vec<_>) = of_it.partition(|it| it.selector.0.is_empty());
        let mut submetrics: Vec<_> = parts.into_iter().map(Submetric::of).collect();
        if metric == Metric::DURATION {
            // k6 has this one whether there is a threshold of it or not.
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
                thresholds: whole.into_iter().map(Stated::of).collect(),
                submetrics: (!distinct.is_empty()).then_some(distinct),
            },
        }
    }
}

impl Stated {
    fn of(threshold: &Threshold) -> Stated {
        let expression = threshold.expression.to_string();
        match threshold.abort_on_fail {
            false => Stated::Plain(expression),
            true => Stated::Aborting {
                threshold: expression,
                abort_on_fail: true,
                delay_abort_eval: threshold.delay.map(go_duration),
            },
        }
    }
}

impl Submetric {
    fn of(threshold: &Threshold) -> Submetric {
        Submetric::new(threshold.metric.name(), &threshold.selector.0)
    }

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
