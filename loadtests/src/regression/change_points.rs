//! Change points over many stored runs: drifts and steps that a comparison of two runs misses.
//!
//! E-divisive (Matteson & James, "A nonparametric approach for multiple change point analysis
//! of multivariate data", JASA 109, 2014), as it is used on performance histories (Daly et
//! al., "The use of change point detection to identify software performance regressions in a
//! continuous integration system", ICPE 2020): a change point is where the energy distance between
//! the runs before and after is greatest, if at most one of a hundred permutations reaches it.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;

/// How often the runs are shuffled.
pub(super) const SHUFFLINGS: usize = 499;

/// The highest probability that a split is due to chance.
const SIGNIFICANCE: f64 = 0.01;

/// The fewest runs on a side. Fewer may be outliers.
const FEWEST_IN_SEGMENT: usize = 5;

/// Returns the indices where a new segment begins, ascending.
pub(super) fn change_points(values: &[f64], seed: u64) -> Vec<usize> {
    let random = &mut Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut bounds = vec![0, values.len()];
    while let Some(split) = best_split(values, &bounds) {
        let mut shuffled = values.to_vec();
        let as_great = (0..SHUFFLINGS).filter(|_| {
            for segment in bounds.windows(2) {
                shuffled[segment[0]..segment[1]].shuffle(random);
            }
            best_split(&shuffled, &bounds).is_some_and(|best| best.distance >= split.distance)
        });
        // The actual order is one of the possible orders.
        let p_value = (as_great.count() as f64 + 1.0) / (SHUFFLINGS as f64 + 1.0);
        if p_value > SIGNIFICANCE {
            break;
        }
        bounds.push(split.at);
        bounds.sort_unstable();
    }
    bounds[1..bounds.len() - 1].to_vec()
}

#[derive(Clone, Copy, Debug)]
struct Split {
    at: usize,
    distance: f64,
}

/// Returns the split of any segment with the greatest distance between its sides.
fn best_split(values: &[f64], bounds: &[usize]) -> Option<Split> {
    let splits = bounds.windows(2).filter_map(|segment| {
        let split = best_of_segment(&values[segment[0]..segment[1]])?;
        let at = segment[0] + split.at;
        Some(Split { at, ..split })
    });
    splits.max_by(|one, other| one.distance.total_cmp(&other.distance))
}

/// Returns the best split of a segment. The second side may end before the segment, to find a
/// change that was reverted later.
fn best_of_segment(values: &[f64]) -> Option<Split> {
    let distances = Distances::new(values);
    let mut best: Option<Split> = None;
    for at in FEWEST_IN_SEGMENT..values.len() {
        for to in at + FEWEST_IN_SEGMENT..=values.len() {
            let distance = distances.between(at, to);
            if best.is_none_or(|best| distance > best.distance) {
                best = Some(Split { at, distance });
            }
        }
    }
    best
}

/// The distances between all values, as cumulative sums over rows and columns.
struct Distances {
    width: usize,
    /// Row i, column j: the distances of the first i values to the first j.
    sums: Vec<f64>,
}

impl Distances {
    fn new(values: &[f64]) -> Self {
        let width = values.len() + 1;
        let mut sums = vec![0.0; width * width];
        for (i, one) in values.iter().enumerate() {
            let mut row = 0.0;
            for (j, other) in values.iter().enumerate() {
                row += (one - other).abs();
                sums[(i + 1) * width + j + 1] = sums[i * width + j + 1] + row;
            }
        }
        Distances { width, sums }
    }

    fn sum(&self, i: usize, j: usize) -> f64 {
        self.sums[i * self.width + j]
    }

    /// Returns the distance between the values before `at` and those from `at` to before `to`: the
    /// paper's sample divergence with the exponent 1, times m n / (m + n).
    fn between(&self, at: usize, to: usize) -> f64 {
        let (m, n) = (at as f64, (to - at) as f64);
        let left = self.sum(at, at);
        let across = self.sum(at, to) - left;
        let right = self.sum(to, to) - left - 2.0 * across;
        let divergence = 2.0 * across / (m * n) - left / (m * (m - 1.0)) - right / (n * (n - 1.0));
        m * n / (m + n) * divergence
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    /// Noise of 2 %, in steps.
    fn history(steps: &[(usize, f64)], seed: u64) -> Vec<f64> {
        let random = &mut Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut history = Vec::new();
        for (runs, level) in steps {
            let noise = (0..*runs).map(|_| level + random.random_range(-0.035..0.035));
            history.extend(noise);
        }
        history
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        let found = change_points(&history(&[(20, 0.0), (15, 0.1)], 3), 1);
        assert_eq!(found, [20]);
    }

    #[test]
    fn a_change_that_was_reverted_is_found_twice() {
        let found = change_points(&history(&[(15, 0.0), (10, 0.3), (15, 0.0)], 4), 1);
        assert_eq!(found, [15, 25]);
    }

    #[test]
    fn noise_is_rarely_found() {
        let is_alarm = |seed: &u64| {
            let history = history(&[(30, 0.0)], 100 + seed);
            !change_points(&history, *seed).is_empty()
        };
        let alarms = (0..40).filter(is_alarm).count();
        // 0.4 are expected.
        assert!(alarms < 3, "{alarms} of 40");
    }

    #[test]
    fn constant_values_have_no_change_points() {
        assert!(change_points(&[1.0; 40], 1).is_empty());
        assert!(change_points(&[], 1).is_empty());
    }

    #[test]
    fn the_distance_is_that_of_the_paper() {
        let values = history(&[(6, 0.0), (7, 0.3)], 9);
        let sum = |xs: &[f64], ys: &[f64]| -> f64 {
            let xs = xs.iter();
            xs.flat_map(|x| ys.iter().map(move |y| (x - y).abs())).sum()
        };
        let distances = Distances::new(&values);
        for (at, to) in [(6, 13), (5, 11), (2, 4)] {
            let (x, y) = (&values[..at], &values[at..to]);
            let (m, n) = (x.len() as f64, y.len() as f64);
            let expected = m * n / (m + n)
                * (2.0 * sum(x, y) / (m * n)
                    - sum(x, x) / (m * (m - 1.0))
                    - sum(y, y) / (n * (n - 1.0)));
            assert!((distances.between(at, to) - expected).abs() < 1e-9);
        }
    }
}
