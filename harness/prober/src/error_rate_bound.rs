//! The upper bound of an error rate, given a number of failures.

use statrs::distribution::{Beta, ContinuousCDF};

/// The confidence of the bound.
pub const CONFIDENCE: f64 = 0.95;

/// Returns the upper bound of the error rate, with 95 % confidence; none without requests.
///
/// Without failures it is 3/n, the rule of three (Hanley and Lippman-Hand, "If nothing goes wrong,
/// is everything all right?", JAMA 249, 1983). Otherwise it is the one-sided upper limit of Clopper
/// and Pearson ("The use of confidence or fiducial limits", Biometrika 26, 1934): the 0.95 quantile
/// of Beta(k + 1, n - k). With up to three requests that limit of one failure is below 3/n: the
/// bound is never less than without failures.
pub fn error_rate_at_most(failures: u64, requests: u64) -> Option<f64> {
    let failures = failures.min(requests);
    if requests == 0 {
        return None;
    }
    let without_failures = (3.0 / requests as f64).min(1.0);
    if failures == 0 {
        return Some(without_failures);
    }
    if failures == requests {
        return Some(1.0);
    }
    let beta = Beta::new(failures as f64 + 1.0, (requests - failures) as f64).ok()?;
    Some(beta.inverse_cdf(CONFIDENCE).max(without_failures))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_failure_is_not_a_rate_of_zero() {
        assert_eq!(error_rate_at_most(0, 0), None);
        assert_eq!(error_rate_at_most(0, 1), Some(1.0));
        assert_eq!(error_rate_at_most(0, 30_000), Some(0.0001));
    }

    #[test]
    fn failures_are_bounded_as_clopper_and_pearson_do() {
        // R: binom.test(k, n, alternative = "less")$conf.int[2]
        for (failures, requests, expected) in [
            (1, 100, 0.046_559_81),
            (5, 100, 0.102_252_8),
            (10, 1_000, 0.016_895_21),
        ] {
            let bound = error_rate_at_most(failures, requests).unwrap();
            assert!((bound - expected).abs() < 2e-4, "{failures}: {bound}");
        }
    }

    #[test]
    fn a_failure_among_few_requests_is_no_lower_bound_than_none() {
        for requests in 2..=3 {
            assert_eq!(error_rate_at_most(1, requests), Some(1.0), "{requests}");
        }
        assert!(error_rate_at_most(1, 4) > error_rate_at_most(0, 4));
    }

    proptest! {
        #[test]
        fn a_bound_is_above_the_measured_rate_and_grows_with_the_failures(
            requests in 1u64..20_000, share in 0.0..1.0f64
        ) {
            let failures = (requests as f64 * share) as u64;
            let bound = error_rate_at_most(failures, requests).unwrap();
            let more = error_rate_at_most(failures + 1, requests).unwrap();
            prop_assert!(bound <= 1.0 && bound >= failures as f64 / requests as f64);
            prop_assert!(more >= bound - 1e-9, "{bound} {more}");
        }
    }
}
