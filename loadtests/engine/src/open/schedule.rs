//! When each arrival is due.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A rate over some time: constant, or a ramp.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateStage {
    /// Arrivals a second at its start.
    pub from: f64,
    /// Arrivals a second at its end. The rate changes linearly.
    pub to: f64,
    /// Its duration.
    pub takes: Duration,
}

/// The highest rate, in arrivals a second: more is probably a wrong unit.
const HIGHEST_RATE: f64 = 1e6;
/// The longest stage: more is probably a wrong unit.
const LONGEST: Duration = Duration::from_hours(24 * 7);
/// An integral that is this close to a whole number counts as that number.
const ROUNDING: f64 = 1e-6;

impl RateStage {
    /// `rate` arrivals a second.
    pub fn constant(rate: f64, takes: Duration) -> RateStage {
        RateStage::ramp(rate, rate, takes)
    }

    /// From one rate to another, linearly.
    pub fn ramp(from: f64, to: f64, takes: Duration) -> RateStage {
        RateStage { from, to, takes }
    }

    /// Returns the integral of the rate: the number of arrivals.
    fn arrivals(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.takes.as_secs_f64()
    }

    /// Returns when the rate's integral reaches `arrivals`, after the start of the stage.
    ///
    /// The rate after `t` seconds is `a + s t` with the slope `s = (b - a) / d`, its integral
    /// `a t + s t^2 / 2`. This is solved for `t` in the form without a subtraction, which loses
    /// no digits if the slope is close to 0; there it becomes `arrivals / a`.
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
                    "has a rate of {rate} arrivals a second: it must be from 0 to {HIGHEST_RATE}"
                ));
            }
        }
        if self.takes > LONGEST {
            return Err(format!("takes {:?}: at most {LONGEST:?}", self.takes));
        }
        Ok(())
    }
}

/// All stages in order. An arrival's time depends only on its number: no rounding errors add up.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    stages: Vec<ScheduledStage>,
    arrivals: u64,
    takes: Duration,
}

#[derive(Clone, Debug, PartialEq)]
struct ScheduledStage {
    stage: RateStage,
    begins: Duration,
    /// The integral of the rates of all stages before.
    before: f64,
}

impl Schedule {
    /// # Errors
    /// The first invalid stage, with the reason; or that no arrival is ever due.
    pub fn new(planned: &[RateStage]) -> Result<Schedule, String> {
        let (mut stages, mut begins, mut before) = (Vec::new(), Duration::ZERO, 0.0);
        for (number, stage) in (1..).zip(planned) {
            let stage = *stage;
            let check = stage.check();
            check.map_err(|reason| format!("stage {number} {reason}"))?;
            stages.push(ScheduledStage {
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
                stages,
                arrivals,
                takes: begins,
            }),
        }
    }

    /// Returns the number of arrivals: one at the start, and one whenever the rate's integral
    /// reaches a whole number before the end.
    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Returns the time from the start to the end of the last stage.
    pub fn takes(&self) -> Duration {
        self.takes
    }

    /// Returns when arrival `number`, from 0, is due after the start.
    pub fn due(&self, number: u64) -> Duration {
        let number = number as f64;
        let next = self.stages.partition_point(|stage| stage.before <= number);
        let scheduled = &self.stages[next.max(1) - 1];
        scheduled.begins + scheduled.stage.due(number - scheduled.before)
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
        let ramp =
            |(from, to, takes): &(f64, f64, f64)| RateStage::ramp(*from, *to, seconds(*takes));
        Schedule::new(&stages.iter().map(ramp).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn at_a_constant_rate_an_arrival_is_due_at_its_number_over_the_rate() {
        let hour = schedule(&[(50_000.0, 50_000.0, 3600.0)]);
        assert_eq!(hour.arrivals(), 180_000_000);
        for number in [0, 1, 7, 49_999, 50_000, 123_456_789, 179_999_999] {
            // 20 microseconds for each arrival: in whole nanoseconds nothing is rounded.
            let exact = Duration::from_nanos(number * 20_000);
            let off = hour.due(number).abs_diff(exact);
            assert!(off <= Duration::from_nanos(1), "{number}: off by {off:?}");
        }
    }

    #[test]
    fn arrivals_of_a_ramp_are_due_at_the_inverse_of_its_integral() {
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
    fn stages_follow_each_other_and_a_stage_may_be_a_pause() {
        let paused = schedule(&[(10.0, 10.0, 1.0), (0.0, 0.0, 5.0), (10.0, 10.0, 1.0)]);
        assert_eq!(paused.arrivals(), 20);
        assert_eq!(paused.due(9), seconds(0.9));
        assert_eq!(paused.due(10), seconds(6.0));
        assert_eq!(paused.takes(), seconds(7.0));
    }

    #[test]
    fn invalid_stages_are_refused() {
        let one = |from, to, takes| Schedule::new(&[RateStage::ramp(from, to, takes)]);
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
            let mut stages = stages.iter();
            stages.any(|(from, to, takes)| (from + to) * takes > 2.0)
        })
    }

    /// The rates' integral until `at`, computed in another way: as the areas of trapezia.
    fn integral(stages: &[(f64, f64, f64)], at: f64) -> f64 {
        let (mut sum, mut remaining) = (0.0, at);
        for (from, to, takes) in stages {
            let within = remaining.clamp(0.0, *takes);
            if within > 0.0 {
                let rate = from + (to - from) * within / takes;
                sum += (from + rate) / 2.0 * within;
            }
            remaining -= takes;
        }
        sum
    }

    proptest! {
        #[test]
        fn arrivals_follow_the_integral_in_ascending_order(
            stages in stages(), picks in prop::collection::vec(0.0f64..1.0, 1..40)
        ) {
            let schedule = schedule(&stages);
            let total: f64 = stages.iter().map(|(from, to, takes)| (from + to) / 2.0 * takes).sum();
            prop_assert!((schedule.arrivals() as f64 - total.ceil()).abs() <= 1.0);
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
                // Times are rounded to nanoseconds.
                let allowed = 1e-3 + number as f64 * 1e-9;
                prop_assert!((reached - number as f64).abs() <= allowed, "{number}: {reached}");
            }
        }
    }
}
