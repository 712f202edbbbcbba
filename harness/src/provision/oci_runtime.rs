//! The runtime of `oci-runtime/`, as Docker's default: only where root lacks
//! capabilities, since privileged containers fail there without it.
//!
//! It is installed outside the checkout, which dockerd outlives.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::machine::{EngineState, Machine};
use super::{Kind, Places, Step, as_root};

/// dockerd's settings, which it also reads anew on SIGHUP.
const DAEMON_SETTINGS: &str = "/etc/docker/daemon.json";

/// The runtime's name among Docker's.
const NAME: &str = "trii-rehearsal";

/// Where dockerd finds it.
const PROGRAM: &str = "/usr/local/lib/trii-rehearsal/oci-runtime";

/// How this machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Root has every capability.
    NotNeeded,
    /// It is there and Docker's default.
    Registered,
    /// Privileged containers do not start.
    Lacking,
}

/// How this machine stands, with these settings of dockerd.
pub(crate) fn state(settings: &Map<String, Value>) -> State {
    if !lacks_capabilities() {
        State::NotNeeded
    } else if settings.get("default-runtime") == Some(&json!(NAME)) && Path::new(PROGRAM).is_file()
    {
        State::Registered
    } else {
        State::Lacking
    }
}

/// What `/etc/docker/daemon.json` says; nothing where there is none.
pub(crate) fn daemon_settings() -> Map<String, Value> {
    let text = fs::read_to_string(DAEMON_SETTINGS).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Whether root here has fewer than all capabilities. Where there are none, it does not.
pub(crate) fn lacks_capabilities() -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let last = read("/proc/sys/kernel/cap_last_cap").trim().parse();
    let missing = last
        .ok()
        .and_then(|last| missing(&read("/proc/self/status"), last));
    missing.is_some_and(|missing| !missing.is_empty())
}

/// The numbers of the capabilities that a process's bounding set lacks, of those the
/// kernel knows.
pub(crate) fn missing(status: &str, last: u64) -> Option<Vec<u64>> {
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))?;
    let bounding = u64::from_str_radix(bounding.trim(), 16).ok()?;
    let missing = (0..=last.min(63)).filter(|bit| bounding & (1 << bit) == 0);
    Some(missing.collect())
}

/// What installs and registers it.
pub(super) fn steps(machine: &Machine, places: &Places) -> Vec<Step> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("oci-runtime");
    let root = places.tools_dir.join("oci-runtime");
    let compile = format!(
        "cargo install --locked --path {} --root {}",
        source.display(),
        root.display()
    );
    let compiled = root.join("bin/oci-runtime").display().to_string();
    let install = ["install", "-D", "-m", "0755", &compiled, PROGRAM];
    let settings = registered(machine.daemon_settings.clone()).to_string();
    let script = format!("mkdir -p /etc/docker && printf %s \"$1\" > {DAEMON_SETTINGS}");
    let register = ["sh", "-c", &script, "sh", &settings];
    let mut steps = vec![
        Step::new(
            "compile the runtime for machines that lack capabilities",
            compile.split(' ').map(str::to_owned).collect(),
            Kind::Required,
        ),
        Step::new(
            "install it where dockerd finds it, whatever becomes of this checkout",
            as_root(machine.privilege, &install),
            Kind::Required,
        ),
        Step::new(
            "make it Docker's default runtime: privileged containers do not start here otherwise",
            as_root(machine.privilege, &register),
            Kind::Required,
        ),
    ];
    if machine.engine == EngineState::Answers {
        let reload: &[&str] = match machine.systemd {
            true => &["systemctl", "reload", "docker"],
            false => &["sh", "-c", "kill -HUP \"$(cat /var/run/docker.pid)\""],
        };
        let reload = as_root(machine.privilege, reload);
        let what = "have dockerd read its settings anew; its containers run on";
        steps.push(Step::new(what, reload, Kind::Required));
    }
    steps
}

/// The settings with the runtime as default; all others stay.
fn registered(mut settings: Map<String, Value>) -> Value {
    let runtimes = settings.entry("runtimes").or_insert_with(|| json!({}));
    if let Value::Object(runtimes) = runtimes {
        runtimes.insert(NAME.to_owned(), json!({"path": PROGRAM}));
    }
    settings.insert("default-runtime".to_owned(), json!(NAME));
    Value::Object(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_settings_stay() {
        let before = json!({
            "log-driver": "local",
            "runtimes": {"nvidia": {"path": "/usr/bin/nvidia-container-runtime"}},
        });
        let Value::Object(before) = before else {
            unreachable!()
        };
        let after = registered(before);
        assert_eq!(after["log-driver"], "local");
        assert_eq!(
            after["runtimes"]["nvidia"]["path"],
            "/usr/bin/nvidia-container-runtime"
        );
        assert_eq!(after["default-runtime"], NAME);
        assert_eq!(after["runtimes"][NAME]["path"], PROGRAM);
    }

    #[test]
    fn missing_capabilities_are_those_the_kernel_knows() {
        let status = "Name:\tx\nCapBnd:\t000001fffeffffff\n";
        assert_eq!(missing(status, 40), Some(vec![24]));
        assert_eq!(missing("CapBnd:\t000001ffffffffff\n", 40), Some(vec![]));
        assert_eq!(missing("Name:\tx\n", 40), None);
    }
}
