//! Releases whose evidence is what a real Prometheus measures of users' requests.

use std::time::Duration;

use blue_green::policy::Evidence;
use blue_green::prometheus::Prometheus;
use blue_green::{BlueGreenError, Conclusion, EventKind, Operation, Policy, ReleaseEvent};
use kubernetes::{Cluster, rollout};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::deployer::{deployer, put_faults};
use super::deploys::{deploy, release};
use super::images::on_nodes;
use super::shared::Shared;

const NAME: &str = "market-data-service";
const DEADLINE: Duration = Duration::from_secs(120);
const PROMETHEUS: &str = "prometheus";

/// Sends requests to the service until the returned value is dropped.
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
    mut meanwhile: impl AsyncFnMut(&EventKind),
) -> Result<Conclusion, BlueGreenError> {
    let smoke = ["/quotes".to_owned()];
    let deployer = deployer(cluster, NAME, policy, &smoke);
    let operation = Operation::Deploy {
        version,
        manual: false,
    };
    let mut observe = async |event: &ReleaseEvent| {
        println!("{}", event.what);
        meanwhile(&event.what).await;
    };
    deployer.run(operation, &mut observe).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_prometheus_measures_of_users_requests_decides() {
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

            let error = release_by(cluster, &policy, &version, async |_| ()).await;
            let error = error.unwrap_err();
            assert!(
                matches!(error, BlueGreenError::Preflight { .. }),
                "{error:?}"
            );
            assert!(
                error.to_string().contains("Prometheus does not answer"),
                "{error}"
            );

            let manifest = include_str!("prometheus/prometheus.yaml")
                .replace("IMAGE", &image)
                .replace("NAMESPACE", &cluster.namespace);
            cluster.apply(&manifest).await.unwrap();
            let up = rollout::complete(cluster, "app=prometheus", DEADLINE, &|_| ());
            up.await.unwrap();
            let users = users(cluster);

            let faults = json!({"error_share": 0.5});
            let concluded = release_by(cluster, &policy, &version, async |event| {
                // The active Service has passed its smoke test.
                if matches!(event, EventKind::SmokeHeld { service, .. } if service == NAME) {
                    put_faults(cluster, NAME, "green", &faults).await;
                }
            });
            let concluded = concluded.await.unwrap();
            let Conclusion::Reverted {
                why,
                inconclusive: false,
            } = &concluded
            else {
                panic!("{concluded:?}");
            };
            assert!(why.contains("errors"), "{why}");
            let concluded = release_by(cluster, &policy, &version, async |_| ()).await;
            assert!(
                matches!(concluded, Ok(Conclusion::Released { .. })),
                "{concluded:?}"
            );
            drop(users);
        })
        .await;
}
