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
        pods: serde_json::from_value(pods).unwrap(),
        ..Workloads::default()
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

/// A server that returns `answer` of one of the states for each read, and then of the last one again.
fn in_turn<S: Send + Sync + 'static>(
    states: Vec<S>,
    answer: impl Fn(&S, &str) -> (u16, Value) + Send + Sync + 'static,
) -> MockServer {
    let reads = AtomicUsize::new(0);
    MockServer::new(move |request| {
        let kind = request.path.rsplit('/').next().unwrap();
        if kind == "deployments" {
            reads.fetch_add(1, Ordering::Relaxed);
        }
        let now = reads.load(Ordering::Relaxed).clamp(1, states.len()) - 1;
        answer(&states[now], kind)
    })
}

/// A server with a Deployment, which returns one of the states for each read.
fn rolling(states: Vec<(Value, Vec<Value>, Vec<Value>)>) -> MockServer {
    in_turn(
        states,
        |(deployment, replica_sets, pods), kind| match kind {
            "deployments" => items(vec![deployment.clone()]),
            "replicasets" => items(replica_sets.clone()),
            "pods" => items(pods.clone()),
            "log" => (200, json!("no database")),
            _ => items(Vec::new()),
        },
    )
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
            "all workloads of {SELECTOR} are complete: not within 300s; last seen: api-gateway 1/2 ready"
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

/// A StatefulSet of `wanted` replicas at generation 2.
fn stateful_set(wanted: i32, strategy: Value, status: Value) -> Value {
    json!({
        "metadata": {"name": "database", "uid": "s", "generation": 2},
        "spec": {"replicas": wanted, "serviceName": "database", "selector": {}, "template": {},
            "updateStrategy": strategy},
        "status": status,
    })
}

fn rolling_update(partition: i32) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}})
}

fn set_status(observed: i64, ready: i32, updated: i32, current: &str) -> Value {
    json!({"observedGeneration": observed, "replicas": ready, "readyReplicas": ready,
        "updatedReplicas": updated, "currentRevision": current, "updateRevision": "2"})
}

fn state_of_set(set: Value) -> Rollout {
    let set = serde_json::from_value(set).unwrap();
    stateful_set::state_of(&Workloads::default(), &set)
}

proptest! {
    #[test]
    fn a_stateful_set_is_complete_once_it_is_ready_and_updated_down_to_its_partition(
        wanted in 0..4i32, observed in 1..4i64, ready in 0..5i32, updated in 0..5i32, partition in 0..5i32
    ) {
        let set = stateful_set(wanted, rolling_update(partition), set_status(observed, ready, updated, "1"));
        let complete = observed >= 2 && ready >= wanted && updated >= wanted - partition;
        prop_assert_eq!(state_of_set(set) == Rollout::Complete, complete);
    }

    #[test]
    fn a_daemon_set_is_complete_once_each_node_has_an_updated_pod_that_is_available(
        wanted in 0..4i32, observed in 1..4i64, updated in 0..5i32, available in 0..5i32
    ) {
        let set = daemon_set(wanted, "RollingUpdate", observed, updated, available);
        let set = serde_json::from_value(set).unwrap();
        let complete = observed >= 2 && updated >= wanted && available >= wanted;
        let state = daemon_set::state_of(&Workloads::default(), &set);
        prop_assert_eq!(state == Rollout::Complete, complete);
    }
}

fn daemon_set(wanted: i32, strategy: &str, observed: i64, updated: i32, available: i32) -> Value {
    json!({
        "metadata": {"name": "agent", "uid": "a", "generation": 2},
        "spec": {"selector": {}, "template": {}, "updateStrategy": {"type": strategy}},
        "status": {"observedGeneration": observed, "desiredNumberScheduled": wanted,
            "currentNumberScheduled": wanted, "numberMisscheduled": 0, "numberReady": available,
            "updatedNumberScheduled": updated, "numberAvailable": available},
    })
}

#[test]
fn pods_that_only_their_deletion_updates_need_not_be_updated() {
    let on_delete = json!({"type": "OnDelete"});
    let old = set_status(2, 2, 0, "1");
    assert_eq!(
        state_of_set(stateful_set(2, on_delete, old.clone())),
        Rollout::Complete
    );
    let so_far = so_far(state_of_set(stateful_set(2, rolling_update(0), old)));
    assert_eq!(so_far, "2/2 ready, 0 updated");
    let set = serde_json::from_value(daemon_set(2, "OnDelete", 2, 0, 2)).unwrap();
    let state = daemon_set::state_of(&Workloads::default(), &set);
    assert_eq!(state, Rollout::Complete);
}

#[test]
fn without_a_partition_the_revisions_tell() {
    let strategy = json!({"type": "RollingUpdate"});
    let at = |current: &str| stateful_set(1, strategy.clone(), set_status(2, 1, 1, current));
    assert_eq!(so_far(state_of_set(at("1"))), "1/1 ready, 1 updated");
    assert_eq!(state_of_set(at("2")), Rollout::Complete);
}

/// A server with a StatefulSet and a DaemonSet, which returns one of the states for each read.
fn sets(states: Vec<(Value, Value, Vec<Value>)>) -> MockServer {
    in_turn(
        states,
        |(stateful_set, daemon_set, pods), kind| match kind {
            "statefulsets" => items(vec![stateful_set.clone()]),
            "daemonsets" => items(vec![daemon_set.clone()]),
            "pods" => items(pods.clone()),
            _ => items(Vec::new()),
        },
    )
}

#[tokio::test(start_paused = true)]
async fn stateful_sets_and_daemon_sets_are_waited_for() {
    let database =
        |ready, updated| stateful_set(2, rolling_update(0), set_status(2, ready, updated, "1"));
    let agent = |updated| daemon_set(1, "RollingUpdate", 2, updated, 1);
    let server = sets(vec![
        (database(1, 1), agent(0), vec![]),
        (database(2, 1), agent(1), vec![]),
        (database(2, 2), agent(1), vec![]),
    ]);
    let reported = Mutex::new(Vec::new());
    let progress = |line: &str| reported.lock().unwrap().push(line.to_owned());
    complete(&server.cluster("trii"), SELECTOR, DEADLINE, &progress)
        .await
        .unwrap();
    assert_eq!(
        *reported.lock().unwrap(),
        [
            "statefulset/database 1/2 ready, 1 updated",
            "daemonset/agent 1/1 available, 0 updated",
            "statefulset/database 2/2 ready, 1 updated",
            "daemonset/agent 1/1 ready",
            "statefulset/database 2/2 ready",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_a_stateful_set_that_will_never_start_ends_the_wait() {
    let mut pod = pod("database-0", "s", image_missing());
    pod["metadata"]["ownerReferences"][0]["kind"] = json!("StatefulSet");
    let database = stateful_set(1, rolling_update(0), set_status(2, 0, 1, "1"));
    let server = sets(vec![(
        database,
        daemon_set(0, "RollingUpdate", 2, 0, 0),
        vec![pod],
    )]);
    let started = Instant::now();
    let error = complete(&server.cluster("trii"), SELECTOR, DEADLINE, &|_| ()).await;
    let RolloutError::Problem(problem) = error.unwrap_err() else {
        panic!("no problem");
    };
    assert_eq!(problem.object, "pod/database-0");
    assert_eq!(problem.cause, Cause::Image);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_list_stateful_sets_waits_for_deployments() {
    let refused = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "statefulsets.apps is forbidden"});
    let server = MockServer::new(
        move |request| match request.path.rsplit('/').next().unwrap() {
            "statefulsets" | "daemonsets" => (403, refused.clone()),
            "deployments" => items(vec![deployment(1, counts(2, [1; 4]))]),
            _ => items(Vec::new()),
        },
    );
    complete(&server.cluster("trii"), SELECTOR, DEADLINE, &|_| ())
        .await
        .unwrap();
}
