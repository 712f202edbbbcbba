//! A release by Argo Rollouts: the same pods as a Rollout in a namespace of its own, behind the
//! same ingress.

mod manifests;

use std::time::Duration;

use harness::images::{self, Supply, Workshop};
use harness::kind::cluster::control_plane;
use harness::subprocess;
use harness::wait::{self, Observation};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use serde_json::Value;

use super::error_share::ErrorShare;
use super::ground::Ground;
use super::site::Site;
use super::{Quality, SERVICE, footprint};
use crate::bench::Plan;
use crate::bench::error::BenchError;
use manifests::Manifests;

/// Its namespace, the controller's too.
const NAMESPACE: &str = "argo-rollouts";

/// Its image, among fixtures/images.
const IMAGE: &str = "argo-rollouts";

/// What the controller puts on pods and into the Services' selectors.
const HASH: &str = "rollouts-pod-template-hash";

/// What users ask.
const PATH: &str = "/market-data-by-argo/quotes";

/// The controller's pods, and its program.
const CONTROLLER: &str = "app.kubernetes.io/name=argo-rollouts";
const PROGRAM: &str = "/bin/rollouts-controller";

/// For the controller, or a Rollout, to come to its end.
const LONGEST: Duration = Duration::from_secs(400);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A command in the node.
const COMMAND: Duration = Duration::from_secs(60);

/// Applies what its image carries, in the node: its kinds, its roles, its controller, which is to
/// be the image that the node has (containerd puts a registry before its name).
const INSTALL: &str = r#"set -e
export KUBECONFIG=/etc/kubernetes/admin.conf
apply() { kubectl apply --server-side --namespace "$NAMESPACE" --filename "$1"; }
kubectl create namespace "$NAMESPACE"
mkdir -p /tmp/argo-rollouts
known_as=$(ctr --namespace k8s.io images list --quiet | grep "/$IMAGE\$")
ctr --namespace k8s.io images mount "$known_as" /tmp/argo-rollouts
cd /tmp/argo-rollouts/manifests
for definition in *-crd.yaml; do apply "$definition"; done
sed -e "s#image: .*#image: $IMAGE#" -e 's#imagePullPolicy: .*#imagePullPolicy: IfNotPresent#' \
    namespace-install.yaml | apply -
cd /
ctr --namespace k8s.io images unmount --rm /tmp/argo-rollouts
"#;

/// Argo Rollouts, in the cluster.
pub struct Argo {
    pub site: Site,
    pub error_share: ErrorShare,
    manifests: Manifests,
}

impl Argo {
    /// Has its controller run, and the service as a Rollout of what `ground` has live.
    pub async fn stand_up(ground: &Ground<'_>, plan: &Plan) -> Result<Argo, BenchError> {
        let mut cluster = ground.ours.cluster.clone();
        cluster.namespace = NAMESPACE.to_owned();
        let site = Site {
            cluster,
            label: HASH,
            path: PATH,
        };
        let workshop = Workshop::of(&plan.workspace, &plan.home);
        let (engine, name) = (&ground.kind.engine, &ground.place.name);
        let image = images::on_nodes(engine, &workshop, name, IMAGE, Supply::Auto, &|_| ());
        let namespace = format!("NAMESPACE={NAMESPACE}");
        let image = format!("IMAGE={}", image.await?);
        ground
            .in_node(&["env", &namespace, &image, "sh", "-c", INSTALL])
            .await?;
        let error_share = ErrorShare::listen(gateway(ground).await?).await;
        let error_share = error_share.map_err(failed)?;
        let manifests = Manifests::of(ground, &error_share.url).await?;
        let argo = Argo {
            site,
            error_share,
            manifests,
        };
        argo.apply(argo.manifests.around()).await?;
        argo.apply([argo.manifests.rollout(&ground.environment.version)])
            .await?;
        argo.healthy().await?;
        Ok(argo)
    }

    /// As many pods of the version that has traffic as every release begins with, and none
    /// besides; that version.
    pub async fn brought_to_rest(&self) -> Result<String, BenchError> {
        let live = self.site.pods().await?.version;
        let live = live.ok_or_else(|| failed("no pod has traffic"))?;
        self.apply([self.manifests.rollout(&live)]).await?;
        self.healthy().await?;
        self.site.at_rest().await
    }

    /// Releases `version`, which is to be kept where it is good, and taken back where it is bad.
    /// The most memory that the controller has held so far.
    pub async fn release(
        &self,
        version: &str,
        quality: Quality,
    ) -> Result<Option<f64>, BenchError> {
        let controller = self.controller().await?.uid().unwrap_or_default();
        let find = || footprint::of_pod(&controller, PROGRAM);
        let release = async {
            self.apply([self.manifests.rollout(version)]).await?;
            match quality {
                Quality::Good => self.healthy().await,
                Quality::Bad | Quality::OneInTen => self.aborted().await,
            }
        };
        let (released, memory) = footprint::during(find, release).await;
        released.map(|()| memory)
    }

    /// Has it release `version`, and kills the controller's pod right after it has moved traffic
    /// away from `before`.
    pub async fn killed(&self, version: &str, before: &str) -> Result<(), BenchError> {
        let controller = self.controller().await?.name_any();
        self.apply([self.manifests.rollout(version)]).await?;
        self.site.switched(before).await?;
        let at_once = DeleteParams::default().grace_period(0);
        let killed = self.site.api::<Pod>().delete(&controller, &at_once).await;
        killed.map(drop).map_err(failed)
    }

    async fn controller(&self) -> Result<Pod, BenchError> {
        let its = ListParams::default().labels(CONTROLLER);
        let pods = self.site.api::<Pod>().list(&its).await.map_err(failed)?;
        let pod = pods.into_iter().next();
        pod.ok_or_else(|| failed("its controller has no pod"))
    }

    async fn apply(&self, objects: impl IntoIterator<Item = Value>) -> Result<(), BenchError> {
        for object in objects {
            let applied = self.site.cluster.apply(&object.to_string()).await;
            applied.map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until the Rollout is what was applied last, to its end.
    async fn healthy(&self) -> Result<(), BenchError> {
        self.seen("it is healthy", |rollout| {
            let status = &rollout["status"];
            status["phase"] == "Healthy" && status["stableRS"] == status["currentPodHash"]
        })
        .await
    }

    /// Waits until the Rollout was taken back.
    async fn aborted(&self) -> Result<(), BenchError> {
        self.seen("it is taken back", |rollout| {
            let status = &rollout["status"];
            let live = &status["blueGreen"]["activeSelector"];
            status["abort"] == true && live == &status["stableRS"]
        })
        .await
    }

    async fn seen(&self, what: &str, so: impl Fn(&Value) -> bool) -> Result<(), BenchError> {
        let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout");
        let resource = ApiResource::from_gvk(&kind);
        let (client, namespace) = (self.site.cluster.client().clone(), NAMESPACE);
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
        let seen = wait::until(what, LONGEST, LOOK_EVERY, async || {
            let rollout = match api.get(SERVICE).await {
                Ok(rollout) => rollout,
                Err(error) => return Observation::NotYet(error.to_string()),
            };
            // The controller has it as text.
            let current = rollout.metadata.generation.map(|it| it.to_string());
            let observed = rollout.data["status"]["observedGeneration"].as_str();
            match current.as_deref() == observed && so(&rollout.data) {
                true => Observation::Ready(()),
                false => Observation::NotYet(rollout.data["status"].to_string()),
            }
        });
        Ok(seen.await?)
    }
}

/// Where pods reach this machine.
async fn gateway(ground: &Ground<'_>) -> Result<std::net::IpAddr, BenchError> {
    let node = control_plane(&ground.place.name);
    let format = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}";
    let inspect = ground
        .kind
        .command(&["docker", "inspect", "--format", format, &node]);
    let told = subprocess::output_in(&ground.workspace, &inspect, COMMAND).await?;
    told.trim().parse().map_err(failed)
}

fn failed<E: std::fmt::Display>(why: E) -> BenchError {
    BenchError::release("Argo Rollouts")(why)
}
