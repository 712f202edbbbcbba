//! Whether this machine can stand up a target, looked at before anything is started.

use miette::Diagnostic;
use thiserror::Error;

use std::path::Path;

use crate::config::{BackingServices, Target};
use crate::engine::machine::EngineMachine;
use crate::engine::{self, Engine};
use crate::provision::{Need, oci_runtime};
use crate::run::event::Failure;
use crate::tools;

/// What was found.
#[derive(Debug)]
pub struct Preflight {
    /// The engine, if the target may use one and one answers.
    pub engine: Option<Engine>,
    /// What a reader of the report should know.
    pub notes: Vec<String>,
}

/// What is missing on this machine.
#[derive(Debug, Error, Diagnostic)]
#[error("this machine cannot stand up the target: {missing}")]
#[diagnostic(help("again with --provision installs it; `cargo xtask doctor` says how otherwise"))]
pub struct Missing {
    expected: &'static str,
    missing: String,
}

impl Missing {
    /// What a person needs to go on.
    pub fn failure(&self) -> Failure {
        Failure {
            what: "this machine cannot stand up the target".into(),
            expected: self.expected.into(),
            seen: self.missing.clone(),
            look_at: "cargo xtask doctor".into(),
            next: "cargo xtask doctor --provision".into(),
        }
    }
}

/// Looks for what the target needs; the project's own tools are in `tools_dir`.
pub async fn look(target: &Target, tools_dir: &Path) -> Result<Preflight, Missing> {
    match target {
        Target::Local(local) => look_for_local(local.backing_services).await,
        Target::Kind(_) => look_for_kind(tools_dir).await,
        // It stands already.
        Target::Remote(_) => Ok(Preflight {
            engine: None,
            notes: Vec::new(),
        }),
    }
}

async fn look_for_local(backing_services: BackingServices) -> Result<Preflight, Missing> {
    let missing = |missing| Missing {
        expected: "an engine that answers, or Postgres and Redis installed",
        missing,
    };
    let engine = match backing_services {
        BackingServices::Binaries => None,
        _ => Some(Engine::find(engine::PATIENCE).await),
    };
    match (backing_services, engine) {
        (BackingServices::Containers, Some(Err(none))) => Err(missing(none.in_short())),
        (_, Some(Ok(engine))) => Ok(with(engine)),
        (_, engine) => {
            let none = engine.and_then(Result::err).map(|none| none.in_short());
            let lacking = missing_binaries();
            if !lacking.is_empty() {
                let lacking = format!("{} not installed", in_words(&lacking));
                let reasons = [Some(lacking), none].into_iter().flatten();
                return Err(missing(reasons.collect::<Vec<_>>().join("; ")));
            }
            Ok(Preflight {
                engine: None,
                notes: none.into_iter().collect(),
            })
        }
    }
}

async fn look_for_kind(tools_dir: &Path) -> Result<Preflight, Missing> {
    let missing = |missing| Missing {
        expected: "an engine that answers and starts privileged containers; docker, kind and helm",
        missing,
    };
    let engine = Engine::find(engine::PATIENCE).await;
    let engine = engine.map_err(|none| missing(none.in_short()))?;
    if let Some(why) = no_cluster_of(&engine) {
        return Err(missing(why));
    }
    let machine = EngineMachine::of(&engine).await.ok();
    let lacking = missing_tools(tools_dir, machine.as_ref());
    match lacking.is_empty() {
        true => Ok(with(engine)),
        false => Err(missing(format!("{} not installed", in_words(&lacking)))),
    }
}

/// Why the engine runs no kind cluster of ours, if it does not.
pub fn no_cluster_of(engine: &Engine) -> Option<String> {
    engine.is_podman().then(|| {
        format!(
            "the engine is {engine}, and kind clusters are not supported on Podman: set \
             DOCKER_HOST to a Docker Engine, or use `--target local`"
        )
    })
}

fn with(engine: Engine) -> Preflight {
    Preflight {
        notes: vec![format!("the engine is {engine}")],
        engine: Some(engine),
    }
}

fn in_words(needs: &[Need]) -> String {
    let words: Vec<&str> = needs.iter().map(|need| need.words()).collect();
    words.join(" and ")
}

/// What `--provision` would have to bring for the target. For the local one nothing where
/// an engine answers, since containers do then.
pub async fn needs(target: &Target, tools_dir: &Path) -> Vec<Need> {
    match target {
        Target::Local(local) => match local.backing_services {
            BackingServices::Containers => vec![Need::Engine, Need::ImageBuilder],
            BackingServices::Binaries => missing_binaries(),
            BackingServices::Auto => match look(target, tools_dir).await {
                Ok(_) => Vec::new(),
                Err(_) => missing_binaries(),
            },
        },
        Target::Kind(_) => Need::OF_CLUSTERS.to_vec(),
        Target::Remote(_) => vec![Need::Helm],
    }
}

fn missing_binaries() -> Vec<Need> {
    let postgres = tools::postgres_bin_dir()
        .is_none()
        .then_some(Need::PostgresBinaries);
    let redis = tools::redis_server()
        .is_none()
        .then_some(Need::RedisBinaries);
    postgres.into_iter().chain(redis).collect()
}

/// What no cluster comes up without, with the engine of this machine.
pub fn missing_tools(tools_dir: &Path, engine: Option<&EngineMachine>) -> Vec<Need> {
    let missing = |name| tools::own_or_on_path(tools_dir, name).is_none();
    let runtime = oci_runtime::state(engine);
    let lacking = [
        (missing("docker"), Need::DockerCli),
        (missing("kind"), Need::Kind),
        (missing("helm"), Need::Helm),
        (runtime == oci_runtime::State::Lacking, Need::Runtime),
    ];
    let lacking = lacking.into_iter().filter(|(lacking, _)| *lacking);
    lacking.map(|(_, need)| need).collect()
}
