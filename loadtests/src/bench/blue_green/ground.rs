//! What releases are measured on: one service of an environment of the benchmark's own, and
//! two versions of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::blue_green::colour::TRACK;
use harness::blue_green::objects::{LIVE, Objects, as_deployer};
use harness::blue_green::{Colour, Policy, Status};
use harness::cluster::Cluster;
use harness::environment::{ClusterPlace, Environment};
use harness::images::{self, ForNodes, Supply, Workshop};
use harness::kind::release;
use harness::service::Service;
use harness::wait::{self, Observation};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service as ServiceObject;
use kube::Api;
use kube::api::Patch;
use serde_json::{Value, json};

use super::told::Told;
use super::traffic::Traffic;
use super::{By, Quality, Release, guide, ours, planting};
use crate::bench::Plan;
use crate::bench::error::BenchError;
use crate::bench::kind::{self, Bench as KindBench};
use crate::bench::scratch::Scratch;

/// The service that is released.
pub const SERVICE: &str = "market-data-service";

/// What every release begins with; an autoscaler may have more of them, where traffic asks for
/// it. It keeps as many at least.
const PODS: i32 = 2;

/// Of what is done between releases.
const BETWEEN: &str = "the environment between releases";

/// For pods to come or go, their grace period included.
const REST: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What releases are measured on.
pub struct Ground<'a> {
    pub kind: &'a KindBench,
    pub workspace: PathBuf,
    pub environment: Environment,
    place: ClusterPlace,
    pub cluster: Cluster,
    /// Both on the nodes, and the same image.
    versions: [String; 2],
}

impl<'a> Ground<'a> {
    /// Brings it up, and both versions to its node.
    pub async fn stand_up(
        kind: &'a KindBench,
        plan: &Plan,
        scratch: &Scratch,
    ) -> Result<Ground<'a>, BenchError> {
        scratch.rehearse("up", kind::TARGET, &plan.config).await?;
        let environment = scratch.environment()?;
        let place = environment.cluster.clone();
        let place = place.ok_or_else(|| scratch.report_lacks("up", "a cluster"))?;
        let cluster = place.open().await;
        let deployed = environment.version.clone();
        let ground = Ground {
            kind,
            workspace: plan.workspace.clone(),
            cluster: cluster.map_err(BenchError::release("the cluster"))?,
            versions: [format!("{deployed}-next"), deployed],
            environment,
            place,
        };
        ground.bring_images(plan).await?;
        Ok(ground)
    }

    async fn bring_images(&self, plan: &Plan) -> Result<(), BenchError> {
        let engine = &self.kind.engine;
        let workshop = Workshop::of(&plan.workspace, &plan.home);
        let platform = images::ensure(engine, &workshop, "platform", Supply::Auto, &|_| ());
        let platform = platform.await?.to_string();
        let named = self.versions.each_ref().map(|version| ForNodes {
            image: platform.clone(),
            known_as: release::image(version),
        });
        images::load(engine, &self.place.name, &named, &|_| ()).await?;
        Ok(())
    }

    /// One release under traffic, from rest to rest.
    pub async fn release(&self, by: By, quality: Quality) -> Result<Release, BenchError> {
        let before = self.brought_to_rest().await?;
        let old = &before.colours[0].version;
        let (to, new) = (before.colours[1].colour, self.other_than(old));
        let traffic = Traffic::begin(self).await?;
        let releasing = async {
            let begun = Instant::now();
            let spans = match by {
                By::Ours => ours::release(self, new, quality).await?,
                By::Script => {
                    guide::release(self, new, quality).await?;
                    None
                }
            };
            Ok((spans, begun.elapsed().as_secs_f64() * 1000.0))
        };
        let (spans, millis) = match quality {
            Quality::Good => releasing.await?,
            Quality::Bad => planting::once_switched(self, to, releasing).await?,
        };
        let live = match quality {
            Quality::Good => to,
            Quality::Bad => before.colours[0].colour,
        };
        self.ends_live(live, quality).await?;
        traffic.for_seconds(5).await?;
        Ok(Release {
            by,
            quality,
            millis,
            spans,
            told: Told::of(&traffic.end().await, old, new),
        })
    }

    /// Sees that `live` is, and with a good release sees the old pods off: they are part of it,
    /// whoever waited for them.
    async fn ends_live(&self, live: Colour, quality: Quality) -> Result<(), BenchError> {
        match self.selected().await? {
            Some(selected) if selected == live => {}
            other => {
                let seen = format!("{other:?} is live, and not {live}");
                return Err(BenchError::release("a release")(seen));
            }
        }
        match quality {
            Quality::Good => self.gone(live.other()).await,
            Quality::Bad => Ok(()),
        }
    }

    /// One colour is live and well and marked so, the other is shown by the preview and has no
    /// pods: what a deployer accepts, and what the script leaves undone.
    async fn brought_to_rest(&self) -> Result<Status, BenchError> {
        let objects = self.objects();
        let status = Status::of(&self.cluster, SERVICE)
            .await
            .map_err(BenchError::release(BETWEEN))?;
        let [live, idle] = status.colours.map(|it| it.colour);
        self.set(live, true, PODS).await?;
        self.set(idle, false, 0).await?;
        let preview = json!({"spec": {"selector": {TRACK: idle.name()}}});
        let shown = self
            .services()
            .patch(&objects.preview(), &as_deployer(), &Patch::Merge(preview))
            .await;
        shown.map_err(BenchError::release(BETWEEN))?;
        self.gone(idle).await?;
        self.well().await
    }

    /// Marks a colour as live, or as not, and has it have so many pods.
    async fn set(&self, colour: Colour, live: bool, pods: i32) -> Result<(), BenchError> {
        let api: Api<Deployment> =
            Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace);
        let mark = if live { json!("true") } else { Value::Null };
        let patch = Patch::Merge(json!({
            "metadata": {"annotations": {LIVE: mark}},
            "spec": {"replicas": pods},
        }));
        let name = self.objects().deployment(colour);
        let set = api.patch(&name, &as_deployer(), &patch).await;
        set.map(drop).map_err(BenchError::release(BETWEEN))
    }

    /// Waits until a colour has no pods.
    async fn gone(&self, colour: Colour) -> Result<(), BenchError> {
        let what = format!("{colour} has no pods any more");
        let gone = wait::until(what, REST, LOOK_EVERY, async || {
            match self.objects().all_pods(colour).await {
                Ok(pods) if pods.is_empty() => Observation::Ready(()),
                Ok(pods) => Observation::NotYet(format!("{} pods", pods.len())),
                Err(error) => Observation::NotYet(error.to_string()),
            }
        });
        Ok(gone.await?)
    }

    /// Waits until the live colour has as many pods as it is to have, all of them ready and
    /// none on its way out.
    async fn well(&self) -> Result<Status, BenchError> {
        let well = wait::until("the live colour is well", REST, LOOK_EVERY, async || {
            let status = match Status::of(&self.cluster, SERVICE).await {
                Ok(status) => status,
                Err(error) => return Observation::NotYet(error.to_string()),
            };
            let live = &status.colours[0];
            let pods = match self.objects().all_pods(live.colour).await {
                Ok(pods) => pods.len(),
                Err(error) => return Observation::NotYet(error.to_string()),
            };
            let wanted = usize::try_from(live.wanted).unwrap_or(0);
            match live.ready == live.wanted && pods == wanted && wanted > 0 {
                true => Observation::Ready(status),
                false => Observation::NotYet(format!(
                    "{} wanted, {} ready, {pods} there",
                    live.wanted, live.ready
                )),
            }
        });
        Ok(well.await?)
    }

    /// The colour that traffic goes to.
    pub async fn selected(&self) -> Result<Option<Colour>, BenchError> {
        let found = self.services().get(SERVICE).await;
        let found = found.map_err(BenchError::release("the active Service"))?;
        let selector = found.spec.and_then(|it| it.selector);
        Ok(selector.as_ref().and_then(Colour::of))
    }

    fn other_than(&self, version: &str) -> &str {
        let [next, deployed] = &self.versions;
        match version == next {
            true => deployed,
            false => next,
        }
    }

    /// The cluster as it is written down.
    pub fn place(&self) -> &ClusterPlace {
        &self.place
    }

    /// How our deployer releases: as `harness.toml` says.
    pub fn policy(&self) -> &Policy {
        &self.kind.config.blue_green
    }

    /// The paths that our deployer asks.
    pub fn smoke(&self) -> &[String] {
        let smoke = self.policy().smoke.get(&Service::MarketDataService);
        smoke.map_or(&[], Vec::as_slice)
    }

    /// The service's objects.
    pub fn objects(&self) -> Objects<'_> {
        Objects {
            cluster: &self.cluster,
            service: SERVICE,
        }
    }

    fn services(&self) -> Api<ServiceObject> {
        Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace)
    }
}
