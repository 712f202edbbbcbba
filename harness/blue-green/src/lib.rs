//! Releases a service from one colour to the other. The new version starts beside the live one and
//! is checked. One patch moves the traffic. If the new version is worse than the old one, it is
//! rolled back automatically.
//!
//! The state is in the cluster, and is written before each step. If a deployer is killed, traffic
//! stays on one colour. The next deployer, on any machine, continues from there.

pub mod analysis;
mod canary;
mod changes;
pub mod colour;
mod conclusion;
pub mod configuration;
pub mod error;
pub mod event;
mod group;
mod health;
pub mod ingress;
pub mod lock;
pub mod naming;
pub mod objects;
pub mod policy;
mod preflight;
mod probe;
pub mod prometheus;
mod proxy;
pub mod record;
mod release;
mod requests;
mod retry;
pub mod status;
mod step_error;
pub mod traffic;
pub mod version_source;

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use base::exit::ExitCode;
use kubernetes::Cluster;

pub use colour::Colour;
pub use conclusion::{Conclusion, GroupConclusion};
pub use error::BlueGreenError;
pub use event::{EventKind, ReleaseEvent};
pub use naming::FIELD_MANAGER;
pub use policy::Policy;
pub use probe::ProbeFrom;
pub use record::ReleaseStep;
pub use status::ServiceStatus;
pub use version_source::{VersionPath, VersionSource, VersionSources};

use event::relayed;
use group::Member;
use lock::{DeployerIdentity, LeaseError, ReleaseLock};
use objects::ServiceObjects;
use record::{RecordMap, ReleaseRecord};
use release::ServiceRelease;
use requests::{ReleaseRequest, RequestKind, RequestMap};

/// How long the holder of the lock may take for a request, beyond a policy's times.
const CARRY_OUT_TIMEOUT: Duration = Duration::from_secs(120);

/// Between two reads of the record during a request.
const READ_EVERY: Duration = Duration::from_millis(500);

/// Releases one service.
pub struct Deployer<'a> {
    /// The cluster, and the namespace of the service.
    pub cluster: &'a Cluster,
    /// The service's name.
    pub service: &'a str,
    /// How it is released.
    pub policy: &'a Policy,
    /// The paths that the new version must answer with 2xx.
    pub smoke: &'a [String],
    /// Where the deployer's own requests come from, if the policy's `analysis` is `"probe"`.
    pub probe_from: ProbeFrom<'a>,
    /// The namespace of the prober's pod.
    pub helpers_namespace: &'a str,
    /// This deployer, as the holder of the lock.
    pub holder: DeployerIdentity,
    /// The id of the release in the record and the audit.
    pub release: String,
    /// Ends the release: it is rolled back or, once the old colour is being retired, finished.
    pub cancellation: CancellationToken,
}

/// What a deployer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Releases a version.
    Deploy {
        /// The version.
        version: &'a str,
        /// Whether to stop at the gate before the switch.
        manual: bool,
    },
    /// Switches to the version that waits at the gate.
    Promote,
    /// Rolls the release in progress back.
    Abort,
    /// Stops a release that another deployer runs at the gate before the switch.
    Pause,
    /// Ends the release with this deployer's id, and no other: rolls it back or, if it is too late
    /// for that, finishes it.
    End,
}

impl Operation<'_> {
    /// Returns the request to the deployer that runs the release.
    fn request(self) -> Option<RequestKind> {
        match self {
            Operation::Abort => Some(RequestKind::Abort),
            Operation::Pause => Some(RequestKind::Pause),
            Operation::Promote => Some(RequestKind::Promote),
            Operation::Deploy { .. } | Operation::End => None,
        }
    }
}

/// Runs deployers of one or more services as one release. Each service comes after those that it
/// calls. The traffic of a service moves after the services that it calls are verified. Old colours
/// are retired after all services are verified. If one fails, all are rolled back.
pub async fn run_together(
    deployers: &[Deployer<'_>],
    operation: Operation<'_>,
    observe: &mut impl AsyncFnMut(&str, &ReleaseEvent),
) -> GroupConclusion {
    let services: Vec<&str> = deployers.iter().map(|it| it.service).collect();
    let members = Member::of(&services);
    let observe = Mutex::new(observe);
    let each = deployers.iter().zip(&members);
    let each = each.map(async |(deployer, member)| {
        let mut forward = async |event: &ReleaseEvent| {
            let mut observe = observe.lock().await;
            Box::pin((observe)(deployer.service, event)).await;
        };
        // Boxed, as each is large and all run concurrently.
        let released = Box::pin(deployer.run_as(member.clone(), operation, &mut forward));
        let concluded = released.await;
        match &concluded {
            Ok(conclusion) if conclusion.exit_code() == ExitCode::Held => {}
            Ok(conclusion) => drop(member.fail(&conclusion.to_string())),
            Err(error) => drop(member.fail(&error.to_string())),
        }
        member.is_back();
        (deployer.service.to_owned(), concluded)
    });
    GroupConclusion {
        each: join_all(each).await,
        failed: members.first().and_then(Member::failed_first),
    }
}

/// The changes that a release would make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasePlan {
    /// The live version.
    pub old_version: String,
    /// The live colour.
    pub from: Colour,
    /// The colour of the new version.
    pub to: Colour,
    /// The number of its pods.
    pub replicas: i32,
    /// Whether the configuration changes, too.
    pub reconfigured: bool,
}

impl Deployer<'_> {
    /// Runs a release of this service alone. If another deployer has the lock, this waits until the
    /// lock is free, or fails. It awaits `observe` before it continues.
    ///
    /// # Errors
    /// [`BlueGreenError`]. A release that is rolled back is no error, but a [`Conclusion`].
    pub async fn run(
        &self,
        operation: Operation<'_>,
        observe: &mut impl AsyncFnMut(&ReleaseEvent),
    ) -> Result<Conclusion, BlueGreenError> {
        self.run_as(Member::alone(self.service), operation, observe)
            .await
    }

    /// Runs a release as a member of a group.
    async fn run_as(
        &self,
        member: Member,
        operation: Operation<'_>,
        observe: &mut impl AsyncFnMut(&ReleaseEvent),
    ) -> Result<Conclusion, BlueGreenError> {
        // A wrong version, or a release of another deployer, fails before the wait for the lock.
        if let Operation::Deploy { version, .. } = operation {
            preflight::version(version)?;
        }
        self.objects().active().await?;
        let in_progress = RecordMap::read(self.cluster, self.service).await?.record;
        if operation == Operation::End {
            self.must_be_ours(in_progress.as_ref())?;
        }
        let request = match (operation.request(), &in_progress) {
            (Some(kind), Some(record)) => self.send_request(kind, record, observe).await?,
            _ => None,
        };
        let lock = match (self.lock(observe).await, request) {
            (Ok(lock), Some(request)) => {
                // The holder has fulfilled the request, or has died.
                match self.result_of(&request).await? {
                    Some(concluded) => {
                        self.unlock(lock, observe).await;
                        return Ok(concluded);
                    }
                    None => lock,
                }
            }
            (Err(BlueGreenError::Lock(LeaseError::Held { .. })), Some(request)) => {
                return self.await_result_of(&request, observe).await;
            }
            (lock, _) => lock?,
        };
        let concluded = match ServiceRelease::open(self, &lock, member, observe).await {
            Ok(mut release) => release.run(operation).await,
            Err(error) => Err(error),
        };
        self.unlock(lock, observe).await;
        concluded
    }

    async fn lock(
        &self,
        observe: &mut impl AsyncFnMut(&ReleaseEvent),
    ) -> Result<ReleaseLock, BlueGreenError> {
        let (service, holder, span) = (self.service, &self.holder, self.policy.lease);
        let lock = relayed(
            async |progress: &(dyn Fn(&str) + Sync)| {
                ReleaseLock::take(self.cluster, service, holder, span, progress).await
            },
            async |text| observe(&ReleaseEvent::now(EventKind::Progress { text })).await,
        )
        .await?;
        let holder = self.holder.to_string();
        observe(&ReleaseEvent::now(EventKind::Locked { holder })).await;
        Ok(lock)
    }

    /// Releases the lock, so that the next deployer need not wait. A failure only makes it wait.
    async fn unlock(&self, lock: ReleaseLock, observe: &mut impl AsyncFnMut(&ReleaseEvent)) {
        if let Err(error) = lock.release().await {
            let text = format!("the lock will expire by itself: {error}");
            observe(&ReleaseEvent::now(EventKind::Progress { text })).await;
        }
    }

    /// Sends a request to the deployer that holds the lock; none if we hold it, or nobody does.
    async fn send_request(
        &self,
        kind: RequestKind,
        record: &ReleaseRecord,
        observe: &mut impl AsyncFnMut(&ReleaseEvent),
    ) -> Result<Option<ReleaseRequest>, BlueGreenError> {
        let holder = ReleaseLock::holder(self.cluster, self.service).await?;
        let ours = self.holder.to_string();
        let Some(other) = holder.filter(|it| it.holder != ours) else {
            return Ok(None);
        };
        if kind == RequestKind::Pause && record.step > ReleaseStep::Gate {
            return Err(record.wrong_step(
                "paused",
                "traffic has moved; `cargo xtask blue-green abort` moves it back",
            ));
        }
        let request = ReleaseRequest {
            release: record.release.clone(),
            kind,
            by: ours,
            at: Timestamp::now(),
        };
        let requests = RequestMap::of(self.cluster, self.service);
        requests.put(&request).await?;
        let holder = other.holder;
        let text = format!("{holder} is running it, and gets the request to {kind}");
        observe(&ReleaseEvent::now(EventKind::Progress { text })).await;
        Ok(Some(request))
    }

    /// Returns the result of a request, if the holder has fulfilled it.
    async fn result_of(
        &self,
        request: &ReleaseRequest,
    ) -> Result<Option<Conclusion>, BlueGreenError> {
        let records = RecordMap::read(self.cluster, self.service).await?;
        let is_its = |record: &ReleaseRecord| record.release == request.release;
        if let Some(record) = records.record.filter(is_its) {
            let waits = request.kind == RequestKind::Pause && record.step == ReleaseStep::Gate;
            return Ok(waits.then_some(Conclusion::AtGate {
                version: record.version,
                colour: record.to,
            }));
        }
        let mut ended = records.audit.iter().rev();
        let its = ended.find(|it| is_its(&it.record));
        Ok(its.map(Conclusion::of))
    }

    /// Waits until the holder, which is alive, has fulfilled the request.
    async fn await_result_of(
        &self,
        request: &ReleaseRequest,
        observe: &mut impl AsyncFnMut(&ReleaseEvent),
    ) -> Result<Conclusion, BlueGreenError> {
        let policy = self.policy;
        let times = policy.green_ready + policy.watch + policy.drain;
        let end = Instant::now() + times + CARRY_OUT_TIMEOUT;
        loop {
            if let Some(concluded) = self.result_of(request).await? {
                return Ok(concluded);
            }
            if Instant::now() >= end {
                return Err(BlueGreenError::ChangedByOthers {
                    what: format!("release {} has not ended: {request}", request.release),
                    help: "`cargo xtask blue-green status` shows who runs it".to_owned(),
                });
            }
            let text = format!("waiting until {} has ended", request.release);
            observe(&ReleaseEvent::now(EventKind::Progress { text })).await;
            sleep(READ_EVERY).await;
        }
    }

    /// Returns what [`Operation::Deploy`] would do, without any change.
    ///
    /// # Errors
    /// The failed check.
    pub async fn plan(&self, version: &str) -> Result<ReleasePlan, BlueGreenError> {
        preflight::version(version)?;
        let objects = self.objects();
        let colours = objects.colours().await?;
        let replicas = preflight::replicas(&objects, &colours.live).await?;
        let reconfigured = colours.reconfigured(self.service);
        if colours.live.version != version || reconfigured {
            preflight::check(&objects, &colours, replicas).await?;
        }
        Ok(ReleasePlan {
            old_version: colours.live.version,
            from: colours.live.colour,
            to: colours.idle.colour,
            replicas,
            reconfigured,
        })
    }

    /// Refuses the record of a release with another id.
    fn must_be_ours(&self, record: Option<&ReleaseRecord>) -> Result<(), BlueGreenError> {
        let service = self.service.to_owned();
        let record = record.ok_or(BlueGreenError::NothingInProgress { service })?;
        record.must_be_of(&self.release, self.service)
    }

    fn objects(&self) -> ServiceObjects<'_> {
        ServiceObjects {
            cluster: self.cluster,
            service: self.service,
        }
    }
}

#[cfg(test)]
mod tests;
