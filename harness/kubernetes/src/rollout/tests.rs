use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::mock::MockServer;

/// A Deployment of `wanted` replicas with the given status, at generation 2, revision 2.
fn deployment(wanted: i32, status: Value) -> Value {
    json!({
        "metadata": {"name": "api-gateway", "uid": "d", "generation": 2,
            "annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {"replicas": wanted, "selector": {}, "template": {}},
        "status": status,
    })
}

fn counts(observed: i64, counts: [i32; 4]) -> Value {
    let [replicas, updated, ready, available] = counts;
    json!({"observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated,
        "readyReplicas": ready, "availableReplicas": available})
}

fn replica_set(uid: &str, revision: &str, status: Value) -> Value {
    json!({
        "metadata": {"name": format!("api-gateway-{uid}"), "uid": uid,
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "api-gateway", "uid": "d"}]},
        "status": status,
    })
}

fn pod(name: &str, owner: &str, state: Value) -> Value {
    json!({
        "metadata": {"name": name, "uid": name,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner}]},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "app", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": state}]},
    })
}

fn image_missing() -> Value {
    json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"i\""}})
}

fn workloads(deployment: Value, replica_sets: Value, pods: Value) -> Workloads {
    Workloads {
        deployments: vec![serde_json::from_value(deployment).unwrap()],
        replica_sets: serde_json::from_value(replica_sets).unwrap(),
        jobs: Vec::new(),
        pods: serde_json::from_value(pods).unwrap(),
    }
}

fn evaluated(workloads: &Workloads) -> Rollout {
    state_of(workloads, &workloads.deployments[0])
}

fn so_far(rollout: Rollout) -> String {
    match rollout {
        Rollout::InProgress { so_far, .. } => so_far,
        other => panic!("{other:?}"),
    }
}

fn blocked(workloads: &Workloads) -> WorkloadProblem {
    match evaluated(workloads) {
        Rollout::InProgress { problem, .. } => problem.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn stuck(workloads: &Workloads) -> WorkloadProblem {
    match evaluated(workloads) {
        Rollout::Stuck(problem) => problem,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn complete_means_every_count_and_the_generation(
        wanted in 0..4i32, observed in 1..4i64, have in proptest::array::uniform4(0..4i32)
    ) {
        let all = have.iter().all(|count| *count == wanted);
        let read = workloads(deployment(wanted, counts(observed, have)), json!([]), json!([]));
        prop_assert_eq!(evaluated(&read) == Rollout::Complete, observed >= 2 && all);
    }
}

#[test]
fn a_deployment_has_one_replica_by_default() {
    let mut gateway = deployment(1, counts(2, [1; 4]));
    gateway["spec"].as_object_mut().unwrap().remove("replicas");
    let read = workloads(gateway, json!([]), json!([]));
    assert_eq!(evaluated(&read), Rollout::Complete);
}

#[test]
fn a_rollout_with_an_old_pod_is_complete_once_that_terminates() {
    let running = pod("old", "1", json!({"running": {}}));
    let sets = json!([
        replica_set("1", "1", json!({"replicas": 1})),
        replica_set("2", "2", json!({"replicas": 2, "readyReplicas": 2}))
    ]);
    let updated = deployment(2, counts(2, [2; 4]));
    let read = workloads(updated.clone(), sets.clone(), json!([running]));
    assert_eq!(so_far(evaluated(&read)), "2/2 ready, 1 old");
    let mut terminating = running;
    terminating["metadata"]["deletionTimestamp"] = json!("2026-11-25T09:00:00Z");
    let read = workloads(updated, sets, json!([terminating]));
    assert_eq!(evaluated(&read), Rollout::Complete);
}

#[test]
fn trouble_counts_in_the_newest_replica_set_only() {
    let sets = json!([
        replica_set("1", "1", json!({"replicas": 1})),
        replica_set("2", "2", json!({"replicas": 1}))
    ]);
    let status = counts(2, [2, 1, 0, 0]);
    let starting = json!({"waiting": {"reason": "ContainerCreating"}});
    let old = json!([pod("a", "1", image_missing()), pod("b", "2", starting)]);
    let read = workloads(deployment(1, status.clone()), sets.clone(), old);
    assert_eq!(so_far(evaluated(&read)), "0/1 ready, 1 old");
    let new = json!([pod("b", "2", image_missing())]);
    let problem = stuck(&workloads(deployment(1, status), sets, new));
    assert_eq!(problem.object, "pod/b");
    assert_eq!(problem.cause, Cause::Image);
}

#[test]
fn a_status_of_an_earlier_generation_does_not_count() {
    let mut status = counts(1, [1, 1, 0, 0]);
    status["conditions"] =
        json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    let sets = json!([replica_set("2", "2", json!({"replicas": 1}))]);
    let pods = json!([pod("b", "2", image_missing())]);
    assert_eq!(
        so_far(evaluated(&workloads(deployment(1, status), sets, pods))),
        "not begun"
    );
}

/// A ReplicaSet whose pods are refused with `message`.
fn refusing(message: &str) -> Value {
    let status = json!({"replicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True",
        "reason": "FailedCreate", "message": message}]});
    replica_set("2", "2", status)
}

fn failing(message: &str) -> Workloads {
    let sets = json!([refusing(message)]);
    workloads(deployment(1, counts(2, [0; 4])), sets, json!([]))
}

#[test]
fn refused_pods_are_reported_with_the_message_and_only_an_admission_rule_is_final() {
    let quota = "pods \"api-gateway-2-x\" is forbidden: exceeded quota: trii-platform, requested: requests.cpu=50m, used: requests.cpu=1, limited: requests.cpu=1";
    let problem = blocked(&failing(quota));
    assert_eq!(problem.cause, Cause::Quota);
    assert!(problem.to_string().contains("limited: requests.cpu=1"));
    let webhook = "Internal error occurred: failed calling webhook";
    assert!(blocked(&failing(webhook)).message.contains("webhook"));
    let rule = "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"";
    assert_eq!(stuck(&failing(rule)).cause, Cause::Admission);
}

#[test]
fn the_reason_of_a_pod_explains_a_stalled_rollout() {
    let mut status = counts(2, [1, 1, 0, 0]);
    status["conditions"] = json!([{"type": "Progressing", "status": "False",
        "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"x\" has timed out progressing."}]);
    let sets = json!([replica_set("2", "2", json!({"replicas": 1}))]);
    let problem = stuck(&workloads(
        deployment(1, status.clone()),
        sets.clone(),
        json!([]),
    ));
    assert_eq!(problem.cause, Cause::Stalled);
    assert_eq!(problem.object, "deployment/api-gateway");
    let slow = json!({"waiting": {"reason": "ErrImagePull", "message": "503 Service Unavailable"}});
    let pods = json!([pod("b", "2", slow)]);
    let problem = stuck(&workloads(deployment(1, status), sets, pods));
    assert_eq!(problem.cause, Cause::Image);
}

#[test]
fn a_job_with_another_uid_is_new() {
    let job = |uid: &str| json!([{"metadata": {"name": "migration", "uid": uid}}]);
    let mut read = Workloads {
        jobs: serde_json::from_value(job("a")).unwrap(),
        ..Workloads::default()
    };
    let before = Before::of(&read);
    assert_eq!(before.new_jobs(&read).count(), 0);
    read.jobs = serde_json::from_value(job("b")).unwrap();
    assert_eq!(before.new_jobs(&read).count(), 1);
}

fn items(items: Vec<Value>) -> (u16, Value) {
    (
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
    )
}

/// A server that returns one of the states for each read, and then the last one again.
fn rolling(states: Vec<(Value, Vec<Value>, Vec<Value>)>) -> MockServer {
    let reads = AtomicUsize::new(0);
    MockServer::new(move |request| {
        let kind = request.path.rsplit('/').next().unwrap();
        if kind == "deployments" {
            reads.fetch_add(1, Ordering::Relaxed);
        }
        let now = reads.load(Ordering::Relaxed).clamp(1, states.len()) - 1;
        let (deployment, replica_sets, pods) = &states[now];
        match kind {
            "deployments" => items(vec![deployment.clone()]),
            "replicasets" => items(replica_sets.clone()),
            "pods" => items(pods.clone()),
            "log" => (200, json!("no database")),
            _ => items(Vec::new()),
        }
    })
}

const DEADLINE: Duration = Duration::from_secs(300);
const SELECTOR: &str = "app.kubernetes.io/instance=trii-platform";

#[tokio::test(start_paused = true)]
async fn the_wait_reports_each_step_once() {
    let set = |ready: i32| {
        let status = json!({"replicas": 2, "readyReplicas": ready});
        vec![replica_set("2", "2", status)]
    };
    let server = rolling(vec![
        (deployment(2, counts(1, [0; 4])), vec![], vec![]),
        (deployment(2, counts(2, [2, 2, 1, 1])), set(1), vec![]),
        (deployment(2, counts(2, [2, 2, 1, 1])), set(1), vec![]),
        (deployment(2, counts(2, [2; 4])), set(2), vec![]),
    ]);
    let reported = Mutex::new(Vec::new());
    let progress = |line: &str| reported.lock().unwrap().push(line.to_owned());
    let cluster = server.cluster("trii");
    complete(&cluster, SELECTOR, DEADLINE, &progress)
        .await
        .unwrap();
    assert_eq!(
        *reported.lock().unwrap(),
        [
            "api-gateway not begun",
            "api-gateway 1/2 ready",
            "api-gateway 2/2 ready"
        ]
    );
    for request in server.requests() {
        let query = request.query;
        assert!(query.contains("labelSelector=app.kubernetes.io"), "{query}");
    }
}

fn crashing() -> (Value, Vec<Value>, Vec<Value>) {
    let mut pod = pod("b", "2", json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 1}});
    let set = replica_set("2", "2", json!({"replicas": 1}));
    (deployment(1, counts(2, [1, 1, 0, 0])), vec![set], vec![pod])
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_ends_the_wait_immediately_with_the_log() {
    let server = rolling(vec![crashing()]);
    let started = Instant::now();
    let error = complete(&server.cluster("trii"), SELECTOR, DEADLINE, &|_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, RolloutError::Problem(_)));
    assert!(error.to_string().contains("no database"), "{error}");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn old_trouble_may_last_for_a_limited_time() {
    let server = rolling(vec![crashing()]);
    let cluster = server.cluster("trii");
    let before = Before::of(&Workloads::look(&cluster, SELECTOR).await.unwrap());
    let started = Instant::now();
    let error = complete_after(&before, &cluster, SELECTOR, DEADLINE, &|_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, RolloutError::Problem(_)));
    assert!(started.elapsed() >= OLD_PROBLEM && started.elapsed() < OLD_PROBLEM * 2);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_reports_the_last_state() {
    let set = replica_set("2", "2", json!({"replicas": 2, "readyReplicas": 1}));
    let server = rolling(vec![(
        deployment(2, counts(2, [2, 2, 1, 1])),
        vec![set],
        vec![],
    )]);
    let error = complete(&server.cluster("trii"), SELECTOR, DEADLINE, &|_| ())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "all Deployments of {SELECTOR} are complete: not within 300s; last seen: api-gateway 1/2 ready"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_stays_full_ends_the_wait_long_before_the_deadline() {
    let message = "pods \"x\" is forbidden: exceeded quota: q, limited: requests.cpu=1";
    let set = refusing(message);
    let server = rolling(vec![(deployment(1, counts(2, [0; 4])), vec![set], vec![])]);
    let started = Instant::now();
    let error = complete(&server.cluster("trii"), SELECTOR, DEADLINE, &|_| ()).await;
    let RolloutError::Problem(problem) = error.unwrap_err() else {
        panic!("no problem");
    };
    assert_eq!(problem.cause, Cause::Quota);
    assert!(started.elapsed() < Duration::from_secs(30));
}
