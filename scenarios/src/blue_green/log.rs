//! What a deployer told, kept with its moments.

use harness::blue_green::{Event, Happened, Step};
use jiff::Timestamp;

/// The events of one release.
#[derive(Debug, Default)]
pub struct Log {
    events: Vec<Event>,
}

impl Log {
    /// Keeps one more.
    pub fn keep(&mut self, event: &Event) {
        self.events.push(event.clone());
    }

    /// When the first patch that moves traffic was sent.
    pub fn patched(&self) -> Option<Timestamp> {
        self.events.iter().find_map(|it| match &it.what {
            Happened::Patched { sent, .. } => Some(*sent),
            _ => None,
        })
    }

    /// When the ingress was told to route a share of the traffic to the new colour.
    pub fn canary_weight_set(&self) -> Option<Timestamp> {
        let is_it = |it: &&Event| matches!(it.what, Happened::CanaryWeightSet { .. });
        self.events.iter().find(is_it).map(|it| it.at)
    }

    /// When a step began.
    pub fn began(&self, step: Step) -> Option<Timestamp> {
        let is_it = |it: &&Event| matches!(&it.what, Happened::Began { step: its } if *its == step);
        self.events.iter().find(is_it).map(|it| it.at)
    }

    /// How long the revert took, from the breach on, milliseconds.
    pub fn reverted(&self) -> Option<u64> {
        self.events.iter().find_map(|it| match &it.what {
            Happened::Reverted { millis, .. } => Some(*millis),
            _ => None,
        })
    }
}
