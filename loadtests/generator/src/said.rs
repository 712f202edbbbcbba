//! What a generator says of itself: lines of JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use load_engine::result::{Endpoint, LoadResult};
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// It reaches what it is to ask, and waits to be told when to begin.
    Ready,
    /// What has ended since it last said so, once a second.
    Progress {
        /// Since the first arrival was due: it only grows.
        elapsed: Duration,
        /// By name.
        endpoints: BTreeMap<String, Endpoint>,
    },
    /// It has ended: all that it measured.
    Ended(Box<LoadResult>),
}
