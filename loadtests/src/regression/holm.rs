//! Many endpoints, one error rate.

/// The level (0 to 1) at which each interval is to be had so that the chance that any of them
/// wrongly excludes 0 is `level` in all: Holm, "A simple sequentially rejective multiple test
/// procedure", Scandinavian Journal of Statistics 6, 1979.
///
/// The smallest p-value is held against `level / n`, the next against `level / (n - 1)`, until
/// one does not hold; those after it share its level, at which theirs do not hold either.
pub(super) fn levels(p_values: &[f64], level: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|left, right| p_values[*left].total_cmp(&p_values[*right]));
    let mut levels = vec![level; p_values.len()];
    let mut stopped = None;
    for (done, index) in order.into_iter().enumerate() {
        let here = stopped.unwrap_or(level / (p_values.len() - done) as f64);
        levels[index] = here;
        if p_values[index] > here {
            stopped = Some(here);
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_in_the_textbook() {
        // Adjusted p-values of these: 0.03, 0.06, 0.06, 0.02.
        let p = [0.01, 0.04, 0.03, 0.005];
        let levels = levels(&p, 0.05);
        assert_eq!(levels, [0.05 / 3.0, 0.025, 0.025, 0.0125]);
        let held: Vec<bool> = p.iter().zip(levels).map(|(p, level)| *p <= level).collect();
        assert_eq!(held, [true, false, false, true]);
    }

    #[test]
    fn one_alone_needs_no_adjustment() {
        assert_eq!(levels(&[0.2], 0.05), [0.05]);
        assert!(levels(&[], 0.05).is_empty());
    }
}
