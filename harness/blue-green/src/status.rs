//! The status of a service: what is live, the release in progress, and past releases.

use serde::Serialize;

use super::colour::Colour;
use super::configuration;
use super::error::BlueGreenError;
use super::lock::{LeaseHolder, ReleaseLock};
use super::objects::{ColourStatus, ServiceObjects};
use super::record::{AuditEntry, RecordMap, ReleaseRecord};
use kubernetes::Cluster;

/// The current status of a service that is released blue-green.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceStatus {
    /// The service's name.
    pub service: String,
    /// The colour that has the traffic; none if the active Service selects neither, or both.
    pub live: Option<Colour>,
    /// Both colours, the live one first.
    pub colours: [ColourStatus; 2],
    /// Whether the idle colour has another configuration.
    pub reconfigured: bool,
    /// The release in progress.
    pub under_way: Option<ReleaseRecord>,
    /// The holder of the lock.
    pub held: Option<LeaseHolder>,
    /// Past releases, the last one last.
    pub audit: Vec<AuditEntry>,
}

impl ServiceStatus {
    /// Reads the status of `service`.
    ///
    /// # Errors
    /// The missing object of the service, or the API server's error.
    pub async fn of(cluster: &Cluster, service: &str) -> Result<ServiceStatus, BlueGreenError> {
        let objects = ServiceObjects { cluster, service };
        let live = objects.live().await?;
        let first = live.unwrap_or(Colour::Blue);
        let one = objects.colour(first).await?;
        let other = objects.colour(first.other()).await?;
        let records = RecordMap::read(cluster, service).await?;
        Ok(ServiceStatus {
            service: service.to_owned(),
            live,
            reconfigured: configuration::differ(service, &one.deployment, &other.deployment),
            colours: [one, other],
            under_way: records.record,
            held: ReleaseLock::holder(cluster, service).await?,
            audit: records.audit,
        })
    }
}
