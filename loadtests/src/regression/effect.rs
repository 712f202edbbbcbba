//! The difference between two versions, and its uncertainty.
//!
//! This is a hierarchical bootstrap: whole runs are resampled, and the blocks in each, as runs
//! differ more from each other than their blocks show (Kalibera & Jones, "Rigorous benchmarking in
//! reasonable time", ISMM 2013). Only the standard error of its replicates is used. Their
//! percentiles are too narrow with five pairs: in every sixteenth comparison of a version with
//! itself all five are on one side of 0. An interval of Student's t, with the bootstrap's standard
//! error times sqrt(n / (n - 1)), has the stated confidence (Hesterberg, "What teachers should know
//! about the bootstrap", The American Statistician 69, 2015).

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::metric::{ComparedMetric, Each};
use super::series::BlockSeries;

/// How many times the runs are resampled.
pub const REPLICATES: usize = 2_000;

/// How many times the blocks of each run are resampled. Every draw of a run uses one of these.
const RESAMPLES: usize = 250;

/// One metric of one endpoint, on both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effect {
    /// The mean over A's runs; geometric if the scale is logarithmic.
    pub a: f64,
    /// The mean over B's runs.
    pub b: f64,
    /// The change from A to B, on the metric's scale.
    pub change: f64,
    /// The standard error of the change.
    pub standard_error: f64,
    /// Degrees of freedom: one less than the number of pairs, or stored runs.
    pub freedom: f64,
}

impl Effect {
    /// Returns whether all values are finite.
    pub fn is_known(&self) -> bool {
        let all = [self.a, self.b, self.change, self.standard_error];
        all.into_iter().all(f64::is_finite)
    }

    /// Returns half the width of the interval that misses the true change with a probability of
    /// `level` (0 to 1).
    pub fn reach(&self, level: f64) -> f64 {
        self.standard_error * self.student().inverse_cdf(1.0 - level / 2.0)
    }

    /// Returns how far an estimate is at most below the true change, in 19 of 20 cases.
    pub fn shortfall(&self) -> f64 {
        self.standard_error * self.student().inverse_cdf(0.95)
    }

    /// Returns the smallest level at which the interval excludes 0.
    pub fn p_value(&self) -> f64 {
        // There is neither a change nor noise.
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

/// Returns the effects on one endpoint, from pairs of runs that were made in turn. Noise that
/// affects both runs of a pair cancels out.
pub(super) fn of_pairs(a: &[BlockSeries], b: &[BlockSeries], seed: u64) -> Each<Effect> {
    let random = &mut Xoshiro256PlusPlus::seed_from_u64(seed);
    let pairs = a.iter().zip(b);
    let resampled = pairs.map(|(a, b)| {
        let changes = resamples(a, random).into_iter().zip(resamples(b, random));
        changes.map(|(a, b)| each(|i| b[i] - a[i])).collect()
    });
    let resampled: Vec<Vec<Each<f64>>> = resampled.collect();
    let errors = standard_errors(&resampled, random);
    let [mean_a, mean_b] = [a, b].map(|runs| mean(runs.iter().map(BlockSeries::measured)));
    effects(mean_a, mean_b, errors, binomial_error(a, b), a.len())
}

/// Returns the effects on one endpoint, of one run compared with stored ones. The stored runs show
/// how much runs differ, and the interval is a prediction interval.
pub(super) fn of_baseline(stored: &[BlockSeries], run: &BlockSeries, seed: u64) -> Each<Effect> {
    let random = &mut Xoshiro256PlusPlus::seed_from_u64(seed);
    let a = mean(stored.iter().map(BlockSeries::measured));
    let b = run.measured();
    let resampled: Vec<_> = stored.iter().map(|run| resamples(run, random)).collect();
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
    let error_share = &mut standard_errors[ComparedMetric::ErrorShare as usize];
    // `max` would hide a NaN.
    if *error_share < binomial {
        *error_share = binomial;
    }
    ComparedMetric::ALL.map(|metric| {
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

/// Returns the lower bound of the error share's standard error: without a failure in any run the
/// bootstrap shows no spread, even for a few requests. One failure and one good answer are added to
/// each side (Agresti & Caffo, "Simple and effective confidence intervals for proportions", The
/// American Statistician 54, 2000).
fn binomial_error(a: &[BlockSeries], b: &[BlockSeries]) -> f64 {
    let variance = |runs: &[BlockSeries]| {
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

fn resamples(series: &BlockSeries, random: &mut Xoshiro256PlusPlus) -> Vec<Each<f64>> {
    (0..RESAMPLES).map(|_| series.resampled(random)).collect()
}

/// Returns the standard errors of the mean over runs or pairs, each given by its resamples.
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

/// Returns the standard deviation.
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
        // The tables have 2.776 for 4 degrees of freedom and 95 %.
        assert!((effect(0.0, 1.0).reach(0.05) - 2.776).abs() < 1e-3);
        assert!((effect(2.776, 1.0).p_value() - 0.05).abs() < 1e-4);
        assert!((effect(0.0, 1.0).shortfall() - 2.132).abs() < 1e-3);
    }

    #[test]
    fn a_change_without_noise_is_certain() {
        assert_eq!(effect(0.0, 0.0).p_value(), 1.0);
        assert_eq!(effect(0.1, 0.0).p_value(), 0.0);
        assert_eq!(effect(0.1, 0.0).reach(0.05), 0.0);
        assert!(!effect(f64::NAN, 0.1).is_known());
        assert!(!effect(0.1, f64::INFINITY).is_known());
    }

    #[test]
    fn the_bootstrap_of_a_mean_has_the_textbook_standard_error() {
        let values = [1.0, 4.0, 2.0, 7.0, 5.0, 3.0];
        let runs: Vec<_> = values.iter().map(|value| vec![[*value; 5]]).collect();
        let random = &mut Xoshiro256PlusPlus::seed_from_u64(7);
        let expected = spread(&values.map(|value| [value; 5]))[0] / 6.0_f64.sqrt();
        let error = standard_errors(&runs, random)[0];
        assert!(
            (error / expected - 1.0).abs() < 0.05,
            "{error} for {expected}"
        );
    }
}
