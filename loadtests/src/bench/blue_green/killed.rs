//! What remains of a release whose deployer is killed right after it has moved traffic.

use std::fmt;
use std::time::{Duration, Instant};

use harness::duration::human;
use harness::wait::WaitError;

use super::ground::Ground;
use super::site::{Pods, Site};
use super::{By, Quality};
use crate::bench::error::BenchError;

/// Longer than any of them has pods wait for their end, and those take to end.
const BY_ITSELF_WITHIN: Duration = Duration::from_secs(100);

/// What was seen of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Killed {
    pub by: By,
    /// The version it was to release.
    pub new: String,
    /// Right after the kill.
    pub at_once: Pods,
    pub ended: Ended,
    /// Of the users' requests, meanwhile.
    pub requests: u64,
    pub failed: u64,
}

/// How it came to its end: one version alone is there, and has traffic.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// By itself, so long after the kill.
    ByItself { millis: f64, left: Pods },
    /// Not by itself: what was there when it was given up, and by the same command again.
    ByHand {
        waiting: Pods,
        millis: f64,
        left: Pods,
    },
}

/// Watches what becomes of a release of `new` whose deployer has been killed, and has a person end
/// it where it does not end by itself.
pub async fn ended(
    ground: &Ground<'_>,
    by: By,
    site: &Site,
    new: &str,
) -> Result<Ended, BenchError> {
    let begun = Instant::now();
    match site.at_rest_within(BY_ITSELF_WITHIN).await {
        Ok(_) => {
            return Ok(Ended::ByItself {
                millis: millis_since(begun),
                left: site.pods().await?,
            });
        }
        Err(BenchError::Wait(WaitError::TimedOut { .. })) => {}
        Err(error) => return Err(error),
    }
    let waiting = site.pods().await?;
    let begun = Instant::now();
    ground.released(by, new, Quality::Good).await?;
    site.at_rest().await?;
    Ok(Ended::ByHand {
        waiting,
        millis: millis_since(begun),
        left: site.pods().await?,
    })
}

fn millis_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

impl By {
    /// What a person types to end what it has begun.
    fn again(self) -> &'static str {
        match self {
            By::Ours => "`cargo xtask blue-green deploy` of the same version",
            By::Argo => "the same manifest, applied again,",
            By::Script => "the same script, run again,",
        }
    }
}

/// In one line.
impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Killed {
            by,
            new,
            at_once,
            ended,
            requests,
            failed,
        } = self;
        let said = |pods: &Pods| in_words(pods, new);
        let human = |millis: &f64| human(*millis as u64);
        write!(
            f,
            "{by}, killed right after the switch: {}; ",
            said(at_once)
        )?;
        match ended {
            Ended::ByItself { millis, left } => {
                write!(f, "by itself it ended in {}: {}", human(millis), said(left))?;
            }
            Ended::ByHand {
                waiting,
                millis,
                left,
            } => write!(
                f,
                "after {} still {}; {} ended it in {}: {}",
                human(&(BY_ITSELF_WITHIN.as_millis() as f64)),
                said(waiting),
                by.again(),
                human(millis),
                said(left)
            )?,
        }
        write!(f, "; {failed} of {requests} requests failed meanwhile")
    }
}

/// `the new version has traffic, 2 pods (2 ready), 2 others`.
fn in_words(pods: &Pods, new: &str) -> String {
    let Pods {
        version,
        selected,
        ready,
        others,
    } = pods;
    let who = match version.as_deref() {
        None => "nobody",
        Some(version) if version == new => "the new version",
        Some(_) => "the old version",
    };
    format!("{who} has traffic, {selected} pods ({ready} ready), {others} others")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn pods(version: &str, selected: usize, others: usize) -> Pods {
        Pods {
            version: Some(version.to_owned()),
            selected,
            ready: selected,
            others,
        }
    }

    pub fn killed(by: By, ended: Ended) -> Killed {
        Killed {
            by,
            new: "v2".into(),
            at_once: pods("v2", 2, 2),
            ended,
            requests: 24_000,
            failed: 1,
        }
    }

    #[test]
    fn what_ends_by_itself_needs_nobody() {
        let ended = Ended::ByItself {
            millis: 41_000.0,
            left: pods("v2", 2, 0),
        };
        insta::assert_snapshot!(killed(By::Argo, ended), @"Argo, killed right after the switch: the new version has traffic, 2 pods (2 ready), 2 others; by itself it ended in 41.0 s: the new version has traffic, 2 pods (2 ready), 0 others; 1 of 24000 requests failed meanwhile");
    }

    #[test]
    fn what_does_not_is_ended_by_hand() {
        let ended = Ended::ByHand {
            waiting: pods("v2", 2, 2),
            millis: 38_200.0,
            left: pods("v2", 3, 0),
        };
        insta::assert_snapshot!(killed(By::Script, ended), @"the script, killed right after the switch: the new version has traffic, 2 pods (2 ready), 2 others; after 1 min 40 s still the new version has traffic, 2 pods (2 ready), 2 others; the same script, run again, ended it in 38.2 s: the new version has traffic, 3 pods (3 ready), 0 others; 1 of 24000 requests failed meanwhile");
    }

    #[test]
    fn who_has_traffic_is_said_as_it_is_seen() {
        assert!(in_words(&pods("v1", 2, 2), "v2").starts_with("the old version"));
        let nobody = Pods {
            version: None,
            ..pods("v1", 0, 4)
        };
        insta::assert_snapshot!(in_words(&nobody, "v2"), @"nobody has traffic, 0 pods (0 ready), 4 others");
    }
}
