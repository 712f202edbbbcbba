//! A service that is released blue-green, on a real cluster: what the chart leaves alone, and
//! whom the policy refuses.

use std::path::Path;
use std::time::Duration;

use harness::blue_green::policy::Evidence;
use harness::blue_green::{Ask, Colour, Conclusion, Deployer, Event, Happened, Policy, ProbeFrom};
use harness::cluster::{Cluster, rollout};
use harness::images::{self, ForNodes};
use harness::kind::release::image;
use harness::prober::{MONITORING, PART};
use harness::release::difference::NOTHING;
use harness::release::{self, DeployError, Deployed};
use harness::wait::{self, Observation};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::process::Command;

use super::deployer::{by_health, deployer};
use super::deploys::{deploy, release};
use super::images::{at_hand, on_nodes};
use super::shared::{Shared, helm};

const DEADLINE: Duration = Duration::from_secs(150);
const PAUSE: Duration = Duration::from_millis(300);

/// The field manager of whoever releases.
const DEPLOYER: &str = "trii-blue-green";
const NAME: &str = "market-data-service";
const VERSION: &str = "app.kubernetes.io/version";

/// One namespace of the cluster.
struct Site<'a>(&'a Cluster);

impl Site<'_> {
    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.0.client().clone(), &self.0.namespace)
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.0.client().clone(), &self.0.namespace)
    }

    /// Has the policy hold here.
    async fn guard(&self) {
        let namespaces: Api<Namespace> = Api::all(self.0.client().clone());
        let label = json!({"metadata": {"labels": {"trii.co/blue-green": "guarded"}}});
        let (as_anybody, label) = (PatchParams::default(), Patch::Merge(label));
        let patched = namespaces.patch(&self.0.namespace, &as_anybody, &label);
        patched.await.unwrap();
    }

    /// Which track the Service selects.
    async fn track(&self, service: &str) -> String {
        let spec = self.services().get(service).await.unwrap().spec.unwrap();
        spec.selector.unwrap()["trii.co/track"].clone()
    }

    /// The image's tag, the version that its pods have, how many, and whether it is marked.
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

    /// The ConfigMap that a colour's pods have their environment from.
    async fn configuration(&self, colour: &str) -> String {
        let deployment = self.deployments().get(&format!("{NAME}-{colour}")).await;
        let pod = deployment.unwrap().spec.template.spec.unwrap();
        let from = pod.containers[0].env_from.clone().unwrap();
        from[0].config_map_ref.clone().unwrap().name
    }

    /// The ConfigMaps that are there of the service's environment.
    async fn configurations(&self) -> Vec<String> {
        let api: Api<ConfigMap> = Api::namespaced(self.0.client().clone(), &self.0.namespace);
        let its = ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
        let all = api.list(&its).await.unwrap().items.into_iter();
        let immutable = all.filter(|it| it.immutable == Some(true));
        let mut names: Vec<String> = immutable.filter_map(|it| it.metadata.name).collect();
        names.sort();
        names
    }

    /// Has a colour's pods succeeded by others, which are ready.
    async fn replace_pods(&self, colour: &str) {
        let api: Api<Pod> = Api::namespaced(self.0.client().clone(), &self.0.namespace);
        let its = format!("app.kubernetes.io/name={NAME},trii.co/track={colour}");
        let its = ListParams::default().labels(&its);
        let before = api.list(&its).await.unwrap();
        let is_new = |pod: &&Pod| before.iter().all(|it| it.uid() != pod.uid());
        let now = DeleteParams::default().grace_period(0);
        api.delete_collection(&now, &its).await.unwrap();
        let replaced = wait::until("other pods are ready", DEADLINE, PAUSE, async || {
            let pods = api.list(&its).await.unwrap();
            let ready = pods.iter().filter(is_new).filter(|it| is_ready(it));
            match ready.count() == before.items.len() {
                true => Observation::Ready(()),
                false => Observation::NotYet(format!("{} pods", pods.items.len())),
            }
        });
        replaced.await.unwrap();
        self.complete().await;
    }

    /// Changes a Deployment or says why that is refused.
    async fn change(&self, who: &str, name: &str, change: Value) -> Result<(), String> {
        let patched = self
            .deployments()
            .patch(name, &by(who), &Patch::Strategic(&change))
            .await;
        patched.map(drop).map_err(|error| error.to_string())
    }

    /// As `kubectl scale` and autoscalers do, or why that is refused.
    async fn scale(&self, who: &str, name: &str, count: u32) -> Result<(), String> {
        let scaled = self
            .deployments()
            .patch_scale(name, &by(who), &Patch::Merge(&replicas(count)))
            .await;
        scaled.map(drop).map_err(|error| error.to_string())
    }

    /// As `kubectl delete` does, or why that is refused.
    async fn delete(&self, name: &str) -> Result<(), String> {
        let deleted = self
            .deployments()
            .delete(name, &DeleteParams::background())
            .await;
        deleted.map(drop).map_err(|error| error.to_string())
    }

    /// Waits until the API server's admission has heard of a Service's change.
    async fn until_heard(&self, what: &str, allowed: impl AsyncFn() -> Result<(), String>) {
        let heard = wait::until(what, DEADLINE, PAUSE, async || match allowed().await {
            Ok(()) => Observation::Ready(()),
            Err(words) => Observation::NotYet(words),
        });
        heard.await.unwrap();
    }

    /// Points a Service to a track, or says why that is refused.
    async fn point(&self, who: &str, service: &str, track: &str) -> Result<(), String> {
        let selector = json!({"spec": {"selector": {"trii.co/track": track}}});
        let patched = self
            .services()
            .patch(service, &by(who), &Patch::Merge(&selector))
            .await;
        patched.map(drop).map_err(|error| error.to_string())
    }

    /// What a deployer does: green comes up in `version`, then it serves and blue does not.
    async fn switch_to_green(&self, version: &str) {
        let (blue, green) = (format!("{NAME}-blue"), format!("{NAME}-green"));
        let up = json!({"spec": {"replicas": 1, "template": {
            "metadata": {"labels": {VERSION: version}},
            "spec": {"containers": [{"name": NAME, "image": image(version)}]},
        }}});
        self.change(DEPLOYER, &green, up).await.unwrap();
        self.complete().await;
        self.change(DEPLOYER, &green, marked(Some("true")))
            .await
            .unwrap();
        self.point(DEPLOYER, NAME, "green").await.unwrap();
        let preview = format!("{NAME}-preview");
        self.point(DEPLOYER, &preview, "blue").await.unwrap();
        self.change(DEPLOYER, &blue, marked(None)).await.unwrap();
        let down = json!({"spec": {"replicas": 0}});
        self.change(DEPLOYER, &blue, down).await.unwrap();
        self.complete().await;
    }

    async fn complete(&self) {
        let selector = release::selector_of(release::PLATFORM);
        let complete = rollout::complete(self.0, &selector, DEADLINE, &|_| ()).await;
        complete.unwrap();
    }

    /// helm's last words about going back to a revision.
    async fn rollback(&self, revision: &str) -> Result<(), String> {
        let output = Command::new(helm())
            .args(["rollback", release::PLATFORM, revision])
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

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|it| it.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|it| it.type_ == "Ready" && it.status == "True")
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

/// The platform's image, by another tag.
async fn another_version(shared: &Shared) -> String {
    let version = format!("v9.9.9-{}", std::process::id());
    let wanted = ForNodes {
        image: at_hand(shared, "platform").await,
        known_as: image(&version),
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
async fn an_upgrade_leaves_what_was_released_blue_green() {
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
            assert_eq!(
                site.colour("green").await,
                (old.clone(), old.clone(), 0, false)
            );
            site.switch_to_green(&new).await;

            // The same values again: nothing to do, as nothing of it is the platform's.
            let again = deploy(cluster, &platform).await.unwrap();
            let left: Vec<String> = again.left.iter().map(ToString::to_string).collect();
            assert_eq!(left, [format!("{NAME} {new} (green is live)")]);
            // And other ones.
            let more = json!({"services": {NAME: {"env": {"LOG_LEVEL": "DEBUG"}}}});
            deploy(cluster, &release(&shared, &old, more.clone()))
                .await
                .unwrap();
            assert_eq!(site.track(NAME).await, "green");
            assert_eq!(site.track(&format!("{NAME}-preview")).await, "blue");
            let green = (new.clone(), new.clone(), 1, true);
            assert_eq!(site.colour("green").await, green);
            let blue = (old.clone(), old.clone(), 0, false);
            assert_eq!(site.colour("blue").await, blue);
            let difference =
                release::difference(cluster, &helm(), &release(&shared, &old, more)).await;
            assert_eq!(difference.unwrap(), NOTHING);

            // Somebody means to move it by values.
            let moved = json!({"services": {NAME: {"image": {"tag": old.clone()}}}});
            let words = refusal(deploy(cluster, &release(&shared, &old, moved)).await);
            for needed in [
                &format!("{NAME} is released blue-green, and green is live with tag {new}"),
                &format!("not with tag {old} as the values say"),
                &format!("set services.{NAME}.image.tag={new}"),
                &format!("cargo xtask blue-green deploy --service {NAME} --version {old}"),
            ] {
                assert!(words.contains(needed.as_str()), "{needed}: {words}");
            }
            // A rollback renders nothing: the policy is what stops it.
            let words = site.rollback("1").await.unwrap_err();
            assert!(words.contains("cargo xtask blue-green"), "{words}");
            assert_eq!(site.track(NAME).await, "green");
            let green = site.colour("green").await;
            assert_eq!(green, (new.clone(), new.clone(), 1, true));
        })
        .await;
}

#[tokio::test]
async fn blue_green_is_turned_on_and_off_and_something_serves_all_the_time() {
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
                let names = deployments.items.into_iter().map(|it| it.metadata.name);
                let of_it = names.flatten().filter(|it| it.starts_with(NAME));
                of_it.collect::<Vec<String>>()
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

/// Of this version, whatever the chart has given to the idle colour.
async fn release_blue_green(shared: &Shared, cluster: &Cluster, version: &str) -> Conclusion {
    let policy = by_health(shared);
    let from = ProbeFrom::Nowhere;
    release_by(cluster, version, (&policy, from), |_| {}).await
}

async fn release_by(
    cluster: &Cluster,
    version: &str,
    (policy, probe_from): (&Policy, ProbeFrom<'_>),
    mut meanwhile: impl FnMut(&Happened),
) -> Conclusion {
    let smoke = ["/quotes".to_owned()];
    let deployer = Deployer {
        probe_from,
        ..deployer(cluster, NAME, policy, &smoke)
    };
    let ask = Ask::Deploy {
        version,
        manual: false,
    };
    let mut observe = async |event: &Event| {
        println!("{:?}", event.what);
        meanwhile(&event.what);
    };
    deployer.run(ask, &mut observe).await.unwrap()
}

/// The pods that ask Services of this namespace.
async fn probers(cluster: &Cluster) -> Vec<String> {
    let api: Api<Pod> = Api::namespaced(cluster.client().clone(), MONITORING);
    let pods = api.list(&ListParams::default()).await.unwrap();
    let asks = |pod: &Pod| {
        let spec = serde_json::to_string(&pod.spec).unwrap();
        spec.contains(&format!("{NAME}.{}:", cluster.namespace))
    };
    let asking = pods.items.into_iter().filter(asks);
    asking.map(|pod| pod.name_any()).collect()
}

/// Nobody uses what is in this namespace.
#[tokio::test]
async fn without_users_a_prober_releases_what_holds_and_takes_back_what_does_not_before_the_switch()
{
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
            deploy(cluster, &with(json!({"WORKER_THREADS": "1"})))
                .await
                .unwrap();
            deploy(cluster, &with(json!({"WORKER_THREADS": "2"})))
                .await
                .unwrap();
            let released = release_by(cluster, &version, (&policy, from), |_| {}).await;
            let expected = Conclusion::Released {
                version: version.clone(),
                colour: Colour::Green,
            };
            assert_eq!(released, expected);
            assert_eq!(probers(cluster).await, Vec::<String>::new());

            // It is well, and answers: too late.
            let slow = json!({"WORKER_THREADS": "2", "FAULTS": "{\"latency_ms\": 300}"});
            deploy(cluster, &with(slow)).await.unwrap();
            let mut asked = false;
            let concluded = release_by(cluster, &version, (&policy, from), |happened| {
                asked |= matches!(happened, Happened::Breached { .. });
                let moves = matches!(happened, Happened::Patched { .. });
                assert!(!moves, "{happened:?}");
            });
            let concluded = concluded.await;
            let Conclusion::TakenBack { why, inconclusive } = &concluded else {
                panic!("{concluded:?}");
            };
            assert!(asked && !inconclusive, "{concluded:?}");
            assert!(why.starts_with("before the switch: latency: "), "{why}");
            assert_eq!(site.track(NAME).await, "green");
            assert_eq!(probers(cluster).await, Vec::<String>::new());
        })
        .await;
}

#[tokio::test]
async fn a_bad_value_reaches_one_colour_alone_and_a_good_one_is_released() {
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

            // A value that the schema takes, and no process starts with.
            let deployed = deploy(cluster, &with(&"9".repeat(30))).await.unwrap();
            let waits: Vec<&str> = deployed
                .reconfigured
                .iter()
                .map(|it| it.service.name())
                .collect();
            assert_eq!(waits, [NAME]);
            assert_eq!(site.configuration("blue").await, one);
            let many = site.configuration("green").await;
            assert_ne!(many, one);
            assert_eq!(site.configurations().await, sorted([&one, &many]));
            // A pod of blue that starts anew has what it had.
            site.replace_pods("blue").await;
            let concluded = release_blue_green(&shared, cluster, &version).await;
            let Conclusion::TakenBack { why, .. } = &concluded else {
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
            let difference = release::difference(cluster, &helm(), &with("2")).await;
            assert_eq!(difference.unwrap(), NOTHING);
        })
        .await;
}

fn sorted(names: [&String; 2]) -> Vec<String> {
    let mut names = names.map(Clone::clone).to_vec();
    names.sort();
    names
}

/// A live colour without pods that could run, and the Service that leads to it.
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
async fn only_the_deployer_moves_a_live_colour() {
    let shared = Shared::find().await;
    shared
        .in_own_namespace("guarded", async |cluster| {
            let site = Site(cluster);
            cluster.apply(LIVE).await.unwrap();
            // Not yet guarded, as a namespace of somebody else's is not.
            site.point("kubectl-patch", "a", "green").await.unwrap();
            site.point("kubectl-patch", "a", "blue").await.unwrap();
            site.guard().await;
            // The API server's informers hear of the label within moments.
            let refused = wait::until("the policy holds", DEADLINE, PAUSE, async || {
                match site.point("kubectl-patch", "a", "green").await {
                    Err(words) => Observation::Ready(words),
                    Ok(()) => {
                        site.point(DEPLOYER, "a", "blue").await.unwrap();
                        Observation::NotYet("not refused".into())
                    }
                }
            });
            let words = refused.await.unwrap();
            let advice = "cargo xtask blue-green deploy, promote or abort --service a";
            assert!(words.contains(advice), "{words}");

            let advice = "cargo xtask blue-green deploy --service a";
            let every = DeleteParams::background();
            let labelled = ListParams::default().labels("trii.co/track=blue");
            let deployments = site.deployments();
            let collection = deployments.delete_collection(&every, &labelled);
            for (what, refused) in [
                ("scale", site.scale("kubectl", "a-blue", 0).await),
                ("delete", site.delete("a-blue").await),
                (
                    "delete --selector",
                    collection
                        .await
                        .map(drop)
                        .map_err(|error| error.to_string()),
                ),
            ] {
                let words = refused.expect_err(what);
                assert!(words.contains("is the live colour"), "{what}: {words}");
                assert!(words.contains(advice), "{what}: {words}");
            }
            for (change, advice) in [
                (replicas(0), "without pods nobody serves"),
                (image_of("v2"), "another image comes by the other colour"),
                (marked(None), "its annotation trii.co/live says so"),
            ] {
                let words = site.change("helm", "a-blue", change).await.unwrap_err();
                assert!(words.contains(advice), "{words}");
                assert!(words.contains("cargo xtask blue-green"), "{words}");
            }

            // What changes none of it is anybody's.
            let label = json!({"metadata": {"labels": {"helm.sh/chart": "x"}}});
            site.change("helm", "a-blue", label).await.unwrap();
            site.change("helm", "a-blue", image_of("v1")).await.unwrap();
            site.change("helm", "a-blue", replicas(3)).await.unwrap();
            // An autoscaler's way.
            for count in [3, 1] {
                site.scale("hpa", "a-blue", count).await.unwrap();
            }
            let blue = site.deployments().get_scale("a-blue").await.unwrap();
            assert_eq!(blue.spec.unwrap().replicas, Some(1));
            // The idle colour's, too.
            for count in [1, 0] {
                site.scale("kubectl", "a-green", count).await.unwrap();
            }

            // The deployer may all of it.
            site.scale(DEPLOYER, "a-blue", 0).await.unwrap();
            site.scale(DEPLOYER, "a-blue", 1).await.unwrap();
            site.point(DEPLOYER, "a", "green").await.unwrap();
            for change in [image_of("v2"), replicas(0), marked(None)] {
                site.change(DEPLOYER, "a-blue", change).await.unwrap();
            }
            // And what is no longer live is anybody's.
            site.change("helm", "a-blue", image_of("v3")).await.unwrap();
            site.until_heard("blue is no longer live", async || {
                site.delete("a-blue").await
            })
            .await;
            // helm uninstall.
            site.delete("a-green").await.expect_err("green is live");
            let now = DeleteParams::background();
            site.services().delete("a", &now).await.unwrap();
            site.until_heard("no Service is there", async || site.delete("a-green").await)
                .await;
        })
        .await;
}
