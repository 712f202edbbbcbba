//! When each arrival is due.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A rate over a time: constant, or a ramp from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Arrivals a second, at its begin.
    pub from: f64,
    /// Arrivals a second, at its end; between, it grows or falls evenly.
    pub to: f64,
    /// How long it takes.
    pub takes: Duration,
}

/// More arrivals a second are a mistake of units.
const HIGHEST_RATE: f64 = 1e6;
/// A longer stage is a mistake of units.
const LONGEST: Duration = Duration::from_hours(24 * 7);
/// An integral that is off a whole number by less than this is that number.
const ROUNDING: f64 = 1e-6;

impl Stage {
    /// `rate` arrivals a second.
    pub fn constant(rate: f64, takes: Duration) -> Stage {
        Stage::ramp(rate, rate, takes)
    }

    /// From one rate to another, evenly.
    pub fn ramp(from: f64, to: f64, takes: Duration) -> Stage {
        Stage { from, to, takes }
    }

    /// The integral of the rate: how many arrivals it holds.
    fn arrivals(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.takes.as_secs_f64()
    }

    /// When the rate's integral has come to `arrivals`.
    ///
    /// The rate after `t` seconds is `a + s t` with the slope `s = (b - a) / d`, its integral
    /// `a t + s t^2 / 2`. Solved for `t` in the form that subtracts nothing: it loses no digits
    /// where the slope is 0 or nearly so, and there it is `arrivals / a`.
    fn due(&self, arrivals: f64) -> Duration {
        if arrivals <= 0.0 {
            return Duration::ZERO;
        }
        let slope = (self.to - self.from) / self.takes.as_secs_f64();
        let root = self.from.mul_add(self.from, 2.0 * slope * arrivals);
        let seconds = 2.0 * arrivals / (self.from + root.max(0.0).sqrt());
        Duration::try_from_secs_f64(seconds).map_or(self.takes, |due| due.min(self.takes))
    }

    fn check(&self) -> Result<(), String> {
        for rate in [self.from, self.to] {
            if !(0.0..=HIGHEST_RATE).contains(&rate) {
                return Err(format!(
                    "asks for {rate} arrivals a second: from 0 to {HIGHEST_RATE} there can be"
                ));
            }
        }
        match self.takes <= LONGEST {
            true => Ok(()),
            false => Err(format!("takes {:?}: {LONGEST:?} at most", self.takes)),
        }
    }
}

/// All stages, one after the other. Each arrival's time follows from its number alone: no
/// error adds up, however many there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    parts: Vec<Part>,
    arrivals: u64,
    takes: Duration,
}

#[derive(Clone, Debug, PartialEq)]
struct Part {
    stage: Stage,
    begins: Duration,
    /// The integral of all rates before.
    before: f64,
}

impl Schedule {
    /// # Errors
    /// Which stage cannot be, and why; or that nothing is ever due.
    pub fn new(stages: &[Stage]) -> Result<Schedule, String> {
        let (mut parts, mut begins, mut before) = (Vec::new(), Duration::ZERO, 0.0);
        for (number, stage) in stages.iter().enumerate() {
            let stage = *stage;
            let wrong = |why| format!("stage {} {why}", number + 1);
            stage.check().map_err(wrong)?;
            parts.push(Part {
                stage,
                begins,
                before,
            });
            begins += stage.takes;
            before += stage.arrivals();
        }
        let arrivals = (before - ROUNDING).ceil() as u64;
        match arrivals {
            0 => Err("no arrival is ever due".into()),
            _ => Ok(Schedule {
                parts,
                arrivals,
                takes: begins,
            }),
        }
    }

    /// How many arrivals there are: those at the begin, and at every whole number of the
    /// rate's integral before the end.
    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// From the begin to the end of the last stage.
    pub fn takes(&self) -> Duration {
        self.takes
    }

    /// The highest rate of all, in arrivals a second.
    pub fn peak(&self) -> f64 {
        let rates = self.parts.iter();
        let rates = rates.map(|part| part.stage.from.max(part.stage.to));
        rates.fold(0.0, f64::max)
    }

    /// When arrival `number`, from 0, is due after the begin.
    pub fn due(&self, number: u64) -> Duration {
        let number = number as f64;
        let after = self.parts.partition_point(|part| part.before <= number);
        let part = &self.parts[after.max(1) - 1];
        part.begins + part.stage.due(number - part.before)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn schedule(stages: &[(f64, f64, f64)]) -> Schedule {
        let stages = stages.iter();
        let stages: Vec<Stage> = stages
            .map(|(from, to, takes)| Stage::ramp(*from, *to, seconds(*takes)))
            .collect();
        Schedule::new(&stages).unwrap()
    }

    #[test]
    fn at_a_constant_rate_it_is_the_number_over_the_rate() {
        let hour = schedule(&[(50_000.0, 50_000.0, 3600.0)]);
        assert_eq!(hour.arrivals(), 180_000_000);
        for number in [0, 1, 7, 49_999, 50_000, 123_456_789, 179_999_999] {
            // In nanoseconds 20 to the arrival: whole numbers, so that nothing is rounded.
            let exact = Duration::from_nanos(number * 20_000);
            let off = hour.due(number).abs_diff(exact);
            assert!(off <= Duration::from_nanos(1), "{number}: off by {off:?}");
        }
    }

    #[test]
    fn a_ramp_is_the_inverse_of_its_integral() {
        // 10 t after t seconds: 5 t^2 arrivals.
        let ramp = schedule(&[(0.0, 100.0, 10.0)]);
        assert_eq!(ramp.arrivals(), 500);
        assert_eq!(ramp.due(0), Duration::ZERO);
        assert_eq!(ramp.due(5), seconds(1.0));
        assert_eq!(ramp.due(125), seconds(5.0));
        let down = schedule(&[(100.0, 0.0, 10.0)]);
        assert!(down.due(375).abs_diff(seconds(5.0)) < Duration::from_nanos(2));
    }

    #[test]
    fn stages_follow_each_other_and_a_pause_is_one() {
        let paused = schedule(&[(10.0, 10.0, 1.0), (0.0, 0.0, 5.0), (10.0, 10.0, 1.0)]);
        assert_eq!(paused.arrivals(), 20);
        assert_eq!(paused.due(9), seconds(0.9));
        assert_eq!(paused.due(10), seconds(6.0));
        assert_eq!(paused.takes(), seconds(7.0));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let one = |from, to, takes| Schedule::new(&[Stage::ramp(from, to, takes)]);
        let second = Duration::from_secs(1);
        for rate in [f64::NAN, f64::INFINITY, -1.0, 1e9] {
            assert!(one(rate, 1.0, second).is_err(), "{rate}");
            assert!(one(1.0, rate, second).is_err(), "{rate}");
        }
        assert!(one(1.0, 1.0, Duration::MAX).is_err());
        assert!(one(0.0, 0.0, second).is_err());
        assert!(one(1.0, 1.0, Duration::ZERO).is_err());
        assert!(Schedule::new(&[]).is_err());
        assert_eq!(one(1.0, 1.0, second).unwrap().arrivals(), 1);
    }

    fn stages() -> impl Strategy<Value = Vec<(f64, f64, f64)>> {
        let rate = || prop_oneof![Just(0.0), 0.1f64..100.0, 100.0f64..50_000.0];
        let stage = (rate(), rate(), 0.0f64..600.0);
        let some = prop::collection::vec(stage, 1..6);
        some.prop_filter("something is due", |stages| {
            stages
                .iter()
                .any(|(from, to, takes)| (from + to) * takes > 2.0)
        })
    }

    /// The rates' integral until `at`, in another way than the code's: stage by stage, by the
    /// area of a trapezium.
    fn integral(stages: &[(f64, f64, f64)], at: f64) -> f64 {
        let (mut sum, mut left) = (0.0, at);
        for (from, to, takes) in stages {
            let within = left.clamp(0.0, *takes);
            if within > 0.0 {
                let rate = from + (to - from) * within / takes;
                sum += (from + rate) / 2.0 * within;
            }
            left -= takes;
        }
        sum
    }

    proptest! {
        #[test]
        fn arrivals_follow_the_integral_and_never_go_back(
            stages in stages(), picks in prop::collection::vec(0.0f64..1.0, 1..40)
        ) {
            let schedule = schedule(&stages);
            let whole: f64 = stages.iter().map(|(from, to, takes)| (from + to) / 2.0 * takes).sum();
            prop_assert!((schedule.arrivals() as f64 - whole.ceil()).abs() <= 1.0);
            let last = schedule.arrivals() - 1;
            let mut numbers: Vec<u64> =
                picks.iter().map(|pick| (pick * last as f64) as u64).collect();
            numbers.sort_unstable();
            for pair in numbers.windows(2) {
                prop_assert!(schedule.due(pair[0]) <= schedule.due(pair[1]));
            }
            for number in numbers {
                let due = schedule.due(number);
                prop_assert!(due <= schedule.due(number + 1) && due <= schedule.takes());
                let reached = integral(&stages, due.as_secs_f64());
                // A nanosecond is what a time is rounded to.
                let allowed = 1e-3 + number as f64 * 1e-9;
                prop_assert!((reached - number as f64).abs() <= allowed, "{number}: {reached}");
            }
        }
    }
}
