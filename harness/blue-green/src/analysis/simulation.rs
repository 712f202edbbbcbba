//! Simulated analyses of versions with known shares: how often chance rolls a good version back,
//! and how soon a bad version is found.

use rand::{Rng, RngExt};

use super::{Thresholds, is_exceeded};

/// A version under traffic.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// The share of its requests that fail.
    pub failing: f64,
    /// The share of its requests that take longer than is allowed.
    pub slow: f64,
    /// Its requests per second.
    pub per_second: u64,
}

impl Version {
    /// Returns a version that is exactly as bad as `thresholds` allow.
    pub fn just_allowed(thresholds: &Thresholds, per_second: u64) -> Version {
        Version {
            failing: thresholds.max_error_share,
            slow: 1.0 - thresholds.latency_quantile,
            per_second,
        }
    }

    /// Returns whether one of `checks`, one each second, finds a breach.
    fn has_breach(&self, thresholds: &Thresholds, checks: u64, random: &mut impl Rng) -> bool {
        let allowed_slow = 1.0 - thresholds.latency_quantile;
        let (mut failed, mut slow) = (0, 0);
        (1..=checks).any(|check| {
            failed += self.count(self.failing, random);
            slow += self.count(self.slow, random);
            let sent = check * self.per_second;
            is_exceeded(failed, sent, thresholds.max_error_share)
                || is_exceeded(slow, sent, allowed_slow)
        })
    }

    /// Returns in how many of `runs` one of `checks`, one each second, finds a breach.
    pub fn breaches(
        &self,
        thresholds: &Thresholds,
        checks: u64,
        runs: usize,
        random: &mut impl Rng,
    ) -> usize {
        let runs = (0..runs).filter(|_| self.has_breach(thresholds, checks, random));
        runs.count()
    }

    /// Returns how many of the next second's requests are in a random `share`.
    fn count(&self, share: f64, random: &mut impl Rng) -> u64 {
        let requests = (0..self.per_second).filter(|_| random.random_bool(share));
        requests.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::tests::THRESHOLDS;
    use super::*;

    /// In a whole analysis and the drain after it, with exactly the allowed shares.
    #[test]
    fn a_good_version_is_rolled_back_less_than_once_in_a_hundred_times() {
        const RUNS: usize = 2_000;
        for per_second in [5, 50, 200] {
            let mut random = StdRng::seed_from_u64(per_second);
            let good = Version::just_allowed(&THRESHOLDS, per_second);
            let breaches = good.breaches(&THRESHOLDS, 30, RUNS, &mut random);
            assert!(
                breaches * 100 <= RUNS,
                "{breaches} of {RUNS} at {per_second}/s"
            );
        }
    }

    /// 5 % more errors, at 50 requests a second.
    #[test]
    fn a_bad_version_is_found_within_ten_seconds() {
        const RUNS: usize = 1_000;
        let mut random = StdRng::seed_from_u64(5);
        let bad = Version {
            failing: 0.06,
            slow: 0.0,
            per_second: 50,
        };
        let found = bad.breaches(&THRESHOLDS, 10, RUNS, &mut random);
        assert!(found * 100 >= RUNS * 99, "{found} of {RUNS}");
    }
}
