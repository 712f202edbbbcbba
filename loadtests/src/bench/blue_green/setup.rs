//! The setup of all releases: one service of the benchmark's environment, and two versions of it.

use std::path::PathBuf;
use std::time::Duration;

use base::process;
use base::wait::{self, Observation};
use blue_green::colour::TRACK;
use blue_green::naming::as_deployer;
use blue_green::objects::{LIVE, ServiceObjects};
use blue_green::{Colour, Policy, ServiceStatus};
use environments::environment::{ClusterPlace, Environment};
use environments::kind::cluster::control_plane;
use environments::kind::versions::load;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::Patch;
use machine::images::Workshop;
use serde_json::{Value, json};

use super::SERVICE;
use super::release_site::ReleaseSite;
use crate::bench::BenchPlan;
use crate::bench::error::BenchError;
use crate::bench::kind::{self, KindBench};
use crate::bench::scratch::Scratch;

/// The pods with which every release starts. An autoscaler keeps at least these, and may add more
/// under traffic.
pub const PODS: i32 = 2;

/// The path of users' requests, which is also a smoke path.
const PATH: &str = "/market-data/quotes";

/// The name of errors between releases.
const BETWEEN: &str = "the environment between releases";

/// For pods to start or end, with their grace period.
const PODS_TIMEOUT: Duration = Duration::from_secs(180);
const POLL_EVERY: Duration = Duration::from_millis(250);

/// The timeout of a command in the node.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

pub struct BenchSetup<'a> {
    pub kind: &'a KindBench,
    pub scratch: &'a Scratch,
    pub workspace: PathBuf,
    pub config: PathBuf,
    pub environment: Environment,
    pub place: ClusterPlace,
    /// Where our deployer and the script release.
    pub ours: ReleaseSite,
    /// Both are on the nodes, with the same content.
    versions: [String; 2],
}

impl<'a> BenchSetup<'a> {
    /// Starts the environment, and loads both versions into its node.
    pub async fn start(
        kind: &'a KindBench,
        plan: &BenchPlan,
        scratch: &'a Scratch,
    ) -> Result<BenchSetup<'a>, BenchError> {
        scratch.rehearse("up", kind::TARGET, &plan.config).await?;
        let environment = scratch.environment()?;
        let place = environment.cluster.clone();
        let place = place.ok_or_else(|| scratch.report_lacks("up", "a cluster"))?;
        let cluster = place.open().await;
        let deployed = environment.version.clone();
        let setup = BenchSetup {
            kind,
            scratch,
            workspace: plan.workspace.clone(),
            config: plan.config.clone(),
            ours: ReleaseSite {
                cluster: cluster.map_err(BenchError::release("the cluster"))?,
                label: TRACK,
                path: PATH,
            },
            versions: [format!("{deployed}-next"), deployed],
            environment,
            place,
        };
        setup.load_images(plan).await?;
        Ok(setup)
    }

    async fn load_images(&self, plan: &BenchPlan) -> Result<(), BenchError> {
        let engine = &self.kind.engine;
        let workshop = Workshop::of(&plan.workspace, &plan.home);
        let (cluster, versions) = (&self.place.name, &self.versions);
        let loading = load(
            engine,
            &workshop,
            cluster,
            &self.kind.config,
            versions,
            &|_| (),
        );
        Ok(loading.await?)
    }

    /// Restores the initial state of a release, which the script does not: one colour is live,
    /// ready and marked so, the other is behind the preview and has no pods. Returns the live
    /// version.
    pub async fn reset(&self) -> Result<String, BenchError> {
        let [live, idle] = self.status().await?.colours.map(|it| it.colour);
        self.set(live, true, PODS).await?;
        self.set(idle, false, 0).await?;
        let preview = json!({"spec": {"selector": {TRACK: idle.name()}}});
        let (name, preview) = (self.objects().preview(), Patch::Merge(preview));
        let services = self.ours.api::<Service>();
        let patched = services.patch(&name, &as_deployer(), &preview).await;
        patched.map_err(BenchError::release(BETWEEN))?;
        let what = "the live colour is ready, and the other has no pods";
        let ready = wait::until(what, PODS_TIMEOUT, POLL_EVERY, async || {
            let (status, pods) = match (self.status().await, self.ours.pods().await) {
                (Ok(status), Ok(pods)) => (status, pods),
                (Err(error), _) | (_, Err(error)) => return Observation::NotYet(error.to_string()),
            };
            let live = &status.colours[0];
            let wanted = usize::try_from(live.wanted).unwrap_or(0);
            match live.ready == live.wanted && pods.selected == wanted && pods.steady() {
                true => Observation::Ready(live.version.clone()),
                false => Observation::NotYet(format!("{wanted} wanted, {pods:?}")),
            }
        });
        Ok(ready.await?)
    }

    async fn status(&self) -> Result<ServiceStatus, BenchError> {
        let status = ServiceStatus::of(&self.ours.cluster, SERVICE).await;
        status.map_err(BenchError::release(BETWEEN))
    }

    /// Marks a colour as live or not, and scales it.
    async fn set(&self, colour: Colour, live: bool, pods: i32) -> Result<(), BenchError> {
        let mark = if live { json!("true") } else { Value::Null };
        let patch = Patch::Merge(json!({
            "metadata": {"annotations": {LIVE: mark}},
            "spec": {"replicas": pods},
        }));
        let name = self.objects().deployment(colour);
        let deployments = self.ours.api::<Deployment>();
        let set = deployments.patch(&name, &as_deployer(), &patch).await;
        set.map(drop).map_err(BenchError::release(BETWEEN))
    }

    /// Runs a command in the cluster's node.
    pub async fn in_node(&self, words: &[&str]) -> Result<(), BenchError> {
        let node = control_plane(&self.place.name);
        let exec = ["docker", "exec", &node];
        let command = self.kind.command(&[&exec, words].concat());
        Ok(process::run(&command, COMMAND_TIMEOUT, &|_| ()).await?)
    }

    pub fn other_than(&self, version: &str) -> &str {
        let [next, deployed] = &self.versions;
        match version == next {
            true => deployed,
            false => next,
        }
    }

    /// The policy of our deployer, from `harness.toml`.
    pub fn policy(&self) -> &Policy {
        &self.kind.config.blue_green
    }

    fn objects(&self) -> ServiceObjects<'_> {
        ServiceObjects {
            cluster: &self.ours.cluster,
            service: SERVICE,
        }
    }
}
