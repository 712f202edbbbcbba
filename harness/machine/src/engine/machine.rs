//! The machine that an engine's containers run on: this one, or another, such as the virtual
//! machine of a laptop or the host of a pipeline's container.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bollard::models::SystemInfo;
use tokio::net::UnixStream;

use super::{Engine, TIMEOUT};

/// A security option that the engine reports.
const ROOTLESS: &str = "name=rootless";

/// The machine of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineMachine {
    /// Its host name.
    pub name: String,
    /// Its operating system and kernel.
    pub system: String,
    /// Whether it is the machine of this process. Only then do the files here describe it.
    pub is_this_one: bool,
    /// Whether the engine runs without root. Docker's then gives its containers a network of their
    /// own in place of this machine's. <https://docs.docker.com/engine/security/rootless/>
    pub is_rootless: bool,
    /// Whether its cgroups are of version 1.
    pub cgroup_v1: bool,
    /// Its total memory, bytes.
    pub memory: Option<u64>,
    /// The engine's directory of images and containers, on that machine.
    pub root_dir: Option<PathBuf>,
    /// The runtime of containers that name none.
    pub default_runtime: Option<String>,
    /// The numbers of the capabilities that a privileged container does not get there; none if
    /// they are unknown.
    pub missing_capabilities: Option<Vec<u64>>,
}

impl EngineMachine {
    /// Returns the machine of this engine.
    ///
    /// # Errors
    /// A message, if the engine does not describe itself.
    pub async fn of(engine: &Engine) -> Result<EngineMachine, String> {
        let info = tokio::time::timeout(TIMEOUT, engine.client().info()).await;
        let info = info.map_err(|_| format!("it did not describe itself within {TIMEOUT:?}"))?;
        let info = info.map_err(|error| base::chain(&error))?;
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
            is_rootless: info
                .security_options
                .iter()
                .flatten()
                .any(|it| it == ROOTLESS),
            cgroup_v1: info.cgroup_version.is_some_and(|v| v.to_string() == "1"),
            memory: info.mem_total.and_then(|bytes| bytes.try_into().ok()),
            root_dir: info.docker_root_dir.map(PathBuf::from),
            default_runtime: info.default_runtime,
            missing_capabilities: here.and_then(|pid| missing_capabilities(&pid.to_string())),
        })
    }
}

impl fmt::Display for EngineMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.system)
    }
}

/// Returns the process that listens on the engine's socket; none if it is in another PID namespace
/// or on another machine.
async fn listener(host: &str) -> Option<i32> {
    let socket = UnixStream::connect(host.strip_prefix("unix://")?);
    let socket = tokio::time::timeout(TIMEOUT, socket).await.ok()?.ok()?;
    let pid = socket.peer_cred().ok()?.pid()?;
    (pid > 0).then_some(pid)
}

/// What identifies a kernel.
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

/// A listener that only forwards to a virtual machine is not the engine: the engine then reports
/// another kernel or host. An engine in a container has other files.
fn is_here(info: &SystemInfo, kernel: &Kernel, listener: i32) -> bool {
    info.name.is_some()
        && info.name == kernel.host_name
        && info.kernel_version == kernel.release
        && has_our_root(listener)
}

/// Returns whether a process has the same root directory as this one. Assumes so if it cannot be
/// read: an ordinary user may not read root's.
fn has_our_root(pid: i32) -> bool {
    let of = |path: &str| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    of(&format!("/proc/{pid}/root/")).is_none_or(|root| Some(root) == of("/"))
}

/// Returns the numbers of the capabilities that the children of a process cannot have. `process` is
/// its id, or `self`.
pub(crate) fn missing_capabilities(process: &str) -> Option<Vec<u64>> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok()?;
    missing(&status, last.trim().parse().ok()?)
}

/// Returns the capabilities up to `last` that the bounding set in a process's `status` lacks.
fn missing(status: &str, last: u64) -> Option<Vec<u64>> {
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))?;
    let bounding = u64::from_str_radix(bounding.trim(), 16).ok()?;
    let missing = (0..=last.min(63)).filter(|bit| bounding & (1 << bit) == 0);
    Some(missing.collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine that lacks nothing.
    pub(crate) fn machine() -> EngineMachine {
        EngineMachine {
            name: "builder".to_owned(),
            system: "Debian, kernel 6.1".to_owned(),
            is_this_one: true,
            is_rootless: false,
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
        // A forwarder to a virtual machine, or to another machine over ssh.
        assert!(!is_here(&info("laptop", "6.6-linuxkit"), &kernel, own));
        assert!(!is_here(&info("colima", "6.1"), &kernel, own));
        // An engine that does not describe itself.
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

    #[test]
    fn missing_capabilities_are_those_the_kernel_knows() {
        let status = "Name:\tx\nCapBnd:\t000001fffeffffff\n";
        assert_eq!(missing(status, 40), Some(vec![24]));
        assert_eq!(missing("CapBnd:\t000001ffffffffff\n", 40), Some(vec![]));
        assert_eq!(missing("Name:\tx\n", 40), None);
    }
}
