//! How far two versions lie apart, and how well that is known.
//!
//! A hierarchical bootstrap: runs differ more from each other than their blocks tell, so whole
//! runs are resampled, and the blocks in each (Kalibera & Jones, "Rigorous benchmarking in
//! reasonable time", ISMM 2013). Of its replicates the standard error is taken and not the
//! percentiles: with five pairs these are far too narrow (all five lie on one side of 0 in
//! every sixteenth comparison of a thing with itself). An interval of Student's t, from the
//! bootstrap's standard error times sqrt(n / (n - 1)), holds what it says (Hesterberg, "What
//! teachers should know about the bootstrap", The American Statistician 69, 2015).

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::metric::{Each, Metric};
use super::series::Series;

/// How many times the runs are resampled.
pub const REPLICATES: usize = 2_000;

/// How many times the blocks of each run are: every draw of a run takes one of these.
const RESAMPLES: usize = 250;

/// One metric of one endpoint, on both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effect {
    /// The mean over A's runs; where the scale is logarithmic, the geometric one.
    pub a: f64,
    /// The same of B.
    pub b: f64,
    /// From A to B, on the metric's scale.
    pub change: f64,
    /// Of the change.
    pub standard_error: f64,
    /// Degrees of freedom: one fewer than there are pairs, or stored runs.
    pub freedom: f64,
}

impl Effect {
    /// Whether all of it are numbers.
    pub fn is_known(&self) -> bool {
        let all = [self.a, self.b, self.change, self.standard_error];
        all.into_iter().all(f64::is_finite)
    }

    /// How far the interval that misses the truth with a chance of `level` (0 to 1) reaches
    /// to either side.
    pub fn reach(&self, level: f64) -> f64 {
        self.standard_error * self.student().inverse_cdf(1.0 - level / 2.0)
    }

    /// How far an estimate lies below the truth at most, in 19 of 20 cases.
    pub fn shortfall(&self) -> f64 {
        self.standard_error * self.student().inverse_cdf(0.95)
    }

    /// The smallest level at which the interval still excludes 0.
    pub fn p_value(&self) -> f64 {
        // Nothing changed, and nothing ever does.
        if self.change == 0.0 && self.standard_error == 0.0 {
            return 1.0;
        }
        let ratio = self.change.abs() / self.standard_error;
        2.0 * self.student().sf(ratio)
    }

    fn student(&self) -> StudentsT {
        let student = StudentsT::new(0.0, 1.0, self.freedom);
        student.expect("at least two runs, so one degree of freedom")
    }
}

/// The effects on one endpoint, of pairs of runs that were made in turn: what slows a pair as
/// a whole is in both and cancels.
pub(super) fn of_pairs(a: &[Series], b: &[Series], seed: u64) -> Each<Effect> {
    let random = &mut Xoshiro256PlusPlus::seed_from_u64(seed);
    let pairs = a.iter().zip(b);
    let resampled = pairs.map(|(a, b)| {
        let changes = resamples(a, random).into_iter().zip(resamples(b, random));
        changes.map(|(a, b)| each(|i| b[i] - a[i])).collect()
    });
    let resampled: Vec<Vec<Each<f64>>> = resampled.collect();
    let errors = standard_errors(&resampled, random);
    let [mean_a, mean_b] = [a, b].map(|runs| mean(runs.iter().map(Series::measured)));
    effects(mean_a, mean_b, errors, binomial_error(a, b), a.len())
}

/// The effects on one endpoint, of one run against stored ones. One run does not tell how much
/// runs differ: that is taken from the stored ones, and the interval is one of prediction.
pub(super) fn of_baseline(stored: &[Series], run: &Series, seed: u64) -> Each<Effect> {
    let random = &mut Xoshiro256PlusPlus::seed_from_u64(seed);
    let a = mean(stored.iter().map(Series::measured));
    let b = run.measured();
    let resampled: Vec<_> = stored.iter().map(|it| resamples(it, random)).collect();
    let of_mean = standard_errors(&resampled, random);
    let within = spread(&resamples(run, random));
    let runs = stored.len() as f64;
    let errors = each(|metric| {
        let mean = of_mean[metric].powi(2);
        (mean + (mean * runs).max(within[metric].powi(2))).sqrt()
    });
    let binomial = binomial_error(stored, std::slice::from_ref(run));
    effects(a, b, errors, binomial, stored.len())
}

fn effects(a: Each<f64>, b: Each<f64>, errors: Each<f64>, binomial: f64, n: usize) -> Each<Effect> {
    let mut standard_errors = errors;
    let error_share = &mut standard_errors[Metric::ErrorShare as usize];
    // Not by `max`, which would hide what is not a number.
    if *error_share < binomial {
        *error_share = binomial;
    }
    Metric::ALL.map(|metric| {
        let index = metric as usize;
        Effect {
            a: metric.unscaled(a[index]),
            b: metric.unscaled(b[index]),
            change: b[index] - a[index],
            standard_error: standard_errors[index],
            freedom: n as f64 - 1.0,
        }
    })
}

/// What the error share's standard error is at least: without a failure in any run the
/// bootstrap knows of no spread, yet a few requests without one say little. One failure and
/// one good answer are added to each side (Agresti & Caffo, "Simple and effective confidence
/// intervals for proportions", The American Statistician 54, 2000).
fn binomial_error(a: &[Series], b: &[Series]) -> f64 {
    let variance = |runs: &[Series]| {
        let (mut requests, mut failed) = (2.0, 1.0);
        for run in runs {
            requests += run.total.requests as f64;
            failed += run.total.failed as f64;
        }
        let share = failed / requests;
        share * (1.0 - share) / requests
    };
    (variance(a) + variance(b)).sqrt()
}

fn resamples(series: &Series, random: &mut Xoshiro256PlusPlus) -> Vec<Each<f64>> {
    (0..RESAMPLES).map(|_| series.resampled(random)).collect()
}

/// Of the mean over runs (or pairs), each given by its resamples.
fn standard_errors(runs: &[Vec<Each<f64>>], random: &mut Xoshiro256PlusPlus) -> Each<f64> {
    let replicates = (0..REPLICATES).map(|_| {
        let drawn = runs.iter().map(|_| {
            let run = &runs[random.random_range(0..runs.len())];
            run[random.random_range(0..run.len())]
        });
        mean(drawn)
    });
    let spread = spread(&replicates.collect::<Vec<_>>());
    let n = runs.len() as f64;
    spread.map(|error| error * (n / (n - 1.0)).sqrt())
}

fn mean(values: impl ExactSizeIterator<Item = Each<f64>>) -> Each<f64> {
    let n = values.len() as f64;
    let sum = values.fold([0.0; 5], |sum, value| each(|i| sum[i] + value[i]));
    sum.map(|sum| sum / n)
}

/// The standard deviation.
fn spread(values: &[Each<f64>]) -> Each<f64> {
    let mean = mean(values.iter().copied());
    let squares = values.iter().fold([0.0; 5], |sum, value| {
        each(|i| sum[i] + (value[i] - mean[i]).powi(2))
    });
    squares.map(|sum| (sum / (values.len() as f64 - 1.0)).sqrt())
}

fn each(value: impl FnMut(usize) -> f64) -> Each<f64> {
    std::array::from_fn(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(change: f64, standard_error: f64) -> Effect {
        Effect {
            a: 1.0,
            b: 1.0,
            change,
            standard_error,
            freedom: 4.0,
        }
    }

    #[test]
    fn the_interval_is_students() {
        // 2.776 is in every table, for 4 degrees of freedom and 95 %.
        assert!((effect(0.0, 1.0).reach(0.05) - 2.776).abs() < 1e-3);
        assert!((effect(2.776, 1.0).p_value() - 0.05).abs() < 1e-4);
        assert!((effect(0.0, 1.0).shortfall() - 2.132).abs() < 1e-3);
    }

    #[test]
    fn what_does_not_vary_has_changed_for_sure_or_not_at_all() {
        assert_eq!(effect(0.0, 0.0).p_value(), 1.0);
        assert_eq!(effect(0.1, 0.0).p_value(), 0.0);
        assert_eq!(effect(0.1, 0.0).reach(0.05), 0.0);
        assert!(!effect(f64::NAN, 0.1).is_known());
        assert!(!effect(0.1, f64::INFINITY).is_known());
    }

    #[test]
    fn the_bootstrap_of_a_mean_has_the_standard_error_of_the_book() {
        let values = [1.0, 4.0, 2.0, 7.0, 5.0, 3.0];
        let runs: Vec<_> = values.iter().map(|value| vec![[*value; 5]]).collect();
        let random = &mut Xoshiro256PlusPlus::seed_from_u64(7);
        let book = spread(&values.map(|value| [value; 5]))[0] / 6.0_f64.sqrt();
        let error = standard_errors(&runs, random)[0];
        assert!((error / book - 1.0).abs() < 0.05, "{error} for {book}");
    }
}
