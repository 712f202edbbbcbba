//! Reads and writes the Lease of a service.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;

use super::error::LeaseError;
use super::holder::{DeployerIdentity, LeaseHolder};
use crate::naming::{labels, posted_as_deployer, record_name};
use crate::retry::{RETRIED_FOR, answer};
use kubernetes::{Cluster, ClusterError};

/// The timeout of one request, which usually takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns how long a lease lasts after a renewal.
pub(super) fn lasts(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|it| it.lease_duration_seconds);
    Duration::from_secs(seconds.unwrap_or(0).try_into().unwrap_or(0))
}

/// Returns the holder; empty: nobody.
fn holder(lease: &Lease) -> &str {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|it| it.holder_identity.as_deref());
    holder.unwrap_or_default()
}

/// Reads the Lease of a service, if there is one.
pub(super) async fn read(cluster: &Cluster, service: &str) -> Result<Option<Lease>, ClusterError> {
    let (api, name) = (cluster.api(), record_name(service));
    answer(&format!("get Lease {name}"), TIMEOUT, api.get_opt(&name)).await
}

/// Access to the Lease of one service, for one holder.
#[derive(Clone)]
pub(super) struct Leases {
    cluster: Cluster,
    service: String,
    holder: String,
    span: Duration,
}

impl Leases {
    pub fn new(
        cluster: &Cluster,
        service: &str,
        holder: &DeployerIdentity,
        span: Duration,
    ) -> Leases {
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

    /// Whether it can be taken immediately.
    pub fn is_free(&self, lease: &Lease) -> bool {
        holder(lease).is_empty() || self.is_ours(lease)
    }

    /// Creates it as ours. None, as for all writes: somebody else has written it first.
    pub async fn create(&self) -> Result<Option<Lease>, ClusterError> {
        self.take(&Lease::default()).await
    }

    /// Takes the lease that was read.
    pub async fn take(&self, read: &Lease) -> Result<Option<Lease>, ClusterError> {
        let before = read.spec.as_ref().and_then(|it| it.lease_transitions);
        let changes_holder = holder(read) != self.holder && read.spec.is_some();
        let transitions = before.unwrap_or(0) + i32::from(changes_holder);
        let mut lease = self.held_by(Some(&self.holder), read);
        if let Some(spec) = &mut lease.spec {
            spec.acquire_time.clone_from(&spec.renew_time);
            spec.lease_transitions = Some(transitions);
        }
        self.write(&lease).await
    }

    /// Renews the lease that was read and is ours.
    pub async fn renew(&self, read: &Lease) -> Result<Option<Lease>, ClusterError> {
        self.write(&self.held_by(Some(&self.holder), read)).await
    }

    /// Releases the lease that was read and is ours.
    pub async fn free(&self, read: &Lease) -> Result<Option<Lease>, ClusterError> {
        self.write(&self.held_by(None, read)).await
    }

    fn held_by(&self, holder: Option<&str>, read: &Lease) -> Lease {
        let mut metadata = ObjectMeta {
            name: Some(record_name(&self.service)),
            ..read.metadata.clone()
        };
        let all_labels = metadata.labels.get_or_insert_default();
        all_labels.extend(labels(&self.service));
        let seconds = self.span.as_millis().div_ceil(1_000).max(1);
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: Some(seconds.try_into().unwrap_or(i32::MAX)),
                // Kubernetes' types have their own jiff.
                renew_time: Some(MicroTime(k8s_openapi::jiff::Timestamp::now())),
                ..read.spec.clone().unwrap_or_default()
            }),
        }
    }

    /// The resource version that was read is the precondition: of two concurrent writes, one fails.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>
    async fn write(&self, lease: &Lease) -> Result<Option<Lease>, ClusterError> {
        let (api, name) = (self.cluster.api(), record_name(&self.service));
        let parameters = posted_as_deployer();
        let is_new = lease.metadata.resource_version.is_none();
        let written = async {
            let written = match is_new {
                true => api.create(&parameters, lease).await,
                false => api.replace(&name, &parameters, lease).await,
            };
            match written {
                // Changed or deleted meanwhile. For a new lease, 404 means no such namespace.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                Err(kube::Error::Api(status)) if status.code == 404 && !is_new => Ok(None),
                written => written.map(Some),
            }
        };
        answer(&format!("write Lease {name}"), TIMEOUT, written).await
    }

    /// How long it is ours after a renewal. The rest of the span, a fifth, is for a request that is
    /// in flight then: after it another deployer may begin.
    pub fn ours_for(&self) -> Duration {
        self.span - self.leeway()
    }

    pub fn leeway(&self) -> Duration {
        self.span / 5
    }

    /// The time from one renewal to the next.
    pub fn renewed_every(&self) -> Duration {
        self.span / 3
    }

    /// Between two attempts at a renewal.
    pub fn retried_every(&self) -> Duration {
        self.span / 15
    }

    pub fn not_renewed(&self, reason: &str) -> LeaseError {
        LeaseError::NotRenewed {
            service: self.service.clone(),
            span: RETRIED_FOR,
            reason: reason.to_owned(),
        }
    }

    pub fn deleted(&self) -> LeaseError {
        let service = self.service.clone();
        LeaseError::Deleted { service }
    }

    pub fn taken(&self, lease: &Lease) -> LeaseError {
        LeaseError::Taken {
            service: self.service.clone(),
            by: LeaseHolder::of(lease),
        }
    }
}
