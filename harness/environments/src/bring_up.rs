//! What the local and the kind target share: the context of every step, the resources that an
//! environment owns, and the errors.

pub(crate) mod backing_image;
pub mod containers;
pub mod directory;
mod error;
mod resources;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

pub use error::{UpError, last_lines};
pub use resources::{Owned, process_part};

use crate::capability::Capability;
use crate::config::{Config, Deadlines};
use crate::environment::{Environment, EnvironmentFolder, EnvironmentName, Secrets};
use base::entry_point::EntryPoint;
use base::home::Home;
use base::process::identity::ProcessIdentity;
use base::process::{Program, Reach, describe};
use base::run::event::{Failure, Happening, Part, Stage, StageResult};
use base::run::{LOGS, millis};
use machine::containers::{ENGINE_TIMEOUT, NODE_TIMEOUT, labels};
use machine::images::{Supply, Workshop};

pub use crate::config::{POSTGRES, REDIS};

/// Returns whether the part of this name is a backing service.
pub fn is_backing(part: &str) -> bool {
    [POSTGRES, REDIS].contains(&part)
}

/// A part that ended unexpectedly.
pub struct Lost {
    /// Its name.
    pub part: String,
    /// How it ended.
    pub how: String,
    /// Its log.
    pub log: PathBuf,
}

/// The context of every step of the bring-up.
pub struct Context<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The target's name.
    pub target_name: &'a str,
    /// Where images may come from.
    pub supply: Supply,
    /// The platform's program, if it is not built from this checkout.
    pub program: Option<&'a Path>,
    /// PATH of the platform's commands on the local target, with the tools that they need.
    pub path: Option<OsString>,
    /// The deadline of each wait.
    pub deadlines: Deadlines,
    /// The harness home.
    pub home: &'a Home,
    /// The repository.
    pub workspace: &'a Path,
    /// The run's id.
    pub run: &'a str,
    /// The run's folder.
    pub run_folder: &'a Path,
    /// This environment's files.
    pub folder: &'a EnvironmentFolder,
    /// This environment's secrets.
    pub secrets: &'a Secrets,
    /// The resources of this environment.
    pub owned: &'a Arc<Owned>,
    /// The client for requests to services.
    pub http: reqwest::Client,
    /// Receives what happens.
    pub messages: UnboundedSender<SupervisorMessage>,
}

impl Context<'_> {
    /// Returns the log file of a part.
    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.run_folder.join(LOGS).join(format!("{part}.log"))
    }

    /// Returns what provides each image.
    pub(crate) fn workshop(&self) -> Workshop {
        Workshop::of(self.workspace, self.home)
    }

    /// Returns the labels of everything in the engine.
    pub(crate) fn labels(&self) -> [(String, String); 5] {
        labels(self.owned.environment(), self.run, self.home)
    }

    /// Describes a child with the usual signals, without arguments and environment.
    pub(crate) fn child(&self, name: &str, path: impl Into<PathBuf>) -> Program {
        Program {
            name: name.to_owned(),
            path: path.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            user: None,
            log: self.log(name),
            stop_signal: Signal::SIGTERM,
            stop_reaches: Reach::Group,
            death_signal: Signal::SIGKILL,
            answer: None,
        }
    }

    /// Waits until the child of this name succeeds.
    pub(crate) async fn finished(&self, name: &str, deadline: Duration) -> Result<(), UpError> {
        let status = self.owned.finish(name, deadline).await?;
        match status.success() {
            true => Ok(()),
            false => Err(UpError::Ended {
                part: name.to_owned(),
                how: describe(status),
                log: self.log(name),
            }),
        }
    }

    /// Reports that the environment is up, and returns it. It is on no cluster.
    pub(crate) fn environment(
        &self,
        name: &EnvironmentName,
        entry: EntryPoint,
        capabilities: &[Capability],
        parts: Vec<Part>,
    ) -> Environment {
        let platform = &self.config.platform;
        self.happened(Happening::PlatformVersion {
            version: platform.version.clone(),
        });
        self.happened(Happening::EnvironmentUp {
            parts: parts.clone(),
        });
        let mut capabilities: BTreeSet<Capability> = capabilities.iter().copied().collect();
        if !self.config.services.iter().any(|it| it.blue_green) {
            capabilities.remove(&Capability::BlueGreen);
        }
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
            services: self.config.service_names().map(str::to_owned).collect(),
            ready_urls: BTreeMap::new(),
            capabilities,
            parts,
            lost: Vec::new(),
            stays: false,
        }
    }

    pub(crate) fn happened(&self, happening: Happening) {
        // The supervisor continues without a receiver.
        let _ = self.messages.send(SupervisorMessage::Happened(happening));
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

    /// Reports the step once `work` succeeds.
    pub(crate) async fn timed<T>(
        &self,
        stage: Stage,
        step: &str,
        work: impl Future<Output = Result<T, UpError>>,
    ) -> Result<T, UpError> {
        let begun = Instant::now();
        let done = work.await?;
        self.step(stage, step, begun);
        Ok(done)
    }

    pub(crate) fn progress(&self, stage: Stage, text: &str) {
        let text = text.to_owned();
        let _ = self
            .messages
            .send(SupervisorMessage::Progress { stage, text });
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

/// What the supervisor reports: the lines of its output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SupervisorMessage {
    /// An entry for `events.jsonl`.
    Happened(Happening),
    /// The progress of a long step.
    Progress {
        /// The stage it belongs to.
        stage: Stage,
        /// In words.
        text: String,
    },
    /// The environment answers.
    Up(Box<Environment>),
    /// The environment stays without the command.
    Stays,
    /// Something other than the command ends the environment.
    Ending {
        /// The cause.
        why: String,
    },
    /// The supervisor lives.
    Alive,
    /// The environment did not come up, and is being torn down.
    Failed(Failure),
    /// The teardown is complete.
    Down {
        /// What could not be removed, one line each.
        left: Vec<String>,
    },
}

/// Returns how long a teardown may take: for an engine that is starting a container, then for the
/// router, the services and the backing services, then for containers, clusters and networks.
pub fn teardown_at_most(stop: Duration) -> Duration {
    const MARGIN: Duration = Duration::from_secs(10);
    2 * ENGINE_TIMEOUT + NODE_TIMEOUT + 3 * stop + MARGIN
}
