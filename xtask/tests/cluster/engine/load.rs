//! Load made by several generators in the tier's cluster.

use std::time::Duration;

use harness::cluster::Cluster;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use loadtests::result::{Ended, LoadResult};
use nix::sys::signal::Signal;

use super::scenarios::shared;
use crate::rig::{Course, Rig};

/// An image may have to be made first.
const AT_MOST: Duration = Duration::from_secs(900);
const GENERATORS: &str = "trii.rehearsal/part=generator";

fn rig(seconds: u32) -> Rig {
    shared().change(
        "stages = [{ rate = 2000, seconds = 1200 }]",
        &format!("stages = [{{ rate = 240, seconds = 0 }}, {{ rate = 240, seconds = {seconds} }}]"),
    )
}

fn load(rig: &Rig) -> Course<'_> {
    rig.spawn(&["load", "run", "breakpoint", "--generators", "3"])
}

fn result(rig: &Rig) -> LoadResult {
    let folder = rig.run_folder("load").unwrap();
    LoadResult::read(&folder.join("load-breakpoint.json")).unwrap()
}

/// Where the generators are.
struct There {
    cluster: Cluster,
}

impl There {
    async fn of(rig: &Rig) -> There {
        let environment = rig.environment().unwrap();
        let environment: harness::environment::Environment =
            serde_json::from_value(environment).unwrap();
        There {
            cluster: environment
                .cluster
                .unwrap()
                .open_in("default")
                .await
                .unwrap(),
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.client().clone(), "default")
    }

    async fn jobs(&self) -> Vec<String> {
        let jobs: Api<Job> = Api::namespaced(self.cluster.client().clone(), "default");
        let listed = jobs.list(&ListParams::default().labels(GENERATORS)).await;
        listed.unwrap().iter().map(ResourceExt::name_any).collect()
    }

    async fn is_left(&self) {
        let gone = harness::wait::until(
            "the generators are gone",
            Duration::from_secs(90),
            Duration::from_millis(500),
            async || {
                let pods = self
                    .pods()
                    .list(&ListParams::default().labels(GENERATORS))
                    .await;
                match (self.jobs().await, pods.unwrap().items.len()) {
                    (jobs, 0) if jobs.is_empty() => harness::wait::Observation::Ready(()),
                    left => harness::wait::Observation::NotYet(format!("{left:?}")),
                }
            },
        );
        gone.await.unwrap();
    }
}

#[tokio::test]
async fn together_they_make_every_arrival_once() {
    let rig = rig(10);
    let ended = load(&rig).ends_within(AT_MOST);
    let result = result(&rig);
    // On a machine that does much else beside it, it must say so.
    let code = match result.generator.bottleneck {
        None => 0,
        Some(_) => 5,
    };
    ended
        .expect_code(code)
        .expect_words("3 generators start in the cluster");
    assert_eq!(result.ended, Ended::Whole);
    let whole = result.whole();
    assert_eq!((whole.requests, whole.failed, whole.dropped), (2400, 0, 0));
    assert_eq!(whole.latency.count(), 2400);
    assert_eq!(result.generator.cores, 3);
    let machine = &result.fingerprint.machine;
    assert!(
        machine.ends_with("; 3 generators in the cluster"),
        "{machine}"
    );
    assert_eq!(
        result.fingerprint.versions.len(),
        1,
        "{:?}",
        result.fingerprint
    );
    There::of(&rig).await.is_left().await;
}

#[tokio::test]
async fn called_off_they_drain_and_what_they_measured_is_kept() {
    let rig = rig(600);
    let mut course = load(&rig);
    course.says("requests, 0 failed, 0 dropped");
    course.signal(Signal::SIGINT);
    course.ends_within(AT_MOST).expect_code(130);
    let result = result(&rig);
    assert_eq!(result.ended, Ended::Interrupted);
    let whole = result.whole();
    assert!(
        whole.requests > 0 && whole.requests < 600 * 240,
        "{whole:?}"
    );
    There::of(&rig).await.is_left().await;
}

#[tokio::test]
async fn called_off_while_they_start_they_are_gone() {
    let rig = rig(600);
    let mut course = load(&rig);
    course.says("3 generators start in the cluster");
    course.signal(Signal::SIGINT);
    course
        .ends_within(AT_MOST)
        .expect_code(130)
        .expect_words("called off before the load began");
    There::of(&rig).await.is_left().await;
}

#[tokio::test]
async fn without_one_of_them_there_is_no_result() {
    let rig = rig(600);
    let mut course = load(&rig);
    course.says("requests, 0 failed, 0 dropped");
    let there = There::of(&rig).await;
    let ours = ListParams::default().labels(GENERATORS);
    let pods = there.pods().list(&ours).await.unwrap();
    let one = pods.iter().find(|pod| {
        let index = "batch.kubernetes.io/job-completion-index";
        pod.annotations().get(index).map(String::as_str) == Some("2")
    });
    let at_once = DeleteParams::default().grace_period(0);
    there
        .pods()
        .delete(&one.unwrap().name_any(), &at_once)
        .await
        .unwrap();
    course
        .ends_within(AT_MOST)
        .expect_code(3)
        .expect_words("generator 2 of 3 ended before its time: it was terminated");
    there.is_left().await;
}
