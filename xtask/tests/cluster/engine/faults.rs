//! Faults that only an engine or a cluster shows.

use std::net::TcpListener;
use std::path::Path;

use base::proxies::Proxies;
use kubernetes::workloads::Workloads;
use nix::sys::signal::Signal;

use super::{ClusterRig, SOON};
use crate::machine::eventually;
use crate::rig::{E2E_ON_KIND, Rig, SECONDS};

#[tokio::test]
async fn a_port_that_is_taken_is_named_before_anything_is_started() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let rig = Rig::new().change("ingress_port = 0", &format!("ingress_port = {port}"));
    let cluster = ClusterRig::of(rig).await;
    let traces = cluster.traces().await;
    let running = cluster.rig.spawn(&E2E_ON_KIND);
    running
        .ends_within(SECONDS)
        .expect(3, &format!("127.0.0.1:{port}"))
        .expect_stderr("ingress_port = 0");
    let started = |event: &serde_json::Value| event["event"] == "step";
    assert!(!cluster.rig.events("e2e").iter().any(started));
    cluster.leaves_nothing(traces).await;
}

#[tokio::test]
async fn tools_that_are_missing_are_named() {
    let nothing = tempfile::tempdir().unwrap();
    let path = nothing.path().display().to_string();
    let cluster = ClusterRig::of(Rig::new().variable("PATH", &path)).await;
    cluster
        .rig
        .run(&E2E_ON_KIND)
        .expect(3, "kind and helm not installed")
        .expect_stderr("--provision");
}

#[tokio::test]
async fn a_name_that_is_coming_up_is_refused_and_its_holder_is_named() {
    let cluster = ClusterRig::new().await;
    let rig = &cluster.rig;
    let mut first = rig.spawn(&E2E_ON_KIND);
    first.starts("kind create ");
    let traces = cluster.traces().await;
    let holder = format!("process {}", rig.supervisor().pid);
    let second = rig.spawn(&E2E_ON_KIND);
    second
        .ends_within(SECONDS)
        .expect(3, "is in use since")
        .expect_stderr(&holder);
    first.starts("kind create ");
    first.signal(Signal::SIGTERM);
    first.ends_within(SOON).expect_code(143);
    cluster.leaves_nothing(traces).await;
}

/// Counts the tunnels' pods.
async fn tunnels(rig: &Rig) -> usize {
    let place = rig.typed_environment().cluster.unwrap();
    let cluster = place.open_in("default").await.unwrap();
    let selector = format!("{}=tunnel", kubernetes::tunnel::LABEL);
    let workloads = Workloads::look(&cluster, &selector).await.unwrap();
    workloads.pods.len()
}

/// Checks that the platform answers through the ingress, in this version.
async fn serves(rig: &Rig, version: &str) {
    let environment = rig.typed_environment();
    let http = environment
        .entry
        .client([environment.site_host.as_str()], &Proxies::default());
    let answer = http.unwrap().get(environment.site_url()).send().await;
    let answer = answer.unwrap().error_for_status().unwrap();
    assert_eq!(answer.headers()["x-trii-version"], version);
}

/// One test, because the faults need one cluster.
#[tokio::test]
async fn a_running_platform_continues_through_failed_deployments() {
    let cluster = ClusterRig::new().await;
    let rig = &cluster.rig;
    rig.run(&["up", "--target", "kind"]).expect_code(0);
    let traces = cluster.traces().await;

    // A run that is cancelled while it has a pod in the cluster.
    let mut running = rig.spawn(&["smoke"]);
    running.happens("checks run from inside", |event| {
        event["event"] == "scenario-started" && event["scenario"] == "smoke-from-inside"
    });
    assert_eq!(tunnels(rig).await, 1);
    running.signal(Signal::SIGINT);
    running.ends_within(SECONDS).expect_code(130);
    assert_eq!(tunnels(rig).await, 0);

    // An image that does not exist.
    rig.spawn(&["deploy", "--version", "v9.9.9"])
        .ends_within(SOON)
        .expect(3, "trii-rehearsal/platform:v9.9.9");
    serves(rig, "v2.1.0").await;

    // helm dies with its command, and may leave a pending release.
    let mut running = rig.spawn(&["deploy"]);
    let helm = running.starts("helm upgrade ");
    helm.signal(Signal::SIGSTOP);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.ends_within(SECONDS).status.code(), None);
    helm.exits();
    rig.run(&["deploy"]).expect_code(0);
    serves(rig, "v2.1.0").await;

    stopped_containers_are_started(&cluster).await;

    rig.run(&["down"]).expect_code(0);
    cluster.leaves_nothing(traces).await;
}

/// `up` starts the same containers: none is created.
async fn stopped_containers_are_started(cluster: &ClusterRig) {
    let rig = &cluster.rig;
    let docker = cluster.engine.client();
    let before = cluster.identities().await;
    let named = |part: &str| before.keys().find(|name| name.contains(part)).unwrap();
    let (node, postgres) = (named("-control-plane"), named("-postgres-"));
    let run = rig.environment().unwrap()["run_folder"].clone();
    let log = Path::new(run.as_str().unwrap()).join("logs/postgres.log");
    let starts = || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.matches("ready to accept connections").count()
    };
    let started = starts();
    docker.pause_container(node).await.unwrap();
    docker.stop_container(postgres, None).await.unwrap();
    eventually("the loss of Postgres is recorded", SECONDS, || {
        let lost = rig.environment().unwrap()["lost"].clone();
        match lost.to_string().contains("postgres") {
            true => Ok(()),
            false => Err(lost.to_string()),
        }
    });
    rig.run(&["up", "--target", "kind"])
        .expect(0, &format!("{node} is paused: unpausing it"))
        .expect_stderr(&format!("{postgres} is stopped: starting it"));
    assert_eq!(cluster.identities().await, before);
    assert_eq!(rig.environment().unwrap()["lost"], serde_json::json!([]));
    eventually("the log continues", SECONDS, || match starts() > started {
        true => Ok(()),
        false => Err(format!("{started} starts in {}", log.display())),
    });
    serves(rig, "v2.1.0").await;
}
