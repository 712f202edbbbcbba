//! A real cluster of images that came without a registry: kind's node, and the platform.

mod cluster;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster::Cluster;
use harness::engine::{Engine, PATIENCE};
use harness::images::{self, ImageReference, Workshop};
use serde_json::{Value, json};

const PASSWORD: &str = "right-Password_1";

/// The gateway's NodePort in `images/platform.yaml`.
const GATEWAY: u16 = 30080;

/// From the manifests until the gateway answers; seconds.
const READY: Duration = Duration::from_secs(120);

/// Where `cargo xtask` keeps tools and state, unless it is told otherwise.
fn state_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("harness")
}

/// Not built here: Kubernetes takes longer to compile than a test may run.
async fn at_hand(engine: &Engine, name: &str) -> ImageReference {
    let workshop = Workshop {
        recipes: Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/images"),
        state_dir: state_dir(),
    };
    match images::at_hand(engine, &workshop, name, &|_| ()).await {
        Ok(image) => image,
        Err(error) => panic!("{error}; `cargo xtask images build {name}` has it built"),
    }
}

#[tokio::test]
#[ignore = "wants the images `kind-node` and `platform`, and kind"]
async fn a_cluster_of_these_images_runs_the_platform() {
    let engine = Engine::find(PATIENCE).await.unwrap();
    let node = at_hand(&engine, "kind-node").await;
    let platform = at_hand(&engine, "platform").await.to_string();

    let started = Instant::now();
    let cluster = Cluster::create(&engine, &state_dir(), &node.to_string(), GATEWAY);
    println!("cluster: created after {:?}", started.elapsed());
    assert!(!cluster.pods().is_empty());
    cluster.wait_for_all_pods();
    println!("cluster: all pods ready after {:?}", started.elapsed());

    let load = || {
        images::load(
            &engine,
            &cluster.name,
            std::slice::from_ref(&platform),
            &|_| (),
        )
    };
    let started = Instant::now();
    let loaded = load().await.unwrap();
    println!("platform: loaded after {:?}", started.elapsed());
    assert_eq!(loaded.nodes.len(), 2);
    assert_eq!(loaded.brought, [platform.as_str()]);
    let again = load().await.unwrap();
    assert_eq!(again.there, [platform.as_str()]);

    let started = Instant::now();
    let manifests = include_str!("images/platform.yaml")
        .replace("IMAGE", &platform)
        .replace("PASSWORD", PASSWORD);
    cluster.apply(&manifests);
    let gateway = format!("http://127.0.0.1:{}", cluster.port_of(GATEWAY));
    let token = logged_in(&gateway, started).await;
    // By name, address and rule of a Service to a pod of the other node.
    let answer = reqwest::Client::new()
        .get(format!("{gateway}/api/ml-prediction/health/ready"))
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-trii-service"], "ml-prediction-service");
    println!(
        "platform: answers on its node port after {:?}",
        started.elapsed()
    );

    let started = Instant::now();
    let name = cluster.name.clone();
    drop(cluster);
    println!("cluster: deleted after {:?}", started.elapsed());
    assert_eq!(cluster::nodes_of(&name), "");
}

async fn logged_in(gateway: &str, started: Instant) -> String {
    let credentials = json!({"investor": "ana", "password": PASSWORD});
    loop {
        let request = reqwest::Client::new()
            .post(format!("{gateway}/api/login"))
            .json(&credentials)
            .timeout(Duration::from_secs(5));
        let why = match request.send().await {
            Ok(answer) if answer.status() == 200 => {
                let answer: Value = answer.json().await.unwrap();
                return answer["token"].as_str().unwrap().to_owned();
            }
            Ok(answer) => answer.status().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(started.elapsed() < READY, "{why}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
