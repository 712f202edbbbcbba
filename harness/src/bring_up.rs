//! What targets that are stood up here have in common: what every step needs to know,
//! what was made, and why it did not come up.

pub mod containers;
pub mod directory;
mod error;
mod owned;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

pub use error::{UpError, last_lines};
pub use owned::{Lost, Owned, process_part};

use crate::capability::Capability;
use crate::config::{Config, Deadlines};
use crate::entry::Entry;
use crate::environment::{Environment, EnvironmentFolder, EnvironmentName, Secrets};
use crate::home::Home;
use crate::images::{Supply, Workshop};
use crate::process::identity::ProcessIdentity;
use crate::run::event::{Happening, Part, Stage, StageResult};
use crate::run::{LOGS, millis};
use crate::supervisor::Message;

/// The part that is Postgres.
pub const POSTGRES: &str = "postgres";
/// The part that is Redis.
pub const REDIS: &str = "redis";

/// Whether the part of this name is a backing service.
pub fn is_backing(part: &str) -> bool {
    [POSTGRES, REDIS].contains(&part)
}

/// What every step of the bring-up needs to know.
pub struct Context<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The target's name.
    pub target_name: &'a str,
    /// Where images may come from.
    pub supply: Supply,
    /// The platform's program, where it is not this checkout's.
    pub program: Option<&'a Path>,
    /// How long each wait may take.
    pub deadlines: Deadlines,
    /// Where the harness writes.
    pub home: &'a Home,
    /// The repository.
    pub workspace: &'a Path,
    /// The run and its folder.
    pub run: &'a str,
    /// That run's folder.
    pub run_folder: &'a Path,
    /// This environment's files.
    pub folder: &'a EnvironmentFolder,
    /// This environment's secrets.
    pub secrets: &'a Secrets,
    /// Where all that is made goes.
    pub owned: &'a Arc<Owned>,
    /// For asking services how they are.
    pub http: reqwest::Client,
    /// Who is told.
    pub messages: UnboundedSender<Message>,
}

impl Context<'_> {
    /// The log of a part.
    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.run_folder.join(LOGS).join(format!("{part}.log"))
    }

    /// How each image is had.
    pub(crate) fn workshop(&self) -> Workshop {
        Workshop::of(self.workspace, self.home)
    }

    /// What everything in the engine carries.
    pub(crate) fn labels(&self) -> [(String, String); 5] {
        containers::labels(self.owned.environment(), self.run, self.home)
    }

    /// The environment that is up now, on no cluster: tells that, and of what it is made.
    pub(crate) fn environment(
        &self,
        name: &EnvironmentName,
        entry: Entry,
        capabilities: &[Capability],
        parts: Vec<Part>,
    ) -> Environment {
        self.happened(Happening::EnvironmentUp {
            parts: parts.clone(),
        });
        let platform = &self.config.platform;
        Environment {
            name: name.clone(),
            target: self.target_name.to_owned(),
            run: self.run.to_owned(),
            run_folder: self.run_folder.to_owned(),
            since: Timestamp::now(),
            supervisor: ProcessIdentity::own(),
            entry,
            cluster: None,
            releases: None,
            site_host: platform.site_host.clone(),
            api_host: platform.api_host.clone(),
            version: platform.version.clone(),
            capabilities: capabilities.iter().copied().collect(),
            parts,
            lost: Vec::new(),
            stays: false,
        }
    }

    pub(crate) fn happened(&self, happening: Happening) {
        // Nobody listens any more: the supervisor goes on all the same.
        let _ = self.messages.send(Message::Happened(happening));
    }

    pub(crate) fn note(&self, stage: Stage, text: impl Into<String>) {
        let text = text.into();
        self.happened(Happening::Note { stage, text });
    }

    pub(crate) fn step(&self, stage: Stage, step: impl Into<String>, begun: Instant) {
        self.happened(Happening::Step {
            stage,
            step: step.into(),
            millis: millis(begun.elapsed()),
        });
    }

    pub(crate) fn progress(&self, stage: Stage, text: &str) {
        let text = text.to_owned();
        let _ = self.messages.send(Message::Progress { stage, text });
    }

    pub(crate) async fn stage<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, UpError>>,
    ) -> Result<T, UpError> {
        let begun = Instant::now();
        self.happened(Happening::StageStarted { stage });
        let done = work.await;
        self.happened(Happening::StageFinished {
            stage,
            millis: millis(begun.elapsed()),
            result: match done {
                Ok(_) => StageResult::Done,
                Err(_) => StageResult::Failed,
            },
        });
        done
    }
}

/// The longest that taking an environment down may last: an engine that is just starting
/// a container, then router, services and backing services after each other, then the
/// containers and clusters, then their networks.
pub fn teardown_at_most(stop: Duration) -> Duration {
    const MARGIN: Duration = Duration::from_secs(10);
    2 * containers::ENGINE_PATIENCE + containers::NODE_PATIENCE + 3 * stop + MARGIN
}
