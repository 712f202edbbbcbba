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
mod relay;
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
use record::{Book, Record};
use relay::relayed;

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

/// What a deployer is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// To release a version.
    Deploy {
        /// Which.
        version: &'a str,
        /// Whether to stop at the gate before the switch.
        manual: bool,
    },
    /// To switch to what waits at the gate.
    Promote,
    /// To take back what is under way.
    Abort,
    /// To end what the release of this deployer's id has under way, and nobody else's: it is
    /// taken back, and where there is no way back any more, finished.
    End,
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
    /// Does what is asked, alone: whoever else releases this service is waited for, or
    /// refuses us. `observe` is told, and waited for, before anything goes on.
    ///
    /// # Errors
    /// [`BlueGreenError`]; a release that does not hold is no error, but a [`Conclusion`].
    pub async fn run(
        &self,
        ask: Ask<'_>,
        observe: &mut impl AsyncFnMut(&Event),
    ) -> Result<Conclusion, BlueGreenError> {
        // Bad input is told before anybody is waited for.
        if let Ask::Deploy { version, .. } = ask {
            preflight::version(version)?;
        }
        match ask {
            Ask::Deploy { .. } | Ask::Promote => drop(self.objects().sides().await?),
            // It is for what the other two do not go on with.
            Ask::Abort | Ask::End => drop(self.objects().active().await?),
        }
        // Nor is anybody waited for whose release is left alone.
        if ask == Ask::End {
            let book = Book::read(self.cluster, self.service).await?;
            self.must_be_ours(book.record.as_ref())?;
        }
        let lock = self.lock(observe).await?;
        let concluded = match Course::open(self, &lock, observe).await {
            // Large, and on top of what the caller holds.
            Ok(mut course) => Box::pin(course.run(ask)).await,
            Err(error) => Err(error),
        };
        // The next one need not wait.
        let unlocked = lock.release().await;
        let concluded = concluded?;
        unlocked?;
        Ok(concluded)
    }

    /// What [`Ask::Deploy`] would do, as far as can be told without changing anything.
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

    /// Its own record, and no other: by its id.
    fn must_be_ours(&self, record: Option<&Record>) -> Result<(), BlueGreenError> {
        match record {
            None => Err(BlueGreenError::NothingUnderWay {
                service: self.service.to_owned(),
            }),
            Some(record) if record.release == self.release => Ok(()),
            Some(record) => Err(BlueGreenError::anothers(self.service, record)),
        }
    }

    fn objects(&self) -> Objects<'_> {
        Objects {
            cluster: self.cluster,
            service: self.service,
        }
    }

    async fn lock(&self, observe: &mut impl AsyncFnMut(&Event)) -> Result<Lock, BlueGreenError> {
        let (service, holder, span) = (self.service, &self.holder, self.policy.lease);
        let lock = relayed(
            async |progress: &(dyn Fn(&str) + Sync)| {
                Lock::take(self.cluster, service, holder, span, progress).await
            },
            async |text| observe(&Event::now(Happened::Progress { text })).await,
        )
        .await?;
        let holder = self.holder.to_string();
        observe(&Event::now(Happened::Locked { holder })).await;
        Ok(lock)
    }
}

#[cfg(test)]
mod tests;
