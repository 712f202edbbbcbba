//! Releases of one service from one colour to the other: brought up beside what is live,
//! checked, switched to in one patch, compared with what was, and taken back by themselves
//! where they do not hold.
//!
//! The state is in the cluster, written before each step: a deployer that is killed leaves
//! traffic on one colour, and the next one, on whatever machine, goes on from there.

pub mod analysis;
pub mod colour;
mod course;
pub mod error;
pub mod event;
mod exposition;
mod headroom;
mod health;
pub mod histogram;
pub mod lock;
pub mod objects;
mod patience;
pub mod policy;
mod preflight;
mod proxy;
pub mod record;
pub mod status;
mod switch;
pub mod traffic;

use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::exit::ExitCode;

pub use colour::Colour;
pub use error::BlueGreenError;
pub use event::{Event, Happened};
pub use policy::Policy;
pub use record::Step;
pub use status::Status;

use course::Course;
use lock::{Holder, Lock};
use objects::Objects;

/// Whom the API server remembers as the one who moves traffic. The cluster's policy lets
/// nobody else.
pub const FIELD_MANAGER: &str = "trii-blue-green";

/// Releases one service.
pub struct Deployer<'a> {
    /// The cluster, and the namespace that the service is in.
    pub cluster: &'a Cluster,
    /// The service's name.
    pub service: &'a str,
    /// How it is released.
    pub policy: &'a Policy,
    /// The paths that it must answer with 2xx, in the new version.
    pub smoke: &'a [String],
    /// Who we are.
    pub holder: Holder,
    /// The id that the record and the audit know the release by.
    pub release: String,
    /// Ends the release: before the old colour is retired it is taken back, after that it is
    /// finished.
    pub called_off: CancellationToken,
}

/// How a deployer's work ended. Exactly one colour is live in each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// The version was live before.
    AlreadyLive {
        /// The version.
        version: String,
        /// The colour.
        colour: Colour,
    },
    /// Everything is ready for the switch.
    AtGate {
        /// The version.
        version: String,
        /// The colour that has it.
        colour: Colour,
    },
    /// The version is live.
    Released {
        /// The version.
        version: String,
        /// The colour that has it.
        colour: Colour,
    },
    /// It never got traffic, and its pods are gone.
    TakenBack {
        /// Why.
        why: String,
        /// Whether nobody could tell if it holds.
        inconclusive: bool,
    },
    /// It had traffic, which is back on the old colour; its pods are gone.
    Reverted {
        /// Why.
        why: String,
        /// Whether nobody could tell if it holds.
        inconclusive: bool,
    },
}

impl Conclusion {
    /// What a command ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Conclusion::AlreadyLive { .. }
            | Conclusion::AtGate { .. }
            | Conclusion::Released { .. } => ExitCode::Held,
            Conclusion::TakenBack { inconclusive, .. }
            | Conclusion::Reverted { inconclusive, .. } => match inconclusive {
                true => ExitCode::Inconclusive,
                false => ExitCode::CheckFailed,
            },
        }
    }
}

/// What a release would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The version that is live.
    pub old_version: String,
    /// The live colour.
    pub from: Colour,
    /// The colour that the new version gets.
    pub to: Colour,
    /// How many pods it gets.
    pub replicas: i32,
}

impl Deployer<'_> {
    /// Releases `version`; where `manual`, up to the gate before the switch.
    ///
    /// # Errors
    /// [`BlueGreenError`]; a release that does not hold is no error, but a [`Conclusion`].
    pub async fn deploy(
        &self,
        version: &str,
        manual: bool,
        observe: &mut impl AsyncFnMut(&Event),
    ) -> Result<Conclusion, BlueGreenError> {
        preflight::version(version)?;
        // Bad input is told before anybody is waited for.
        self.objects().sides().await?;
        let lock = self.lock(observe).await?;
        let concluded = match Course::open(self, &lock, observe).await {
            // Large, and on top of what the caller holds.
            Ok(mut course) => Box::pin(course.deploy(version, manual)).await,
            Err(error) => Err(error),
        };
        self.unlock(lock, concluded).await
    }

    /// Switches to what waits at the gate.
    ///
    /// # Errors
    /// As [`Deployer::deploy`].
    pub async fn promote(
        &self,
        observe: &mut impl AsyncFnMut(&Event),
    ) -> Result<Conclusion, BlueGreenError> {
        self.objects().sides().await?;
        let lock = self.lock(observe).await?;
        let concluded = match Course::open(self, &lock, observe).await {
            Ok(mut course) => Box::pin(course.promote()).await,
            Err(error) => Err(error),
        };
        self.unlock(lock, concluded).await
    }

    /// Takes back what is under way.
    ///
    /// # Errors
    /// As [`Deployer::deploy`].
    pub async fn abort(
        &self,
        observe: &mut impl AsyncFnMut(&Event),
    ) -> Result<Conclusion, BlueGreenError> {
        self.objects().active().await?;
        let lock = self.lock(observe).await?;
        let concluded = match Course::open(self, &lock, observe).await {
            Ok(mut course) => Box::pin(course.abort()).await,
            Err(error) => Err(error),
        };
        self.unlock(lock, concluded).await
    }

    /// What [`Deployer::deploy`] would do, as far as can be told without changing anything.
    ///
    /// # Errors
    /// What would stand against it.
    pub async fn plan(&self, version: &str) -> Result<Plan, BlueGreenError> {
        preflight::version(version)?;
        let objects = self.objects();
        let sides = objects.sides().await?;
        let replicas = preflight::replicas(&objects, &sides.live).await?;
        if sides.live.version != version {
            preflight::look(&objects, &sides, replicas).await?;
        }
        Ok(Plan {
            old_version: sides.live.version,
            from: sides.live.colour,
            to: sides.idle.colour,
            replicas,
        })
    }

    fn objects(&self) -> Objects<'_> {
        Objects {
            cluster: self.cluster,
            service: self.service,
        }
    }

    async fn lock(&self, observe: &mut impl AsyncFnMut(&Event)) -> Result<Lock, BlueGreenError> {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let progress = move |text: &str| {
            // Nobody listens once the lock is had.
            let _ = tell.send(text.to_owned());
        };
        let span = self.policy.lease;
        let taking = Lock::take(self.cluster, self.service, &self.holder, span, &progress);
        let mut taking = std::pin::pin!(taking);
        let lock = loop {
            tokio::select! {
                lock = &mut taking => break lock?,
                Some(text) = told.recv() => {
                    observe(&Event::now(Happened::Progress { text })).await;
                }
            }
        };
        let holder = self.holder.to_string();
        observe(&Event::now(Happened::Locked { holder })).await;
        Ok(lock)
    }

    /// The next one need not wait.
    async fn unlock(
        &self,
        lock: Lock,
        concluded: Result<Conclusion, BlueGreenError>,
    ) -> Result<Conclusion, BlueGreenError> {
        let unlocked = lock.release().await;
        let concluded = concluded?;
        unlocked?;
        Ok(concluded)
    }
}

#[cfg(test)]
mod tests;
