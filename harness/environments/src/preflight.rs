//! Checks whether this machine can bring up a target, before anything is started.

use std::path::Path;

use miette::Diagnostic;
use thiserror::Error;

use crate::config::{BackingServices, PlatformBackingServices, Target};
use base::run::event::Failure;
use machine::engine::machine::EngineMachine;
use machine::engine::{self, Engine};
use machine::provision::{Need, oci_runtime};
use machine::tools;

/// The result of the check.
#[derive(Debug)]
pub struct Preflight {
    /// The engine, if the target may use one and it answers.
    pub engine: Option<Engine>,
    /// Notes for the report.
    pub notes: Vec<String>,
}

/// What is missing on this machine.
#[derive(Debug, Error, Diagnostic)]
#[error("this machine cannot bring up the target: {missing}")]
#[diagnostic(help("again with --provision installs it; `cargo xtask doctor` says how otherwise"))]
pub struct Missing {
    expected: &'static str,
    missing: String,
}

impl Missing {
    /// Returns the failure for the report.
    pub fn failure(&self) -> Failure {
        Failure {
            what: "this machine cannot bring up the target".into(),
            expected: self.expected.into(),
            seen: self.missing.clone(),
            look_at: "cargo xtask doctor".into(),
            next: "cargo xtask doctor --provision".into(),
        }
    }
}

/// Checks what the target needs, for a platform that needs these backing services. The project's own
/// tools are in `tools_dir`.
pub async fn look(
    target: &Target,
    needed: PlatformBackingServices,
    tools_dir: &Path,
) -> Result<Preflight, Missing> {
    match target {
        Target::Local(local) => look_for_local(local.backing_services, needed).await,
        Target::Kind(_) => look_for_kind(tools_dir).await,
        // The cluster exists already.
        Target::Remote(_) => Ok(Preflight {
            engine: None,
            notes: Vec::new(),
        }),
    }
}

async fn look_for_local(
    backing_services: BackingServices,
    needed: PlatformBackingServices,
) -> Result<Preflight, Missing> {
    let missing = |missing| Missing {
        expected: "an engine that answers, or the backing services installed",
        missing,
    };
    let engine = match backing_services {
        _ if needed.is_none() => None,
        BackingServices::Binaries => None,
        _ => Some(Engine::find(engine::TIMEOUT).await),
    };
    match (backing_services, engine) {
        (BackingServices::Containers, Some(Err(none))) => Err(missing(none.in_short())),
        (_, Some(Ok(engine))) => Ok(with(engine)),
        (_, engine) => {
            let none = engine.and_then(Result::err).map(|none| none.in_short());
            let lacking = missing_binaries(needed);
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
    let engine = Engine::find(engine::TIMEOUT).await;
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

/// Returns why the engine cannot run kind clusters; `None` if it can.
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
    let names: Vec<&str> = needs.iter().map(|need| need.words()).collect();
    names.join(" and ")
}

/// Returns what `--provision` must install for the target. The local target needs nothing if an
/// engine answers.
pub async fn needs(
    target: &Target,
    needed: PlatformBackingServices,
    tools_dir: &Path,
) -> Vec<Need> {
    match target {
        Target::Local(_) if needed.is_none() => Vec::new(),
        Target::Local(local) => match local.backing_services {
            BackingServices::Containers => vec![Need::Engine, Need::ImageBuilder],
            BackingServices::Binaries => missing_binaries(needed),
            BackingServices::Auto => match look(target, needed, tools_dir).await {
                Ok(_) => Vec::new(),
                Err(_) => missing_binaries(needed),
            },
        },
        Target::Kind(_) => Need::OF_CLUSTERS.to_vec(),
        Target::Remote(_) => vec![Need::Helm],
    }
}

fn missing_binaries(needed: PlatformBackingServices) -> Vec<Need> {
    let postgres = needed.postgres && tools::postgres_bin_dir().is_none();
    let redis = needed.redis && tools::redis_server().is_none();
    lacking([
        (postgres, Need::PostgresBinaries),
        (redis, Need::RedisBinaries),
    ])
}

/// Returns the missing tools that a kind cluster needs with this engine.
pub fn missing_tools(tools_dir: &Path, engine: Option<&EngineMachine>) -> Vec<Need> {
    let missing = |name| tools::own_or_on_path(tools_dir, name).is_none();
    let runtime = oci_runtime::state(engine);
    lacking([
        (missing("docker"), Need::DockerCli),
        (missing("kind"), Need::Kind),
        (missing("helm"), Need::Helm),
        (runtime == oci_runtime::RuntimeState::Lacking, Need::Runtime),
    ])
}

fn lacking<const N: usize>(all: [(bool, Need); N]) -> Vec<Need> {
    let lacking = all.into_iter().filter(|(lacking, _)| *lacking);
    lacking.map(|(_, need)| need).collect()
}
