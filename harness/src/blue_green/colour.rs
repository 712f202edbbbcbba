//! The two tracks that a service is released on in turn.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The label that tells a pod's track, and an active Service's live colour.
pub const TRACK: &str = "trii.co/track";

/// One of the two tracks. Which is live is for the active Service's selector to say, and
/// for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Live after the first install.
    Blue,
    /// The other.
    Green,
}

impl Colour {
    /// Both of them.
    pub const ALL: [Colour; 2] = [Colour::Blue, Colour::Green];

    /// The one that this is not.
    pub fn other(self) -> Colour {
        match self {
            Colour::Blue => Colour::Green,
            Colour::Green => Colour::Blue,
        }
    }

    /// As labels say it.
    pub fn name(self) -> &'static str {
        match self {
            Colour::Blue => "blue",
            Colour::Green => "green",
        }
    }

    /// The colour that labels or a selector name.
    pub fn of(labels: &BTreeMap<String, String>) -> Option<Colour> {
        let track = labels.get(TRACK)?;
        Colour::ALL.into_iter().find(|it| it.name() == track)
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
