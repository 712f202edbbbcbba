//! The resident process that owns an environment.
//!
//! A command starts it, in a session of its own, and talks to it over its standard
//! input and output. Until it is told to stay ([`Request::Detach`]) it lives no longer
//! than that command: the end of its input, from whatever cause, ends the environment.
//! That works alike on every system, also when the command is killed.

mod handle;
mod serve;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use handle::{StartError, Supervisor, log};
pub use serve::serve;

use crate::environment::{Environment, EnvironmentName};
use crate::images::Supply;
use crate::run::event::{Failure, Happening, Stage};

/// How often a supervisor says that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// What the supervisor is to stand up: the first line of its input.
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
    /// How long a part may take to end once it is asked to.
    pub stop: Duration,
    /// Where images may come from.
    #[serde(default)]
    pub supply: Supply,
    /// Another version than the configuration's.
    #[serde(default)]
    pub version: Option<OtherVersion>,
}

/// A version of the platform that this checkout is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherVersion {
    /// What its services say that they are.
    pub name: String,
    /// The platform's program in this version.
    pub program: PathBuf,
}

/// What the supervisor can be asked: the further lines of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Take the environment down and end.
    Stop,
    /// Stay when the input ends. Answered with [`Message::Stays`].
    Detach,
}

/// What the supervisor says: the lines of its output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// Something for `events.jsonl`.
    Happened(Happening),
    /// What a long step is doing.
    Progress {
        /// The stage it belongs to.
        stage: Stage,
        /// In words.
        text: String,
    },
    /// The environment answers.
    Up(Box<Environment>),
    /// It lives on without the command.
    Stays,
    /// Somebody else than the command has it taken down: why.
    Ending {
        /// In words.
        why: String,
    },
    /// Nothing new: the supervisor lives. Said every `BEAT`.
    Alive,
    /// The environment did not come up; what there was of it is being taken down.
    Failed(Failure),
    /// All is taken down; what could not be.
    Down {
        /// One line each.
        left: Vec<String>,
    },
}
