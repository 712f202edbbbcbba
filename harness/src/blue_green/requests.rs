//! What is asked of a release from elsewhere while a deployer is at work on it. It is written
//! beside the record, and the holder of the lock obeys.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::FIELD_MANAGER;
use super::error::BlueGreenError;
use super::objects;
use super::retry::retrying;
use crate::cluster::{Cluster, ClusterError};

const REQUEST: &str = "request.json";

/// Between two looks of the holder.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// To take it back.
    Abort,
    /// To stop at the gate.
    Pause,
    /// Not to stop there.
    Promote,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wanted::Abort => "abort",
            Wanted::Pause => "pause",
            Wanted::Promote => "promote",
        })
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The release that it is of: others are not concerned.
    pub release: String,
    /// What is wanted.
    pub wanted: Wanted,
    /// By whom.
    pub by: String,
    /// When, by their clock.
    pub at: Timestamp,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` was asked for by {}", self.wanted, self.by)
    }
}

/// The ConfigMap that holds the request to one service's deployer.
#[derive(Clone)]
pub(super) struct RequestMap {
    api: Api<ConfigMap>,
    service: String,
}

impl RequestMap {
    pub fn of(cluster: &Cluster, service: &str) -> RequestMap {
        RequestMap {
            api: Api::namespaced(cluster.client().clone(), &cluster.namespace),
            service: service.to_owned(),
        }
    }

    fn name(&self) -> String {
        format!("{}-request", objects::kept_in(&self.service))
    }

    /// Writes a request over whatever was asked before.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn put(&self, request: &Request) -> Result<(), BlueGreenError> {
        let name = self.name();
        let text = serde_json::to_string(request).map_err(|error| BlueGreenError::Record {
            object: format!("configmap/{name}"),
            reason: error.to_string(),
        })?;
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(objects::labels(&self.service)),
                ..ObjectMeta::default()
            },
            data: Some([(REQUEST.to_owned(), text)].into()),
            ..ConfigMap::default()
        };
        let how = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        retrying("write the request", async || {
            match self.api.replace(&name, &how, &map).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    self.api.create(&how, &map).await
                }
                written => written,
            }
        })
        .await?;
        Ok(())
    }

    /// Nothing is asked any more.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn clear(&self) -> Result<(), BlueGreenError> {
        let (name, how) = (self.name(), DeleteParams::default());
        retrying("delete the request", async || {
            match self.api.delete(&name, &how).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                deleted => deleted.map(drop),
            }
        })
        .await?;
        Ok(())
    }

    /// What is asked of `release`. What nobody can read was written by hand, and is nothing.
    pub async fn read(&self, release: &str) -> Result<Option<Request>, ClusterError> {
        let found = self.api.get_opt(&self.name()).await;
        let found = found.map_err(|error| ClusterError::of("read the request", error))?;
        let data = found.and_then(|map| map.data).unwrap_or_default();
        let request = data
            .get(REQUEST)
            .and_then(|text| serde_json::from_str(text).ok());
        Ok(request.filter(|request: &Request| request.release == release))
    }
}

/// What is asked of the release that a deployer is at work on, as it is asked.
pub(super) struct Requests {
    last: watch::Receiver<Option<Request>>,
    _look: AbortOnDropHandle<()>,
}

impl Requests {
    /// Looks for those of `release` until this is dropped.
    pub fn of(request_map: RequestMap, release: &str) -> Requests {
        let (tell, last) = watch::channel(None);
        let release = release.to_owned();
        let look = tokio::spawn(async move {
            loop {
                // An API server that is away brings no requests.
                if let Ok(Some(request)) = request_map.read(&release).await {
                    tell.send_if_modified(|last| {
                        let is_new = last.as_ref() != Some(&request);
                        *last = Some(request);
                        is_new
                    });
                }
                sleep(LOOK_EVERY).await;
            }
        });
        Requests {
            last,
            _look: AbortOnDropHandle::new(look),
        }
    }

    /// Ends when the release is to be taken back.
    pub fn abort(&self) -> impl Future<Output = Request> + Send + use<> {
        let mut last = self.last.clone();
        async move {
            let is_abort =
                |it: &Option<Request>| it.as_ref().is_some_and(|it| it.wanted == Wanted::Abort);
            let asked = match last.wait_for(is_abort).await {
                Ok(asked) => asked.clone(),
                Err(_) => None,
            };
            match asked {
                Some(request) => request,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether it is to stop at the gate, where that was asked.
    pub fn stops_at_gate(&self) -> Option<bool> {
        match self.last.borrow().as_ref()?.wanted {
            Wanted::Pause => Some(true),
            Wanted::Promote => Some(false),
            Wanted::Abort => None,
        }
    }
}
