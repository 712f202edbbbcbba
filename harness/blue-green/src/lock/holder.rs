//! The holder of a lock.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use nix::unistd::{Uid, User};
use serde::Serialize;

/// One run of a deployer, different from any other: `ana@laptop, pid 4711, run 20261125-...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployerIdentity {
    /// The user's name.
    pub user: String,
    /// The machine's name.
    pub host: String,
    /// The process there.
    pub pid: u32,
    /// The run's id.
    pub run: String,
}

impl DeployerIdentity {
    /// Returns this process as a holder in the given run.
    pub fn this(run: &str) -> DeployerIdentity {
        let uid = Uid::current();
        let user = User::from_uid(uid).ok().flatten();
        DeployerIdentity {
            user: user.map_or_else(|| format!("uid {uid}"), |user| user.name),
            host: sysinfo::System::host_name().unwrap_or_else(|_| "unknown".to_owned()),
            pid: std::process::id(),
            run: run.to_owned(),
        }
    }
}

impl fmt::Display for DeployerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, host) = (&self.user, &self.host);
        write!(f, "{user}@{host}, pid {}, run {}", self.pid, self.run)
    }
}

/// The holder in a Lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseHolder {
    /// A [`DeployerIdentity`] as text; empty: nobody.
    pub holder: String,
    /// Since when, by the holder's clock.
    pub since: Option<Timestamp>,
    /// When it was renewed last, by the holder's clock.
    pub renewed: Option<Timestamp>,
}

impl LeaseHolder {
    pub(super) fn of(lease: &Lease) -> LeaseHolder {
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|it| it.holder_identity.clone());
        LeaseHolder {
            holder: holder.unwrap_or_default(),
            since: spec.and_then(|spec| time(spec.acquire_time.as_ref()?)),
            renewed: spec.and_then(|spec| time(spec.renew_time.as_ref()?)),
        }
    }

    pub(super) fn is_nobody(&self) -> bool {
        self.holder.is_empty()
    }
}

/// `ana@laptop, pid 1, run r since T, renewed at T`.
impl fmt::Display for LeaseHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nobody() {
            return f.write_str("nobody");
        }
        f.write_str(&self.holder)?;
        for (label, at) in [(" since", self.since), (", renewed at", self.renewed)] {
            if let Some(at) = at {
                write!(f, "{label} {}", at.strftime("%Y-%m-%dT%H:%M:%SZ"))?;
            }
        }
        Ok(())
    }
}

/// Kubernetes' types have their own jiff.
fn time(at: &MicroTime) -> Option<Timestamp> {
    Timestamp::from_microsecond(at.0.as_microsecond()).ok()
}
