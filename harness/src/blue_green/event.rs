//! What a deployer tells whoever follows it, in the order in which it happens.

use std::fmt;
use std::pin::pin;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::colour::Colour;
use super::record::Step;
use crate::duration::human;

/// Something that a deployer did or saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the deployer's clock.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: Happened,
}

impl Event {
    /// It happens now.
    pub fn now(what: Happened) -> Event {
        let at = Timestamp::now();
        Event { at, what }
    }
}

/// What a deployer did or saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happened {
    /// Nobody else deploys this service now.
    Locked {
        /// As the Lease names us.
        holder: String,
    },
    /// A release that its deployer left unfinished is dealt with first.
    Found {
        /// The unfinished release.
        release: String,
        /// Where it stopped.
        step: Step,
        /// What becomes of it: `resumed` or `taken back`, and why.
        how: String,
    },
    /// A step begins; the cluster's record says so already.
    Began {
        /// Which.
        step: Step,
    },
    /// How far a step is; not kept.
    Progress {
        /// In words, both colours where both matter.
        text: String,
    },
    /// Every pod answered on the path that its readiness probe asks.
    HealthHeld {
        /// How many; more than 0.
        pods: usize,
        /// Which path.
        path: String,
    },
    /// A Service answered as it should, in the version it should.
    SmokeHeld {
        /// Which Service.
        service: String,
        /// What was asked.
        paths: Vec<String>,
    },
    /// A Service was not asked for anything: the configuration has no paths for it.
    SmokeSkipped {
        /// Which Service.
        service: String,
    },
    /// The configuration has a canary, and no ingress can route to it.
    CanarySkipped {
        /// Why.
        because: String,
    },
    /// The ingress routes a share of its traffic to the new colour.
    CanaryWeightSet {
        /// The colour.
        to: Colour,
        /// Of 100 requests, how many.
        weight: u8,
    },
    /// The ingress routes requests with a header to the new colour.
    PreviewHeaderSet {
        /// The colour.
        to: Colour,
        /// The header.
        header: String,
    },
    /// The API server has taken the patch that moves traffic.
    Patched {
        /// Where traffic goes from now on.
        to: Colour,
        /// When the patch was sent.
        sent: Timestamp,
    },
    /// The active Service's EndpointSlices hold pods of that colour only.
    Settled {
        /// The colour.
        to: Colour,
        /// How many are ready.
        endpoints: usize,
        /// From the patch until this was seen, milliseconds.
        millis: u64,
    },
    /// What measured traffic says at the end.
    Analysed {
        /// With its numbers.
        text: String,
    },
    /// The new version does not hold; it is taken back.
    Breached {
        /// Which threshold, with its numbers.
        what: String,
    },
    /// All traffic is on the old colour again, and that was verified.
    Reverted {
        /// Why.
        why: String,
        /// From the breach until it was seen, milliseconds.
        millis: u64,
    },
    /// A colour has no pods any more.
    Retired {
        /// Which.
        colour: Colour,
    },
    /// The new version is live, and the old one gone.
    Released {
        /// The version.
        version: String,
        /// Its colour.
        colour: Colour,
    },
    /// Everything is ready for the switch, which somebody has to ask for.
    AtGate {
        /// The version.
        version: String,
        /// Its colour.
        colour: Colour,
    },
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_time = |millis: &u64| human(*millis);
        match self {
            Happened::Locked { holder } => write!(f, "locked, by {holder}"),
            Happened::Found { release, step, how } => {
                write!(f, "release {release} stopped at {step}: {how}")
            }
            Happened::Began { step } => write!(f, "{step}"),
            Happened::Progress { text } | Happened::Analysed { text } => f.write_str(text),
            Happened::HealthHeld { pods, path } => {
                write!(f, "{pods} of {pods} pods answer {path}")
            }
            Happened::SmokeHeld { service, paths } => {
                write!(f, "{service} answers {}", paths.join(", "))
            }
            Happened::SmokeSkipped { service } => {
                write!(f, "{service} is not smoked: its `smoke` has no paths")
            }
            Happened::CanarySkipped { because } => {
                write!(f, "no share of the traffic before the switch: {because}")
            }
            Happened::CanaryWeightSet { to, weight } => {
                write!(f, "{weight} % of the ingress' traffic goes to {to}")
            }
            Happened::PreviewHeaderSet { to, header } => {
                write!(f, "requests with `{header}: always` reach {to}")
            }
            Happened::Patched { to, .. } => write!(f, "traffic goes to {to}"),
            Happened::Settled {
                to,
                endpoints,
                millis,
            } => write!(
                f,
                "only {to} is behind the active Service, {endpoints} ready, {} after the patch",
                in_time(millis)
            ),
            Happened::Breached { what } => write!(f, "breach: {what}"),
            Happened::Reverted { why, millis } => {
                write!(f, "reverted in {}, because {why}", in_time(millis))
            }
            Happened::Retired { colour } => write!(f, "{colour} has no pods any more"),
            Happened::Released { version, colour } => write!(f, "{version} is live, as {colour}"),
            Happened::AtGate { version, colour } => {
                write!(f, "{version} waits at the gate, as {colour}")
            }
        }
    }
}

/// Does `work`, which tells what it does by a plain function, and passes that on meanwhile.
pub(super) async fn relayed<T>(
    work: impl AsyncFnOnce(&(dyn Fn(&str) + Sync)) -> T,
    mut tell: impl AsyncFnMut(String),
) -> T {
    let (sender, mut told) = mpsc::unbounded_channel();
    let progress = move |text: &str| {
        // Somebody listens for as long as the work is done.
        let _ = sender.send(text.to_owned());
    };
    let mut work = pin!(work(&progress));
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            Some(text) = told.recv() => tell(text).await,
        }
    };
    while let Ok(text) = told.try_recv() {
        tell(text).await;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_arrives_in_its_order_and_before_the_end() {
        let mut heard = Vec::new();
        let done = relayed(
            async |progress: &(dyn Fn(&str) + Sync)| {
                progress("one");
                tokio::task::yield_now().await;
                progress("two");
                progress("three");
                3
            },
            async |text: String| heard.push(text),
        );
        assert_eq!(done.await, 3);
        assert_eq!(heard, ["one", "two", "three"]);
    }
}
