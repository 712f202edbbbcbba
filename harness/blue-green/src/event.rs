//! The events of a release.

use std::fmt;
use std::pin::pin;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::colour::Colour;
use super::record::ReleaseStep;
use base::duration::human;

/// An event of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseEvent {
    /// The time, by the deployer's clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub what: EventKind,
}

impl ReleaseEvent {
    /// Returns an event with the current time.
    pub fn now(what: EventKind) -> ReleaseEvent {
        let at = Timestamp::now();
        ReleaseEvent { at, what }
    }
}

/// What happened in a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// This deployer has taken the lock.
    Locked {
        /// The holder in the Lease.
        holder: String,
    },
    /// There is an unfinished release, which ends first.
    Found {
        /// The id of the unfinished release.
        release: String,
        /// The step at which it stopped.
        step: ReleaseStep,
        /// Whether it is resumed or rolled back, and why.
        how: String,
    },
    /// A step begins. It is already in the record.
    Began {
        /// The step.
        step: ReleaseStep,
    },
    /// Progress within a step; not kept.
    Progress {
        /// The message, with both colours if both matter.
        text: String,
    },
    /// Every pod answered the request of its readiness probe.
    HealthHeld {
        /// The number of pods, at least 1.
        pods: usize,
        /// The path.
        path: String,
    },
    /// A Service answered the smoke requests as expected, with the expected version.
    SmokeHeld {
        /// The Service.
        service: String,
        /// The requests.
        paths: Vec<String>,
    },
    /// A Service received no smoke requests: the configuration has none for it.
    SmokeSkipped {
        /// The Service.
        service: String,
    },
    /// The configuration has a canary, and no ingress can route to it.
    CanarySkipped {
        /// The cause.
        because: String,
    },
    /// The ingress routes a share of its traffic to the new colour.
    CanaryWeightSet {
        /// The colour.
        to: Colour,
        /// The share in percent.
        weight: u8,
    },
    /// The ingress routes requests with a header to the new colour.
    PreviewHeaderSet {
        /// The colour.
        to: Colour,
        /// The header.
        header: String,
    },
    /// The API server has accepted the patch that moves traffic.
    Patched {
        /// The colour that gets the traffic.
        to: Colour,
        /// When the patch was sent.
        sent: Timestamp,
    },
    /// The active Service's EndpointSlices have pods of one colour only.
    Settled {
        /// The colour.
        to: Colour,
        /// How many are ready.
        endpoints: usize,
        /// The time since the patch, in milliseconds.
        millis: u64,
    },
    /// The result of an analysis.
    Analysed {
        /// The result with its numbers.
        text: String,
    },
    /// The new version breaches a threshold, and is rolled back.
    Breached {
        /// The threshold with its numbers.
        what: String,
    },
    /// All traffic is on the old colour again. This was verified.
    Reverted {
        /// The cause.
        why: String,
        /// The time since the breach, in milliseconds.
        millis: u64,
    },
    /// The last pod of a colour has ended.
    Retired {
        /// The colour.
        colour: Colour,
    },
    /// The new version is live, and the old one has no pods.
    Released {
        /// The version.
        version: String,
        /// Its colour.
        colour: Colour,
    },
    /// Everything is ready for the switch, which needs `promote`.
    AtGate {
        /// The version.
        version: String,
        /// Its colour.
        colour: Colour,
    },
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventKind::Locked { holder } => write!(f, "locked, by {holder}"),
            EventKind::Found { release, step, how } => {
                write!(f, "release {release} stopped at {step}: {how}")
            }
            EventKind::Began { step } => write!(f, "{step}"),
            EventKind::Progress { text } | EventKind::Analysed { text } => f.write_str(text),
            EventKind::HealthHeld { pods, path } => {
                write!(f, "{pods} of {pods} pods answer {path}")
            }
            EventKind::SmokeHeld { service, paths } => {
                write!(f, "{service} answers {}", paths.join(", "))
            }
            EventKind::SmokeSkipped { service } => write!(
                f,
                "{service} gets no smoke requests: its `smoke` has no paths"
            ),
            EventKind::CanarySkipped { because } => {
                write!(f, "no share of the traffic before the switch: {because}")
            }
            EventKind::CanaryWeightSet { to, weight } => {
                write!(f, "{weight} % of the ingress' traffic goes to {to}")
            }
            EventKind::PreviewHeaderSet { to, header } => {
                write!(f, "requests with `{header}: always` reach {to}")
            }
            EventKind::Patched { to, .. } => write!(f, "traffic goes to {to}"),
            EventKind::Settled {
                to,
                endpoints,
                millis,
            } => write!(
                f,
                "only {to} is behind the active Service, {endpoints} ready, {} after the patch",
                human(*millis)
            ),
            EventKind::Breached { what } => write!(f, "breach: {what}"),
            EventKind::Reverted { why, millis } => {
                write!(f, "reverted in {}, because {why}", human(*millis))
            }
            EventKind::Retired { colour } => write!(f, "{colour} has no pods any more"),
            EventKind::Released { version, colour } => write!(f, "{version} is live, as {colour}"),
            EventKind::AtGate { version, colour } => {
                write!(f, "{version} waits at the gate, as {colour}")
            }
        }
    }
}

/// Runs `work`, which reports its progress to a synchronous function, and forwards the progress.
pub(super) async fn relayed<T>(
    work: impl AsyncFnOnce(&(dyn Fn(&str) + Sync)) -> T,
    mut receive: impl AsyncFnMut(String),
) -> T {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let progress = move |text: &str| {
        // The receiver lives longer than the work.
        let _ = sender.send(text.to_owned());
    };
    let mut work = pin!(work(&progress));
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            Some(text) = receiver.recv() => receive(text).await,
        }
    };
    while let Ok(text) = receiver.try_recv() {
        receive(text).await;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn progress_arrives_in_its_order_and_before_the_end() {
        let mut received = Vec::new();
        let done = relayed(
            async |progress: &(dyn Fn(&str) + Sync)| {
                progress("one");
                tokio::task::yield_now().await;
                progress("two");
                progress("three");
                3
            },
            async |text: String| received.push(text),
        );
        assert_eq!(done.await, 3);
        assert_eq!(received, ["one", "two", "three"]);
    }
}
