//! The output of a generator: one message a line, in JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use load_engine::result::{Endpoint, LoadResult};
use serde::{Deserialize, Serialize};

/// A message of a generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GeneratorMessage {
    /// It can reach its target, and waits for the time to begin.
    Ready,
    /// The requests that have ended since the previous progress, once a second.
    Progress {
        /// Since the first arrival was due. It never decreases.
        elapsed: Duration,
        /// By name.
        endpoints: BTreeMap<String, Endpoint>,
    },
    /// It has ended, with this result.
    Ended(Box<LoadResult>),
}
