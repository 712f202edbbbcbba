//! The local target: the platform as processes of this machine, behind a small router.

mod backing;
mod build;
pub mod containers;
pub mod directory;
mod error;
mod owned;
mod postgres;
mod redis;
mod services;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

pub use error::{UpError, last_lines};
pub use owned::{Lost, Owned};

use crate::config::{Config, Deadlines, Target};
use crate::environment::{Environment, EnvironmentName, Secrets};
use crate::home::Home;
use crate::images::Workshop;
use crate::process::identity::ProcessIdentity;
use crate::router::{RouteTable, Router};
use crate::run::event::{Happening, Stage, StageResult};
use crate::run::{LOGS, millis};
use crate::supervisor::Message;

/// What every step of the bring-up needs to know.
pub struct Context<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The target's name.
    pub target_name: &'a str,
    /// The target.
    pub target: &'a Target,
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
    fn log(&self, part: &str) -> PathBuf {
        self.run_folder.join(LOGS).join(format!("{part}.log"))
    }

    /// How each image is had.
    fn workshop(&self) -> Workshop {
        Workshop {
            recipes: self.workspace.join("fixtures/images"),
            state_dir: self.home.state(),
        }
    }

    fn happened(&self, happening: Happening) {
        // Nobody listens any more: the supervisor goes on all the same.
        let _ = self.messages.send(Message::Happened(happening));
    }

    fn note(&self, stage: Stage, text: impl Into<String>) {
        let text = text.into();
        self.happened(Happening::Note { stage, text });
    }

    fn step(&self, stage: Stage, step: impl Into<String>, begun: Instant) {
        self.happened(Happening::Step {
            stage,
            step: step.into(),
            millis: millis(begun.elapsed()),
        });
    }

    fn progress(&self, stage: Stage, text: &str) {
        let text = text.to_owned();
        let _ = self.messages.send(Message::Progress { stage, text });
    }

    async fn stage<T>(
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
/// containers.
pub fn teardown_at_most(stop: Duration) -> Duration {
    const MARGIN: Duration = Duration::from_secs(10);
    2 * containers::ENGINE_PATIENCE + 3 * stop + MARGIN
}

/// Brings the platform up. Whatever was made is in `context.owned`, also after an error.
pub async fn bring_up(
    context: &Context<'_>,
    name: &EnvironmentName,
) -> Result<Environment, UpError> {
    // First, so that a taken port is known before anything is started.
    let listener = Router::bind(context.target.router_port).await?;
    let (platform, backing) = context
        .stage(Stage::Provision, async {
            let backing = async {
                let choice = backing::choose(context).await?;
                backing::start(context, &choice).await
            };
            futures::try_join!(build::platform(context), backing)
        })
        .await?;
    context
        .stage(Stage::Deploy, async {
            services::migrate(context, &platform, &backing).await?;
            let (upstreams, mut parts) = services::start(context, &platform, &backing).await?;
            let table = RouteTable::new(&context.config.routes).map_err(|error| {
                UpError::system("compile the routes")(std::io::Error::other(error))
            })?;
            let router = Router::serve(listener, &context.config.platform, table, upstreams)
                .map_err(UpError::system("start the router"))?;
            let address = router.address();
            context.owned.adopt_router(router);
            parts.extend(backing.parts);
            context.happened(Happening::EnvironmentUp {
                parts: parts.clone(),
            });
            Ok(Environment {
                name: name.clone(),
                target: context.target_name.to_owned(),
                run: context.run.to_owned(),
                run_folder: context.run_folder.to_owned(),
                since: Timestamp::now(),
                supervisor: ProcessIdentity::own(),
                router: address,
                site_host: context.config.platform.site_host.clone(),
                api_host: context.config.platform.api_host.clone(),
                version: context.config.platform.version.clone(),
                parts,
                lost: Vec::new(),
                stays: false,
            })
        })
        .await
}
