//! What single tests need in addition to their tier. The modules in a test's path name it:
//! `engine::socket::a_test` needs an engine, and its socket on this machine.

use std::path::Path;

use tokio::process::Command;

use machine::engine::Engine;
use machine::tools;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// A container engine; in the cluster tier, also what starts a cluster.
    Engine,
    /// The engine at a Unix socket of this machine.
    Socket,
    /// Mounting a file system, or creating a namespace: both need root.
    Mount,
    /// A registry to pull from, which the test starts.
    Registry,
}

impl Requirement {
    /// Every requirement. The first that is missing is reported.
    pub const ALL: [Requirement; 4] = [
        Requirement::Engine,
        Requirement::Socket,
        Requirement::Mount,
        Requirement::Registry,
    ];

    /// The module of the tests with it.
    fn module(self) -> &'static str {
        match self {
            Requirement::Engine => "engine",
            Requirement::Socket => "socket",
            Requirement::Mount => "mount",
            Requirement::Registry => "registry",
        }
    }

    /// Whether the test `name`, its path in its binary, has it.
    pub fn is_of(self, name: &str) -> bool {
        let modules = name.rsplit_once("::").map_or("", |(modules, _)| modules);
        modules.split("::").any(|module| module == self.module())
    }

    /// nextest's filter expression for the tests of `binary` with it.
    pub fn filter(self, binary: &str) -> String {
        format!("(binary(={binary}) and test(/(^|::){}::/))", self.module())
    }
}

/// Returns why tests cannot intercept the connections to this engine, if they cannot.
pub fn no_socket(engine: &Engine) -> Option<String> {
    (!engine.host.starts_with("unix://")).then(|| {
        format!(
            "they need the engine at a Unix socket of this machine, and it is at {}",
            engine.host
        )
    })
}

/// Returns why tests cannot mount a file system here, if they cannot. Tries it in a mount namespace
/// that ends with the trial.
pub async fn no_mount() -> Option<String> {
    let trial = Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "tmpfs"])
        .arg(std::env::temp_dir())
        .kill_on_drop(true)
        .output()
        .await;
    let seen = match trial {
        Ok(output) if output.status.success() => return None,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("unshare: {error}"),
    };
    Some(format!(
        "they mount file systems and make namespaces, which needs root on Linux ({seen})"
    ))
}

/// Returns why tests have no registry to pull from, if they have none.
pub fn no_registry(tools_dir: &Path) -> Option<String> {
    tools::own_or_on_path(tools_dir, "registry")
        .is_none()
        .then(|| {
            "they pull from a registry of their own, which is missing: `--provision` gets it"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_named_by_a_module_and_not_by_the_test_itself() {
        let of = |name| Requirement::ALL.map(|requirement| requirement.is_of(name));
        assert_eq!(of("a_test"), [false; 4]);
        assert_eq!(of("mount"), [false; 4]);
        assert_eq!(of("mounts::a_test"), [false; 4]);
        assert_eq!(of("mount::a_test"), [false, false, true, false]);
        assert_eq!(of("unit::engine::a_test"), [true, false, false, false]);
        assert_eq!(of("engine::socket::a_test"), [true, true, false, false]);
        assert_eq!(of("engine::registry::a_test"), [true, false, false, true]);
    }
}
