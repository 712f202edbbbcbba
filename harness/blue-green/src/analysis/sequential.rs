//! Whether a share is exceeded, by a test that may be repeated. A confidence interval is not
//! enough: tested every second for half a minute, one of 97.5 % fails far more often than once in
//! 40 times.

/// The odds of a worse version, as multiples of the odds of the allowed share. Any values are
/// valid; the nearest to the true odds finds a breach soonest.
const ODDS: [f64; 10] = [1.1, 1.3, 1.6, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1_000.0];

/// Returns whether `of` requests of `all` show that their true share is over `share`. If it is not,
/// the probability of a false alarm is at most `level`, for all tests of a stream of requests
/// together.
///
/// The test statistic is the likelihood of the requests under a mixture of greater shares, divided
/// by that under `share`. For any true share up to `share` it is a supermartingale that begins at
/// 1, and so exceeds `1 / level` at any time with probability `level` at most (J. Ville, "Étude
/// critique de la notion de collectif", 1939; H. Robbins, "Statistical methods related to the law
/// of the iterated logarithm", Annals of Mathematical Statistics 41, 1970).
pub(super) fn exceeds(of: u64, all: u64, share: f64, level: f64) -> bool {
    let good = all.saturating_sub(of);
    if of == 0 || share >= 1.0 {
        return false;
    }
    if share <= 0.0 {
        return true;
    }
    let odds = share / (1.0 - share);
    let evidence = ODDS.map(|times| {
        let greater = odds * times / (1.0 + odds * times);
        of as f64 * (greater / share).ln() + good as f64 * ((1.0 - greater) / (1.0 - share)).ln()
    });
    // The exponentials themselves may overflow.
    let most = evidence.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = evidence.iter().map(|it| (it - most).exp()).sum();
    most + (sum / ODDS.len() as f64).ln() >= (1.0 / level).ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn more_failures_never_show_less(of in 0..500u64, more in 0..500u64, all in 1_000..5_000u64, share in 0.0..=1.0_f64) {
            if exceeds(of, all, share, 0.005) {
                prop_assert!(exceeds(of + more, all, share, 0.005));
            }
        }

        #[test]
        fn a_share_that_is_not_exceeded_shows_nothing(all in 1..100_000u64, share in 0.000_1..=1.0_f64) {
            let of = (all as f64 * share).floor() as u64;
            prop_assert!(!exceeds(of, all, share, 0.005), "{} of {}", of, all);
        }
    }
}
