//! What is left of a release whose deployer is killed right after it has moved traffic.

use std::fmt;
use std::time::Duration;

use base::duration::human;

use super::Contender;
use super::release_site::Pods;

/// Longer than any contender waits before it removes pods, and the pods take to end.
pub const BY_ITSELF_WITHIN: Duration = Duration::from_secs(100);

/// The result of killing a deployer.
#[derive(Clone, Debug, PartialEq)]
pub struct Killed {
    pub by: Contender,
    pub new: String,
    /// Right after the kill.
    pub at_once: Pods,
    pub ended: KillEnd,
    /// The users' requests in this time.
    pub requests: u64,
    pub failed: u64,
}

/// How the release ended: only one version is left, and has traffic.
#[derive(Clone, Debug, PartialEq)]
pub enum KillEnd {
    /// By itself, this long after the kill.
    ByItself { millis: f64, left: Pods },
    /// By the same command again. `waiting` is what was left before it.
    ByHand {
        waiting: Pods,
        millis: f64,
        left: Pods,
    },
}

impl Contender {
    /// How a user completes its release.
    fn again(self) -> &'static str {
        match self {
            Contender::Ours => "`cargo xtask blue-green deploy` of the same version",
            Contender::Argo => "the same manifest, applied again,",
            Contender::Script => "the same script, run again,",
        }
    }
}

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
        let show = |pods: &Pods| describe_pods(pods, new);
        let at_once = show(at_once);
        write!(f, "{by}, killed right after the switch: {at_once}; ")?;
        match ended {
            KillEnd::ByItself { millis, left } => {
                let (millis, left) = (human(*millis as u64), show(left));
                write!(f, "by itself it ended in {millis}: {left}")?;
            }
            KillEnd::ByHand {
                waiting,
                millis,
                left,
            } => write!(
                f,
                "after {} still {}; {} ended it in {}: {}",
                human(BY_ITSELF_WITHIN.as_millis() as u64),
                show(waiting),
                by.again(),
                human(*millis as u64),
                show(left)
            )?,
        }
        write!(f, "; {failed} of {requests} requests failed meanwhile")
    }
}

/// `the new version has traffic, 2 pods (2 ready), 2 others`.
fn describe_pods(pods: &Pods, new: &str) -> String {
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

    pub fn killed(by: Contender, ended: KillEnd) -> Killed {
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
    fn a_release_may_end_by_itself() {
        let ended = KillEnd::ByItself {
            millis: 41_000.0,
            left: pods("v2", 2, 0),
        };
        insta::assert_snapshot!(killed(Contender::Argo, ended), @"Argo, killed right after the switch: the new version has traffic, 2 pods (2 ready), 2 others; by itself it ended in 41.0 s: the new version has traffic, 2 pods (2 ready), 0 others; 1 of 24000 requests failed meanwhile");
    }

    #[test]
    fn a_release_may_need_the_same_command_again() {
        let ended = KillEnd::ByHand {
            waiting: pods("v2", 2, 2),
            millis: 38_200.0,
            left: pods("v2", 3, 0),
        };
        insta::assert_snapshot!(killed(Contender::Script, ended), @"the script, killed right after the switch: the new version has traffic, 2 pods (2 ready), 2 others; after 1 min 40 s still the new version has traffic, 2 pods (2 ready), 2 others; the same script, run again, ended it in 38.2 s: the new version has traffic, 3 pods (3 ready), 0 others; 1 of 24000 requests failed meanwhile");
    }

    #[test]
    fn the_version_with_traffic_is_shown() {
        assert!(describe_pods(&pods("v1", 2, 2), "v2").starts_with("the old version"));
        let nobody = Pods {
            version: None,
            ..pods("v1", 0, 4)
        };
        insta::assert_snapshot!(describe_pods(&nobody, "v2"), @"nobody has traffic, 0 pods (0 ready), 4 others");
    }
}
