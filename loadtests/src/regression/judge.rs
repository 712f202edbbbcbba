//! From what was seen to a verdict.

use super::Verdict;
use super::comparison::Numbers;
use super::effect::Effect;
use super::metric::Metric;
use super::settings::Floors;

/// What `effect` comes to, its interval missing the truth with a chance of `level` (0 to 1),
/// and why.
pub(super) fn judge(
    metric: Metric,
    effect: &Effect,
    floors: &Floors,
    level: f64,
) -> (Verdict, String, Numbers) {
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

fn verdict(metric: Metric, numbers: &Numbers) -> Verdict {
    let Numbers {
        change,
        low,
        high,
        floor,
        ..
    } = *numbers;
    if excludes_zero(numbers) && change.abs() > floor {
        match (change > 0.0) == metric.more_is_worse() {
            true => Verdict::Regressed,
            false => Verdict::Improved,
        }
    } else if -floor <= low && high <= floor {
        Verdict::Unchanged
    } else {
        Verdict::Inconclusive
    }
}

fn excludes_zero(numbers: &Numbers) -> bool {
    numbers.low > 0.0 || numbers.high < 0.0
}

fn reason(metric: Metric, verdict: Verdict, numbers: &Numbers) -> String {
    let change = metric.human_change(numbers.change);
    let floor = metric.human_size(numbers.floor);
    let sure = format!("with {:.1} % confidence", 100.0 * numbers.confidence);
    match verdict {
        Verdict::Regressed | Verdict::Improved => {
            format!("{change} is more than the floor of {floor}, and no chance {sure}")
        }
        Verdict::Unchanged => format!("within the floor of {floor} {sure}"),
        Verdict::Inconclusive | Verdict::NotComparable => {
            let open = match excludes_zero(numbers) {
                true => "is no chance, but perhaps within",
                false => "may be chance, and may be more than",
            };
            let visible = metric.human_size(numbers.smallest_visible);
            format!("{change} {open} the floor of {floor}; {visible} could be seen")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(metric: Metric, change: f64, standard_error: f64) -> Verdict {
        let effect = Effect {
            a: 10_000.0,
            b: 10_000.0 * change.exp(),
            change,
            standard_error,
            freedom: 6.0,
        };
        judge(metric, &effect, &Floors::default(), 0.05).0
    }

    #[test]
    fn a_change_is_called_that_is_no_chance_and_matters() {
        assert_eq!(judged(Metric::P95, 0.10, 0.01), Verdict::Regressed);
        assert_eq!(judged(Metric::P95, -0.10, 0.01), Verdict::Improved);
        assert_eq!(judged(Metric::Throughput, -0.10, 0.01), Verdict::Regressed);
        assert_eq!(judged(Metric::Throughput, 0.10, 0.01), Verdict::Improved);
    }

    #[test]
    fn one_too_small_to_matter_is_none_however_sure_it_is() {
        assert_eq!(judged(Metric::P95, 0.03, 0.001), Verdict::Unchanged);
        assert_eq!(judged(Metric::P95, 0.03, 0.0), Verdict::Unchanged);
    }

    #[test]
    fn a_wide_interval_proves_neither() {
        assert_eq!(judged(Metric::P95, 0.10, 0.05), Verdict::Inconclusive);
        assert_eq!(judged(Metric::P95, 0.0, 0.05), Verdict::Inconclusive);
        // It excludes 0, and reaches beyond the floor.
        assert_eq!(judged(Metric::P95, 0.04, 0.01), Verdict::Inconclusive);
    }

    #[test]
    fn the_reasons_read() {
        let effect = |change: f64, standard_error| Effect {
            a: 10_000.0,
            b: 10_000.0 * change.exp(),
            change,
            standard_error,
            freedom: 6.0,
        };
        let reasons = [
            (0.10, 0.01),
            (-0.10, 0.01),
            (0.01, 0.005),
            (0.04, 0.01),
            (0.02, 0.04),
        ]
        .map(|(change, error)| {
            let effect = effect(change, error);
            judge(Metric::P95, &effect, &Floors::default(), 0.05 / 3.0).1
        });
        insta::assert_snapshot!(reasons.join("\n"));
    }

    proptest! {
        #[test]
        fn what_is_no_number_never_passes(known in -0.2..0.2f64) {
            for (change, error) in [(f64::NAN, known.abs()), (known, f64::NAN)] {
                for metric in Metric::ALL {
                    prop_assert_eq!(judged(metric, change, error), Verdict::Inconclusive);
                }
            }
        }

        /// The smallest visible change is called where nothing else is in the way.
        #[test]
        fn a_change_that_is_twice_the_smallest_visible_one_is_called(error in 0.001..0.1f64) {
            let effect = Effect { a: 1e4, b: 1e4, change: 0.0, standard_error: error, freedom: 6.0 };
            let (.., numbers) = judge(Metric::P99, &effect, &Floors::default(), 0.05);
            prop_assert_eq!(
                judged(Metric::P99, numbers.smallest_visible, error), Verdict::Regressed
            );
        }
    }
}
