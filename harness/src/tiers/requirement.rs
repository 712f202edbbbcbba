//! What single tests need beside what their tier needs. A module in a test's path says it:
//! `engine::socket::a_test` needs an engine, and its socket on this machine.

use std::path::Path;

use tokio::process::Command;

use crate::engine::Engine;
use crate::tools;

/// What a test needs beside what its tier needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// A container engine; in the cluster tier, also what stands a cluster up.
    Engine,
    /// The engine at a Unix socket of this machine.
    Socket,
    /// Mounting a file system, or a namespace of its own: both take root.
    Mount,
    /// A registry to pull from, which the test starts.
    Registry,
}

impl Requirement {
    /// Every requirement. What is missing is told by the first that is.
    pub const ALL: [Requirement; 4] = [
        Requirement::Engine,
        Requirement::Socket,
        Requirement::Mount,
        Requirement::Registry,
    ];

    /// The module that holds the tests with it.
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

/// Why tests cannot stand between the harness and this engine, if they cannot.
pub fn no_socket(engine: &Engine) -> Option<String> {
    (!engine.host.starts_with("unix://")).then(|| {
        format!(
            "they need the engine at a Unix socket of this machine, and it is at {}",
            engine.host
        )
    })
}

/// Why tests cannot mount a file system here, if they cannot. It is tried where nobody
/// sees it, and nothing is left: in a mount namespace that ends with the trial.
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
        "they mount file systems and make namespaces, and that takes root on Linux ({seen})"
    ))
}

/// Why tests have no registry to pull from, if they have none.
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
    fn a_module_of_the_path_says_it_and_a_tests_own_name_does_not() {
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
