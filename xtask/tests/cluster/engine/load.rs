//! Load of several generators in the tier's cluster.

use std::time::Duration;

use base::wait::{self, Observation};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use loadtests::result::Ended;
use nix::sys::signal::Signal;

use super::scenarios::shared;
use crate::rig::{Rig, RunningCommand};

const AT_MOST: Duration = Duration::from_secs(240);
const GENERATORS: &str = "trii.rehearsal/part=generator";

/// A rig whose load no threshold ends: the cluster may be busy with other tests.
fn rig(seconds: u64) -> Rig {
    let rig = shared().arrivals(240, seconds);
    rig.change(
        "\"p(95)<3000\", abort_on_fail = true",
        "\"p(95)<60000\", abort_on_fail = false",
    )
}

fn load(rig: &Rig) -> RunningCommand<'_> {
    rig.spawn(&["load", "run", "breakpoint", "--generators", "3"])
}

async fn client(rig: &Rig) -> Client {
    let place = rig.typed_environment().cluster.unwrap();
    place.open_in("default").await.unwrap().client().clone()
}

/// Waits until no generator exists.
async fn generators_are_gone(client: &Client) {
    let (deadline, pause) = (Duration::from_secs(90), Duration::from_millis(500));
    let jobs: Api<Job> = Api::namespaced(client.clone(), "default");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let ours = ListParams::default().labels(GENERATORS);
    let gone = wait::until("the generators are gone", deadline, pause, async || {
        let jobs = jobs.list(&ours).await.unwrap().items.len();
        match (jobs, pods.list(&ours).await.unwrap().items.len()) {
            (0, 0) => Observation::Ready(()),
            (jobs, pods) => Observation::NotYet(format!("{jobs} jobs, {pods} pods")),
        }
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn generators_make_every_arrival_once() {
    let rig = rig(10);
    let ended = load(&rig).ends_within(AT_MOST);
    let result = rig.load_result("breakpoint");
    // On a busy machine the run must be inconclusive.
    let code = result.generator.bottleneck.as_ref().map_or(0, |_| 5);
    ended.expect(code, "3 generators start in the cluster");
    assert_eq!(result.ended, Ended::Whole);
    let total = result.whole();
    assert_eq!((total.requests, total.failed, total.dropped), (2400, 0, 0));
    assert_eq!(total.latency.count(), 2400);
    assert_eq!(result.generator.cores, 3);
    let fingerprint = &result.fingerprint;
    let machine = &fingerprint.machine;
    assert!(
        machine.ends_with("; 3 generators in the cluster"),
        "{machine}"
    );
    assert_eq!(fingerprint.versions.len(), 1, "{fingerprint:?}");
    generators_are_gone(&client(&rig).await).await;
}

#[tokio::test]
async fn cancelled_generators_drain_and_keep_their_measurements() {
    let rig = rig(600);
    let mut running = load(&rig);
    running.prints("requests, 0 failed, 0 dropped");
    running.signal(Signal::SIGINT);
    running.ends_within(AT_MOST).expect_code(130);
    let result = rig.load_result("breakpoint");
    assert_eq!(result.ended, Ended::Interrupted);
    let total = result.whole();
    assert!((1..600 * 240).contains(&total.requests), "{total:?}");
    generators_are_gone(&client(&rig).await).await;
}

#[tokio::test]
async fn generators_that_are_cancelled_while_they_start_are_removed() {
    let rig = rig(600);
    let mut running = load(&rig);
    running.prints("3 generators start in the cluster");
    running.signal(Signal::SIGINT);
    running
        .ends_within(AT_MOST)
        .expect(130, "cancelled before the load started");
    generators_are_gone(&client(&rig).await).await;
}

#[tokio::test]
async fn without_one_generator_there_is_no_result() {
    let rig = rig(600);
    let mut running = load(&rig);
    running.prints("requests, 0 failed, 0 dropped");
    let client = client(&rig).await;
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let ours = ListParams::default().labels(GENERATORS);
    let pods = api.list(&ours).await.unwrap();
    let generator = pods.iter().find(|pod| {
        let index = "batch.kubernetes.io/job-completion-index";
        pod.annotations().get(index).map(String::as_str) == Some("2")
    });
    let now = DeleteParams::default().grace_period(0);
    let deleted = api.delete(&generator.unwrap().name_any(), &now).await;
    deleted.unwrap();
    running
        .ends_within(AT_MOST)
        .expect(3, "generator 2 of 3 ended too early: it was terminated");
    generators_are_gone(&client).await;
}
