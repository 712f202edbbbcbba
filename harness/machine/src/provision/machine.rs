//! Reads the facts that a plan depends on.

use std::path::Path;
use std::time::Duration;

use miette::Diagnostic;
use nix::unistd::Uid;

use super::daemon_settings::DaemonSettings;
use super::{EngineState, Machine, Need, Places, Privilege, System, inotify, oci_runtime};
use crate::engine::machine::EngineMachine;
use crate::engine::{Engine, NoEngine, Seen, TIMEOUT};
use crate::tools::{self, OLDEST_GO};

/// Package lists older than this are refreshed.
const LISTS_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

impl Machine {
    pub async fn look(places: &Places) -> Machine {
        let ((engine, engines), privilege, pip, go) = tokio::join!(
            engine_state(),
            privilege(),
            pip(),
            tools::go(&places.tools_dir, OLDEST_GO)
        );
        let own_or_on_path = |name| tools::own_or_on_path(&places.tools_dir, name);
        let programs = [
            (Need::PostgresBinaries, tools::postgres_bin_dir()),
            (Need::RedisBinaries, tools::redis_server()),
            (Need::Browser, tools::chromium()),
            (Need::Nextest, tools::nextest(&places.tools_dir)),
            (Need::ImageBuilder, tools::on_path("mmdebstrap")),
            (Need::Go, go.clone()),
            (Need::DockerCli, own_or_on_path("docker")),
            (Need::Kind, own_or_on_path("kind")),
            (Need::Helm, own_or_on_path("helm")),
            (Need::Registry, own_or_on_path("registry")),
        ];
        let present = programs
            .into_iter()
            .filter_map(|(need, program)| program.is_some().then_some(need));
        // Another machine cannot be changed from here.
        let is_here = engines.as_ref().is_none_or(|machine| machine.is_this_one);
        Machine {
            runtime: match is_here {
                true => oci_runtime::state(engines.as_ref()),
                false => oci_runtime::RuntimeState::NotNeeded,
            },
            daemon_settings: DaemonSettings::read(),
            inotify: match is_here {
                true => inotify::to_raise(),
                false => Vec::new(),
            },
            go,
            system: system(),
            privilege,
            systemd: Path::new("/run/systemd/system").is_dir(),
            lists_fresh: lists_fresh(Path::new("/var/lib/apt/lists")),
            pip,
            engine,
            present: present.collect(),
            known_services: ["postgresql.service", "redis-server.service"]
                .into_iter()
                .filter(|unit| unit_exists(unit))
                .collect(),
        }
    }
}

fn system() -> System {
    if cfg!(target_os = "macos") {
        System::MacOs
    } else if tools::on_path("apt-get").is_some() {
        System::Debian
    } else {
        System::Other
    }
}

async fn privilege() -> Privilege {
    if Uid::effective().is_root() {
        return Privilege::Root;
    }
    // `-n` never prompts for a password, so this cannot hang.
    match tools::version_line("sudo", &["-n", "echo", "yes"]).await {
        Some(_) => Privilege::Sudo,
        None => Privilege::Nobody,
    }
}

async fn pip() -> bool {
    let line = tools::version_line("python3", &["-m", "pip", "--version"]);
    line.await.is_some()
}

/// Returns the engine's state, and its machine if it answers.
async fn engine_state() -> (EngineState, Option<EngineMachine>) {
    match Engine::find(TIMEOUT).await {
        Ok(engine) => (EngineState::Answers, EngineMachine::of(&engine).await.ok()),
        Err(none) => (without_answer(&none), None),
    }
}

fn without_answer(none: &NoEngine) -> EngineState {
    match none {
        NoEngine::Nowhere { looks } => {
            // An engine exists. A second daemon beside one that hangs would share its data, and an
            // installation gives this user no permission.
            let unusable =
                |seen: &Seen| matches!(seen, Seen::NoAnswer { .. } | Seen::PermissionDenied);
            match looks.iter().find(|look| unusable(&look.seen)) {
                Some(look) => {
                    let advice = none.help().map(|help| help.to_string());
                    EngineState::ByHand(format!("{look}; {}", advice.unwrap_or_default()))
                }
                None if tools::on_path("dockerd").is_some() => EngineState::Stopped,
                None => EngineState::Absent,
            }
        }
        NoEngine::Chosen(_) | NoEngine::UnknownContext(_) => EngineState::ByHand(none.to_string()),
    }
}

fn lists_fresh(lists: &Path) -> bool {
    let has_packages = std::fs::read_dir(lists).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    });
    // The files have the server's dates. Each update changes `partial`.
    let updated = std::fs::metadata(lists.join("partial")).and_then(|meta| meta.modified());
    let age = updated.ok().and_then(|at| at.elapsed().ok());
    has_packages && age.is_some_and(|age| age < LISTS_MAX_AGE)
}

fn unit_exists(unit: &str) -> bool {
    [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ]
    .into_iter()
    .any(|dir| Path::new(dir).join(unit).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_without_packages_are_not_fresh() {
        let lists = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(lists.path().join("partial")).unwrap();
        assert!(!lists_fresh(lists.path()));
        std::fs::write(lists.path().join("x_main_binary-amd64_Packages.lz4"), "").unwrap();
        assert!(lists_fresh(lists.path()));
    }
}
