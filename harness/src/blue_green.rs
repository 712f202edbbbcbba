//! Releases of one service from one colour to the other: brought up beside what is live,
//! checked, switched to in one patch, compared with what was, and taken back by themselves
//! where they do not hold.
//!
//! The state is in the cluster, written before each step: a deployer that is killed leaves
//! traffic on one colour, and the next one, on whatever machine, goes on from there.

pub mod analysis;
pub mod canary;
mod changes;
pub mod colour;
pub(crate) mod configuration;
mod course;
pub mod error;
pub mod event;
mod health;
pub mod ingress;
pub mod lock;
pub mod objects;
pub mod policy;
mod preflight;
mod probe;
pub mod prometheus;
pub mod record;
mod requests;
mod retry;
pub mod status;
pub mod traffic;

use std::fmt;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::exit::ExitCode;

pub use colour::Colour;
pub use error::BlueGreenError;
pub use event::{Event, Happened};
pub use policy::Policy;
pub use probe::ProbeFrom;
pub use record::Step;
pub use status::Status;

use course::Course;
use course::together::Member;
use event::relayed;
use lock::{Holder, Lock, LockError};
use objects::Objects;
use record::{Book, Entry, Outcome, Record};
use requests::{Request, RequestMap, Wanted};

/// Whom the API server remembers as the one who moves traffic. The cluster's policy lets
/// nobody else.
pub const FIELD_MANAGER: &str = "trii-blue-green";

/// Over a policy's times, for a holder that is alive to do what it is asked.
const OBEYED: Duration = Duration::from_secs(120);

/// Between two looks at what has come of that.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
    /// From where it is asked for them, where the policy's `analysis` is `"probe"`.
    pub probe_from: ProbeFrom<'a>,
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
    /// To have a release that a deployer is at work on stop at the gate before the switch.
    Pause,
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
    /// The version is live, and its pods are not well.
    LiveUnwell {
        /// The version.
        version: String,
        /// The colour.
        colour: Colour,
        /// What is wrong with them.
        why: String,
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

impl Ask<'_> {
    /// As the holder of the lock is asked, who is at work.
    fn wanted(self) -> Option<Wanted> {
        match self {
            Ask::Abort => Some(Wanted::Abort),
            Ask::Pause => Some(Wanted::Pause),
            Ask::Promote => Some(Wanted::Promote),
            Ask::Deploy { .. } | Ask::End => None,
        }
    }
}

impl Conclusion {
    /// How a release ended that another deployer was at work on.
    fn of(entry: &Entry) -> Conclusion {
        let record = &entry.record;
        let why = record.why.clone().unwrap_or_default();
        match entry.outcome {
            Outcome::Released => Conclusion::Released {
                version: record.version.clone(),
                colour: record.to,
            },
            Outcome::Reverted => Conclusion::Reverted {
                why,
                inconclusive: false,
            },
            Outcome::TakenBack => Conclusion::TakenBack {
                why,
                inconclusive: false,
            },
        }
    }

    /// What a command ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Conclusion::AlreadyLive { .. }
            | Conclusion::AtGate { .. }
            | Conclusion::Released { .. } => ExitCode::Held,
            Conclusion::LiveUnwell { .. } => ExitCode::CheckFailed,
            Conclusion::TakenBack { inconclusive, .. }
            | Conclusion::Reverted { inconclusive, .. } => match inconclusive {
                true => ExitCode::Inconclusive,
                false => ExitCode::CheckFailed,
            },
        }
    }
}

/// How a release of one or more services ended.
#[derive(Debug)]
pub struct Concluded {
    /// Each service, in its order, and how its release ended.
    pub each: Vec<(String, Result<Conclusion, BlueGreenError>)>,
    /// The service for which all of them were taken back, or not begun.
    pub failed: Option<String>,
}

/// Does what is asked of one or more services, as one release: each comes after those that it
/// calls. Traffic of each moves once those hold that it calls, and no old colour goes before all
/// of them hold; where one does not, all are taken back.
pub async fn run_together(
    deployers: &[Deployer<'_>],
    ask: Ask<'_>,
    observe: &mut impl AsyncFnMut(&str, &Event),
) -> Concluded {
    let services: Vec<&str> = deployers.iter().map(|it| it.service).collect();
    let members = Member::of(&services);
    let observe = Mutex::new(observe);
    let each = deployers.iter().zip(&members);
    let each = each.map(async |(deployer, member)| {
        let mut tell = async |event: &Event| {
            let mut observe = observe.lock().await;
            Box::pin((observe)(deployer.service, event)).await;
        };
        // Each is large, and all are in hand at once.
        let released = Box::pin(deployer.run_as(Some(member.clone()), ask, &mut tell));
        let concluded = released.await;
        match &concluded {
            Ok(conclusion) if conclusion.exit_code() == ExitCode::Held => {}
            Ok(conclusion) => drop(member.fail(&conclusion.to_string())),
            Err(error) => drop(member.fail(&error.to_string())),
        }
        member.is_back();
        (deployer.service.to_owned(), concluded)
    });
    Concluded {
        each: join_all(each).await,
        failed: members.first().and_then(Member::failed_first),
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conclusion::AlreadyLive { version, colour } => {
                write!(f, "{version} is live already, as {colour}: nothing to do")
            }
            Conclusion::LiveUnwell {
                version,
                colour,
                why,
            } => write!(
                f,
                "{version} is live already, as {colour}, and is not well: {why}"
            ),
            Conclusion::AtGate { version, colour } => {
                write!(f, "{version} is ready as {colour} and waits at the gate")
            }
            Conclusion::Released { version, colour } => {
                write!(f, "{version} is live, as {colour}")
            }
            Conclusion::TakenBack { why, .. } => {
                write!(f, "taken back before any traffic: {why}")
            }
            Conclusion::Reverted { why, .. } => write!(f, "traffic is back where it was: {why}"),
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
    /// Whether its configuration is another than what is live.
    pub reconfigured: bool,
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
        self.run_as(None, ask, observe).await
    }

    /// As one of the services of a release, where it is one of several.
    async fn run_as(
        &self,
        member: Option<Member>,
        ask: Ask<'_>,
        observe: &mut impl AsyncFnMut(&Event),
    ) -> Result<Conclusion, BlueGreenError> {
        // Bad input is told before anybody is waited for.
        if let Ask::Deploy { version, .. } = ask {
            preflight::version(version)?;
        }
        self.objects().active().await?;
        let under_way = Book::read(self.cluster, self.service).await?.record;
        // Nor is anybody waited for whose release is left alone.
        if ask == Ask::End {
            self.must_be_ours(under_way.as_ref())?;
        }
        let asked = match (ask.wanted(), &under_way) {
            (Some(wanted), Some(record)) => self.ask_holder(wanted, record, observe).await?,
            _ => None,
        };
        let lock = match (self.lock(observe).await, asked) {
            (Ok(lock), Some(asked)) => {
                // It has obeyed, or died before it could.
                match self.answer(&asked).await? {
                    Some(concluded) => {
                        self.unlock(lock, observe).await;
                        return Ok(concluded);
                    }
                    None => lock,
                }
            }
            (Err(BlueGreenError::Lock(LockError::Held { .. })), Some(asked)) => {
                return self.answered(&asked, observe).await;
            }
            (lock, _) => lock?,
        };
        let concluded = match Course::open(self, &lock, member, observe).await {
            Ok(mut course) => course.run(ask).await,
            Err(error) => Err(error),
        };
        self.unlock(lock, observe).await;
        concluded
    }

    /// So that the next one need not wait; where it has to, what was done is done.
    async fn unlock(&self, lock: Lock, observe: &mut impl AsyncFnMut(&Event)) {
        if let Err(error) = lock.release().await {
            let text = format!("the lock lapses by itself: {error}");
            observe(&Event::now(Happened::Progress { text })).await;
        }
    }

    /// Asks whoever holds the lock, if another does.
    async fn ask_holder(
        &self,
        wanted: Wanted,
        record: &Record,
        observe: &mut impl AsyncFnMut(&Event),
    ) -> Result<Option<Request>, BlueGreenError> {
        let held = Lock::held(self.cluster, self.service).await?;
        let ours = self.holder.to_string();
        let Some(held) = held.filter(|it| it.holder != ours) else {
            return Ok(None);
        };
        if wanted == Wanted::Pause && record.step > Step::Gate {
            return Err(course::wrong_step(
                record,
                "paused",
                "traffic has moved; `cargo xtask blue-green abort` takes it back",
            ));
        }
        let request = Request {
            release: record.release.clone(),
            wanted,
            by: ours,
            at: Timestamp::now(),
        };
        RequestMap::of(self.cluster, self.service)
            .put(&request)
            .await?;
        let text = format!("{} is at work on it, and is asked to {wanted}", held.holder);
        observe(&Event::now(Happened::Progress { text })).await;
        Ok(Some(request))
    }

    /// What has come of a request, if its holder has done what was asked.
    async fn answer(&self, asked: &Request) -> Result<Option<Conclusion>, BlueGreenError> {
        let book = Book::read(self.cluster, self.service).await?;
        let is_its = |record: &Record| record.release == asked.release;
        if let Some(record) = book.record.filter(is_its) {
            let waits = asked.wanted == Wanted::Pause && record.step == Step::Gate;
            return Ok(waits.then_some(Conclusion::AtGate {
                version: record.version,
                colour: record.to,
            }));
        }
        let mut ended = book.audit.iter().rev();
        let its = ended.find(|it| is_its(&it.record));
        Ok(its.map(Conclusion::of))
    }

    /// Waits until the holder, who is alive, has done what was asked.
    async fn answered(
        &self,
        asked: &Request,
        observe: &mut impl AsyncFnMut(&Event),
    ) -> Result<Conclusion, BlueGreenError> {
        let policy = self.policy;
        let end = Instant::now() + policy.green_ready + policy.watch + policy.drain + OBEYED;
        loop {
            if let Some(concluded) = self.answer(asked).await? {
                return Ok(concluded);
            }
            if Instant::now() >= end {
                return Err(BlueGreenError::Meddled {
                    what: format!(
                        "release {} was not brought to its end: {asked}",
                        asked.release
                    ),
                    help: "`cargo xtask blue-green status` shows who is at work on it".to_owned(),
                });
            }
            let text = format!("waiting until {} has ended", asked.release);
            observe(&Event::now(Happened::Progress { text })).await;
            sleep(LOOK_EVERY).await;
        }
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
        let reconfigured = sides.reconfigured(self.service);
        if sides.live.version != version || reconfigured {
            preflight::look(&objects, &sides, replicas).await?;
        }
        Ok(Plan {
            old_version: sides.live.version,
            from: sides.live.colour,
            to: sides.idle.colour,
            replicas,
            reconfigured,
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
