//! All that one prober saw.

use crate::answer::Answer;
use crate::difference::ClockDifference;
use crate::lag::Lag;

/// Where a prober stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vantage {
    /// In the cluster: it asks a Service, and sees each connection's fate.
    Inside,
    /// Before the ingress, which may hide failures by trying the next upstream.
    Outside,
}

/// All that one prober saw.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Where it stood.
    pub from: Vantage,
    /// One for each request that was due, in the order in which they ended.
    pub answers: Vec<Answer>,
    /// When it began, in microseconds since the Unix epoch.
    pub began: u64,
    /// When its last request had ended, in the same.
    pub ended: u64,
    /// How well it kept up; none where it could not tell any more.
    pub lag: Option<Lag>,
    /// Answers that it told of and that did not arrive here.
    pub lost: u64,
    /// How far its clock is from this machine's, where that is another.
    pub clock: Option<ClockDifference>,
}

impl Recording {
    /// Why it proves nothing, unless it may.
    pub fn inconclusive(&self) -> Option<String> {
        let Some(lag) = self.lag else {
            return Some("the prober ended without a word on how well it kept up".into());
        };
        if self.lost > 0 {
            return Some(format!("{} of its answers were lost on the way", self.lost));
        }
        if let Some(clock) = self.clock.filter(|it| !it.may_be_none()) {
            return Some(format!(
                "{clock}: its answers cannot be assigned to the phases of a release"
            ));
        }
        if self.answers.is_empty() {
            return Some("the prober asked nothing".into());
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
