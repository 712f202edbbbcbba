use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::mock::Server;
use super::*;

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

fn judged(workloads: &Workloads) -> Rollout {
    judge(workloads, &workloads.deployments[0])
}

fn so_far(rollout: Rollout) -> String {
    match rollout {
        Rollout::UnderWay { so_far, .. } => so_far,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn complete_means_every_count_and_the_generation(
        wanted in 0..4i32, observed in 1..4i64, have in proptest::array::uniform4(0..4i32)
    ) {
        let all = have.iter().all(|count| *count == wanted);
        let seen = workloads(deployment(wanted, counts(observed, have)), json!([]), json!([]));
        prop_assert_eq!(judged(&seen) == Rollout::Complete, observed >= 2 && all);
    }
}

#[test]
fn a_deployment_without_replicas_wants_one() {
    let mut gateway = deployment(1, counts(2, [1; 4]));
    gateway["spec"].as_object_mut().unwrap().remove("replicas");
    assert_eq!(
        judged(&workloads(gateway, json!([]), json!([]))),
        Rollout::Complete
    );
}

#[test]
fn an_old_pod_that_is_not_ending_is_not_complete() {
    let running = pod("old", "1", json!({"running": {}}));
    let sets = json!([
        replica_set("1", "1", json!({"replicas": 1})),
        replica_set("2", "2", json!({"replicas": 2, "readyReplicas": 2}))
    ]);
    let seen = workloads(
        deployment(2, counts(2, [2; 4])),
        sets.clone(),
        json!([running]),
    );
    assert_eq!(so_far(judged(&seen)), "2/2 ready, 1 old");
    let mut ending = running;
    ending["metadata"]["deletionTimestamp"] = json!("2026-11-25T09:00:00Z");
    let seen = workloads(deployment(2, counts(2, [2; 4])), sets, json!([ending]));
    assert_eq!(judged(&seen), Rollout::Complete);
}

#[test]
fn trouble_counts_in_the_newest_replica_set_only() {
    let sets = json!([
        replica_set("1", "1", json!({"replicas": 1})),
        replica_set("2", "2", json!({"replicas": 1}))
    ]);
    let status = counts(2, [2, 1, 0, 0]);
    let old = json!([
        pod("a", "1", image_missing()),
        pod(
            "b",
            "2",
            json!({"waiting": {"reason": "ContainerCreating"}})
        )
    ]);
    let seen = workloads(deployment(1, status.clone()), sets.clone(), old);
    assert_eq!(so_far(judged(&seen)), "0/1 ready, 1 old");
    let new = json!([pod("b", "2", image_missing())]);
    let Rollout::Stuck(trouble) = judged(&workloads(deployment(1, status), sets, new)) else {
        panic!("not stuck");
    };
    assert_eq!(
        (trouble.object.as_str(), trouble.cause),
        ("pod/b", Cause::Image)
    );
}

#[test]
fn nothing_counts_before_the_controller_has_looked() {
    let mut status = counts(1, [1, 1, 0, 0]);
    status["conditions"] =
        json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    let sets = json!([replica_set("2", "2", json!({"replicas": 1}))]);
    let pods = json!([pod("b", "2", image_missing())]);
    assert_eq!(
        so_far(judged(&workloads(deployment(1, status), sets, pods))),
        "not begun"
    );
}

fn failing(message: &str) -> Workloads {
    let status = json!({"replicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True",
        "reason": "FailedCreate", "message": message}]});
    let sets = json!([replica_set("2", "2", status)]);
    workloads(deployment(1, counts(2, [0; 4])), sets, json!([]))
}

#[test]
fn a_quota_that_is_full_is_told_in_its_words() {
    let message = "pods \"api-gateway-2-x\" is forbidden: exceeded quota: trii-platform, requested: requests.cpu=50m, used: requests.cpu=1, limited: requests.cpu=1";
    let rollout = judged(&failing(message));
    let Rollout::UnderWay {
        trouble: Some(trouble),
        ..
    } = rollout
    else {
        panic!("{rollout:?}");
    };
    assert_eq!(trouble.cause, Cause::Quota);
    assert!(trouble.to_string().contains("limited: requests.cpu=1"));
    let message = "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"";
    let Rollout::Stuck(trouble) = judged(&failing(message)) else {
        panic!("not stuck");
    };
    assert_eq!(trouble.cause, Cause::Admission);
}

#[test]
fn a_webhook_that_does_not_answer_may_yet() {
    let rollout = judged(&failing("Internal error occurred: failed calling webhook"));
    let Rollout::UnderWay {
        trouble: Some(trouble),
        ..
    } = rollout
    else {
        panic!("{rollout:?}");
    };
    assert!(trouble.words.contains("webhook"));
}

#[test]
fn a_stalled_rollout_is_explained_by_its_pod_where_one_knows_why() {
    let mut status = counts(2, [1, 1, 0, 0]);
    status["conditions"] = json!([{"type": "Progressing", "status": "False",
        "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"x\" has timed out progressing."}]);
    let sets = json!([replica_set("2", "2", json!({"replicas": 1}))]);
    let seen = workloads(deployment(1, status.clone()), sets.clone(), json!([]));
    let Rollout::Stuck(trouble) = judged(&seen) else {
        panic!("not stuck");
    };
    assert_eq!(
        (trouble.cause, trouble.object.as_str()),
        (Cause::Stalled, "deployment/api-gateway")
    );
    let slow = json!({"waiting": {"reason": "ErrImagePull", "message": "503 Service Unavailable"}});
    let seen = workloads(deployment(1, status), sets, json!([pod("b", "2", slow)]));
    let Rollout::Stuck(trouble) = judged(&seen) else {
        panic!("not stuck");
    };
    assert_eq!(trouble.cause, Cause::Image);
}

#[test]
fn a_job_of_the_same_name_is_new_when_it_is_another() {
    let job = |uid: &str| json!([{"metadata": {"name": "migration", "uid": uid}}]);
    let mut seen = Workloads {
        jobs: serde_json::from_value(job("a")).unwrap(),
        ..Workloads::default()
    };
    let before = Before::of(&seen);
    assert_eq!(before.new_jobs(&seen).count(), 0);
    seen.jobs = serde_json::from_value(job("b")).unwrap();
    assert_eq!(before.new_jobs(&seen).count(), 1);
}

fn items(items: Vec<Value>) -> (u16, Value) {
    (
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
    )
}

/// One that goes through the given states, one a look, and stays at the last.
fn rolling(states: Vec<(Value, Vec<Value>, Vec<Value>)>) -> Server {
    let look = AtomicUsize::new(0);
    Server::new(move |request| {
        let kind = request.path.rsplit('/').next().unwrap();
        if kind == "deployments" {
            look.fetch_add(1, Ordering::Relaxed);
        }
        let now = look.load(Ordering::Relaxed).clamp(1, states.len()) - 1;
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
async fn the_wait_tells_each_step_once() {
    let set = |ready: i32| {
        vec![replica_set(
            "2",
            "2",
            json!({"replicas": 2, "readyReplicas": ready}),
        )]
    };
    let server = rolling(vec![
        (deployment(2, counts(1, [0; 4])), vec![], vec![]),
        (deployment(2, counts(2, [2, 2, 1, 1])), set(1), vec![]),
        (deployment(2, counts(2, [2, 2, 1, 1])), set(1), vec![]),
        (deployment(2, counts(2, [2; 4])), set(2), vec![]),
    ]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let progress = |line: &str| told.lock().unwrap().push(line.to_owned());
    let cluster = server.cluster("trii");
    complete(&cluster, SELECTOR, DEADLINE, &progress)
        .await
        .unwrap();
    assert_eq!(
        *told.lock().unwrap(),
        [
            "api-gateway not begun",
            "api-gateway 1/2 ready",
            "api-gateway 2/2 ready"
        ]
    );
    let asked = server.requests();
    assert!(
        asked
            .iter()
            .all(|it| it.query.contains("labelSelector=app.kubernetes.io")),
        "{asked:?}"
    );
}

fn crashing() -> (Value, Vec<Value>, Vec<Value>) {
    let mut pod = pod("b", "2", json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 1}});
    let set = replica_set("2", "2", json!({"replicas": 1}));
    (deployment(1, counts(2, [1, 1, 0, 0])), vec![set], vec![pod])
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_ends_the_wait_at_once_with_its_last_words() {
    let server = rolling(vec![crashing()]);
    let started = Instant::now();
    let error = complete(&server.cluster("trii"), SELECTOR, DEADLINE, &|_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, RolloutError::Trouble(_)));
    assert!(error.to_string().contains("no database"), "{error}");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn old_trouble_is_given_time_to_pass_but_not_for_ever() {
    let server = rolling(vec![crashing()]);
    let cluster = server.cluster("trii");
    let before = Before::of(&Workloads::look(&cluster, SELECTOR).await.unwrap());
    let started = Instant::now();
    let error = complete_after(&before, &cluster, SELECTOR, DEADLINE, &|_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, RolloutError::Trouble(_)));
    assert!(started.elapsed() >= OLD_TROUBLE && started.elapsed() < OLD_TROUBLE * 2);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_carries_the_last_state_seen() {
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
    let words = "pods \"x\" is forbidden: exceeded quota: q, limited: requests.cpu=1";
    let status = json!({"replicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True",
        "reason": "FailedCreate", "message": words}]});
    let set = replica_set("2", "2", status);
    let server = rolling(vec![(deployment(1, counts(2, [0; 4])), vec![set], vec![])]);
    let started = Instant::now();
    let error = complete(&server.cluster("trii"), SELECTOR, DEADLINE, &|_| ()).await;
    let RolloutError::Trouble(trouble) = error.unwrap_err() else {
        panic!("not in trouble");
    };
    assert_eq!(trouble.cause, Cause::Quota);
    assert!(started.elapsed() < Duration::from_secs(30));
}
