//! What a comparison goes by.

use serde::{Deserialize, Serialize};

use super::metric::Metric;

/// What a comparison goes by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// How many blocks at a run's begin do not count.
    pub warm_up_blocks: u32,
    /// Of the intervals, for all endpoints together: 0.98 is one wrong in fifty comparisons.
    pub confidence: f64,
    /// What is too small to matter.
    pub floors: Floors,
    /// Of the bootstrap's random numbers: the same results and seed, the same verdicts.
    pub seed: u64,
}

/// What is too small to matter. Of each metric the larger of the two floors counts: a change
/// must exceed both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Floors {
    /// Of p50, p95 and p99, as a share of A's: 0.05 is 5 %.
    pub latency: f64,
    /// The same in microseconds.
    pub latency_micros: f64,
    /// Of the error share, as a share of A's.
    pub error_share: f64,
    /// The same as a difference of shares: 0.001 is from 0.2 % to 0.3 %.
    pub error_share_difference: f64,
    /// Of the throughput, as a share of A's.
    pub throughput: f64,
    /// The same in answers a second.
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
    /// Why these cannot be gone by.
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
        let floor = floors
            .into_iter()
            .find(|(_, it)| !it.is_finite() || *it < 0.0);
        let confidence = self.confidence;
        if !(0.5..1.0).contains(&confidence) {
            return Some(format!(
                "a confidence of {confidence} is not between 0.5 and 1"
            ));
        }
        floor.map(|(name, value)| format!("the floor `{name}` of {value} is none"))
    }
}

impl Floors {
    /// What a change of `metric`, on its scale, must exceed where A has the value `a`.
    pub(super) fn of(&self, metric: Metric, a: f64) -> f64 {
        match metric {
            Metric::P50 | Metric::P95 | Metric::P99 => {
                self.latency.max(self.latency_micros / a).ln_1p()
            }
            Metric::ErrorShare => (self.error_share * a).max(self.error_share_difference),
            Metric::Throughput => self.throughput.max(self.throughput_per_second / a).ln_1p(),
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
        assert!((percent(Metric::P95, 10_000.0) - 5.0).abs() < 1e-9);
        assert!((percent(Metric::P95, 200.0) - 50.0).abs() < 1e-9, "100 µs");
        assert!((percent(Metric::Throughput, 1.0) - 50.0).abs() < 1e-9);
        assert_eq!(floors.of(Metric::ErrorShare, 0.0), 0.001);
        assert_eq!(floors.of(Metric::ErrorShare, 0.2), 0.2 * 0.1);
    }

    #[test]
    fn what_is_no_number_is_no_setting() {
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
