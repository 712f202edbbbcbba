//! The two tracks that a service is released on in turn.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The label with a pod's track. In the active Service's selector it is the live colour.
pub const TRACK: &str = "trii.co/track";

/// One of the two tracks. The active Service's selector alone decides which one is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Live after the first install.
    Blue,
    /// The other.
    Green,
}

impl Colour {
    /// Both colours.
    pub const ALL: [Colour; 2] = [Colour::Blue, Colour::Green];

    /// Returns the other colour.
    pub fn other(self) -> Colour {
        match self {
            Colour::Blue => Colour::Green,
            Colour::Green => Colour::Blue,
        }
    }

    /// Returns the value in labels.
    pub fn name(self) -> &'static str {
        match self {
            Colour::Blue => "blue",
            Colour::Green => "green",
        }
    }

    /// Returns the colour in labels or a selector.
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
