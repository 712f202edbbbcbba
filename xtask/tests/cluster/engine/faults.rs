//! Bad input that only an engine or a cluster shows.

use std::net::TcpListener;
use std::path::Path;

use harness::cluster::workloads::Workloads;
use harness::cluster::{Access, Cluster};
use harness::environment::Environment;
use harness::proxies::Proxies;
use nix::sys::signal::Signal;

use super::{ClusterRig, SOON};
use crate::machine::{Process, eventually};
use crate::rig::{E2E_ON_KIND, Rig, SECONDS};

#[tokio::test]
async fn a_port_that_is_taken_is_named_before_anything_is_started() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let rig = Rig::new().change("ingress_port = 0", &format!("ingress_port = {port}"));
    let cluster = ClusterRig::of(rig).await;
    let traces = cluster.traces().await;
    let course = cluster.rig.spawn(&E2E_ON_KIND);
    course
        .ends_within(SECONDS)
        .expect_code(3)
        .expect_words(&format!("127.0.0.1:{port}"))
        .expect_words("ingress_port = 0");
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
        .expect_code(3)
        .expect_words("kind and helm not installed")
        .expect_words("--provision");
}

#[tokio::test]
async fn a_name_that_is_coming_up_is_refused_naming_the_holder() {
    let cluster = ClusterRig::new().await;
    let rig = &cluster.rig;
    let mut first = rig.spawn(&E2E_ON_KIND);
    first.starts("kind create ");
    let traces = cluster.traces().await;
    let holder = format!("process {}", rig.supervisor().pid);
    let second = rig.spawn(&E2E_ON_KIND);
    second
        .ends_within(SECONDS)
        .expect_code(3)
        .expect_words("is in use since")
        .expect_words(&holder);
    first.starts("kind create ");
    first.signal(Signal::SIGTERM);
    first.ends_within(SOON).expect_code(143);
    cluster.leaves_nothing(traces).await;
}

/// How many pods there are through which we speak from inside.
async fn tunnels(rig: &Rig) -> usize {
    let place = rig.environment().unwrap()["cluster"].clone();
    let kubeconfig = Path::new(place["kubeconfig"].as_str().unwrap());
    let context = place["context"].as_str().unwrap();
    let opened = Cluster::open(kubeconfig, context, "default", Access::ours());
    let cluster = opened.await.unwrap();
    let selector = format!("{}=tunnel", harness::tunnel::LABEL);
    let workloads = Workloads::look(&cluster, &selector).await.unwrap();
    workloads.pods.len()
}

/// The platform answers through the ingress, in this version.
async fn serves(rig: &Rig, version: &str) {
    let environment: Environment = serde_json::from_value(rig.environment().unwrap()).unwrap();
    let http = environment
        .entry
        .client([environment.site_host.as_str()], &Proxies::default());
    let answer = http.unwrap().get(environment.site_url()).send().await;
    let answer = answer.unwrap().error_for_status().unwrap();
    assert_eq!(answer.headers()["x-trii-version"], version);
}

/// One cluster for all that is done to a platform that runs.
#[tokio::test]
async fn a_platform_that_runs_goes_on_whatever_a_deployment_comes_to() {
    let cluster = ClusterRig::new().await;
    let rig = &cluster.rig;
    rig.run(&["up", "--target", "kind"]).expect_code(0);
    let traces = cluster.traces().await;

    // A proof that is called off while it has a pod in the cluster.
    let mut course = rig.spawn(&["smoke"]);
    course.happens("it looks from inside", |event| {
        event["event"] == "scenario-started" && event["scenario"] == "smoke-from-inside"
    });
    assert_eq!(tunnels(rig).await, 1);
    course.signal(Signal::SIGINT);
    course.ends_within(SECONDS).expect_code(130);
    assert_eq!(tunnels(rig).await, 0);

    // An image that nobody has.
    rig.spawn(&["deploy", "--version", "v9.9.9"])
        .ends_within(SOON)
        .expect_code(3)
        .expect_words("trii-rehearsal/platform:v9.9.9");
    serves(rig, "v2.1.0").await;

    // helm dies with its command, and may leave its release pending.
    let mut course = rig.spawn(&["deploy"]);
    let helm = course.starts("helm upgrade ");
    helm.signal(Signal::SIGSTOP);
    course.signal(Signal::SIGKILL);
    assert_eq!(course.ends_within(SECONDS).status.code(), None);
    eventually("helm is gone", SECONDS, || {
        match Process::of(helm.pid).filter(Process::runs) {
            Some(still) => Err(still.command),
            None => Ok(()),
        }
    });
    rig.run(&["deploy"]).expect_code(0);
    serves(rig, "v2.1.0").await;

    is_repaired(&cluster).await;

    rig.run(&["down"]).expect_code(0);
    cluster.leaves_nothing(traces).await;
}

/// What was stopped is started again, and is what it was: nothing is made anew.
async fn is_repaired(cluster: &ClusterRig) {
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
    eventually("Postgres is told to be lost", SECONDS, || {
        let lost = rig.environment().unwrap()["lost"].clone();
        match lost.to_string().contains("postgres") {
            true => Ok(()),
            false => Err(lost.to_string()),
        }
    });
    rig.run(&["up", "--target", "kind"])
        .expect_code(0)
        .expect_words(&format!("{node} is paused: unpausing it"))
        .expect_words(&format!("{postgres} is stopped: starting it"));
    assert_eq!(cluster.identities().await, before);
    assert_eq!(rig.environment().unwrap()["lost"], serde_json::json!([]));
    eventually("its log goes on", SECONDS, || match starts() > started {
        true => Ok(()),
        false => Err(format!("{started} starts in {}", log.display())),
    });
    serves(rig, "v2.1.0").await;
}
