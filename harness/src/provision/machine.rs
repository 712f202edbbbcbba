//! What a plan depends on, looked up once.

use std::path::Path;
use std::time::Duration;

use miette::Diagnostic;
use nix::unistd::Uid;

use super::daemon_settings::{DaemonSettings, NotOurs};
use super::{Need, OLDEST_GO, Places, inotify, oci_runtime};
use crate::engine::machine::EngineMachine;
use crate::engine::{Engine, NoEngine, PATIENCE, Seen};
use crate::tools;

/// The oldest package lists that are used as they are.
const LISTS_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// The machine, as far as a plan cares.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub system: System,
    pub privilege: Privilege,
    /// systemd runs this machine: not that `systemctl` exists, which it also
    /// does where nothing runs it, but that `/run/systemd/system` does (`sd_booted(3)`).
    pub systemd: bool,
    pub lists_fresh: bool,
    pub pip: bool,
    pub engine: EngineState,
    pub runtime: oci_runtime::State,
    /// What dockerd's settings file says, or why that cannot be told.
    pub daemon_settings: Result<DaemonSettings, NotOurs>,
    /// The limits on inotify that are too low and can be raised.
    pub inotify: Vec<inotify::Limit>,
    /// A Go that is new enough.
    pub go: Option<std::path::PathBuf>,
    /// What is here already.
    pub present: Vec<Need>,
    /// Services whose unit files were here before us: not ours to silence.
    pub known_services: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// Debian and what derives from it: has `apt-get`.
    Debian,
    MacOs,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privilege {
    Root,
    /// `sudo -n` works.
    Sudo,
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EngineState {
    Answers,
    /// Installing or starting one here would not help; the text says what would.
    ByHand(String),
    Stopped,
    Absent,
}

impl Machine {
    pub async fn look(places: &Places) -> Machine {
        let ((engine, engines), privilege, pip, go) = tokio::join!(
            engine_state(),
            privilege(),
            pip(),
            tools::go(&places.tools_dir, OLDEST_GO)
        );
        let mut present = Vec::new();
        if tools::postgres_bin_dir().is_some() {
            present.push(Need::PostgresBinaries);
        }
        if tools::redis_server().is_some() {
            present.push(Need::RedisBinaries);
        }
        if tools::nextest(&places.tools_dir).is_some() {
            present.push(Need::Nextest);
        }
        if tools::on_path("mmdebstrap").is_some() {
            present.push(Need::ImageBuilder);
        }
        if go.is_some() {
            present.push(Need::Go);
        }
        let programs = [
            (Need::DockerCli, "docker"),
            (Need::Kind, "kind"),
            (Need::Helm, "helm"),
            (Need::Registry, "registry"),
        ];
        for (need, name) in programs {
            if tools::own_or_on_path(&places.tools_dir, name).is_some() {
                present.push(need);
            }
        }
        // Only what this machine lacks can be mended from here.
        let is_here = engines.as_ref().is_none_or(|machine| machine.is_this_one);
        Machine {
            runtime: match is_here {
                true => oci_runtime::state(engines.as_ref()),
                false => oci_runtime::State::NotNeeded,
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
            present,
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
    // `-n` never asks for a password, so this cannot hang on a prompt.
    match tools::version_line("sudo", &["-n", "echo", "yes"]).await {
        Some(_) => Privilege::Sudo,
        None => Privilege::Nobody,
    }
}

async fn pip() -> bool {
    let line = tools::version_line("python3", &["-m", "pip", "--version"]);
    line.await.is_some()
}

/// How the engine stands; and its machine, where it answers.
async fn engine_state() -> (EngineState, Option<EngineMachine>) {
    match Engine::find(PATIENCE).await {
        Ok(engine) => (EngineState::Answers, EngineMachine::of(&engine).await.ok()),
        Err(none) => (without_answer(&none), None),
    }
}

fn without_answer(none: &NoEngine) -> EngineState {
    match none {
        NoEngine::Nowhere { looks } => {
            // One is there. A second daemon beside one that hangs would share its
            // data, and no installing gives this user a permission.
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
    // The files carry the server's dates; `partial` is touched by each update.
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
