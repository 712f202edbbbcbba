//! A service that is released blue-green, on a real cluster: what an upgrade does not change, and
//! what the policy refuses.

use std::path::Path;
use std::time::Duration;

use base::wait::{self, Observation};
use blue_green::policy::Evidence;
use blue_green::{
    Colour, Conclusion, Deployer, EventKind, Operation, Policy, ProbeFrom, ReleaseEvent,
};
use helm::difference::NOTHING;
use helm::{DeployError, Deployed};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use kubernetes::prober::PART;
use kubernetes::workloads::Selection;
use kubernetes::{Cluster, rollout};
use machine::images::{self, ForNodes};
use serde_json::{Value, json};
use tokio::process::Command;

use super::deployer::{HELPERS, by_health, deployer};
use super::deploys::{deploy, release};
use super::images::{at_hand, on_nodes};
use super::shared::{Shared, helm};

const DEADLINE: Duration = Duration::from_secs(150);
const PAUSE: Duration = Duration::from_millis(300);

/// The deployer's field manager.
const DEPLOYER: &str = "trii-blue-green";
const NAME: &str = "market-data-service";

/// The platform's release, and its image on the nodes.
const RELEASE: &str = "trii-platform";
const REPOSITORY: &str = "trii-rehearsal/platform";
const VERSION: &str = "app.kubernetes.io/version";

/// A namespace of the cluster.
struct Site<'a>(&'a Cluster);

impl Site<'_> {
    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.0.client().clone(), &self.0.namespace)
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.0.client().clone(), &self.0.namespace)
    }

    /// Makes the policy apply here.
    async fn guard(&self) {
        let namespaces: Api<Namespace> = Api::all(self.0.client().clone());
        let label = json!({"metadata": {"labels": {"trii.co/blue-green": "guarded"}}});
        let (as_anybody, label) = (PatchParams::default(), Patch::Merge(label));
        let patched = namespaces.patch(&self.0.namespace, &as_anybody, &label);
        patched.await.unwrap();
    }

    /// Returns the track that the Service selects.
    async fn track(&self, service: &str) -> String {
        let spec = self.services().get(service).await.unwrap().spec.unwrap();
        spec.selector.unwrap()["trii.co/track"].clone()
    }

    /// Returns the image's tag, the pods' version and count, and whether the colour is marked live.
    async fn colour(&self, colour: &str) -> (String, String, i32, bool) {
        let deployment = self.deployments().get(&format!("{NAME}-{colour}")).await;
        let deployment = deployment.unwrap();
        let template = deployment.spec.template;
        let image = template.spec.unwrap().containers[0].image.clone().unwrap();
        let labels = template.metadata.unwrap().labels.unwrap();
        let annotations = deployment.metadata.annotations.unwrap_or_default();
        (
            image.rsplit_once(':').unwrap().1.to_owned(),
            labels[VERSION].clone(),
            deployment.spec.replicas.unwrap(),
            annotations.contains_key("trii.co/live"),
        )
    }

    /// Returns the ConfigMap with the environment of a colour's pods.
    async fn configuration(&self, colour: &str) -> String {
        let deployment = self.deployments().get(&format!("{NAME}-{colour}")).await;
        let pod = deployment.unwrap().spec.template.spec.unwrap();
        let from = pod.containers[0].env_from.clone().unwrap();
        from[0].config_map_ref.clone().unwrap().name
    }

    /// Returns the existing ConfigMaps of the service's environment.
    async fn configurations(&self) -> Vec<String> {
        let api: Api<ConfigMap> = Api::namespaced(self.0.client().clone(), &self.0.namespace);
        let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
        let all = api.list(&ours).await.unwrap().items;
        let immutable = all.iter().filter(|it| it.immutable == Some(true));
        let mut names: Vec<String> = immutable.map(ResourceExt::name_any).collect();
        names.sort();
        names
    }

    /// Deletes a colour's pods, and waits until others are ready.
    async fn replace_pods(&self, colour: &str) {
        let api: Api<Pod> = Api::namespaced(self.0.client().clone(), &self.0.namespace);
        let labels = format!("app.kubernetes.io/name={NAME},trii.co/track={colour}");
        let ours = ListParams::default().labels(&labels);
        let before = api.list(&ours).await.unwrap();
        let is_new = |pod: &&Pod| before.iter().all(|old| old.uid() != pod.uid());
        let now = DeleteParams::default().grace_period(0);
        api.delete_collection(&now, &ours).await.unwrap();
        let replaced = wait::until("other pods are ready", DEADLINE, PAUSE, async || {
            let pods = api.list(&ours).await.unwrap();
            let ready = pods.iter().filter(is_new).filter(|pod| is_ready(pod));
            match ready.count() == before.items.len() {
                true => Observation::Ready(()),
                false => Observation::NotYet(format!("{} pods", pods.items.len())),
            }
        });
        replaced.await.unwrap();
        self.complete().await;
    }

    /// Changes a Deployment, or returns the refusal.
    async fn change(&self, who: &str, name: &str, change: Value) -> Result<(), String> {
        let (deployments, patch) = (self.deployments(), Patch::Strategic(&change));
        outcome(deployments.patch(name, &by(who), &patch).await)
    }

    /// Scales a Deployment as `kubectl scale` and autoscalers do, or returns the refusal.
    async fn scale(&self, who: &str, name: &str, count: u32) -> Result<(), String> {
        let (deployments, scale) = (self.deployments(), replicas(count));
        let patch = Patch::Merge(&scale);
        outcome(deployments.patch_scale(name, &by(who), &patch).await)
    }

    /// Deletes a Deployment as `kubectl delete` does, or returns the refusal.
    async fn delete(&self, name: &str) -> Result<(), String> {
        let now = DeleteParams::background();
        outcome(self.deployments().delete(name, &now).await)
    }

    /// Deletes a Deployment. Waits until admission has received the Service's change, which allows
    /// it.
    async fn delete_when_allowed(&self, name: &str) {
        let deleted = wait::until("it is not live", DEADLINE, PAUSE, async || {
            match self.delete(name).await {
                Ok(()) => Observation::Ready(()),
                Err(refusal) => Observation::NotYet(refusal),
            }
        });
        deleted.await.unwrap();
    }

    /// Changes the track of a Service, or returns the refusal.
    async fn point(&self, who: &str, service: &str, track: &str) -> Result<(), String> {
        let selector = json!({"spec": {"selector": {"trii.co/track": track}}});
        let (services, patch) = (self.services(), Patch::Merge(&selector));
        outcome(services.patch(service, &by(who), &patch).await)
    }

    /// Acts as a deployer: brings green up in `version`, then makes it serve instead of blue.
    async fn switch_to_green(&self, version: &str) {
        let (blue, green) = (format!("{NAME}-blue"), format!("{NAME}-green"));
        let up = json!({"spec": {"replicas": 1, "template": {
            "metadata": {"labels": {VERSION: version}},
            "spec": {"containers": [{"name": NAME, "image": format!("{REPOSITORY}:{version}")}]},
        }}});
        self.change(DEPLOYER, &green, up).await.unwrap();
        self.complete().await;
        let live = marked(Some("true"));
        self.change(DEPLOYER, &green, live).await.unwrap();
        self.point(DEPLOYER, NAME, "green").await.unwrap();
        let preview = format!("{NAME}-preview");
        self.point(DEPLOYER, &preview, "blue").await.unwrap();
        self.change(DEPLOYER, &blue, marked(None)).await.unwrap();
        self.change(DEPLOYER, &blue, replicas(0)).await.unwrap();
        self.complete().await;
    }

    async fn complete(&self) {
        let workloads = Selection::Release(RELEASE.to_owned());
        let complete = rollout::complete(self.0, workloads, DEADLINE, &|_| ()).await;
        complete.unwrap();
    }

    /// Rolls back to a revision by helm, or returns its error.
    async fn rollback(&self, revision: &str) -> Result<(), String> {
        let output = Command::new(helm())
            .args(["rollback", RELEASE, revision])
            .args(["--namespace", &self.0.namespace])
            .args(["--kube-context", &self.0.context])
            .arg("--kubeconfig")
            .arg::<&Path>(&self.0.kubeconfig)
            .output()
            .await
            .unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

/// Returns the error as text.
fn outcome<T>(result: Result<T, kube::Error>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.iter();
    let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn by(who: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(who.to_owned()),
        ..PatchParams::default()
    }
}

fn marked(live: Option<&str>) -> Value {
    json!({"metadata": {"annotations": {"trii.co/live": live}}})
}

/// Gives the platform's image another tag on the nodes, and returns that.
async fn another_version(shared: &Shared) -> String {
    let version = format!("v9.9.9-{}", std::process::id());
    let wanted = ForNodes {
        image: at_hand(shared, "platform").await,
        known_as: format!("{REPOSITORY}:{version}"),
    };
    let cluster = &shared.place().name;
    let loaded = images::load(&shared.engine, cluster, &[wanted], &|_| ()).await;
    loaded.unwrap();
    version
}

fn refusal(deployed: Result<Deployed, DeployError>) -> String {
    match deployed {
        Err(DeployError::Refused { words }) => words,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_upgrade_does_not_change_what_is_released_blue_green() {
    let shared = Shared::find().await;
    let old = shared.environment.version.clone();
    let new = another_version(&shared).await;
    shared
        .in_own_namespace("colours", async |cluster| {
            let site = Site(cluster);
            site.guard().await;
            let platform = release(&shared, &old, json!({}));
            deploy(cluster, &platform).await.unwrap();
            assert_eq!(site.track(NAME).await, "blue");
            let idle = (old.clone(), old.clone(), 0, false);
            assert_eq!(site.colour("green").await, idle);
            site.switch_to_green(&new).await;

            // The same values: an upgrade does not change the colours.
            let again = deploy(cluster, &platform).await.unwrap();
            let unchanged: Vec<String> = again.left.iter().map(ToString::to_string).collect();
            assert_eq!(unchanged, [format!("{NAME} {new} (green is live)")]);
            // Other values.
            let more = json!({"services": {NAME: {"env": {"LOG_LEVEL": "DEBUG"}}}});
            let changed = release(&shared, &old, more);
            deploy(cluster, &changed).await.unwrap();
            assert_eq!(site.track(NAME).await, "green");
            assert_eq!(site.track(&format!("{NAME}-preview")).await, "blue");
            let green = (new.clone(), new.clone(), 1, true);
            assert_eq!(site.colour("green").await, green);
            assert_eq!(site.colour("blue").await, idle);
            let difference = helm::difference(cluster, &helm(), &changed).await;
            assert_eq!(difference.unwrap(), NOTHING);

            // Values with another tag.
            let moved = json!({"services": {NAME: {"image": {"tag": old.clone()}}}});
            let message = refusal(deploy(cluster, &release(&shared, &old, moved)).await);
            for expected in [
                &format!("{NAME} is released blue-green, and green is live with tag {new}"),
                &format!("not with tag {old} as the values say"),
                &format!("set services.{NAME}.image.tag={new}"),
                &format!("cargo xtask blue-green deploy --service {NAME} --version {old}"),
            ] {
                assert!(message.contains(expected.as_str()), "{expected}: {message}");
            }
            // A rollback renders nothing: only the policy refuses it.
            let message = site.rollback("1").await.unwrap_err();
            assert!(message.contains("cargo xtask blue-green"), "{message}");
            assert_eq!(site.track(NAME).await, "green");
            assert_eq!(site.colour("green").await, green);
        })
        .await;
}

#[tokio::test]
async fn a_service_serves_while_blue_green_is_turned_on_and_off() {
    let shared = Shared::find().await;
    let version = shared.environment.version.clone();
    let with = |enabled: bool| {
        let more = json!({"services": {NAME: {"blueGreen": {"enabled": enabled}}}});
        release(&shared, &version, more)
    };
    shared
        .in_own_namespace("turn-on", async |cluster| {
            let site = Site(cluster);
            site.guard().await;
            let names = async || {
                let deployments = site.deployments().list(&Default::default()).await.unwrap();
                let names = deployments.iter().map(ResourceExt::name_any);
                let ours = names.filter(|name| name.starts_with(NAME));
                ours.collect::<Vec<String>>()
            };
            let [blue, green] = ["blue", "green"].map(|colour| format!("{NAME}-{colour}"));
            deploy(cluster, &with(false)).await.unwrap();
            assert_eq!(names().await, [NAME]);

            deploy(cluster, &with(true)).await.unwrap();
            assert_eq!(names().await, [NAME, &blue, &green]);
            assert_eq!(site.track(NAME).await, "stable");
            site.point(DEPLOYER, NAME, "blue").await.unwrap();
            deploy(cluster, &with(true)).await.unwrap();
            assert_eq!(names().await, [&*blue, &green]);
            assert_eq!(site.track(NAME).await, "blue");
            assert!(site.colour("blue").await.3);

            deploy(cluster, &with(false)).await.unwrap();
            assert_eq!(names().await, [NAME, &blue]);
            assert_eq!(site.track(NAME).await, "blue");
            site.point(DEPLOYER, NAME, "stable").await.unwrap();
            deploy(cluster, &with(false)).await.unwrap();
            assert_eq!(names().await, [NAME]);
            assert_eq!(site.track(NAME).await, "stable");
        })
        .await;
}

/// Releases this version with the configuration of the idle colour.
async fn release_blue_green(shared: &Shared, cluster: &Cluster, version: &str) -> Conclusion {
    let evidence = (&by_health(shared), ProbeFrom::Nowhere);
    release_by(cluster, version, evidence, |_| {}).await
}

async fn release_by(
    cluster: &Cluster,
    version: &str,
    (policy, probe_from): (&Policy, ProbeFrom<'_>),
    mut meanwhile: impl FnMut(&EventKind),
) -> Conclusion {
    let smoke = ["/quotes".to_owned()];
    let deployer = Deployer {
        probe_from,
        ..deployer(cluster, NAME, policy, &smoke)
    };
    let operation = Operation::Deploy {
        version,
        manual: false,
    };
    let mut observe = async |event: &ReleaseEvent| {
        println!("{:?}", event.what);
        meanwhile(&event.what);
    };
    deployer.run(operation, &mut observe).await.unwrap()
}

/// Returns the pods that send requests to Services of this namespace.
async fn probers(cluster: &Cluster) -> Vec<String> {
    let api: Api<Pod> = Api::namespaced(cluster.client().clone(), HELPERS);
    let pods = api.list(&ListParams::default()).await.unwrap();
    let is_ours = |pod: &&Pod| {
        let spec = serde_json::to_string(&pod.spec).unwrap();
        spec.contains(&format!("{NAME}.{}:", cluster.namespace))
    };
    let ours = pods.iter().filter(is_ours);
    ours.map(ResourceExt::name_any).collect()
}

/// The namespace has no users.
#[tokio::test]
async fn without_users_a_prober_is_the_evidence_and_a_slow_version_is_rolled_back() {
    let shared = Shared::find().await;
    let version = shared.environment.version.clone();
    let image = on_nodes(&shared, PART).await;
    let from = ProbeFrom::Pod { image: &image };
    let policy = Policy {
        analysis: Evidence::Probe,
        // Twenty requests a second.
        baseline: Duration::from_secs(8),
        watch: Duration::from_secs(6),
        warm_up: Duration::ZERO,
        drain: Duration::from_secs(1),
        ..shared.config.blue_green.clone()
    };
    let with = |env: Value| release(&shared, &version, json!({"services": {NAME: {"env": env}}}));
    shared
        .in_own_namespace("probed", async |cluster| {
            let site = Site(cluster);
            for threads in ["1", "2"] {
                let release = with(json!({"WORKER_THREADS": threads}));
                deploy(cluster, &release).await.unwrap();
            }
            let released = release_by(cluster, &version, (&policy, from), |_| {}).await;
            let expected = Conclusion::Released {
                version: version.clone(),
                colour: Colour::Green,
            };
            assert_eq!(released, expected);
            assert_eq!(probers(cluster).await, Vec::<String>::new());

            // It is healthy, and too slow: also for twice the latency of a busy machine.
            let slow = json!({"WORKER_THREADS": "2", "FAULTS": "{\"latency_ms\": 1500}"});
            deploy(cluster, &with(slow)).await.unwrap();
            let mut breached = false;
            let concluded = release_by(cluster, &version, (&policy, from), |event| {
                breached |= matches!(event, EventKind::Breached { .. });
                let moves = matches!(event, EventKind::Patched { .. });
                assert!(!moves, "{event:?}");
            });
            let concluded = concluded.await;
            let Conclusion::RolledBack { why, inconclusive } = &concluded else {
                panic!("{concluded:?}");
            };
            assert!(breached && !inconclusive, "{concluded:?}");
            assert!(why.starts_with("before the switch: latency: "), "{why}");
            assert_eq!(site.track(NAME).await, "green");
            assert_eq!(probers(cluster).await, Vec::<String>::new());
        })
        .await;
}

#[tokio::test]
async fn a_bad_value_reaches_only_one_colour_and_a_good_one_is_released() {
    let shared = Shared::find().await;
    let version = shared.environment.version.clone();
    shared
        .in_own_namespace("values", async |cluster| {
            let site = Site(cluster);
            let with = |threads: &str| {
                let more = json!({"services": {NAME: {"env": {"WORKER_THREADS": threads}}}});
                release(&shared, &version, more)
            };
            deploy(cluster, &with("1")).await.unwrap();
            let one = site.configuration("blue").await;

            // A value that the schema accepts, and with which no process starts.
            let deployed = deploy(cluster, &with(&"9".repeat(30))).await.unwrap();
            let reconfigured = deployed.reconfigured.iter();
            let waiting: Vec<&str> = reconfigured.map(|it| it.service.as_str()).collect();
            assert_eq!(waiting, [NAME]);
            assert_eq!(site.configuration("blue").await, one);
            let many = site.configuration("green").await;
            assert_ne!(many, one);
            assert_eq!(site.configurations().await, sorted([&one, &many]));
            // New pods of blue have the previous configuration.
            site.replace_pods("blue").await;
            let concluded = release_blue_green(&shared, cluster, &version).await;
            let Conclusion::RolledBack { why, .. } = &concluded else {
                panic!("{concluded:?}");
            };
            assert!(why.contains("WORKER_THREADS"), "{why}");
            assert_eq!(site.track(NAME).await, "blue");
            site.complete().await;

            deploy(cluster, &with("2")).await.unwrap();
            let two = site.configuration("green").await;
            assert_eq!(site.configurations().await, sorted([&one, &two]));
            let concluded = release_blue_green(&shared, cluster, &version).await;
            let released = Conclusion::Released {
                version: version.clone(),
                colour: Colour::Green,
            };
            assert_eq!(concluded, released);
            assert_eq!(site.configuration("green").await, two);
            assert_eq!(site.configuration("blue").await, two);
            let again = release_blue_green(&shared, cluster, &version).await;
            assert!(matches!(again, Conclusion::AlreadyLive { .. }), "{again:?}");
            deploy(cluster, &with("2")).await.unwrap();
            let difference = helm::difference(cluster, &helm(), &with("2")).await;
            assert_eq!(difference.unwrap(), NOTHING);
        })
        .await;
}

fn sorted(names: [&String; 2]) -> Vec<String> {
    let mut names = names.map(Clone::clone).to_vec();
    names.sort();
    names
}

/// A live colour whose pods cannot run, and its Service.
const LIVE: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, labels: {trii.co/blue-green: active, app.kubernetes.io/name: a}}
spec: {selector: {app: a, trii.co/track: blue}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: a-blue
  labels: {trii.co/track: blue, app.kubernetes.io/name: a}
  annotations: {trii.co/live: 'true'}
spec:
  replicas: 2
  selector: {matchLabels: {app: a, trii.co/track: blue}}
  template:
    metadata: {labels: {app: a, trii.co/track: blue}}
    spec: {containers: [{name: a, image: 'nowhere.invalid/a:v1'}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a-green, labels: {trii.co/track: green, app.kubernetes.io/name: a}}
spec:
  replicas: 0
  selector: {matchLabels: {app: a, trii.co/track: green}}
  template:
    metadata: {labels: {app: a, trii.co/track: green}}
    spec: {containers: [{name: a, image: 'nowhere.invalid/a:v1'}]}
";

fn image_of(tag: &str) -> Value {
    let container = json!({"name": "a", "image": format!("nowhere.invalid/a:{tag}")});
    json!({"spec": {"template": {"spec": {"containers": [container]}}}})
}

fn replicas(count: u32) -> Value {
    json!({"spec": {"replicas": count}})
}

#[tokio::test]
async fn only_the_deployer_changes_a_live_colour() {
    let shared = Shared::find().await;
    shared
        .in_own_namespace("guarded", async |cluster| {
            let site = Site(cluster);
            cluster.apply(LIVE).await.unwrap();
            // The policy does not apply yet, as in a namespace of others.
            site.point("kubectl-patch", "a", "green").await.unwrap();
            site.point("kubectl-patch", "a", "blue").await.unwrap();
            site.guard().await;
            // The API server receives the label after a short time.
            let refused = wait::until("the policy applies", DEADLINE, PAUSE, async || {
                match site.point("kubectl-patch", "a", "green").await {
                    Err(refusal) => Observation::Ready(refusal),
                    Ok(()) => {
                        site.point(DEPLOYER, "a", "blue").await.unwrap();
                        Observation::NotYet("not refused".into())
                    }
                }
            });
            let refusal = refused.await.unwrap();
            let advice = "cargo xtask blue-green deploy, promote or abort --service a";
            assert!(refusal.contains(advice), "{refusal}");

            let advice = "cargo xtask blue-green deploy --service a";
            let every = DeleteParams::background();
            let labelled = ListParams::default().labels("trii.co/track=blue");
            let deployments = site.deployments();
            let collection = deployments.delete_collection(&every, &labelled);
            for (what, refused) in [
                ("scale", site.scale("kubectl", "a-blue", 0).await),
                ("delete", site.delete("a-blue").await),
                ("delete --selector", outcome(collection.await)),
            ] {
                let refusal = refused.expect_err(what);
                assert!(refusal.contains("is the live colour"), "{what}: {refusal}");
                assert!(refusal.contains(advice), "{what}: {refusal}");
            }
            for (change, advice) in [
                (replicas(0), "without pods nobody serves"),
                (image_of("v2"), "another image comes by the other colour"),
                (marked(None), "its annotation trii.co/live says so"),
            ] {
                let refusal = site.change("helm", "a-blue", change).await.unwrap_err();
                assert!(refusal.contains(advice), "{refusal}");
                assert!(refusal.contains("cargo xtask blue-green"), "{refusal}");
            }

            // Anyone may make other changes.
            let label = json!({"metadata": {"labels": {"helm.sh/chart": "x"}}});
            site.change("helm", "a-blue", label).await.unwrap();
            site.change("helm", "a-blue", image_of("v1")).await.unwrap();
            site.change("helm", "a-blue", replicas(3)).await.unwrap();
            // An autoscaler may scale.
            for count in [3, 1] {
                site.scale("hpa", "a-blue", count).await.unwrap();
            }
            let blue = site.deployments().get_scale("a-blue").await.unwrap();
            assert_eq!(blue.spec.unwrap().replicas, Some(1));
            // Anyone may scale the idle colour.
            for count in [1, 0] {
                site.scale("kubectl", "a-green", count).await.unwrap();
            }

            // The deployer may make every change.
            site.scale(DEPLOYER, "a-blue", 0).await.unwrap();
            site.scale(DEPLOYER, "a-blue", 1).await.unwrap();
            site.point(DEPLOYER, "a", "green").await.unwrap();
            for change in [image_of("v2"), replicas(0), marked(None)] {
                site.change(DEPLOYER, "a-blue", change).await.unwrap();
            }
            // Anyone may change a colour that is not live any more.
            site.change("helm", "a-blue", image_of("v3")).await.unwrap();
            site.delete_when_allowed("a-blue").await;
            // As `helm uninstall` does.
            site.delete("a-green").await.expect_err("green is live");
            let now = DeleteParams::background();
            site.services().delete("a", &now).await.unwrap();
            site.delete_when_allowed("a-green").await;
        })
        .await;
}
