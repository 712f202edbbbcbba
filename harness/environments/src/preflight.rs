//! Checks whether this machine can bring up a target, before anything is started.

use std::path::Path;

use miette::Diagnostic;
use thiserror::Error;

use crate::config::{BackingServices, Config, PlatformBackingServices, ServiceImage, Target};
use base::run::event::Failure;
use machine::command_tools;
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

/// Checks what the platform of `config` needs on the target. The project's own tools are in
/// `tools_dir`.
pub async fn look(
    config: &Config,
    target: &Target,
    tools_dir: &Path,
) -> Result<Preflight, Missing> {
    match target {
        Target::Local(local) => {
            look_for_tools(config, tools_dir).await?;
            let engine = look_for_engine(config).await?;
            let found = look_for_backing(local.backing_services, &config.backing_services).await?;
            Ok(match (found.engine, engine) {
                (None, Some(engine)) => with(engine),
                (engine, _) => Preflight { engine, ..found },
            })
        }
        Target::Kind(_) => look_for_kind(tools_dir).await,
        // The cluster exists already.
        Target::Remote(_) => Ok(Preflight {
            engine: None,
            notes: Vec::new(),
        }),
    }
}

async fn look_for_tools(config: &Config, tools_dir: &Path) -> Result<(), Missing> {
    let missing = command_tools::missing(&config.platform.local.tools, tools_dir).await;
    let missing: Vec<Need> = missing.into_iter().map(|tool| tool.need).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Missing {
            expected: "the tools that the platform's commands need (platform.local.tools)",
            missing: format!(
                "{} not installed, which platform.local.tools names",
                in_words(&missing)
            ),
        }),
    }
}

/// Returns the engine of the services that are containers, if there is one.
async fn look_for_engine(config: &Config) -> Result<Option<Engine>, Missing> {
    let services = config
        .containers()
        .map(|(service, _)| service.name.as_str());
    let services: Vec<&str> = services.collect();
    if services.is_empty() {
        return Ok(None);
    }
    let missing = |why: String| Missing {
        expected: "an engine of this machine for the services that are containers",
        missing: format!("{} needs a container engine: {why}", services.join(" and ")),
    };
    let engine = Engine::find(engine::TIMEOUT).await;
    let engine = engine.map_err(|none| missing(none.in_short()))?;
    let machine = EngineMachine::of(&engine).await.map_err(missing)?;
    match no_shared_network(&machine, engine.is_podman()) {
        Some(why) => Err(missing(format!("the engine is {engine}, and {why}"))),
        None => Ok(Some(engine)),
    }
}

/// Returns why a container cannot share the network of this machine; `None` if it can.
fn no_shared_network(machine: &EngineMachine, is_podman: bool) -> Option<String> {
    let why = match machine {
        _ if !cfg!(target_os = "linux") => "only Linux shares its network with containers",
        it if !it.is_this_one => "its containers share the network of another machine",
        // Podman's have this machine's.
        it if it.is_rootless && !is_podman => {
            "without root, its containers share another network than this machine's"
        }
        _ => return None,
    };
    Some(why.to_owned())
}

async fn look_for_backing(
    backing_services: BackingServices,
    needed: &PlatformBackingServices,
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

/// Returns what `--provision` must install for the target.
pub async fn needs(config: &Config, target: &Target) -> Vec<Need> {
    match target {
        Target::Local(local) => {
            let tools = config.platform.local.tools.iter().map(|tool| tool.need);
            let backing = needs_of_backing(local.backing_services, &config.backing_services).await;
            tools
                .chain(needs_of_containers(config))
                .chain(backing)
                .collect()
        }
        Target::Kind(_) => Need::OF_CLUSTERS.to_vec(),
        Target::Remote(_) => vec![Need::Helm],
    }
}

fn needs_of_containers(config: &Config) -> Vec<Need> {
    let is_built = |(_, image)| matches!(image, ServiceImage::Recipe(_));
    match config.containers().next() {
        None => Vec::new(),
        Some(_) if config.containers().any(is_built) => {
            vec![Need::Engine, Need::ImageBuilder, Need::Go]
        }
        Some(_) => vec![Need::Engine],
    }
}

/// Binaries are not needed if an engine answers.
async fn needs_of_backing(
    backing_services: BackingServices,
    needed: &PlatformBackingServices,
) -> Vec<Need> {
    match backing_services {
        _ if needed.is_none() => Vec::new(),
        BackingServices::Containers => vec![Need::Engine, Need::ImageBuilder],
        BackingServices::Binaries => missing_binaries(needed),
        BackingServices::Auto => match look_for_backing(backing_services, needed).await {
            Ok(_) => Vec::new(),
            Err(_) => missing_binaries(needed),
        },
    }
}

fn missing_binaries(needed: &PlatformBackingServices) -> Vec<Need> {
    let postgres = needed.postgres.is_some() && tools::postgres_bin_dir().is_none();
    let redis = needed.redis.is_some() && tools::redis_server().is_none();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(lines: &str) -> Config {
        let podinfo = include_str!("../../../fixtures/podinfo/harness.toml");
        let table = "[services.frontend-podinfo]";
        assert!(podinfo.contains(table));
        let text = podinfo.replacen(table, &format!("{lines}\n{table}"), 1);
        Config::parse(Path::new("harness.toml"), &text).unwrap()
    }

    async fn needs_of(config: &Config) -> Vec<Need> {
        needs(config, &config.targets["local"]).await
    }

    #[tokio::test]
    async fn the_tools_of_commands_are_installed() {
        let config = config("");
        assert!(needs_of(&config).await.contains(&Need::Go));
        assert!(!needs_of(&config).await.contains(&Need::Engine));
        let folder = tempfile::tempdir().unwrap();
        let mut without = config.clone();
        without.platform.local.tools.clear();
        look_for_tools(&without, folder.path()).await.unwrap();
        assert!(!needs_of(&without).await.contains(&Need::Go));
    }

    #[tokio::test]
    async fn an_image_needs_an_engine_and_a_recipe_its_builders() {
        let with_image = |name: &str| {
            let table = "[services.frontend-podinfo.local]";
            let mut config = config(&format!("{table}\nimage = {name:?}\nargs = [\"{{port}}\"]"));
            config.platform.local.tools.clear();
            config
        };
        let pulled = needs_of(&with_image("example/shop:1")).await;
        assert!(pulled.contains(&Need::Engine) && !pulled.contains(&Need::ImageBuilder));
        let built = needs_of(&with_image("trii-rehearsal/podinfo:{version}")).await;
        for need in [Need::Engine, Need::ImageBuilder, Need::Go] {
            assert!(built.contains(&need), "{built:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_container_shares_the_network_of_its_engines_machine() {
        let machine = |is_this_one, is_rootless| EngineMachine {
            name: "laptop".into(),
            system: "Debian".into(),
            is_this_one,
            is_rootless,
            cgroup_v1: false,
            memory: None,
            root_dir: None,
            default_runtime: None,
            missing_capabilities: None,
        };
        assert_eq!(no_shared_network(&machine(true, false), false), None);
        assert_eq!(no_shared_network(&machine(true, true), true), None);
        let rootless = no_shared_network(&machine(true, true), false).unwrap();
        assert!(rootless.contains("without root"), "{rootless}");
        let elsewhere = no_shared_network(&machine(false, false), false).unwrap();
        assert!(elsewhere.contains("another machine"), "{elsewhere}");
    }
}
