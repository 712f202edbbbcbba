//! The lifecycle of a helper pod or Job: it is created, waited for, and always deleted.

use std::fmt::Debug;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, AttachedProcess, DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use miette::Diagnostic;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};

use super::log::last_line;
use super::{LABEL, Owner, current_state};
use base::chain;
use base::wait::{self, Observation, WaitError};

const POLL_PAUSE: Duration = Duration::from_millis(200);
const DELETE_PAUSE: Duration = Duration::from_millis(500);
/// For the API server to accept a deletion. It may be unavailable for a while.
const DELETE_TIMEOUT: Duration = Duration::from_secs(30);
/// For an `exec` to start. The client itself would retry for minutes if the server is busy.
const EXEC_TIMEOUT: Duration = Duration::from_secs(20);

/// A pod or a Job.
pub trait HelperKind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The kind, as Kubernetes' documentation writes it.
    const NAME: &'static str;

    /// Selects the pods of the object `name`.
    fn pods_of(name: &str) -> ListParams;
}

impl HelperKind for Pod {
    const NAME: &'static str = "pod";

    fn pods_of(name: &str) -> ListParams {
        ListParams::default().fields(&format!("metadata.name={name}"))
    }
}

impl HelperKind for Job {
    const NAME: &'static str = "Job";

    fn pods_of(name: &str) -> ListParams {
        ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"))
    }
}

/// A helper pod or Job. [`HelperPod::delete`] or a drop deletes it. If that fails, the cluster
/// stops it after its lifetime.
pub struct HelperPod<K: HelperKind = Pod> {
    client: Client,
    namespace: String,
    created: K,
    /// `prober's pod`, `generator's Job`.
    what: String,
    how_to_delete: DeleteParams,
    deleted: AtomicBool,
}

/// A helper pod or Job cannot be created, started or deleted.
#[derive(Debug, Error, Diagnostic)]
pub enum HelperError {
    /// The API server refused the object.
    #[error("cannot create a {what} in namespace {namespace}: {why}")]
    #[diagnostic(
        code(helper_pod::create),
        help(
            "the namespace must exist, you need permission to create this in it, and its quota needs room"
        )
    )]
    Create {
        /// Its part and kind.
        what: String,
        /// The namespace.
        namespace: String,
        /// What the API server answered.
        why: String,
    },
    /// It does not run, or did not start its work.
    #[error("{wait}{last_line}")]
    #[diagnostic(
        code(helper_pod::start),
        help("the nodes must have its image or be able to pull it, and room for it")
    )]
    Start {
        /// The condition that was waited for, and the last state.
        wait: WaitError,
        /// Its last output, for the end of the message; may be empty.
        last_line: String,
    },
    /// It still exists.
    #[error("cannot delete {what}: {why}")]
    #[diagnostic(
        code(helper_pod::delete),
        help("the cluster stops it after its lifetime")
    )]
    Delete {
        /// Its part, kind, namespace and name.
        what: String,
        /// What the API server answered.
        why: String,
    },
}

impl<K: HelperKind> HelperPod<K> {
    /// Creates `object`. `how_to_delete` is for its later deletion.
    ///
    /// # Errors
    /// [`HelperError::Create`].
    pub async fn create(
        client: Client,
        namespace: &str,
        object: &K,
        how_to_delete: DeleteParams,
        end: Instant,
    ) -> Result<HelperPod<K>, HelperError> {
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        let created = match timeout_at(end, api.create(&PostParams::default(), object)).await {
            Ok(created) => created.map_err(|error| chain(&error)),
            Err(_) => Err("the API server does not answer in time".to_owned()),
        };
        let part = object.labels().get(LABEL).map_or("helper", String::as_str);
        let (what, namespace) = (format!("{part}'s {}", K::NAME), namespace.to_owned());
        match created {
            Ok(created) => Ok(HelperPod {
                client,
                namespace,
                created,
                what,
                how_to_delete,
                deleted: AtomicBool::new(false),
            }),
            Err(why) => Err(HelperError::Create {
                what,
                namespace,
                why,
            }),
        }
    }

    /// Waits until `look` is ready, at most until `end`. `does` names the condition in the error:
    /// `runs`. After a failure the error has the last output, and the object is deleted.
    ///
    /// # Errors
    /// [`HelperError::Start`].
    pub async fn until<T>(
        self,
        does: &str,
        end: Instant,
        look: impl AsyncFnMut() -> Observation<T>,
    ) -> Result<(HelperPod<K>, T), HelperError> {
        let remaining = end.saturating_duration_since(Instant::now());
        let what = format!("the {} {does}", self.name());
        match wait::until(what, remaining, POLL_PAUSE, look).await {
            Ok(value) => Ok((self, value)),
            Err(wait) => {
                let last_line = last_line(&self.pods(), &self.its_pods()).await;
                // The caller needs the cause of the failure, not of a failed deletion.
                let _ = self.delete().await;
                Err(HelperError::Start { wait, last_line })
            }
        }
    }

    /// The object as created.
    pub fn created(&self) -> &K {
        &self.created
    }

    /// The pods of its namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Selects its own pods.
    pub fn its_pods(&self) -> ListParams {
        K::pods_of(&self.created.name_any())
    }

    /// Returns its part, kind, namespace and name, for messages.
    pub fn name(&self) -> String {
        let name = self.created.name_any();
        format!("{} {}/{name}", self.what, self.namespace)
    }

    /// Deletes it.
    ///
    /// # Errors
    /// [`HelperError::Delete`].
    pub async fn delete(&self) -> Result<(), HelperError> {
        self.deletion().await?;
        self.deleted.store(true, Relaxed);
        Ok(())
    }

    /// Borrows nothing, so that it can run after a drop.
    fn deletion(&self) -> impl Future<Output = Result<(), HelperError>> + use<K> {
        let (name, what) = (self.created.name_any(), self.name());
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let how = self.how_to_delete.clone();
        async move {
            let look = move || try_delete(api.clone(), name.clone(), how.clone());
            let condition = format!("the {what} is deleted");
            let deleted = wait::until(condition, DELETE_TIMEOUT, DELETE_PAUSE, look).await;
            deleted.map_err(|error| HelperError::Delete {
                what: format!("the {what}"),
                why: error.to_string(),
            })
        }
    }
}

impl HelperPod<Pod> {
    /// Creates a pod, and waits until it runs, at most until `end`. A pod that does not run is
    /// deleted.
    ///
    /// # Errors
    /// [`HelperError::Create`], [`HelperError::Start`].
    pub async fn start(
        client: Client,
        namespace: &str,
        pod: &Pod,
        how_to_delete: DeleteParams,
        end: Instant,
    ) -> Result<HelperPod, HelperError> {
        let pod = HelperPod::create(client, namespace, pod, how_to_delete, end).await?;
        pod.until_state("runs", end, |state| state).await
    }

    /// As [`HelperPod::until`]. `evaluate` maps the pod's state to the condition.
    ///
    /// # Errors
    /// [`HelperError::Start`].
    pub async fn until_state(
        self,
        does: &str,
        end: Instant,
        evaluate: impl Fn(Observation<()>) -> Observation<()> + Clone,
    ) -> Result<HelperPod, HelperError> {
        let (pods, name) = (self.pods(), self.created.name_any());
        // Each read owns its inputs: with a borrow this future would not be `Send`.
        let look = move || {
            let (state, evaluate) = (current_state(pods.clone(), name.clone()), evaluate.clone());
            async move { evaluate(state.await) }
        };
        let (pod, ()) = self.until(does, end, look).await?;
        Ok(pod)
    }

    /// Runs another command in it.
    ///
    /// # Errors
    /// Why the command does not start.
    pub async fn exec<const N: usize>(
        &self,
        command: [&str; N],
        streams: &AttachParams,
    ) -> Result<AttachedProcess, String> {
        let (pods, name) = (self.pods(), self.created.name_any());
        let started = timeout(EXEC_TIMEOUT, pods.exec(&name, command, streams)).await;
        let started =
            started.map_err(|_| format!("exec does not start within {EXEC_TIMEOUT:?}"))?;
        started.map_err(|error| chain(&error))
    }
}

impl<K: HelperKind> Drop for HelperPod<K> {
    fn drop(&mut self) {
        let is_deleted = *self.deleted.get_mut();
        if let (false, Ok(runtime)) = (is_deleted, tokio::runtime::Handle::try_current()) {
            let deletion = self.deletion();
            // Nobody waits for the result, and the object's lifetime is limited anyway.
            runtime.spawn(async move { drop(deletion.await) });
        }
    }
}

async fn try_delete<K: HelperKind>(
    api: Api<K>,
    name: String,
    how: DeleteParams,
) -> Observation<()> {
    match api.delete(&name, &how).await {
        Ok(_) => Observation::Ready(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Observation::Ready(()),
        Err(error) => Observation::NotYet(chain(&error)),
    }
}

/// Deletes all pods or Jobs of `owner` for `part` in `namespace`, after a cancellation.
///
/// # Errors
/// [`HelperError::Delete`].
pub async fn delete_all<K: HelperKind>(
    client: Client,
    namespace: &str,
    (part, owner): (&str, &Owner),
    how: &DeleteParams,
) -> Result<(), HelperError> {
    let api: Api<K> = Api::namespaced(client, namespace);
    let selected = owner.pods_for(part);
    let why = match timeout(DELETE_TIMEOUT, api.delete_collection(how, &selected)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("not done within {DELETE_TIMEOUT:?}"),
    };
    Err(HelperError::Delete {
        what: format!("every {part}'s {} in namespace {namespace}", K::NAME),
        why,
    })
}
