//! The verdict on an effect, and one error rate for many endpoints.

use super::ComparisonVerdict;
use super::comparison::Numbers;
use super::effect::Effect;
use super::metric::ComparedMetric;
use super::settings::Floors;

/// Returns the verdict on `effect`, with the reason. The interval misses the true change with a
/// probability of `level` (0 to 1).
pub(super) fn evaluate(
    metric: ComparedMetric,
    effect: &Effect,
    floors: &Floors,
    level: f64,
) -> (ComparisonVerdict, String, Numbers) {
    let reach = effect.reach(level);
    let floor = floors.of(metric, effect.a);
    let numbers = Numbers {
        a: effect.a,
        b: effect.b,
        change: effect.change,
        low: effect.change - reach,
        high: effect.change + reach,
        confidence: 1.0 - level,
        floor,
        smallest_visible: reach.max(floor) + effect.shortfall(),
    };
    let verdict = verdict(metric, &numbers);
    (verdict, reason(metric, verdict, &numbers), numbers)
}

fn verdict(metric: ComparedMetric, numbers: &Numbers) -> ComparisonVerdict {
    let (change, floor) = (numbers.change, numbers.floor);
    if excludes_zero(numbers) && change.abs() > floor {
        match (change > 0.0) == metric.more_is_worse() {
            true => ComparisonVerdict::Regressed,
            false => ComparisonVerdict::Improved,
        }
    } else if -floor <= numbers.low && numbers.high <= floor {
        ComparisonVerdict::Unchanged
    } else {
        ComparisonVerdict::Inconclusive
    }
}

fn excludes_zero(numbers: &Numbers) -> bool {
    numbers.low > 0.0 || numbers.high < 0.0
}

fn reason(metric: ComparedMetric, verdict: ComparisonVerdict, numbers: &Numbers) -> String {
    let change = metric.human_change(numbers.change);
    let floor = metric.human_size(numbers.floor);
    let sure = format!("with {:.1} % confidence", 100.0 * numbers.confidence);
    match verdict {
        ComparisonVerdict::Regressed | ComparisonVerdict::Improved => {
            format!("{change} is more than the floor of {floor}, and significant {sure}")
        }
        ComparisonVerdict::Unchanged => format!("within the floor of {floor} {sure}"),
        ComparisonVerdict::Inconclusive | ComparisonVerdict::NotComparable => {
            let open = match excludes_zero(numbers) {
                true => "is significant, but may be within",
                false => "may be chance, and may exceed",
            };
            let visible = metric.human_size(numbers.smallest_visible);
            format!("{change} {open} the floor of {floor}; {visible} could be detected")
        }
    }
}

/// Returns the level (0 to 1) of each interval, such that the probability that any of them wrongly
/// excludes 0 is `level`: Holm, "A simple sequentially rejective multiple test procedure",
/// Scandinavian Journal of Statistics 6, 1979.
///
/// The smallest p-value is compared with `level / n`, the next with `level / (n - 1)`, until one is
/// larger. The rest get the same level, which theirs exceed too.
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
    use proptest::prelude::*;

    use super::*;

    fn effect(change: f64, standard_error: f64) -> Effect {
        Effect {
            a: 10_000.0,
            b: 10_000.0 * change.exp(),
            change,
            standard_error,
            freedom: 6.0,
        }
    }

    fn evaluated(metric: ComparedMetric, change: f64, standard_error: f64) -> ComparisonVerdict {
        let effect = effect(change, standard_error);
        evaluate(metric, &effect, &Floors::default(), 0.05).0
    }

    #[test]
    fn a_change_must_be_significant_and_relevant() {
        for (metric, change, standard_error, verdict) in [
            (
                ComparedMetric::P95,
                0.10,
                0.01,
                ComparisonVerdict::Regressed,
            ),
            (
                ComparedMetric::P95,
                -0.10,
                0.01,
                ComparisonVerdict::Improved,
            ),
            (
                ComparedMetric::Throughput,
                -0.10,
                0.01,
                ComparisonVerdict::Regressed,
            ),
            (
                ComparedMetric::Throughput,
                0.10,
                0.01,
                ComparisonVerdict::Improved,
            ),
            // Significant, but too small.
            (
                ComparedMetric::P95,
                0.03,
                0.001,
                ComparisonVerdict::Unchanged,
            ),
            (ComparedMetric::P95, 0.03, 0.0, ComparisonVerdict::Unchanged),
            // The interval is too wide.
            (
                ComparedMetric::P95,
                0.10,
                0.05,
                ComparisonVerdict::Inconclusive,
            ),
            (
                ComparedMetric::P95,
                0.0,
                0.05,
                ComparisonVerdict::Inconclusive,
            ),
            // The interval excludes 0, and exceeds the floor.
            (
                ComparedMetric::P95,
                0.04,
                0.01,
                ComparisonVerdict::Inconclusive,
            ),
        ] {
            let evaluated = evaluated(metric, change, standard_error);
            assert_eq!(evaluated, verdict, "{metric}: {change} ± {standard_error}");
        }
    }

    #[test]
    fn levels_are_those_of_the_textbook() {
        // Adjusted p-values of these: 0.03, 0.06, 0.06, 0.02.
        let p = [0.01, 0.04, 0.03, 0.005];
        let adjusted = levels(&p, 0.05);
        assert_eq!(adjusted, [0.05 / 3.0, 0.025, 0.025, 0.0125]);
        let significant = p.iter().zip(adjusted).map(|(p, level)| *p <= level);
        assert_eq!(significant.collect::<Vec<_>>(), [true, false, false, true]);
        assert_eq!(levels(&[0.2], 0.05), [0.05]);
        assert!(levels(&[], 0.05).is_empty());
    }

    #[test]
    fn the_reasons_read() {
        let reasons = [
            (0.10, 0.01),
            (-0.10, 0.01),
            (0.01, 0.005),
            (0.04, 0.01),
            (0.02, 0.04),
        ]
        .map(|(change, error)| {
            let effect = effect(change, error);
            evaluate(ComparedMetric::P95, &effect, &Floors::default(), 0.05 / 3.0).1
        });
        insta::assert_snapshot!(reasons.join("\n"));
    }

    proptest! {
        #[test]
        fn nan_never_passes(known in -0.2..0.2f64) {
            for (change, error) in [(f64::NAN, known.abs()), (known, f64::NAN)] {
                for metric in ComparedMetric::ALL {
                    prop_assert_eq!(evaluated(metric, change, error), ComparisonVerdict::Inconclusive);
                }
            }
        }

        #[test]
        fn the_smallest_visible_change_is_reported(error in 0.001..0.1f64) {
            let effect = effect(0.0, error);
            let (.., numbers) = evaluate(ComparedMetric::P99, &effect, &Floors::default(), 0.05);
            prop_assert_eq!(
                evaluated(ComparedMetric::P99, numbers.smallest_visible, error), ComparisonVerdict::Regressed
            );
        }
    }
}
