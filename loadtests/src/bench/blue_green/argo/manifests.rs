//! The service as a Rollout: its chart's pods, and the objects that they need, in another
//! namespace.

use std::collections::BTreeSet;

use blue_green::Policy;
use blue_green::colour::TRACK;
use blue_green::objects::{VERSION, tag};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{NAMESPACE, PATH, SERVICE, failed};
use crate::bench::blue_green::release_site::ReleaseSite;
use crate::bench::blue_green::setup::{BenchSetup, PODS};
use crate::bench::error::BenchError;

/// The Service of the version without traffic.
const PREVIEW: &str = "market-data-service-preview";

/// The AnalysisTemplate that decides whether a version is good.
const ANALYSIS: &str = "failed-share";

/// The objects of a service for Argo Rollouts.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifests {
    /// Unchanged objects that pods and Ingress need.
    copied: Vec<Value>,
    ingress: Value,
    service: Value,
    pod: Value,
    analysis: Value,
    /// From the switch until the old pods end, in seconds.
    scale_down_delay: u64,
}

impl Manifests {
    /// From the live objects of `setup`. The analysis requests `url`.
    pub async fn of(setup: &BenchSetup<'_>, url: &str) -> Result<Manifests, BenchError> {
        let from = &setup.ours;
        let live = from.selected().await?;
        let deployment: Value = read::<Deployment>(from, &format!("{SERVICE}-{live}")).await?;
        let pod = pod(&deployment["spec"]["template"]);
        let ingress = read::<Ingress>(from, SERVICE).await?;
        let mut copied = vec![service_account(&pod)];
        for name in names(&pod, "/envFrom", "configMapRef") {
            copied.push(copy(&read::<ConfigMap>(from, &name).await?));
        }
        let secrets = [names(&pod, "/env", "secretKeyRef"), tls_secrets(&ingress)];
        for name in secrets.into_iter().flatten().collect::<BTreeSet<_>>() {
            copied.push(copy(&read::<Secret>(from, &name).await?));
        }
        let policy = setup.policy();
        Ok(Manifests {
            copied,
            ingress: elsewhere(&ingress),
            service: read::<Service>(from, SERVICE).await?,
            pod,
            analysis: analysis(url, policy),
            scale_down_delay: (policy.watch + policy.drain).as_secs(),
        })
    }

    /// All objects except the Rollout.
    pub fn around(&self) -> Vec<Value> {
        let services = [SERVICE, PREVIEW].map(|name| {
            json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "selector": {"app.kubernetes.io/name": SERVICE},
                    "ports": self.service["spec"]["ports"],
                },
            })
        });
        let others = [self.ingress.clone(), self.analysis.clone()];
        [&self.copied[..], &services, &others].concat()
    }

    /// The Rollout of this version.
    pub fn rollout(&self, version: &str) -> Value {
        let mut pod = self.pod.clone();
        pod["metadata"]["labels"][VERSION] = json!(version);
        let image = &mut pod["spec"]["containers"][0]["image"];
        if let Some((repository, _)) = image.as_str().and_then(tag) {
            *image = json!(format!("{repository}:{version}"));
        }
        json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Rollout",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE},
            "spec": {
                "replicas": PODS,
                "selector": {"matchLabels": {"app.kubernetes.io/name": SERVICE}},
                "template": pod,
                "strategy": {"blueGreen": {
                    "activeService": SERVICE,
                    "previewService": PREVIEW,
                    "autoPromotionEnabled": true,
                    "postPromotionAnalysis": {"templates": [{"templateName": ANALYSIS}]},
                    "scaleDownDelaySeconds": self.scale_down_delay,
                }},
            },
        })
    }
}

/// The analysis, as often and as long as our deployer's. One second with too many failed requests
/// is enough, without a test for chance.
fn analysis(url: &str, policy: &Policy) -> Value {
    let allowed = policy.thresholds.max_error_share;
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": ANALYSIS, "namespace": NAMESPACE},
        "spec": {"metrics": [{
            "name": ANALYSIS,
            "interval": "1s",
            "count": policy.watch.as_secs(),
            "failureLimit": 0,
            "successCondition": format!("result.failed <= {allowed} * result.requests"),
            "provider": {"web": {"url": url, "timeoutSeconds": 2, "jsonPath": "{$}"}},
        }]},
    })
}

/// The chart's pod, without its colour and without a spread over nodes, as there is one node.
fn pod(template: &Value) -> Value {
    let mut pod = template.clone();
    let labels = pod["metadata"]["labels"].as_object_mut();
    labels.map(|labels| labels.remove(TRACK));
    let spec = pod["spec"].as_object_mut();
    spec.map(|spec| spec.remove("topologySpreadConstraints"));
    pod
}

/// The Ingress for another path and namespace.
fn elsewhere(ingress: &Value) -> Value {
    let mut copy = copy(ingress);
    copy["metadata"]["annotations"] = ingress["metadata"]["annotations"].clone();
    let prefix = PATH.rsplit_once('/').map_or(PATH, |(prefix, _)| prefix);
    let path = format!("{prefix}(/|$)(.*)");
    copy["spec"]["rules"][0]["http"]["paths"][0]["path"] = json!(path);
    copy
}

fn service_account(pod: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": pod["spec"]["serviceAccountName"], "namespace": NAMESPACE},
    })
}

/// Returns the names of the objects from which the container gets its environment.
fn names(pod: &Value, list: &str, by: &str) -> BTreeSet<String> {
    let container = &pod["spec"]["containers"][0];
    let entries = container.pointer(list).and_then(Value::as_array);
    let entries = entries.into_iter().flatten();
    entries
        .filter_map(|entry| {
            let named = entry.get(by).or_else(|| entry.get("valueFrom")?.get(by));
            named?.get("name")?.as_str().map(str::to_owned)
        })
        .collect()
}

fn tls_secrets(ingress: &Value) -> BTreeSet<String> {
    let tls = ingress["spec"]["tls"].as_array();
    let names = tls.into_iter().flatten();
    names
        .filter_map(|it| it["secretName"].as_str().map(str::to_owned))
        .collect()
}

/// The same object without owners, in the namespace of Argo Rollouts.
fn copy(object: &Value) -> Value {
    let mut copy = object.clone();
    copy["metadata"] = json!({"name": object["metadata"]["name"], "namespace": NAMESPACE});
    copy.as_object_mut().map(|it| it.remove("status"));
    copy
}

async fn read<K>(from: &ReleaseSite, name: &str) -> Result<Value, BenchError>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
    K::DynamicType: Default,
{
    let found = from.api::<K>().get(name).await.map_err(failed)?;
    serde_json::to_value(found).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::blue_green::tests::policy;

    /// A short version of the chart's template.
    fn template() -> Value {
        json!({
            "metadata": {"labels": {
                "app.kubernetes.io/name": SERVICE,
                "app.kubernetes.io/version": "v1",
                "trii.co/track": "blue",
            }},
            "spec": {
                "serviceAccountName": SERVICE,
                "topologySpreadConstraints": [{"topologyKey": "kubernetes.io/hostname"}],
                "containers": [{
                    "name": SERVICE,
                    "image": "trii-rehearsal/platform:v1",
                    "envFrom": [{"configMapRef": {"name": "market-data-service-0123456789"}}],
                    "env": [
                        {"name": "SERVICE_VERSION", "valueFrom": {"fieldRef": {
                            "fieldPath": "metadata.labels['app.kubernetes.io/version']"}}},
                        {"name": "REDIS_URL", "valueFrom": {"secretKeyRef": {
                            "name": "platform-secrets", "key": "redis"}}},
                    ],
                    "readinessProbe": {"httpGet": {"path": "/health/ready", "port": "metrics"}},
                }],
            },
        })
    }

    fn ingress() -> Value {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": SERVICE, "namespace": "trii-platform", "uid": "1",
                "annotations": {"nginx.ingress.kubernetes.io/rewrite-target": "/$2"},
            },
            "spec": {
                "tls": [{"secretName": "trii-tls", "hosts": ["api.trii.co"]}],
                "rules": [{"host": "api.trii.co", "http": {"paths": [
                    {"path": "/market-data(/|$)(.*)", "pathType": "ImplementationSpecific"},
                ]}}],
            },
            "status": {"loadBalancer": {}},
        })
    }

    fn manifests() -> Manifests {
        let pod = pod(&template());
        Manifests {
            copied: vec![service_account(&pod)],
            ingress: elsewhere(&ingress()),
            service: json!({"spec": {"ports": [{"name": "http", "port": 8000}]}}),
            pod,
            analysis: analysis("http://172.18.0.1:4000/", &policy()),
            scale_down_delay: 30,
        }
    }

    #[test]
    fn a_rollout_has_the_charts_pods_in_the_requested_version() {
        let rollout = serde_json::to_string_pretty(&manifests().rollout("v2"));
        insta::assert_snapshot!(rollout.unwrap());
    }

    #[test]
    fn the_other_objects_are_what_pods_and_users_need() {
        let around = serde_json::to_string_pretty(&manifests().around());
        insta::assert_snapshot!(around.unwrap());
    }

    #[test]
    fn the_names_in_pods_and_ingress_are_found() {
        let template = template();
        let only = |name: &str| BTreeSet::from([name.to_owned()]);
        let config_maps = names(&template, "/envFrom", "configMapRef");
        assert_eq!(config_maps, only("market-data-service-0123456789"));
        let secrets = names(&template, "/env", "secretKeyRef");
        assert_eq!(secrets, only("platform-secrets"));
        assert_eq!(tls_secrets(&ingress()), only("trii-tls"));
    }

    #[test]
    fn a_copy_has_no_owner_and_no_status() {
        let copy = copy(&ingress());
        let metadata = json!({"name": SERVICE, "namespace": NAMESPACE});
        assert_eq!(copy["metadata"], metadata);
        assert_eq!(copy.get("status"), None);
        assert_eq!(copy["spec"], ingress()["spec"]);
    }
}
