//! The runtime of `oci-runtime/`, as Docker's default: only where root lacks
//! capabilities, since privileged containers fail there without it.
//!
//! It is installed outside the checkout, which dockerd outlives.

use std::fs;
use std::path::Path;

use miette::Diagnostic;

use super::daemon_settings::{DaemonSettings, NotOurs, Runtime};
use super::machine::{EngineState, Machine};
use super::{Kind, Places, Step, as_root};
use crate::engine::machine::EngineMachine;

/// The runtime's name among Docker's.
const NAME: &str = "trii-rehearsal";

/// Where dockerd finds it.
const PROGRAM: &str = "/usr/local/lib/trii-rehearsal/oci-runtime";

/// How the engine's machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Root has every capability, as far as can be told.
    NotNeeded,
    /// It is there and Docker's default.
    Registered,
    /// Privileged containers do not start.
    Lacking,
}

/// How the machine of the engine that answers stands; of this machine, where none does, since
/// an engine would be started here.
pub(crate) fn state(engine: Option<&EngineMachine>) -> State {
    match engine {
        Some(machine) => state_of(machine),
        None if !lacks_capabilities() => State::NotNeeded,
        None => {
            let settings = DaemonSettings::read();
            let is_default = settings.is_ok_and(|settings| settings.has_as_default(NAME));
            match is_default && Path::new(PROGRAM).is_file() {
                true => State::Registered,
                false => State::Lacking,
            }
        }
    }
}

fn state_of(machine: &EngineMachine) -> State {
    let lacks = machine.missing_capabilities.as_ref();
    match lacks.is_some_and(|missing| !missing.is_empty()) {
        _ if machine.default_runtime.as_deref() == Some(NAME) => State::Registered,
        true => State::Lacking,
        false => State::NotNeeded,
    }
}

/// Whether root here has fewer than all capabilities. Where there are none, it does not.
fn lacks_capabilities() -> bool {
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
    let register = match registration(machine) {
        Ok(command) => as_root(machine.privilege, &borrowed(&command)),
        Err(not_ours) => return vec![not_ours.by_hand()],
    };
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
            "make it Docker's default runtime: privileged containers do not start here otherwise; \
             the other settings stay, and what they are now is kept beside them",
            register,
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

/// The command that makes it dockerd's default.
fn registration(machine: &Machine) -> Result<Vec<String>, NotOurs> {
    let runtime = Runtime {
        name: NAME,
        program: PROGRAM,
    };
    machine.daemon_settings.clone()?.register(&runtime)
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

impl NotOurs {
    /// A person must see to it first.
    fn by_hand(&self) -> Step {
        let help = self.help().map(|help| help.to_string());
        Step::by_hand(self.to_string(), &help.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::machine::tests::machine;

    #[test]
    fn the_engines_machine_counts_and_not_this_process() {
        let with = |default_runtime: &str, missing: Option<&[u64]>| EngineMachine {
            default_runtime: Some(default_runtime.to_owned()),
            missing_capabilities: missing.map(<[u64]>::to_vec),
            ..machine()
        };
        assert_eq!(state_of(&with("runc", Some(&[]))), State::NotNeeded);
        assert_eq!(state_of(&with("runc", Some(&[24]))), State::Lacking);
        assert_eq!(state_of(&with(NAME, Some(&[24]))), State::Registered);
        // Of another machine this cannot be told, so it is not refused.
        assert_eq!(state_of(&with("runc", None)), State::NotNeeded);
    }

    #[test]
    fn missing_capabilities_are_those_the_kernel_knows() {
        let status = "Name:\tx\nCapBnd:\t000001fffeffffff\n";
        assert_eq!(missing(status, 40), Some(vec![24]));
        assert_eq!(missing("CapBnd:\t000001ffffffffff\n", 40), Some(vec![]));
        assert_eq!(missing("Name:\tx\n", 40), None);
    }
}
