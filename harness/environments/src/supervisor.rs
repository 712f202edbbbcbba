//! The process that owns an environment.
//!
//! A command starts it in its own session, and uses its standard input and output. Until the
//! supervisor receives [`SupervisorRequest::Detach`], the end of its input ends the environment. This works
//! on every system, also when the command is killed.

mod handle;
mod serve;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::bring_up::SupervisorMessage;
pub use handle::{Supervisor, SupervisorError, log};
pub use serve::serve;

use crate::environment::EnvironmentName;
use machine::images::Supply;

/// The interval of [`SupervisorMessage::Alive`].
const BEAT: Duration = Duration::from_secs(1);

/// What the supervisor brings up: the first line of its input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The environment's name.
    pub name: EnvironmentName,
    /// The target's name in the configuration.
    pub target: String,
    /// The configuration's file.
    pub config: PathBuf,
    /// The harness home.
    pub home: PathBuf,
    /// The repository.
    pub workspace: PathBuf,
    /// The run's id.
    pub run: String,
    /// The run's folder.
    pub run_folder: PathBuf,
    /// How long a part may take to stop.
    pub stop: Duration,
    /// Where images may come from.
    #[serde(default)]
    pub supply: Supply,
    /// The version to deploy, if not the configured one.
    #[serde(default)]
    pub version: Option<OtherVersion>,
}

/// A version of the platform that is not built from this checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherVersion {
    /// The version that its services report.
    pub name: String,
    /// The platform's program.
    pub program: PathBuf,
}

/// A request to the supervisor: the further lines of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SupervisorRequest {
    /// Tear the environment down and exit.
    Stop,
    /// Continue when the input ends. The answer is [`SupervisorMessage::Stays`].
    Detach,
}
