//! The settings of a comparison.

use serde::{Deserialize, Serialize};

use super::metric::ComparedMetric;

/// The settings of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The number of blocks at a run's start that do not count.
    pub warm_up_blocks: u32,
    /// The confidence for all endpoints together: with 0.98 one in fifty comparisons is wrong.
    pub confidence: f64,
    /// Changes up to these are irrelevant.
    pub floors: Floors,
    /// The seed of the random numbers. The same results and seed give the same verdicts.
    pub seed: u64,
}

/// Changes up to these are irrelevant. A relevant change exceeds both floors of its metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Floors {
    /// For p50, p95 and p99, as a share of A's: 0.05 is 5 %.
    pub latency: f64,
    /// For the same, in microseconds.
    pub latency_micros: f64,
    /// For the error share, as a share of A's.
    pub error_share: f64,
    /// For the same, as a difference of shares: 0.001 is from 0.2 % to 0.3 %.
    pub error_share_difference: f64,
    /// For the throughput, as a share of A's.
    pub throughput: f64,
    /// For the same, in answers a second.
    pub throughput_per_second: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            warm_up_blocks: 2,
            confidence: 0.98,
            floors: Floors::default(),
            seed: 1,
        }
    }
}

impl Default for Floors {
    fn default() -> Self {
        Floors {
            latency: 0.05,
            latency_micros: 100.0,
            error_share: 0.1,
            error_share_difference: 0.001,
            throughput: 0.05,
            throughput_per_second: 0.5,
        }
    }
}

impl Settings {
    /// Returns why the settings are invalid, if they are.
    pub(super) fn fault(&self) -> Option<String> {
        let Floors {
            latency,
            latency_micros,
            error_share,
            error_share_difference,
            throughput,
            throughput_per_second,
        } = self.floors;
        let floors = [
            ("latency", latency),
            ("latency-micros", latency_micros),
            ("error-share", error_share),
            ("error-share-difference", error_share_difference),
            ("throughput", throughput),
            ("throughput-per-second", throughput_per_second),
        ];
        let confidence = self.confidence;
        if !(0.5..1.0).contains(&confidence) {
            let why = format!("a confidence of {confidence} is not between 0.5 and 1");
            return Some(why);
        }
        let is_invalid = |(_, floor): &(&str, f64)| !floor.is_finite() || *floor < 0.0;
        let (name, value) = floors.into_iter().find(is_invalid)?;
        Some(format!("the floor `{name}` of {value} is invalid"))
    }
}

impl Floors {
    /// Returns the limit that a relevant change of `metric` exceeds. `a` is the value of A.
    pub(super) fn of(&self, metric: ComparedMetric, a: f64) -> f64 {
        match metric {
            ComparedMetric::P50 | ComparedMetric::P95 | ComparedMetric::P99 => {
                self.latency.max(self.latency_micros / a).ln_1p()
            }
            ComparedMetric::ErrorShare => (self.error_share * a).max(self.error_share_difference),
            ComparedMetric::Throughput => {
                self.throughput.max(self.throughput_per_second / a).ln_1p()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_floors_must_be_exceeded() {
        let floors = Floors::default();
        let percent = |metric, a| 100.0 * floors.of(metric, a).exp_m1();
        assert!((percent(ComparedMetric::P95, 10_000.0) - 5.0).abs() < 1e-9);
        // 100 µs.
        assert!((percent(ComparedMetric::P95, 200.0) - 50.0).abs() < 1e-9);
        assert!((percent(ComparedMetric::Throughput, 1.0) - 50.0).abs() < 1e-9);
        assert_eq!(floors.of(ComparedMetric::ErrorShare, 0.0), 0.001);
        assert_eq!(floors.of(ComparedMetric::ErrorShare, 0.2), 0.2 * 0.1);
    }

    #[test]
    fn settings_must_be_valid_numbers() {
        assert_eq!(Settings::default().fault(), None);
        for wrong in [f64::NAN, f64::INFINITY, -0.1] {
            let mut settings = Settings::default();
            settings.floors.throughput = wrong;
            assert!(settings.fault().unwrap().contains("`throughput`"));
            settings.confidence = wrong;
            assert!(settings.fault().unwrap().contains("confidence"));
        }
    }
}
