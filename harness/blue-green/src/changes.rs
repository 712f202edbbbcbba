//! Changes of a service's objects. The deployer checks the lock before each request. A request that
//! moves traffic or scales fails if somebody has changed the object since it was read.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use kube::api::Patch;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::colour::{Colour, TRACK};
use super::configuration;
use super::error::BlueGreenError;
use super::event::EventKind;
use super::lock::ReleaseLock;
use super::naming::as_deployer;
use super::objects::{LIVE, Namespaced, ServiceObjects, colour_of, selector_of, selector_text};
use super::retry::retrying_unless;

/// On an autoscaler that is held: its original minimum of pods.
const MIN_REPLICAS: &str = "trii.co/min-replicas";

/// Changes of one service's objects, under its lock.
#[derive(Clone, Copy)]
pub(super) struct Changes<'a> {
    pub objects: ServiceObjects<'a>,
    pub lock: &'a ReleaseLock,
}

impl Changes<'_> {
    /// Makes the active Service select `to`, if it selects `from` now. Without `from`, its current
    /// colour does not matter. If somebody changes the Service meanwhile, this reads it again.
    ///
    /// # Errors
    /// [`BlueGreenError::ChangedByOthers`] if it selects neither.
    pub async fn move_traffic(
        &self,
        from: Option<Colour>,
        to: Colour,
    ) -> Result<EventKind, BlueGreenError> {
        loop {
            let active = self.objects.active().await?;
            let sent = Timestamp::now();
            let moved = EventKind::Patched { to, sent };
            match colour_of(&active) {
                // The answer to an earlier attempt may have been lost.
                Some(colour) if colour == to => return Ok(moved),
                colour if from.is_none() || colour == from => {}
                _ => return Err(changed_by_others(&self.objects, &active)),
            }
            let what = format!("have {} select {to}", active.name_any());
            let patched = self.patch_if_unchanged(&active, &what, Patch::Merge, select(to));
            if patched.await? {
                return Ok(moved);
            }
        }
    }

    /// Makes the preview Service select `to`.
    pub async fn show(&self, to: Colour) -> Result<(), BlueGreenError> {
        let name = self.objects.preview();
        let what = format!("have {name} select {to}");
        self.patch::<Service>(&name, &what, select(to)).await
    }

    /// Scales a colour. At 0 its autoscaler is disabled.
    /// <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#implicit-maintenance-mode-deactivation>
    ///
    /// # Errors
    /// [`BlueGreenError::ChangedByOthers`] if the colour is live and would have no pods.
    pub async fn scale(&self, colour: Colour, replicas: i32) -> Result<(), BlueGreenError> {
        let (api, name) = (self.objects.deployments(), self.objects.deployment(colour));
        let what = format!("scale {name} to {replicas}");
        loop {
            // Read it first: if it is marked as live after this, its resource version changes.
            let deployment = self.objects.colour(colour).await?.deployment;
            if replicas == 0 {
                self.must_not_be_live(colour).await?;
            }
            let patch = at_version_of(&deployment, json!({"spec": {"replicas": replicas}}));
            let patch = Patch::Merge(patch);
            let scaled = self.unless_changed(&what, async || {
                api.patch_scale(&name, &as_deployer(), &patch)
                    .await
                    .map(drop)
            });
            if scaled.await? {
                return Ok(());
            }
        }
    }

    async fn must_not_be_live(&self, colour: Colour) -> Result<(), BlueGreenError> {
        let active = self.objects.active().await?;
        match colour_of(&active) {
            Some(live) if live != colour => Ok(()),
            _ => Err(changed_by_others(&self.objects, &active)),
        }
    }

    /// Sets the pod template and the number of pods of a colour.
    pub async fn bring_up(
        &self,
        colour: Colour,
        replicas: i32,
        template: &Value,
    ) -> Result<(), BlueGreenError> {
        let what = format!("change {}", self.objects.deployment(colour));
        loop {
            let deployment = self.objects.colour(colour).await?.deployment;
            // A strategic merge patch merges containers by their names.
            let body = json!({"spec": {"replicas": replicas, "template": template}});
            let patched = self.patch_if_unchanged(&deployment, &what, Patch::Strategic, body);
            if patched.await? {
                return Ok(());
            }
        }
    }

    /// Gives a colour without pods the configuration of the live one.
    pub async fn configure_as_live(&self, colour: Colour) -> Result<(), BlueGreenError> {
        let name = self.objects.deployment(colour);
        let what = format!("give {name} the configuration that is live");
        loop {
            let colours = self.objects.colours().await?;
            let status = &colours.idle;
            if status.colour != colour || !colours.reconfigured(self.objects.service) {
                return Ok(());
            }
            let template = configuration::patch_as(self.objects.service, status, &colours.live);
            let body = json!({"spec": {"template": template}});
            let patched = self.patch_if_unchanged(&status.deployment, &what, Patch::Merge, body);
            if patched.await? {
                return Ok(());
            }
        }
    }

    /// Marks a colour's Deployment as live, so that others leave it alone, or removes the mark.
    ///
    /// # Errors
    /// [`BlueGreenError::ChangedByOthers`] if the colour is live and would lose its mark.
    pub async fn mark(&self, colour: Colour, live: bool) -> Result<(), BlueGreenError> {
        if !live {
            self.must_not_be_live(colour).await?;
        }
        let name = self.objects.deployment(colour);
        let value = if live { json!("true") } else { Value::Null };
        let patch = json!({"metadata": {"annotations": {LIVE: value}}});
        let what = format!("change {name}");
        self.patch::<Deployment>(&name, &what, patch).await
    }

    /// Keeps a colour's autoscaler, if it has one, from scaling below `replicas`: during a release
    /// both colours keep the pods that they need to take all traffic.
    pub async fn hold(&self, colour: Colour, replicas: i32) -> Result<(), BlueGreenError> {
        let Some(scaler) = self.objects.autoscaler(colour).await? else {
            return Ok(());
        };
        // Kubernetes' own default.
        let minimum = scaler.spec.min_replicas.unwrap_or(1);
        let raised = replicas.min(scaler.spec.max_replicas);
        if raised <= minimum {
            return Ok(());
        }
        let original = scaler.annotations().get(MIN_REPLICAS).cloned();
        let original = original.unwrap_or_else(|| minimum.to_string());
        self.patch_autoscaler(&scaler, raised, json!(original))
            .await
    }

    /// Restores the original minimum of a colour's autoscaler.
    pub async fn restore_autoscaler(&self, colour: Colour) -> Result<(), BlueGreenError> {
        let Some(scaler) = self.objects.autoscaler(colour).await? else {
            return Ok(());
        };
        let original = scaler.annotations().get(MIN_REPLICAS);
        match original.and_then(|it| it.parse().ok()) {
            Some(original) => self.patch_autoscaler(&scaler, original, Value::Null).await,
            None => Ok(()),
        }
    }

    async fn patch_autoscaler(
        &self,
        scaler: &HorizontalPodAutoscaler,
        minimum: i32,
        original: Value,
    ) -> Result<(), BlueGreenError> {
        let name = scaler.name_any();
        let patch = json!({
            "metadata": {"annotations": {MIN_REPLICAS: original}},
            "spec": {"minReplicas": minimum},
        });
        let what = format!("have {name} keep {minimum} pods");
        self.patch::<HorizontalPodAutoscaler>(&name, &what, patch)
            .await
    }

    async fn patch<K: Namespaced>(
        &self,
        name: &str,
        what: &str,
        patch: Value,
    ) -> Result<(), BlueGreenError> {
        let (api, patch) = (self.objects.cluster.api::<K>(), Patch::Merge(patch));
        self.fenced(what, async || {
            api.patch(name, &as_deployer(), &patch).await.map(drop)
        })
        .await
    }

    /// False: somebody has changed the object since it was read.
    async fn patch_if_unchanged<K: Namespaced>(
        &self,
        read: &K,
        what: &str,
        kind: impl Fn(Value) -> Patch<Value>,
        body: Value,
    ) -> Result<bool, BlueGreenError> {
        let (api, name) = (self.objects.cluster.api::<K>(), read.name_any());
        let patch = kind(at_version_of(read, body));
        self.unless_changed(what, async || {
            api.patch(&name, &as_deployer(), &patch).await.map(drop)
        })
        .await
    }

    /// False: the API server found another resource version.
    async fn unless_changed(
        &self,
        what: &str,
        mut send: impl AsyncFnMut() -> Result<(), kube::Error>,
    ) -> Result<bool, BlueGreenError> {
        self.fenced(what, async || match send().await {
            Ok(()) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }

    /// Checks the lock before each attempt: a deployer that was suspended must not overwrite what
    /// its successor wrote.
    pub async fn fenced<T>(
        &self,
        what: &str,
        send: impl AsyncFnMut() -> Result<T, kube::Error>,
    ) -> Result<T, BlueGreenError> {
        let is_ours = async || Ok(self.lock.ours().await?);
        retrying_unless(what, self.lock.leeway(), is_ours, send).await
    }
}

fn select(colour: Colour) -> Value {
    json!({"spec": {"selector": {TRACK: colour.name()}}})
}

fn at_version_of(read: &impl Resource, mut patch: Value) -> Value {
    patch["metadata"]["resourceVersion"] = json!(read.meta().resource_version);
    patch
}

/// Returns the error if somebody has changed the active Service.
pub(super) fn changed_by_others(objects: &ServiceObjects<'_>, active: &Service) -> BlueGreenError {
    let selector = selector_text(&selector_of(active));
    let writes = active.metadata.managed_fields.iter().flatten();
    let last = writes.max_by_key(|it| it.time.clone());
    let by = last.and_then(|it| it.manager.as_deref());
    let by = by.unwrap_or("somebody");
    let service = objects.service;
    BlueGreenError::ChangedByOthers {
        what: format!(
            "the active Service {service} was changed by {by} meanwhile: it selects {selector:?}"
        ),
        help: format!(
            "find out why, then run `cargo xtask blue-green deploy --service {service}` again, which continues from what is live, or `cargo xtask blue-green abort --service {service}`"
        ),
    }
}
