//! Releases by Argo Rollouts: the same pods as a Rollout in a separate namespace, behind the same
//! ingress.

mod manifests;

use std::time::Duration;

use base::process;
use base::wait::{self, Observation};
use environments::kind::cluster::control_plane;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use machine::images::{self, Supply, Workshop};
use serde_json::Value;

use super::error_share::ErrorShare;
use super::release_site::ReleaseSite;
use super::setup::BenchSetup;
use super::{Quality, SERVICE, footprint};
use crate::bench::BenchPlan;
use crate::bench::error::BenchError;
use manifests::Manifests;

/// The namespace of the Rollout and of the controller.
const NAMESPACE: &str = "argo-rollouts";

/// Its image in fixtures/images.
const IMAGE: &str = "argo-rollouts";

/// The label that the controller sets on pods and in the Services' selectors.
const HASH: &str = "rollouts-pod-template-hash";

/// The path of users' requests.
const PATH: &str = "/market-data-by-argo/quotes";

/// The selector of the controller's pods, and its program.
const CONTROLLER: &str = "app.kubernetes.io/name=argo-rollouts";
const PROGRAM: &str = "/bin/rollouts-controller";

/// For the controller to start, or a Rollout to finish.
const LONGEST: Duration = Duration::from_secs(400);
const POLL_EVERY: Duration = Duration::from_millis(100);

/// The timeout of a command in the node.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Applies the manifests in its image, in the node: its resource definitions, roles and controller,
/// with the image that the node has (containerd adds a registry to its name).
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
    pub site: ReleaseSite,
    pub error_share: ErrorShare,
    manifests: Manifests,
}

impl Argo {
    /// Installs the controller, and creates a Rollout of the live service of `setup`.
    pub async fn start(setup: &BenchSetup<'_>, plan: &BenchPlan) -> Result<Argo, BenchError> {
        let mut cluster = setup.ours.cluster.clone();
        cluster.namespace = NAMESPACE.to_owned();
        let site = ReleaseSite {
            cluster,
            label: HASH,
            path: PATH,
        };
        let workshop = Workshop::of(&plan.workspace, &plan.home);
        let (engine, name) = (&setup.kind.engine, &setup.place.name);
        let image = images::on_nodes(engine, &workshop, name, IMAGE, Supply::Auto, &|_| ());
        let namespace = format!("NAMESPACE={NAMESPACE}");
        let image = format!("IMAGE={}", image.await?);
        setup
            .in_node(&["env", &namespace, &image, "sh", "-c", INSTALL])
            .await?;
        let error_share = ErrorShare::listen(gateway(setup).await?).await;
        let error_share = error_share.map_err(failed)?;
        let manifests = Manifests::of(setup, &error_share.url).await?;
        let argo = Argo {
            site,
            error_share,
            manifests,
        };
        argo.apply(argo.manifests.around()).await?;
        argo.apply([argo.manifests.rollout(&setup.environment.version)])
            .await?;
        argo.healthy().await?;
        Ok(argo)
    }

    /// Restores the initial state of every release: only pods of the live version, in the usual
    /// number. Returns that version.
    pub async fn reset(&self) -> Result<String, BenchError> {
        let live = self.site.pods().await?.version;
        let live = live.ok_or_else(|| failed("no pod has traffic"))?;
        self.apply([self.manifests.rollout(&live)]).await?;
        self.healthy().await?;
        self.site.steady().await
    }

    /// Releases `version`, which must be kept if it is good, and rolled back if it is bad. Returns
    /// the controller's peak memory so far, in MiB.
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

    /// Releases `version`, and kills the controller's pod right after it has moved traffic away
    /// from `before`.
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

    /// Waits until the Rollout has finished what was applied last.
    async fn healthy(&self) -> Result<(), BenchError> {
        self.until("it is healthy", |rollout| {
            let status = &rollout["status"];
            status["phase"] == "Healthy" && status["stableRS"] == status["currentPodHash"]
        })
        .await
    }

    /// Waits until the Rollout was rolled back.
    async fn aborted(&self) -> Result<(), BenchError> {
        self.until("it is rolled back", |rollout| {
            let status = &rollout["status"];
            let live = &status["blueGreen"]["activeSelector"];
            status["abort"] == true && live == &status["stableRS"]
        })
        .await
    }

    async fn until(&self, what: &str, is_met: impl Fn(&Value) -> bool) -> Result<(), BenchError> {
        let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout");
        let resource = ApiResource::from_gvk(&kind);
        let (client, namespace) = (self.site.cluster.client().clone(), NAMESPACE);
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
        let seen = wait::until(what, LONGEST, POLL_EVERY, async || {
            let rollout = match api.get(SERVICE).await {
                Ok(rollout) => rollout,
                Err(error) => return Observation::NotYet(error.to_string()),
            };
            // The controller stores it as text.
            let current = rollout.metadata.generation.map(|it| it.to_string());
            let observed = rollout.data["status"]["observedGeneration"].as_str();
            match current.as_deref() == observed && is_met(&rollout.data) {
                true => Observation::Ready(()),
                false => Observation::NotYet(rollout.data["status"].to_string()),
            }
        });
        Ok(seen.await?)
    }
}

/// The address by which pods reach this machine.
async fn gateway(setup: &BenchSetup<'_>) -> Result<std::net::IpAddr, BenchError> {
    let node = control_plane(&setup.place.name);
    let format = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}";
    let inspect = setup
        .kind
        .command(&["docker", "inspect", "--format", format, &node]);
    let output = process::output_in(&setup.workspace, &inspect, COMMAND_TIMEOUT).await?;
    output.trim().parse().map_err(failed)
}

fn failed<E: std::fmt::Display>(why: E) -> BenchError {
    BenchError::release("Argo Rollouts")(why)
}
