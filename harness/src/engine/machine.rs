//! The machine that an engine's containers run on: this one, or another, such as a laptop's
//! virtual machine or the host of a pipeline's container.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bollard::models::SystemInfo;
use tokio::net::UnixStream;

use super::{Engine, PATIENCE};
use crate::provision::oci_runtime;

/// What is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineMachine {
    /// Its host name.
    pub name: String,
    /// Its operating system and kernel, in words.
    pub system: String,
    /// Whether it is the machine of this process: then what can be read here holds there.
    pub is_this_one: bool,
    /// Whether its cgroups are of version 1.
    pub cgroup_v1: bool,
    /// All its memory, bytes.
    pub memory: Option<u64>,
    /// Where the engine keeps images and containers, there.
    pub root_dir: Option<PathBuf>,
    /// What runs containers that name no runtime.
    pub default_runtime: Option<String>,
    /// The numbers of the capabilities that a privileged container does not get there; none
    /// where that cannot be told from here.
    pub missing_capabilities: Option<Vec<u64>>,
}

impl EngineMachine {
    /// The machine of this engine.
    ///
    /// # Errors
    /// In words, when the engine does not describe itself.
    pub async fn of(engine: &Engine) -> Result<EngineMachine, String> {
        let info = tokio::time::timeout(PATIENCE, engine.client().info()).await;
        let info = info.map_err(|_| format!("it did not describe itself within {PATIENCE:?}"))?;
        let info = info.map_err(|error| crate::chain(&error))?;
        let daemon = listener(&engine.host).await;
        let here = daemon.filter(|daemon| is_here(&info, &Kernel::of_this_process(), *daemon));
        Ok(EngineMachine {
            name: info.name.unwrap_or_default(),
            system: [info.operating_system, info.kernel_version]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", kernel "),
            is_this_one: here.is_some(),
            cgroup_v1: info.cgroup_version.is_some_and(|v| v.to_string() == "1"),
            memory: info.mem_total.and_then(|bytes| bytes.try_into().ok()),
            root_dir: info.docker_root_dir.map(PathBuf::from),
            default_runtime: info.default_runtime,
            missing_capabilities: here.and_then(missing_capabilities),
        })
    }
}

impl fmt::Display for EngineMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.system)
    }
}

/// The process that listens on the engine's socket, as far as this one can see it: a process
/// of another PID namespace or machine has no number here.
async fn listener(host: &str) -> Option<i32> {
    let socket = UnixStream::connect(host.strip_prefix("unix://")?);
    let socket = tokio::time::timeout(PATIENCE, socket).await.ok()?.ok()?;
    let pid = socket.peer_cred().ok()?.pid()?;
    (pid > 0).then_some(pid)
}

/// What tells kernels apart.
#[derive(Debug)]
struct Kernel {
    host_name: Option<String>,
    release: Option<String>,
}

impl Kernel {
    fn of_this_process() -> Kernel {
        let read = |name: &str| {
            let text = fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?;
            Some(text.trim().to_owned())
        };
        Kernel {
            host_name: read("hostname"),
            release: read("osrelease"),
        }
    }
}

/// The listener may be one that only passes on, to a virtual machine: then the engine names
/// another kernel or host. One in a container has other files.
fn is_here(info: &SystemInfo, kernel: &Kernel, listener: i32) -> bool {
    info.name.is_some()
        && info.name == kernel.host_name
        && info.kernel_version == kernel.release
        && has_our_root(listener)
}

/// Whether a process has the files that this one has. What cannot be read is taken to be so:
/// an ordinary user may not look at root's.
fn has_our_root(pid: i32) -> bool {
    let of = |path: &str| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    of(&format!("/proc/{pid}/root/")).is_none_or(|theirs| Some(theirs) == of("/"))
}

/// What a process cannot hand on to those that it starts.
fn missing_capabilities(pid: i32) -> Option<Vec<u64>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok()?;
    oci_runtime::missing(&status, last.trim().parse().ok()?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One that lacks nothing.
    pub(crate) fn machine() -> EngineMachine {
        EngineMachine {
            name: "builder".to_owned(),
            system: "Debian, kernel 6.1".to_owned(),
            is_this_one: true,
            cgroup_v1: false,
            memory: Some(16 << 30),
            root_dir: None,
            default_runtime: Some("runc".to_owned()),
            missing_capabilities: Some(Vec::new()),
        }
    }

    fn info(name: &str, kernel: &str) -> SystemInfo {
        SystemInfo {
            name: Some(name.to_owned()),
            kernel_version: Some(kernel.to_owned()),
            ..SystemInfo::default()
        }
    }

    #[test]
    fn a_machine_is_this_one_by_its_kernel_host_and_files() {
        let kernel = Kernel {
            host_name: Some("laptop".to_owned()),
            release: Some("6.1".to_owned()),
        };
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(is_here(&info("laptop", "6.1"), &kernel, own));
        // A forwarder of a virtual machine, or of one behind ssh.
        assert!(!is_here(&info("laptop", "6.6-linuxkit"), &kernel, own));
        assert!(!is_here(&info("colima", "6.1"), &kernel, own));
        // An engine that says nothing of itself is on no known machine.
        assert!(!is_here(&SystemInfo::default(), &kernel, own));
    }

    #[tokio::test]
    async fn an_engine_that_is_not_behind_a_socket_has_no_process_here() {
        assert_eq!(listener("tcp://127.0.0.1:2375").await, None);
        assert_eq!(listener("unix:///nowhere/docker.sock").await, None);
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("docker.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        let host = format!("unix://{}", path.display());
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(listener(&host).await, Some(own));
    }
}
