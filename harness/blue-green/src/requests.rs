//! Requests of other processes to the deployer that runs a release. A request is a ConfigMap beside
//! the record. The holder of the lock reads it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::error::BlueGreenError;
use super::naming::{self, posted_as_deployer};
use super::retry::retrying;
use kubernetes::{Cluster, ClusterError};

const REQUEST: &str = "request.json";

/// Between two reads by the holder.
const READ_EVERY: Duration = Duration::from_millis(500);

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestKind {
    /// To roll the release back.
    Abort,
    /// To stop at the gate.
    Pause,
    /// Not to stop at the gate.
    Promote,
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequestKind::Abort => "abort",
            RequestKind::Pause => "pause",
            RequestKind::Promote => "promote",
        })
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// The id of the release; no other release reads it.
    pub release: String,
    /// Its kind.
    #[serde(rename = "wanted")]
    pub kind: RequestKind,
    /// The sender.
    pub by: String,
    /// The time, by the sender's clock.
    pub at: Timestamp,
}

impl fmt::Display for ReleaseRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` was requested by {}", self.kind, self.by)
    }
}

/// The ConfigMap with the request to one service's deployer.
#[derive(Clone)]
pub(super) struct RequestMap {
    api: Api<ConfigMap>,
    service: String,
}

impl RequestMap {
    pub fn of(cluster: &Cluster, service: &str) -> RequestMap {
        RequestMap {
            api: cluster.api(),
            service: service.to_owned(),
        }
    }

    fn name(&self) -> String {
        format!("{}-request", naming::record_name(&self.service))
    }

    /// Writes a request, and replaces an earlier one.
    ///
    /// # Errors
    /// The API server's error.
    pub async fn put(&self, request: &ReleaseRequest) -> Result<(), BlueGreenError> {
        let name = self.name();
        let text = serde_json::to_string(request).map_err(|error| BlueGreenError::Record {
            object: format!("configmap/{name}"),
            reason: error.to_string(),
        })?;
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(naming::labels(&self.service)),
                ..ObjectMeta::default()
            },
            data: Some([(REQUEST.to_owned(), text)].into()),
            ..ConfigMap::default()
        };
        let parameters = posted_as_deployer();
        retrying("write the request", async || {
            match self.api.replace(&name, &parameters, &map).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    self.api.create(&parameters, &map).await
                }
                written => written,
            }
        })
        .await?;
        Ok(())
    }

    /// Deletes the request.
    ///
    /// # Errors
    /// The API server's error.
    pub async fn clear(&self) -> Result<(), BlueGreenError> {
        let (name, parameters) = (self.name(), DeleteParams::default());
        retrying("delete the request", async || {
            match self.api.delete(&name, &parameters).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                deleted => deleted.map(drop),
            }
        })
        .await?;
        Ok(())
    }

    /// Reads the request to `release`, if there is one. One that cannot be parsed is ignored.
    pub async fn read(&self, release: &str) -> Result<Option<ReleaseRequest>, ClusterError> {
        let found = self.api.get_opt(&self.name()).await;
        let found = found.map_err(|error| ClusterError::of("read the request", error))?;
        let data = found.and_then(|map| map.data).unwrap_or_default();
        let text = data.get(REQUEST);
        let request: Option<ReleaseRequest> = text.and_then(|it| serde_json::from_str(it).ok());
        Ok(request.filter(|it| it.release == release))
    }
}

/// The requests to a release, read in the background.
pub(super) struct OperatorRequests {
    last: watch::Receiver<Option<ReleaseRequest>>,
    _reader: AbortOnDropHandle<()>,
}

impl OperatorRequests {
    /// Reads the requests to `release` until this is dropped.
    pub fn of(request_map: RequestMap, release: &str) -> OperatorRequests {
        let (sender, last) = watch::channel(None);
        let release = release.to_owned();
        let reader = tokio::spawn(async move {
            loop {
                // An API server that is away has no requests.
                if let Ok(Some(request)) = request_map.read(&release).await {
                    sender.send_if_modified(|last| {
                        let is_new = last.as_ref() != Some(&request);
                        *last = Some(request);
                        is_new
                    });
                }
                sleep(READ_EVERY).await;
            }
        });
        OperatorRequests {
            last,
            _reader: AbortOnDropHandle::new(reader),
        }
    }

    /// Waits for a request to abort.
    pub fn abort(&self) -> impl Future<Output = ReleaseRequest> + Send + use<> {
        let mut last = self.last.clone();
        async move {
            let is_abort = |it: &Option<ReleaseRequest>| {
                it.as_ref().is_some_and(|it| it.kind == RequestKind::Abort)
            };
            let request = last.wait_for(is_abort).await.ok();
            match request.and_then(|it| it.clone()) {
                Some(request) => request,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether the release stops at the gate; none: there is no request about it.
    pub fn stops_at_gate(&self) -> Option<bool> {
        match self.last.borrow().as_ref()?.kind {
            RequestKind::Pause => Some(true),
            RequestKind::Promote => Some(false),
            RequestKind::Abort => None,
        }
    }
}
