//! Whether this machine can stand up a target, looked at before anything is started.

use miette::Diagnostic;
use thiserror::Error;

use crate::config::{BackingServices, Target};
use crate::engine::{self, Engine};
use crate::provision::Need;
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
    missing: String,
}

impl Missing {
    /// What a person needs to go on.
    pub fn failure(&self) -> Failure {
        Failure {
            what: "this machine cannot stand up the target".into(),
            expected: "an engine that answers, or Postgres and Redis installed".into(),
            seen: self.missing.clone(),
            look_at: "cargo xtask doctor".into(),
            next: "cargo xtask doctor --provision".into(),
        }
    }
}

/// Looks for what the target needs.
pub async fn look(target: &Target) -> Result<Preflight, Missing> {
    let engine = match target.backing_services {
        BackingServices::Binaries => None,
        _ => Some(Engine::find(engine::PATIENCE).await),
    };
    match (target.backing_services, engine) {
        (BackingServices::Containers, Some(Err(none))) => Err(Missing {
            missing: none.in_short(),
        }),
        (_, Some(Ok(engine))) => Ok(Preflight {
            notes: vec![format!("the engine is {engine}")],
            engine: Some(engine),
        }),
        (_, engine) => {
            let none = engine.and_then(Result::err).map(|none| none.in_short());
            let missing: Vec<&str> = missing_binaries().iter().map(|need| need.words()).collect();
            if !missing.is_empty() {
                let missing = format!("{} not installed", missing.join(" and "));
                let reasons = [Some(missing), none].into_iter().flatten();
                return Err(Missing {
                    missing: reasons.collect::<Vec<_>>().join("; "),
                });
            }
            Ok(Preflight {
                engine: None,
                notes: none.into_iter().collect(),
            })
        }
    }
}

/// What `--provision` would have to bring for the target: nothing where an engine
/// answers, since containers do then.
pub async fn needs(target: &Target) -> Vec<Need> {
    match target.backing_services {
        BackingServices::Containers => vec![Need::Engine, Need::ImageBuilder],
        BackingServices::Binaries => missing_binaries(),
        BackingServices::Auto => match look(target).await {
            Ok(_) => Vec::new(),
            Err(_) => missing_binaries(),
        },
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
