//! Reads the results of load generators, each in its own form.

use serde::Deserialize;
use serde_json::Value;

use super::GooseLoop;
use crate::result::LoadResult;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeneratorFigures {
    /// Answers per second.
    pub per_second: f64,
    /// Its p90, p95 and p99, in milliseconds.
    pub latency: [f64; 3],
}

/// The quantiles of [`GeneratorFigures::latency`].
pub const QUANTILES: [f64; 3] = [0.90, 0.95, 0.99];

impl GeneratorFigures {
    pub fn by_arrivals(result: &LoadResult) -> GeneratorFigures {
        let whole = result.whole();
        GeneratorFigures {
            per_second: (whole.requests - whole.failed) as f64 / result.seconds(),
            latency: QUANTILES.map(|q| millis(whole.latency.quantile(q))),
        }
    }

    /// From the results of Goose's loop. Fails if a request failed, or there was none.
    pub fn by_goose(counted: &GooseLoop) -> Result<GeneratorFigures, String> {
        let requests = counted.latency.count();
        match (requests, counted.failed) {
            (0, _) => Err("it counted no request".into()),
            (_, failed @ 1..) => Err(format!("{failed} of {requests} requests failed")),
            _ => Ok(GeneratorFigures {
                per_second: requests as f64 / counted.seconds,
                latency: QUANTILES.map(|q| millis(counted.latency.quantile(q))),
            }),
        }
    }

    /// From oha's document (`--output-format json`). Fails if a request failed, or a number is
    /// missing.
    pub fn by_oha(json: &str) -> Result<GeneratorFigures, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct OhaDocument {
            summary: OhaSummary,
            latency_percentiles: Value,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct OhaSummary {
            success_rate: f64,
            requests_per_sec: f64,
        }
        let document: OhaDocument =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        let OhaSummary {
            success_rate,
            requests_per_sec,
        } = document.summary;
        if success_rate < 1.0 {
            return Err(format!("only {success_rate} of its requests were answered"));
        }
        let seconds = &document.latency_percentiles;
        let millis = |name| number(seconds, name).map(|seconds| seconds * 1e3);
        Ok(GeneratorFigures {
            per_second: requests_per_sec,
            latency: [millis("p90")?, millis("p95")?, millis("p99")?],
        })
    }

    /// From k6's `--summary-export`. Fails if a request failed, or a number is missing.
    pub fn by_k6(json: &str) -> Result<GeneratorFigures, String> {
        let document: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let metrics = &document["metrics"];
        let failed = number(&metrics["http_req_failed"], "value")?;
        if failed > 0.0 {
            return Err(format!("a share of {failed} of its requests failed"));
        }
        let latency = &metrics["http_req_duration"];
        Ok(GeneratorFigures {
            per_second: number(&metrics["http_reqs"], "rate")?,
            latency: [
                number(latency, "p(90)")?,
                number(latency, "p(95)")?,
                number(latency, "p(99)")?,
            ],
        })
    }
}

fn number(within: &Value, name: &str) -> Result<f64, String> {
    let number = within[name].as_f64();
    number.ok_or_else(|| format!("its document has no number {name}"))
}

fn millis(micros: Option<u64>) -> f64 {
    micros.map_or(f64::NAN, |micros| micros as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::result::Distribution;

    const OHA: &str = r#"{"summary": {"successRate": 1.0, "requestsPerSec": 82000.5},
        "latencyPercentiles": {"p50": 0.001, "p90": 0.25, "p95": 0.5, "p99": 1.25}}"#;
    const K6: &str = r#"{"metrics": {"http_req_failed": {"value": 0, "passes": 0, "fails": 90},
        "http_reqs": {"count": 90, "rate": 9000.25},
        "http_req_duration": {"p(90)": 1.5, "p(95)": 2.5, "p(99)": 1900}}}"#;

    #[test]
    fn rates_and_times_are_read() {
        let oha = GeneratorFigures::by_oha(OHA).unwrap();
        assert_eq!(oha.per_second, 82_000.5);
        assert_eq!(oha.latency, [250.0, 500.0, 1250.0]);
        let k6 = GeneratorFigures::by_k6(K6).unwrap();
        assert_eq!((k6.per_second, k6.latency), (9000.25, [1.5, 2.5, 1900.0]));
    }

    #[test]
    fn a_load_with_failures_does_not_count() {
        let oha = GeneratorFigures::by_oha(&OHA.replace("1.0", "0.5")).unwrap_err();
        assert_eq!(oha, "only 0.5 of its requests were answered");
        let k6 = K6.replace("\"value\": 0", "\"value\": 0.25");
        let k6 = GeneratorFigures::by_k6(&k6).unwrap_err();
        assert_eq!(k6, "a share of 0.25 of its requests failed");
        let mut counted = GooseLoop {
            seconds: 2.0,
            failed: 0,
            latency: Distribution::default(),
        };
        assert!(GeneratorFigures::by_goose(&counted).is_err());
        counted.latency = [1000; 10].into_iter().collect();
        let goose = GeneratorFigures::by_goose(&counted).unwrap();
        assert_eq!(goose.per_second, 5.0);
        counted.failed = 1;
        assert!(GeneratorFigures::by_goose(&counted).is_err());
    }

    proptest! {
        #[test]
        fn nonsense_is_never_a_rate_and_never_panics(output in ".{0,200}") {
            prop_assert!(GeneratorFigures::by_oha(&output).is_err());
            prop_assert!(GeneratorFigures::by_k6(&output).is_err());
        }
    }
}
