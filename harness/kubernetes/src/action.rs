//! What a remote target permits beyond reading.

use serde::{Deserialize, Serialize};

/// An action that does more than read. A remote target must permit it by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Installing or upgrading the release.
    Deploy,
    /// Creating ticks, portfolios and orders in the smoke scenario.
    Orders,
    /// Sending requests until the rate limit refuses them.
    Burst,
    /// Creating pods in the namespace `default`, for checks and load from inside.
    Inside,
    /// Generating load, with its own portfolios and orders.
    Load,
}

impl Action {
    /// Its name in `allow`.
    pub fn name(self) -> &'static str {
        match self {
            Action::Deploy => "deploy",
            Action::Orders => "orders",
            Action::Burst => "burst",
            Action::Inside => "inside",
            Action::Load => "load",
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
