//! What a load generator tells of its load, in its own form.

use serde::Deserialize;
use serde_json::Value;

use super::GooseLoop;
use crate::result::LoadResult;

/// What counts of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// Answers a second.
    pub per_second: f64,
    /// p90, p95 and p99 as it has them, in milliseconds.
    pub latency: [f64; 3],
}

/// The quantiles of [`Told::latency`].
pub const QUANTILES: [f64; 3] = [0.90, 0.95, 0.99];

impl Told {
    /// Of the engine's own result.
    pub fn by_arrivals(result: &LoadResult) -> Told {
        let whole = result.whole();
        Told {
            per_second: (whole.requests - whole.failed) as f64 / result.seconds(),
            latency: QUANTILES.map(|q| millis(whole.latency.quantile(q))),
        }
    }

    /// Of Goose's own counts.
    ///
    /// # Errors
    /// That a request failed, or that there was none.
    pub fn by_goose(counted: &GooseLoop) -> Result<Told, String> {
        let requests = counted.latency.count();
        match (requests, counted.failed) {
            (0, _) => Err("it counted no request".into()),
            (_, failed @ 1..) => Err(format!("{failed} of {requests} requests failed")),
            _ => Ok(Told {
                per_second: requests as f64 / counted.seconds,
                latency: QUANTILES.map(|q| millis(counted.latency.quantile(q))),
            }),
        }
    }

    /// Of oha's document (`--output-format json`).
    ///
    /// # Errors
    /// That a request failed, or what it lacks.
    pub fn by_oha(json: &str) -> Result<Told, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Document {
            summary: Summary,
            latency_percentiles: Value,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Summary {
            success_rate: f64,
            requests_per_sec: f64,
        }
        let document: Document = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let Summary {
            success_rate,
            requests_per_sec,
        } = document.summary;
        if success_rate < 1.0 {
            return Err(format!("only {success_rate} of its requests were answered"));
        }
        let seconds = ["p90", "p95", "p99"].map(|name| number(&document.latency_percentiles, name));
        let [p90, p95, p99] = seconds;
        Ok(Told {
            per_second: requests_per_sec,
            latency: [p90? * 1e3, p95? * 1e3, p99? * 1e3],
        })
    }

    /// Of k6's `--summary-export`.
    ///
    /// # Errors
    /// That a request failed, or what it lacks.
    pub fn by_k6(json: &str) -> Result<Told, String> {
        let document: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let metrics = &document["metrics"];
        let failed = number(&metrics["http_req_failed"], "value")?;
        if failed > 0.0 {
            return Err(format!("a share of {failed} of its requests failed"));
        }
        let latency = &metrics["http_req_duration"];
        Ok(Told {
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
        let oha = Told::by_oha(OHA).unwrap();
        assert_eq!(
            (oha.per_second, oha.latency),
            (82_000.5, [250.0, 500.0, 1250.0])
        );
        let k6 = Told::by_k6(K6).unwrap();
        assert_eq!((k6.per_second, k6.latency), (9000.25, [1.5, 2.5, 1900.0]));
    }

    #[test]
    fn a_load_with_failures_does_not_count() {
        let oha = Told::by_oha(&OHA.replace("1.0", "0.5")).unwrap_err();
        assert_eq!(oha, "only 0.5 of its requests were answered");
        let k6 = Told::by_k6(&K6.replace("\"value\": 0", "\"value\": 0.25")).unwrap_err();
        assert_eq!(k6, "a share of 0.25 of its requests failed");
        let mut counted = GooseLoop {
            seconds: 2.0,
            failed: 0,
            latency: Distribution::default(),
        };
        assert!(Told::by_goose(&counted).is_err());
        counted.latency = [1000; 10].into_iter().collect();
        assert_eq!(Told::by_goose(&counted).unwrap().per_second, 5.0);
        counted.failed = 1;
        assert!(Told::by_goose(&counted).is_err());
    }

    proptest! {
        #[test]
        fn nonsense_is_never_a_rate_and_never_panics(said in ".{0,200}") {
            prop_assert!(Told::by_oha(&said).is_err());
            prop_assert!(Told::by_k6(&said).is_err());
        }
    }
}
