//! What a deployer changes of a service's objects. Each request follows a look at the lock, and
//! what moves traffic or scales is refused where the object is another one by now.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::Patch;
use serde_json::{Value, json};

use super::colour::{Colour, TRACK};
use super::configuration;
use super::error::BlueGreenError;
use super::event::Happened;
use super::lock::Lock;
use super::objects::{LIVE, Objects, as_deployer, colour_of, in_words, selector_of};
use super::retry::fenced;

/// On an autoscaler that is held: the least number of pods that it had before.
const MIN_REPLICAS: &str = "trii.co/min-replicas";

/// Changes of one service's objects, under its lock.
#[derive(Clone, Copy)]
pub(super) struct Changes<'a> {
    pub objects: Objects<'a>,
    pub lock: &'a Lock,
}

impl Changes<'_> {
    /// Has the active Service select `to` instead of `from`, if that is still what it does; of
    /// whatever it selects, where `from` is none. A Service that somebody touches meanwhile is
    /// looked at again: what matters is its colour.
    ///
    /// # Errors
    /// [`BlueGreenError::Meddled`] where it selects neither.
    pub async fn move_traffic(
        &self,
        from: Option<Colour>,
        to: Colour,
    ) -> Result<Happened, BlueGreenError> {
        loop {
            let active = self.objects.active().await?;
            let sent = Timestamp::now();
            let moved = Happened::Patched { to, sent };
            match colour_of(&active) {
                // The answer to an earlier try may have been lost on its way.
                Some(colour) if colour == to => return Ok(moved),
                colour if from.is_none() || colour == from => {}
                _ => return Err(meddled(&self.objects, &active)),
            }
            if self.select(&active, to).await?.is_some() {
                return Ok(moved);
            }
        }
    }

    /// None: the Service is another one by now.
    async fn select(&self, service: &Service, to: Colour) -> Result<Option<()>, BlueGreenError> {
        let (api, name) = (self.objects.services(), service.name_any());
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": service.resource_version()},
            "spec": {"selector": {TRACK: to.name()}},
        }));
        self.unless_changed(&format!("have {name} select {to}"), async || {
            api.patch(&name, &as_deployer(), &patch).await.map(drop)
        })
        .await
    }

    /// Has the preview Service select `to`.
    pub async fn show(&self, to: Colour) -> Result<(), BlueGreenError> {
        let (api, name) = (self.objects.services(), self.objects.preview());
        let patch = Patch::Merge(json!({"spec": {"selector": {TRACK: to.name()}}}));
        let what = format!("have {name} select {to}");
        fenced(self.lock, &what, async || {
            api.patch(&name, &as_deployer(), &patch).await.map(drop)
        })
        .await
    }

    /// Has a colour have so many pods. Autoscaling of a Deployment at 0 is off.
    /// <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#implicit-maintenance-mode-deactivation>
    ///
    /// # Errors
    /// [`BlueGreenError::Meddled`] where the colour is live and would have none.
    pub async fn scale(&self, colour: Colour, replicas: i32) -> Result<(), BlueGreenError> {
        let (api, name) = (self.objects.deployments(), self.objects.deployment(colour));
        let what = format!("scale {name} to {replicas}");
        loop {
            // First: who marks it live from here on makes it another.
            let seen = self.objects.side(colour).await?.deployment;
            if replicas == 0 {
                self.must_not_be_live(colour).await?;
            }
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": seen.resource_version()},
                "spec": {"replicas": replicas},
            }));
            let scaled = self.unless_changed(&what, async || {
                api.patch_scale(&name, &as_deployer(), &patch)
                    .await
                    .map(drop)
            });
            if scaled.await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn must_not_be_live(&self, colour: Colour) -> Result<(), BlueGreenError> {
        let active = self.objects.active().await?;
        match colour_of(&active) {
            Some(live) if live != colour => Ok(()),
            _ => Err(meddled(&self.objects, &active)),
        }
    }

    /// Has a colour have this version, and so many pods.
    pub async fn bring_up(
        &self,
        colour: Colour,
        replicas: i32,
        template: &Value,
    ) -> Result<(), BlueGreenError> {
        let (api, name) = (self.objects.deployments(), self.objects.deployment(colour));
        let what = format!("change {name}");
        loop {
            let seen = self.objects.side(colour).await?.deployment;
            // Strategic, so that containers are told apart by their names.
            let patch = Patch::Strategic(json!({
                "metadata": {"resourceVersion": seen.resource_version()},
                "spec": {"replicas": replicas, "template": template},
            }));
            let changed = self.unless_changed(&what, async || {
                api.patch(&name, &as_deployer(), &patch).await.map(drop)
            });
            if changed.await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Gives a colour without pods the configuration of the live one.
    pub async fn configure_as_live(&self, colour: Colour) -> Result<(), BlueGreenError> {
        let (api, name) = (self.objects.deployments(), self.objects.deployment(colour));
        let what = format!("give {name} the configuration that is live");
        loop {
            let sides = self.objects.sides().await?;
            let side = &sides.idle;
            if side.colour != colour || !sides.reconfigured(self.objects.service) {
                return Ok(());
            }
            let template = configuration::patch_as(self.objects.service, side, &sides.live);
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": side.deployment.resource_version()},
                "spec": {"template": template},
            }));
            let changed = self.unless_changed(&what, async || {
                api.patch(&name, &as_deployer(), &patch).await.map(drop)
            });
            if changed.await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Says of a colour's Deployment whether others must leave it alone.
    ///
    /// # Errors
    /// [`BlueGreenError::Meddled`] where the colour is live and would lose its mark.
    pub async fn mark(&self, colour: Colour, live: bool) -> Result<(), BlueGreenError> {
        let (api, name) = (self.objects.deployments(), self.objects.deployment(colour));
        if !live {
            self.must_not_be_live(colour).await?;
        }
        let value = if live { json!("true") } else { Value::Null };
        let patch = Patch::Merge(json!({"metadata": {"annotations": {LIVE: value}}}));
        fenced(self.lock, &format!("change {name}"), async || {
            api.patch(&name, &as_deployer(), &patch).await.map(drop)
        })
        .await
    }

    /// Keeps a colour's autoscaler, if it has one, from having it fewer pods than these: while a
    /// release is under way both colours keep what they need to take all traffic.
    pub async fn hold(&self, colour: Colour, replicas: i32) -> Result<(), BlueGreenError> {
        let Some(scaler) = self.objects.autoscaler(colour).await? else {
            return Ok(());
        };
        // Kubernetes' own default.
        let least = scaler.spec.min_replicas.unwrap_or(1);
        let held = replicas.min(scaler.spec.max_replicas);
        if held <= least {
            return Ok(());
        }
        let before = scaler.annotations().get(MIN_REPLICAS).cloned();
        let before = before.unwrap_or_else(|| least.to_string());
        self.patch_autoscaler(&scaler, held, json!(before)).await
    }

    /// Gives a colour's autoscaler back what it had before it was held.
    pub async fn restore_autoscaler(&self, colour: Colour) -> Result<(), BlueGreenError> {
        let Some(scaler) = self.objects.autoscaler(colour).await? else {
            return Ok(());
        };
        let before = scaler.annotations().get(MIN_REPLICAS);
        match before.and_then(|it| it.parse().ok()) {
            Some(before) => self.patch_autoscaler(&scaler, before, Value::Null).await,
            None => Ok(()),
        }
    }

    async fn patch_autoscaler(
        &self,
        scaler: &HorizontalPodAutoscaler,
        least: i32,
        before: Value,
    ) -> Result<(), BlueGreenError> {
        let (api, name) = (self.objects.autoscalers(), scaler.name_any());
        let patch = Patch::Merge(json!({
            "metadata": {"annotations": {MIN_REPLICAS: before}},
            "spec": {"minReplicas": least},
        }));
        fenced(
            self.lock,
            &format!("have {name} keep {least} pods"),
            async || api.patch(&name, &as_deployer(), &patch).await.map(drop),
        )
        .await
    }

    /// None: the object is another one by now.
    async fn unless_changed(
        &self,
        what: &str,
        mut ask: impl AsyncFnMut() -> Result<(), kube::Error>,
    ) -> Result<Option<()>, BlueGreenError> {
        fenced(self.lock, what, async || match ask().await {
            Ok(()) => Ok(Some(())),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }
}

/// What somebody made of the active Service.
pub(super) fn meddled(objects: &Objects<'_>, active: &Service) -> BlueGreenError {
    let selector = in_words(&selector_of(active));
    let by = active.metadata.managed_fields.iter().flatten();
    let last = by.max_by_key(|it| it.time.clone());
    let by = last.and_then(|it| it.manager.clone());
    BlueGreenError::Meddled {
        what: format!(
            "the active Service {} was changed by {} meanwhile: it selects {selector:?}",
            objects.service,
            by.as_deref().unwrap_or("somebody")
        ),
        help: format!(
            "see why, then `cargo xtask blue-green deploy --service {0}` again, which goes on from what is live, or `cargo xtask blue-green abort --service {0}`",
            objects.service
        ),
    }
}
