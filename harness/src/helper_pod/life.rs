//! The life of a pod of ours, or of a Job of them: made, waited for, and deleted whatever became
//! of it.

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

use super::log::last_words;
use super::{LABEL, Owner, looked_at};
use crate::chain;
use crate::wait::{self, Observation, WaitError};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const AGAIN: Duration = Duration::from_millis(500);
/// For the API server to take a deletion, itself away for a while perhaps.
const DELETE: Duration = Duration::from_secs(30);
/// For an `exec` to begin. The client by itself would try a busy server for minutes.
const BEGIN: Duration = Duration::from_secs(20);

/// What it can be.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// What finds its pods.
    fn pods_of(name: &str) -> ListParams;
}

impl Kind for Pod {
    fn pods_of(name: &str) -> ListParams {
        ListParams::default().fields(&format!("metadata.name={name}"))
    }
}

impl Kind for Job {
    fn pods_of(name: &str) -> ListParams {
        ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"))
    }
}

/// A pod of ours, or a Job of them. It is deleted by [`HelperPod::delete`], and when this is
/// dropped; where that cannot be, it ends by itself when its lifetime is up.
pub struct HelperPod<K: Kind = Pod> {
    client: Client,
    namespace: String,
    created: K,
    /// Its part and kind: `prober's pod`.
    what: String,
    how_to_delete: DeleteParams,
    deleted: AtomicBool,
}

/// It cannot be had, or not be ended.
#[derive(Debug, Error, Diagnostic)]
pub enum HelperError {
    /// The cluster takes no such object.
    #[error("cannot create a {what} in namespace {namespace}: {why}")]
    #[diagnostic(
        code(helper_pod::create),
        help(
            "the namespace must be there, you be allowed to create that in it, and its quota have room"
        )
    )]
    Create {
        /// Its part and kind.
        what: String,
        /// Where.
        namespace: String,
        /// What the API server said.
        why: String,
    },
    /// It does not run, or does not begin.
    #[error("{wait}{said}")]
    #[diagnostic(
        code(helper_pod::start),
        help("the nodes must have its image or be able to pull it, and room for it")
    )]
    Start {
        /// What was waited for, and what was seen.
        wait: WaitError,
        /// What it said itself, if anything.
        said: String,
    },
    /// It is still there.
    #[error("cannot delete {what}: {why}")]
    #[diagnostic(
        code(helper_pod::delete),
        help("it ends by itself when its time is up")
    )]
    Delete {
        /// Its part, kind, namespace and name.
        what: String,
        /// What the API server said.
        why: String,
    },
}

impl<K: Kind> HelperPod<K> {
    /// Creates it. `how_to_delete` is for its end, whenever that comes.
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
        let (what, namespace) = (in_words(object), namespace.to_owned());
        let created = match created {
            Ok(created) => created,
            Err(why) => {
                return Err(HelperError::Create {
                    what,
                    namespace,
                    why,
                });
            }
        };
        Ok(HelperPod {
            client,
            namespace,
            created,
            what,
            how_to_delete,
            deleted: AtomicBool::new(false),
        })
    }

    /// What `look` finds by `end`: that it `does` something. Where it does not, its last words
    /// are told and it is deleted.
    ///
    /// # Errors
    /// [`HelperError::Start`].
    pub async fn until<T>(
        self,
        does: &str,
        end: Instant,
        look: impl AsyncFnMut() -> Observation<T>,
    ) -> Result<(HelperPod<K>, T), HelperError> {
        let left = end.saturating_duration_since(Instant::now());
        let what = format!("the {} {does}", self.name());
        match wait::until(what, left, LOOK_EVERY, look).await {
            Ok(found) => Ok((self, found)),
            Err(wait) => {
                let said = self.last_words().await;
                // What the caller has to know is why it failed.
                let _ = self.delete().await;
                Err(HelperError::Start { wait, said })
            }
        }
    }

    async fn last_words(&self) -> String {
        let listed = self.pods().list(&self.its_pods()).await;
        let items = listed.into_iter().flat_map(|list| list.items);
        let names: Vec<String> = items.map(|pod| pod.name_any()).collect();
        last_words(&self.pods(), names).await
    }

    /// As it was created.
    pub fn created(&self) -> &K {
        &self.created
    }

    /// The pods of its namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What finds those that are its own.
    pub fn its_pods(&self) -> ListParams {
        K::pods_of(&self.created.name_any())
    }

    /// Its part, kind, namespace and name, for a person.
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

    /// On its own: it may outlive what it deletes.
    fn deletion(&self) -> impl Future<Output = Result<(), HelperError>> + use<K> {
        let (name, what) = (self.created.name_any(), self.name());
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let how = self.how_to_delete.clone();
        async move {
            let look = move || deleted(api.clone(), name.clone(), how.clone());
            let deleted = wait::until(format!("the {what} is deleted"), DELETE, AGAIN, look).await;
            deleted.map_err(|error| HelperError::Delete {
                what: format!("the {what}"),
                why: error.to_string(),
            })
        }
    }
}

impl HelperPod<Pod> {
    /// Creates a pod, and has seen that it runs by `end`. Where it does not, it is deleted again.
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
        pod.until_seen("runs", end, |looked| looked).await
    }

    /// Goes on once it `does` something by what `judge` makes of a look at it: as
    /// [`HelperPod::until`].
    ///
    /// # Errors
    /// [`HelperError::Start`].
    pub async fn until_seen(
        self,
        does: &str,
        end: Instant,
        judge: impl Fn(Observation<()>) -> Observation<()> + Clone,
    ) -> Result<HelperPod, HelperError> {
        let (pods, name) = (self.pods(), self.created.name_any());
        // Each look owns what it looks at: with a borrow this future would not be `Send`.
        let look = move || {
            let (looked, judge) = (looked_at(pods.clone(), name.clone()), judge.clone());
            async move { judge(looked.await) }
        };
        let (seen, ()) = self.until(does, end, look).await?;
        Ok(seen)
    }

    /// Runs a command in it, besides what runs there.
    ///
    /// # Errors
    /// Why it does not begin.
    pub async fn exec<const N: usize>(
        &self,
        command: [&str; N],
        streams: &AttachParams,
    ) -> Result<AttachedProcess, String> {
        let (pods, name) = (self.pods(), self.created.name_any());
        let begun = timeout(BEGIN, pods.exec(&name, command, streams)).await;
        let begun = begun.map_err(|_| format!("exec does not begin within {BEGIN:?}"))?;
        begun.map_err(|error| chain(&error))
    }
}

impl<K: Kind> Drop for HelperPod<K> {
    fn drop(&mut self) {
        let is_deleted = *self.deleted.get_mut();
        if let (false, Ok(runtime)) = (is_deleted, tokio::runtime::Handle::try_current()) {
            let deletion = self.deletion();
            // Nobody is left to be told; its own end is near.
            runtime.spawn(async move { drop(deletion.await) });
        }
    }
}

async fn deleted<K: Kind>(api: Api<K>, name: String, how: DeleteParams) -> Observation<()> {
    match api.delete(&name, &how).await {
        Ok(_) => Observation::Ready(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Observation::Ready(()),
        Err(error) => Observation::NotYet(chain(&error)),
    }
}

/// Deletes all that `owner` has for `part` in `namespace`: what is left when it is called off.
///
/// # Errors
/// [`HelperError::Delete`].
pub async fn delete_all<K: Kind>(
    client: Client,
    namespace: &str,
    (part, owner): (&str, &Owner),
    how: &DeleteParams,
) -> Result<(), HelperError> {
    let api: Api<K> = Api::namespaced(client, namespace);
    let why = match timeout(DELETE, api.delete_collection(how, &owner.all(part))).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("not done within {DELETE:?}"),
    };
    Err(HelperError::Delete {
        what: format!("every {part}'s {} in namespace {namespace}", kind::<K>()),
        why,
    })
}

/// `prober's pod`, `generator's Job`.
fn in_words<K: Kind>(object: &K) -> String {
    let part = object.labels().get(LABEL).map_or("helper", String::as_str);
    format!("{part}'s {}", kind::<K>())
}

/// As Kubernetes writes it in a sentence.
fn kind<K: Kind>() -> String {
    match K::kind(&()).as_ref() {
        "Pod" => "pod".to_owned(),
        other => other.to_owned(),
    }
}
