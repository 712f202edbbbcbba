//! Several services in one release, on a real cluster: all of them are released, or none.

use blue_green::{
    Colour, Conclusion, EventKind, GroupConclusion, Operation, ReleaseEvent, ReleaseStep,
    ServiceStatus, run_together,
};
use kubernetes::Cluster;
use serde_json::json;

use super::deployer::{by_health, deployer, put_faults};
use super::deploys::{deploy, release};
use super::shared::Shared;

const QUOTES: &str = "market-data-service";
const ANALYSIS: &str = "analysis-engine-service";

/// Each service, after those that it calls, with a path that it must answer.
const SERVICES: [(&str, &str); 2] = [
    (QUOTES, "/quotes"),
    (ANALYSIS, "/analysis/symbols/ECOPETROL"),
];

/// Releases both in this version, and calls `meanwhile` with each event.
async fn release_both(
    shared: &Shared,
    cluster: &Cluster,
    version: &str,
    mut meanwhile: impl AsyncFnMut(&str, &EventKind),
) -> GroupConclusion {
    let policy = by_health(shared);
    let smoke = SERVICES.map(|(_, path)| [path.to_owned()]);
    let deployers = [0, 1].map(|at| deployer(cluster, SERVICES[at].0, &policy, &smoke[at]));
    let operation = Operation::Deploy {
        version,
        manual: false,
    };
    let mut observe = async |service: &str, event: &ReleaseEvent| {
        println!("{service}: {}", event.what);
        meanwhile(service, &event.what).await;
    };
    run_together(&deployers, operation, &mut observe).await
}

async fn live(cluster: &Cluster) -> [Option<Colour>; 2] {
    let [quotes, analysis] = [QUOTES, ANALYSIS].map(|service| ServiceStatus::of(cluster, service));
    [quotes.await.unwrap().live, analysis.await.unwrap().live]
}

#[tokio::test]
async fn services_of_one_release_are_rolled_back_together_and_released_together() {
    let shared = Shared::find().await;
    let version = shared.environment.version.clone();
    shared
        .in_own_namespace("together", async |cluster| {
            // A configuration is released like a version, and needs no other image.
            let with = |threads: &str| {
                let mut services = json!({});
                for (service, _) in SERVICES {
                    services[service] = json!({"blueGreen": {"enabled": true},
                        "env": {"WORKER_THREADS": threads}});
                }
                release(&shared, &version, json!({"services": services}))
            };
            deploy(cluster, &with("1")).await.unwrap();
            deploy(cluster, &with("2")).await.unwrap();

            // The service that calls the other one fails as soon as it has traffic.
            let concluded = release_both(&shared, cluster, &version, async |service, event| {
                let starts = EventKind::Began {
                    step: ReleaseStep::Analyse,
                };
                if service == ANALYSIS && *event == starts {
                    assert_eq!(live(cluster).await, [Some(Colour::Green); 2]);
                    put_faults(cluster, ANALYSIS, "green", &json!({"error_share": 1.0})).await;
                }
            })
            .await;
            assert_eq!(concluded.failed.as_deref(), Some(ANALYSIS));
            for (service, concluded) in &concluded.each {
                let is_back = matches!(concluded, Ok(Conclusion::Reverted { .. }));
                assert!(is_back, "{service}: {concluded:?}");
            }
            assert_eq!(live(cluster).await, [Some(Colour::Blue); 2]);

            let concluded = release_both(&shared, cluster, &version, async |_, _| ()).await;
            for (service, concluded) in &concluded.each {
                let is_live = matches!(concluded, Ok(Conclusion::Released { .. }));
                assert!(is_live, "{service}: {concluded:?}");
            }
            assert_eq!(live(cluster).await, [Some(Colour::Green); 2]);
        })
        .await;
}
