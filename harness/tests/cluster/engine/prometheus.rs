//! A release that is judged by what a real Prometheus has of users' requests.

use std::time::Duration;

use harness::blue_green::policy::Evidence;
use harness::blue_green::prometheus::Prometheus;
use harness::blue_green::{Ask, BlueGreenError, Conclusion, Event, Happened, Policy};
use harness::cluster::{Cluster, rollout};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::deployer::{deployer, put_faults};
use super::deploys::{deploy, release};
use super::images::on_nodes;
use super::shared::Shared;

const NAME: &str = "market-data-service";
const DEADLINE: Duration = Duration::from_secs(120);

const PROMETHEUS: &str = "prometheus";

/// Scrapes the pods of its own namespace each second. The platform's pods let it in, and the
/// default policy is not for it.
fn manifest(image: &str, namespace: &str) -> String {
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n\
         - job_name: pods\n\
         \x20 kubernetes_sd_configs: [{{role: pod, namespaces: {{names: [{namespace}]}}}}]\n\
         \x20 relabel_configs:\n\
         \x20 - {{source_labels: [__meta_kubernetes_pod_container_port_name], regex: metrics, action: keep}}\n\
         \x20 - {{source_labels: [__meta_kubernetes_namespace], target_label: namespace}}\n\
         \x20 - {{source_labels: [__meta_kubernetes_pod_name], target_label: pod}}\n"
    );
    let labels = json!({"app": PROMETHEUS});
    let volumes = json!([{"name": "config", "configMap": {"name": PROMETHEUS}},
        {"name": "data", "emptyDir": {}}]);
    let some = json!({"cpu": "200m", "memory": "256Mi"});
    let container = json!({"name": PROMETHEUS, "image": image, "imagePullPolicy": "IfNotPresent",
        "args": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data"],
        "ports": [{"containerPort": 9090}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
        "resources": {"requests": some, "limits": some},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/prometheus"},
            {"name": "data", "mountPath": "/data"}]});
    let pod = json!({"serviceAccountName": PROMETHEUS, "containers": [container], "volumes": volumes,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65534, "fsGroup": 65534,
            "seccompProfile": {"type": "RuntimeDefault"}}});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": PROMETHEUS});
    let account = json!({"kind": "ServiceAccount", "name": PROMETHEUS, "namespace": namespace});
    let object = |kind: &str, version: &str, more: Value| {
        let mut object = json!({"apiVersion": version, "kind": kind,
            "metadata": {"name": PROMETHEUS, "labels": labels}});
        object
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        object.to_string()
    };
    let rbac = "rbac.authorization.k8s.io/v1";
    let objects = [
        object("ServiceAccount", "v1", json!({})),
        object(
            "ConfigMap",
            "v1",
            json!({"data": {"prometheus.yml": config}}),
        ),
        object(
            "Role",
            rbac,
            json!({"rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]}),
        ),
        object(
            "RoleBinding",
            rbac,
            json!({"roleRef": role, "subjects": [account]}),
        ),
        object(
            "NetworkPolicy",
            "networking.k8s.io/v1",
            json!({"spec": {
            "podSelector": {"matchLabels": labels}, "ingress": [{}], "egress": [{}],
            "policyTypes": ["Ingress", "Egress"]}}),
        ),
        object(
            "Service",
            "v1",
            json!({"spec": {"selector": labels, "ports": [{"port": 9090}]}}),
        ),
        object(
            "Deployment",
            "apps/v1",
            json!({"spec": {"replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod}}}),
        ),
    ];
    objects.join("\n---\n")
}

/// Users of the service, for as long as it lives.
fn users(cluster: &Cluster) -> AbortOnDropHandle<()> {
    let (client, namespace) = (cluster.client().clone(), cluster.namespace.clone());
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut tick = interval(Duration::from_millis(20));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let uri = format!("/api/v1/namespaces/{namespace}/services/{NAME}:http/proxy/quotes");
            let request = hyper::Request::get(uri).body(Vec::new()).unwrap();
            let client = client.clone();
            tokio::spawn(async move { drop(client.request_text(request).await) });
        }
    }))
}

fn policy(shared: &Shared, namespace: &str) -> Policy {
    let of_pods = "{namespace=\"{namespace}\", pod=~\"{service}-{colour}-.*\"";
    Policy {
        analysis: Evidence::Prometheus,
        prometheus: Some(Prometheus {
            namespace: namespace.to_owned(),
            service: PROMETHEUS.to_owned(),
            port: "9090".to_owned(),
            requests: format!("http_requests_total{of_pods}}}"),
            errors: format!("http_requests_total{of_pods}, status=~\"5..\"}}"),
            durations: format!("http_request_duration_seconds_bucket{of_pods}}}"),
        }),
        baseline: Duration::from_secs(8),
        watch: Duration::from_secs(10),
        warm_up: Duration::from_secs(2),
        drain: Duration::from_secs(1),
        ..shared.config.blue_green.clone()
    }
}

async fn release_by(
    cluster: &Cluster,
    policy: &Policy,
    version: &str,
    mut meanwhile: impl AsyncFnMut(&Happened),
) -> Result<Conclusion, BlueGreenError> {
    let smoke = ["/quotes".to_owned()];
    let deployer = deployer(cluster, NAME, policy, &smoke);
    let ask = Ask::Deploy {
        version,
        manual: false,
    };
    let mut observe = async |event: &Event| {
        println!("{}", event.what);
        meanwhile(&event.what).await;
    };
    deployer.run(ask, &mut observe).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_prometheus_has_of_users_requests_decides() {
    let shared = Shared::find().await;
    let version = shared.environment.version.clone();
    let image = on_nodes(&shared, PROMETHEUS).await;
    shared
        .in_own_namespace("measured", async |cluster| {
            let with = |threads: &str| {
                let more = json!({"services": {NAME: {"env": {"WORKER_THREADS": threads}}},
                    "networkPolicy": {"monitoringNamespace": cluster.namespace}});
                release(&shared, &version, more)
            };
            deploy(cluster, &with("1")).await.unwrap();
            deploy(cluster, &with("2")).await.unwrap();
            let policy = policy(&shared, &cluster.namespace);

            let refused = release_by(cluster, &policy, &version, async |_| ()).await;
            let refused = refused.unwrap_err();
            assert!(matches!(refused, BlueGreenError::Preflight { .. }), "{refused:?}");
            assert!(refused.to_string().contains("Prometheus does not answer"), "{refused}");

            let manifest = manifest(&image, &cluster.namespace);
            cluster.apply(&manifest).await.unwrap();
            let up = rollout::complete(cluster, "app=prometheus", DEADLINE, &|_| ());
            up.await.unwrap();
            let users = users(cluster);

            let ill = json!({"error_share": 0.5});
            let concluded = release_by(cluster, &policy, &version, async |happened| {
                // The active Service has been smoked.
                if matches!(happened, Happened::SmokeHeld { service, .. } if service == NAME) {
                    put_faults(cluster, NAME, "green", &ill).await;
                }
            });
            let concluded = concluded.await.unwrap();
            let named = |why: &str| why.contains("errors");
            assert!(
                matches!(&concluded, Conclusion::Reverted { why, inconclusive: false } if named(why)),
                "{concluded:?}"
            );
            let concluded = release_by(cluster, &policy, &version, async |_| ()).await;
            assert!(matches!(concluded, Ok(Conclusion::Released { .. })), "{concluded:?}");
            drop(users);
        })
        .await;
}
