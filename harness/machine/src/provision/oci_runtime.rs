//! The runtime of `oci-runtime/` as Docker's default, only where root lacks capabilities:
//! privileged containers fail there without it.
//!
//! It is installed outside the checkout, because dockerd outlives the checkout.

use std::path::Path;

use miette::Diagnostic;

use super::daemon_settings::{DaemonSettings, NotOurs, Runtime};
use super::{EngineState, Kind, Machine, Places, ProvisionStep, as_root, words};
use crate::engine::machine::{EngineMachine, missing_capabilities};

/// The runtime's name among Docker's.
const NAME: &str = "trii-rehearsal";

/// Its path in dockerd's settings.
const PROGRAM: &str = "/usr/local/lib/trii-rehearsal/oci-runtime";

/// Whether the engine's machine needs the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeState {
    /// Root has every capability, as far as is known.
    NotNeeded,
    /// It is installed and Docker's default.
    Registered,
    /// Privileged containers do not start.
    Lacking,
}

/// Returns the state of the engine's machine; of this machine if no engine answers, because an
/// engine would be started here.
pub fn state(engine: Option<&EngineMachine>) -> RuntimeState {
    match engine {
        Some(machine) => state_of(machine),
        None if !lacks_any(missing_capabilities("self").as_deref()) => RuntimeState::NotNeeded,
        None => {
            let settings = DaemonSettings::read();
            let is_default = settings.is_ok_and(|settings| settings.has_as_default(NAME));
            match is_default && Path::new(PROGRAM).is_file() {
                true => RuntimeState::Registered,
                false => RuntimeState::Lacking,
            }
        }
    }
}

fn state_of(machine: &EngineMachine) -> RuntimeState {
    match lacks_any(machine.missing_capabilities.as_deref()) {
        _ if machine.default_runtime.as_deref() == Some(NAME) => RuntimeState::Registered,
        true => RuntimeState::Lacking,
        false => RuntimeState::NotNeeded,
    }
}

/// False if the missing capabilities are unknown, or on a system without capabilities.
fn lacks_any(missing: Option<&[u64]>) -> bool {
    missing.is_some_and(|missing| !missing.is_empty())
}

/// Returns the steps that install and register it.
pub(super) fn steps(machine: &Machine, places: &Places) -> Vec<ProvisionStep> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("oci-runtime");
    let root = places.tools_dir.join("oci-runtime");
    let compile = format!(
        "cargo install --locked --path {} --root {}",
        source.display(),
        root.display()
    );
    let compiled = root.join("bin/oci-runtime").display().to_string();
    let install = ["install", "-D", "-m", "0755", &compiled, PROGRAM];
    let register = match registration(machine) {
        Ok(command) => {
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            as_root(machine.privilege, &command)
        }
        Err(not_ours) => {
            let help = not_ours.help().map(|help| help.to_string());
            let help = help.unwrap_or_default();
            return vec![ProvisionStep::by_hand(not_ours.to_string(), &help)];
        }
    };
    let mut steps = vec![
        ProvisionStep::new(
            "compile the runtime for machines that lack capabilities",
            words(&compile),
            Kind::Required,
        ),
        ProvisionStep::new(
            "install it outside this checkout, which dockerd may outlive",
            as_root(machine.privilege, &install),
            Kind::Required,
        ),
        ProvisionStep::new(
            "make it Docker's default runtime: privileged containers do not start here otherwise; \
             the other settings stay, and a copy of the file is kept beside it",
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
        let what = "have dockerd reload its settings; its containers keep running";
        steps.push(ProvisionStep::new(what, reload, Kind::Required));
    }
    steps
}

/// Returns the command that makes it dockerd's default.
fn registration(machine: &Machine) -> Result<Vec<String>, NotOurs> {
    let runtime = Runtime {
        name: NAME,
        program: PROGRAM,
    };
    machine.daemon_settings.clone()?.register(&runtime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::machine::tests::machine;

    #[test]
    fn the_state_is_that_of_the_engines_machine() {
        let with = |default_runtime: &str, missing: Option<&[u64]>| EngineMachine {
            default_runtime: Some(default_runtime.to_owned()),
            missing_capabilities: missing.map(<[u64]>::to_vec),
            ..machine()
        };
        assert_eq!(state_of(&with("runc", Some(&[]))), RuntimeState::NotNeeded);
        assert_eq!(state_of(&with("runc", Some(&[24]))), RuntimeState::Lacking);
        assert_eq!(state_of(&with(NAME, Some(&[24]))), RuntimeState::Registered);
        // Unknown for another machine: not refused.
        assert_eq!(state_of(&with("runc", None)), RuntimeState::NotNeeded);
    }
}
