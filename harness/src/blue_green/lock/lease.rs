//! The Lease, read and written with one holder's hand.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use serde::Serialize;
use tokio::time::timeout;

use super::error::{LockError, told};
use super::holder::Holder;
use crate::blue_green::FIELD_MANAGER;
use crate::blue_green::retry::ABSENCE;
use crate::cluster::{Cluster, ClusterError};

/// How long one request may take; it is milliseconds where all is well.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who holds a lock, by its own word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Who.
    pub holder: String,
    /// Since when, by the holder's clock.
    pub since: Option<Timestamp>,
    /// When it last said so, by the holder's clock.
    pub renewed: Option<Timestamp>,
}

impl Held {
    pub(super) fn of(lease: &Lease) -> Held {
        let spec = lease.spec.as_ref();
        Held {
            holder: holder(lease).to_owned(),
            since: spec.and_then(|spec| time(spec.acquire_time.as_ref()?)),
            renewed: spec.and_then(|spec| time(spec.renew_time.as_ref()?)),
        }
    }

    pub(super) fn by_anybody(&self) -> bool {
        !self.holder.is_empty()
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&told(&self.holder, &self.since, &self.renewed))
    }
}

/// How long a lease lasts after a renewal.
pub(super) fn lasts(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|it| it.lease_duration_seconds);
    Duration::from_secs(seconds.unwrap_or(0).try_into().unwrap_or(0))
}

/// Kubernetes' types have a jiff of their own.
fn now() -> MicroTime {
    MicroTime(k8s_openapi::jiff::Timestamp::now())
}

fn time(at: &MicroTime) -> Option<Timestamp> {
    Timestamp::from_microsecond(at.0.as_microsecond()).ok()
}

/// Empty: nobody.
fn holder(lease: &Lease) -> &str {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|it| it.holder_identity.as_deref());
    holder.unwrap_or_default()
}

/// The Lease of a service, if there is one.
pub(super) async fn read(cluster: &Cluster, service: &str) -> Result<Option<Lease>, ClusterError> {
    let name = name(service);
    let leases: Api<Lease> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
    let what = format!("get Lease {name}");
    match timeout(PATIENCE, leases.get_opt(&name)).await {
        Ok(found) => found.map_err(|error| ClusterError::of(what, error)),
        Err(_) => Err(no_answer(what)),
    }
}

fn name(service: &str) -> String {
    format!("{service}-blue-green")
}

fn no_answer(what: String) -> ClusterError {
    let reason = format!("no answer within {PATIENCE:?}");
    ClusterError::Silent { what, reason }
}

/// The Lease of one service, as one holder sees it.
#[derive(Clone)]
pub(super) struct Leases {
    cluster: Cluster,
    service: String,
    holder: String,
    span: Duration,
}

impl Leases {
    pub fn new(cluster: &Cluster, service: &str, holder: &Holder, span: Duration) -> Leases {
        Leases {
            cluster: cluster.clone(),
            service: service.to_owned(),
            holder: holder.to_string(),
            span,
        }
    }

    pub async fn read(&self) -> Result<Option<Lease>, ClusterError> {
        read(&self.cluster, &self.service).await
    }

    pub fn is_ours(&self, lease: &Lease) -> bool {
        holder(lease) == self.holder
    }

    /// Whether there is nobody to wait for.
    pub fn is_free(&self, lease: &Lease) -> bool {
        holder(lease).is_empty() || self.is_ours(lease)
    }

    /// Makes it, ours. None: another was quicker, as in all that is written here.
    pub async fn create(&self) -> Result<Option<Lease>, ClusterError> {
        let metadata = ObjectMeta {
            name: Some(name(&self.service)),
            ..ObjectMeta::default()
        };
        let lease = Lease {
            metadata,
            spec: None,
        };
        self.take(&lease).await
    }

    /// Makes one that was seen ours.
    pub async fn take(&self, seen: &Lease) -> Result<Option<Lease>, ClusterError> {
        let before = seen.spec.clone().unwrap_or_default();
        let now = now();
        let changes_hands = holder(seen) != self.holder && seen.spec.is_some();
        let transitions = before.lease_transitions.unwrap_or(0) + i32::from(changes_hands);
        let mut lease = self.with(seen, before, Some(&self.holder), now.clone());
        if let Some(spec) = &mut lease.spec {
            spec.acquire_time = Some(now);
            spec.lease_transitions = Some(transitions);
        }
        self.write(&lease).await
    }

    /// Says of one that is ours that it still is.
    pub async fn renew(&self, seen: &Lease) -> Result<Option<Lease>, ClusterError> {
        let spec = seen.spec.clone().unwrap_or_default();
        let now = now();
        self.write(&self.with(seen, spec, Some(&self.holder), now))
            .await
    }

    /// Makes one that is ours nobody's.
    pub async fn free(&self, seen: &Lease) -> Result<Option<Lease>, ClusterError> {
        let spec = seen.spec.clone().unwrap_or_default();
        let now = now();
        self.write(&self.with(seen, spec, None, now)).await
    }

    fn with(&self, seen: &Lease, spec: LeaseSpec, holder: Option<&str>, now: MicroTime) -> Lease {
        let mut metadata = seen.metadata.clone();
        let labels = metadata.labels.get_or_insert_with(BTreeMap::new);
        labels.insert("app.kubernetes.io/name".into(), self.service.clone());
        labels.insert(
            "app.kubernetes.io/managed-by".into(),
            "trii-rehearsal".into(),
        );
        let seconds = self.span.as_millis().div_ceil(1_000).max(1);
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: Some(seconds.try_into().unwrap_or(i32::MAX)),
                renew_time: Some(now),
                ..spec
            }),
        }
    }

    /// The resource version that it was seen at is the precondition: of two who write at
    /// once, one is refused.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>
    async fn write(&self, lease: &Lease) -> Result<Option<Lease>, ClusterError> {
        let name = name(&self.service);
        let client = self.cluster.client().clone();
        let leases: Api<Lease> = Api::namespaced(client, &self.cluster.namespace);
        let how = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let what = format!("write Lease {name}");
        let written = match lease.metadata.resource_version {
            None => timeout(PATIENCE, leases.create(&how, lease)).await,
            Some(_) => timeout(PATIENCE, leases.replace(&name, &how, lease)).await,
        };
        match written {
            Ok(Ok(lease)) => Ok(Some(lease)),
            // Changed meanwhile; and gone meanwhile, unless it is the namespace that is.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(None),
            Ok(Err(kube::Error::Api(status)))
                if status.code == 404 && lease.metadata.resource_version.is_some() =>
            {
                Ok(None)
            }
            Ok(Err(error)) => Err(ClusterError::of(what, error)),
            Err(_) => Err(no_answer(what)),
        }
    }

    /// How long it is ours after a renewal. What is under way at the end of that has the
    /// rest, a fifth, before another may begin.
    pub fn ours_for(&self) -> Duration {
        self.span - self.leeway()
    }

    pub fn leeway(&self) -> Duration {
        self.span / 5
    }

    /// How long after a renewal the next is due.
    pub fn renewed_every(&self) -> Duration {
        self.span / 3
    }

    /// Between two attempts at a renewal that is due.
    pub fn retried_every(&self) -> Duration {
        self.span / 15
    }

    pub fn not_renewed(&self, reason: &str) -> LockError {
        LockError::NotRenewed {
            service: self.service.clone(),
            span: ABSENCE,
            reason: reason.to_owned(),
        }
    }

    pub fn deleted(&self) -> LockError {
        let service = self.service.clone();
        LockError::Deleted { service }
    }

    pub fn taken(&self, lease: &Lease) -> LockError {
        let held = Held::of(lease);
        LockError::Taken {
            service: self.service.clone(),
            by: match held.by_anybody() {
                true => held.to_string(),
                false => "nobody".to_owned(),
            },
        }
    }
}
