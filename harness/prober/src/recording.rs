//! The answers that one prober recorded.

use crate::answer::Answer;
use crate::clock::ClockDifference;
use crate::lag::Lag;

/// Where a prober runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vantage {
    /// In the cluster: its connections go directly to the Service's pods.
    Inside,
    /// Outside the ingress, which may hide failures: it retries with the next upstream.
    Outside,
}

/// The answers that one prober recorded, and its quality.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Where it ran.
    pub from: Vantage,
    /// One answer for each request that was due, in the order in which they ended.
    pub answers: Vec<Answer>,
    /// When it began, in microseconds since the Unix epoch.
    pub began: u64,
    /// When its last request ended, in the same unit.
    pub ended: u64,
    /// Its lag; none if it did not report it.
    pub lag: Option<Lag>,
    /// Answers that were lost between the prober and here.
    pub lost: u64,
    /// The difference of its clock from this machine's, if it ran on another machine.
    pub clock: Option<ClockDifference>,
}

impl Recording {
    /// Returns the first of the recordings' reasons, with its vantage, if one is inconclusive.
    pub fn any_inconclusive(recordings: &[Recording]) -> Option<String> {
        recordings.iter().find_map(|it| {
            let why = it.inconclusive()?;
            Some(format!("{}: {why}", it.from))
        })
    }

    /// Returns the reason if it is inconclusive.
    pub fn inconclusive(&self) -> Option<String> {
        let Some(lag) = self.lag else {
            return Some("the prober exited without a report of its lag".into());
        };
        if self.lost > 0 {
            return Some(format!("{} of its answers were lost on the way", self.lost));
        }
        if let Some(clock) = self.clock.filter(|it| !it.may_be_zero()) {
            return Some(format!(
                "{clock}: its answers cannot be assigned to the phases of a release"
            ));
        }
        if self.answers.is_empty() {
            return Some("the prober sent no requests".into());
        }
        lag.fell_behind().map(|why| why.to_string())
    }
}

impl std::fmt::Display for Vantage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Vantage::Inside => "inside",
            Vantage::Outside => "outside",
        })
    }
}
