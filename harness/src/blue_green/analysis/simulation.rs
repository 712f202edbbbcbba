//! Versions whose true shares are known, judged as releases are: how often chance takes back one
//! that is as it should be, and how soon one that is not is found.

use rand::{Rng, RngExt};

use super::{Thresholds, is_exceeded};

/// A version under traffic.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// The share of its requests that fail.
    pub failing: f64,
    /// The share of its requests that take longer than is allowed.
    pub slow: f64,
    /// How many are asked of it a second.
    pub per_second: u64,
}

impl Version {
    /// One that is as bad as `thresholds` allow, and no worse.
    pub fn just_allowed(thresholds: &Thresholds, per_second: u64) -> Version {
        Version {
            failing: thresholds.max_error_share,
            slow: 1.0 - thresholds.latency_quantile,
            per_second,
        }
    }

    /// Looked at every second, so many times: the first look that finds a breach.
    pub fn first_breach(
        &self,
        thresholds: &Thresholds,
        looks: u64,
        random: &mut impl Rng,
    ) -> Option<u64> {
        let allowed_slow = 1.0 - thresholds.latency_quantile;
        let (mut failed, mut slow) = (0, 0);
        (1..=looks).find(|look| {
            failed += self.more(self.failing, random);
            slow += self.more(self.slow, random);
            let asked = look * self.per_second;
            is_exceeded(failed, asked, thresholds.max_error_share)
                || is_exceeded(slow, asked, allowed_slow)
        })
    }

    /// In how many of `runs` a breach is found.
    pub fn breaches(
        &self,
        thresholds: &Thresholds,
        looks: u64,
        runs: usize,
        random: &mut impl Rng,
    ) -> usize {
        let found = |_: &usize| self.first_breach(thresholds, looks, random).is_some();
        (0..runs).filter(found).count()
    }

    /// How many of the next second's requests are among `share`.
    fn more(&self, share: f64, random: &mut impl Rng) -> u64 {
        let among = (0..self.per_second).filter(|_| random.random_bool(share));
        among.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::tests::THRESHOLDS;
    use super::*;

    /// Over a whole analysis and the drain after it, at the very shares that are allowed.
    #[test]
    fn a_good_version_is_taken_back_less_than_once_in_a_hundred_times() {
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
