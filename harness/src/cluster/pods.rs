//! What a pod says about why it is not ready.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Event, Pod,
    PodStatus,
};
use kube::api::{Api, ListParams, LogParams};

use super::Cluster;
use super::trouble::{Cause, Trouble};

/// How much of a container's log an error carries.
const LOG_LINES: i64 = 5;
const LOG_BYTES: i64 = 4096;

/// Whether the kubelet says that it may get traffic.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|it| it.conditions.as_ref());
    conditions
        .flatten()
        .any(|it| it.type_ == "Ready" && it.status == "True")
}

/// What keeps a pod from becoming ready: what is hopeless first, else what may yet pass.
/// None when it is only starting, or ready.
pub fn trouble(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let object = format!("pod/{}", pod.metadata.name.as_deref().unwrap_or_default());
    let containers = [&status.init_container_statuses, &status.container_statuses];
    let mut troubles: Vec<Trouble> = containers
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|container| of_container(&object, container))
        .collect();
    troubles.extend(of_pod(&object, status));
    let first_hopeless = troubles.iter().position(|trouble| trouble.hopeless);
    match troubles.is_empty() {
        true => None,
        false => Some(troubles.swap_remove(first_hopeless.unwrap_or(0))),
    }
}

/// A pod that runs and is not ready, and says no more: see its events and its log. As
/// every pod is so for a while, this is for when time has run out.
pub fn unready(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let is_running =
        |it: &ContainerStatus| it.state.as_ref().is_some_and(|it| it.running.is_some());
    let containers = status.container_statuses.iter().flatten();
    let container = containers
        .into_iter()
        .find(|it| !it.ready && is_running(it))?;
    Some(Trouble {
        object: format!("pod/{}", pod.metadata.name.as_deref().unwrap_or_default()),
        container: Some(container.name.clone()),
        image: Some(container.image.clone()),
        restarts: container.restart_count,
        cause: Cause::Unready,
        reason: "it runs and is not ready".to_owned(),
        words: String::new(),
        log: Vec::new(),
        hopeless: false,
    })
}

fn of_container(object: &str, status: &ContainerStatus) -> Option<Trouble> {
    let state = status.state.as_ref();
    let trouble = match state {
        Some(ContainerState {
            waiting: Some(waiting),
            ..
        }) => of_waiting(waiting, status),
        // Of a Job, say: whether it is tried again is the Job's to decide.
        Some(ContainerState {
            terminated: Some(ended),
            ..
        }) if ended.exit_code != 0 => Some(of_ended(ended, status)),
        // It runs again, so the next try may do.
        _ if !status.ready && status.restart_count > 0 => last_end(status)
            .filter(|ended| ended.exit_code != 0)
            .map(|ended| of_ended(ended, status)),
        _ => None,
    };
    trouble.map(|(cause, reason, words, hopeless)| Trouble {
        object: object.to_owned(),
        container: Some(status.name.clone()),
        image: Some(status.image.clone()),
        restarts: status.restart_count,
        cause,
        reason,
        words,
        log: Vec::new(),
        hopeless,
    })
}

/// Cause, reason, words, hopeless.
type Found = (Cause, String, String, bool);

fn of_waiting(waiting: &ContainerStateWaiting, status: &ContainerStatus) -> Option<Found> {
    let reason = waiting.reason.clone().unwrap_or_default();
    let words = waiting.message.clone().unwrap_or_default();
    let (cause, hopeless) = match reason.as_str() {
        "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => (Cause::Image, true),
        // The first failure; the kubelet tries again before it calls it ImagePullBackOff.
        "ErrImagePull" | "RegistryUnavailable" | "ImageInspectError" => {
            (Cause::Image, is_final_for_an_image(&words))
        }
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PostStartHookError" => (Cause::Configuration, !is_hiccup(&words)),
        "CrashLoopBackOff" => {
            let (_, _, ending, _) = last_end(status).map(|ended| of_ended(ended, status))?;
            return Some((Cause::Ends, reason, ending, true));
        }
        // It starts again after a failure, before its next try.
        _ => {
            let ended = last_end(status).filter(|ended| ended.exit_code != 0)?;
            return Some(of_ended(ended, status));
        }
    };
    Some((cause, reason, words, hopeless))
}

fn last_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.last_state.as_ref()?.terminated.as_ref()
}

/// That a container ended is never hopeless by itself.
fn of_ended(ended: &ContainerStateTerminated, status: &ContainerStatus) -> Found {
    let reason = ended.reason.clone().unwrap_or_else(|| "Error".to_owned());
    let how = match ended.signal {
        Some(signal) if signal != 0 => format!("ended by signal {signal}"),
        _ => format!("exit code {}", ended.exit_code),
    };
    let mut words = format!("{how}, {}", restarts(status.restart_count));
    // What Kubernetes calls it, unless that is only `Error`.
    if reason != "Error" {
        words = format!("{reason}, {words}");
    }
    if let Some(message) = &ended.message {
        words = format!("{words}: {}", message.trim());
    }
    (Cause::Ends, reason, words, false)
}

fn restarts(count: i32) -> String {
    match count {
        0 => "not restarted".to_owned(),
        1 => "restarted once".to_owned(),
        _ => format!("restarted {count} times"),
    }
}

/// Another pull would bring the same answer. Anything else a registry says may be
/// gone with the next try, which the kubelet makes after 10 s.
fn is_final_for_an_image(words: &str) -> bool {
    const FINAL: [&str; 8] = [
        "not found",
        "manifest unknown",
        "name unknown",
        "does not exist",
        "pull access denied",
        "no such host",
        "no match for platform",
        "invalid reference format",
    ];
    let words = words.to_lowercase();
    FINAL.iter().any(|end| words.contains(end))
}

/// The kubelet or the runtime was slow; both try again.
fn is_hiccup(words: &str) -> bool {
    const HICCUPS: [&str; 3] = [
        "timed out waiting for the condition",
        "context deadline exceeded",
        "failed to reserve container name",
    ];
    HICCUPS.iter().any(|hiccup| words.contains(hiccup))
}

/// That of the pod as a whole: evicted, or without a node.
fn of_pod(object: &str, status: &PodStatus) -> Option<Trouble> {
    let (cause, reason, words) = match status.phase.as_deref() {
        Some("Failed") => (Cause::Ends, status.reason.clone()?, status.message.clone()),
        _ => {
            let conditions = status.conditions.iter().flatten();
            let unplaced = conditions
                .into_iter()
                .find(|it| it.type_ == "PodScheduled" && it.status == "False")?;
            (
                Cause::Unschedulable,
                unplaced.reason.clone()?,
                unplaced.message.clone(),
            )
        }
    };
    Some(Trouble {
        object: object.to_owned(),
        container: None,
        image: None,
        restarts: 0,
        cause,
        reason,
        words: words.unwrap_or_default(),
        log: Vec::new(),
        // Its owner makes another; a node may get room.
        hopeless: false,
    })
}

/// The trouble with what else is to be had: the last lines that its container printed, and
/// what its probe saw. Where that is not to be had it comes back as it was: it is enough
/// to go on.
pub async fn with_last_words(cluster: &Cluster, mut trouble: Trouble) -> Trouble {
    let Some(pod) = trouble.object.strip_prefix("pod/") else {
        return trouble;
    };
    if !trouble.has_log() {
        return trouble;
    }
    if trouble.cause == Cause::Unready {
        trouble.words = last_warning(cluster, pod).await.unwrap_or_default();
    }
    // That of the present start too, as the kubelet may have deleted the earlier.
    let starts: &[bool] = match trouble.is_of_an_earlier_start() {
        true => &[true, false],
        false => &[false],
    };
    for previous in starts {
        let lines = log(cluster, pod, &trouble.container, *previous).await;
        if let Some(lines) = lines.filter(|lines| !lines.is_empty()) {
            trouble.log = lines;
            break;
        }
    }
    trouble
}

async fn log(
    cluster: &Cluster,
    pod: &str,
    container: &Option<String>,
    previous: bool,
) -> Option<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
    let params = LogParams {
        container: container.clone(),
        previous,
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        ..LogParams::default()
    };
    Some(lines(&pods.logs(pod, &params).await.ok()?))
}

async fn last_warning(cluster: &Cluster, pod: &str) -> Option<String> {
    let events: Api<Event> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
    let about = format!("involvedObject.kind=Pod,involvedObject.name={pod},type=Warning");
    let params = ListParams::default().fields(&about);
    let events = events.list(&params).await.ok()?.items.into_iter();
    let last = events.max_by_key(|event| event.last_timestamp.clone())?;
    Some(last.message?.trim().to_owned())
}

fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::mock::Server;
    use super::*;

    fn pod(container: Value) -> Pod {
        let mut status = json!({"name": "app", "image": "trii/platform:v9", "imageID": "",
            "ready": false, "restartCount": 0});
        status
            .as_object_mut()
            .unwrap()
            .extend(container.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "metadata": {"name": "api-gateway-1"},
            "status": {"phase": "Pending", "containerStatuses": [status]},
        }))
        .unwrap()
    }

    fn waiting(reason: &str, message: &str) -> Pod {
        pod(json!({"state": {"waiting": {"reason": reason, "message": message}}}))
    }

    #[test]
    fn what_will_not_pass_is_hopeless_and_keeps_its_words() {
        for (reason, message, cause) in [
            (
                "ImagePullBackOff",
                "Back-off pulling image \"a:b\"",
                Cause::Image,
            ),
            ("ErrImagePull", "a:b: not found", Cause::Image),
            (
                "ErrImagePull",
                "pull access denied, repository does not exist",
                Cause::Image,
            ),
            (
                "ErrImagePull",
                "dial tcp: lookup registry.trii.co: no such host",
                Cause::Image,
            ),
            (
                "InvalidImageName",
                "couldn't parse image name",
                Cause::Image,
            ),
            ("ErrImageNeverPull", "", Cause::Image),
            (
                "CreateContainerConfigError",
                "secret \"jwt-credentials\" not found",
                Cause::Configuration,
            ),
            (
                "CreateContainerError",
                "no command specified",
                Cause::Configuration,
            ),
            (
                "RunContainerError",
                "exec: \"serv\": not found",
                Cause::Configuration,
            ),
        ] {
            let trouble = trouble(&waiting(reason, message)).unwrap();
            assert!(trouble.hopeless, "{trouble}");
            assert_eq!(trouble.cause, cause);
            assert!(trouble.to_string().contains(message), "{trouble}");
        }
    }

    #[test]
    fn what_may_pass_is_not_hopeless() {
        for (reason, message) in [
            (
                "ErrImagePull",
                "received unexpected HTTP status: 503 Service Unavailable",
            ),
            (
                "CreateContainerConfigError",
                "failed to sync secret cache: timed out waiting for the condition",
            ),
            ("CreateContainerError", "context deadline exceeded"),
        ] {
            assert!(
                !trouble(&waiting(reason, message)).unwrap().hopeless,
                "{message}"
            );
        }
    }

    #[test]
    fn a_pod_that_starts_or_runs_has_no_trouble() {
        assert_eq!(trouble(&Pod::default()), None);
        assert_eq!(trouble(&waiting("ContainerCreating", "")), None);
        assert_eq!(trouble(&waiting("PodInitializing", "")), None);
        let running = json!({"state": {"running": {}}, "ready": true, "restartCount": 2,
            "lastState": {"terminated": {"exitCode": 1}}});
        assert_eq!(trouble(&pod(running)), None);
        let done = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        assert_eq!(trouble(&pod(done)), None);
    }

    #[test]
    fn a_crash_loop_says_how_it_ended() {
        let crashing = pod(json!({
            "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "too big\n"}},
        }));
        let trouble = trouble(&crashing).unwrap();
        assert!(trouble.hopeless);
        assert_eq!(
            trouble.to_string(),
            "pod/api-gateway-1, container app: CrashLoopBackOff: \
             OOMKilled, exit code 137, restarted 3 times: too big"
        );
        assert_eq!(
            trouble.kubectl(),
            "logs pod/api-gateway-1 --container app --previous"
        );
    }

    #[test]
    fn one_crash_is_worth_knowing_and_no_more() {
        let once = pod(json!({"restartCount": 1, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}}}));
        let trouble = trouble(&once).unwrap();
        assert!(!trouble.hopeless);
        assert_eq!(trouble.words, "exit code 2, restarted once");
    }

    #[test]
    fn a_pod_without_a_node_says_why() {
        let pending = serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {
            "phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]}}));
        let trouble = trouble(&pending.unwrap()).unwrap();
        assert_eq!(
            (trouble.cause, trouble.hopeless),
            (Cause::Unschedulable, false)
        );
        assert!(trouble.words.contains("Insufficient cpu"));
    }

    #[test]
    fn init_containers_count_and_the_hopeless_come_first() {
        let pod = serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {
            "initContainerStatuses": [{"name": "init", "image": "i", "imageID": "", "ready": false,
                "restartCount": 1, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}}],
            "containerStatuses": [{"name": "app", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "InvalidImageName"}}}]}}));
        let trouble = trouble(&pod.unwrap()).unwrap();
        assert_eq!(trouble.container.as_deref(), Some("app"));
    }

    proptest! {
        #[test]
        fn a_ready_container_is_never_in_trouble(restarts in 0..100i32, code in -1..256i32) {
            let pod = pod(json!({"ready": true, "restartCount": restarts, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": code}}}));
            prop_assert_eq!(trouble(&pod), None);
        }

        #[test]
        fn no_exit_is_hopeless_before_kubernetes_backs_off(restarts in 0..100i32, code in -1..256i32) {
            let ended = pod(json!({"restartCount": restarts, "state": {"terminated": {"exitCode": code}}}));
            let trouble = trouble(&ended);
            prop_assert_eq!(trouble.is_some(), code != 0);
            prop_assert!(trouble.is_none_or(|trouble| !trouble.hopeless));
        }
    }

    #[tokio::test]
    async fn the_last_words_are_those_before_the_restart() {
        let server = Server::new(|request| match request.query.contains("previous=true") {
            true => (200, json!("one\n\ncannot reach the database\n")),
            false => (200, json!("still starting")),
        });
        let crashed = pod(json!({"restartCount": 1, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 1}}}));
        let told = with_last_words(&server.cluster("trii"), trouble(&crashed).unwrap()).await;
        assert_eq!(told.log, ["one", "cannot reach the database"]);
        assert!(
            told.to_string()
                .ends_with("one | cannot reach the database")
        );
    }

    #[tokio::test]
    async fn without_an_earlier_container_they_are_the_present_ones() {
        let server = Server::new(|request| match request.query.contains("previous=true") {
            true => (
                400,
                json!({"kind": "Status", "status": "Failure", "code": 400,
                "message": "previous terminated container not found", "reason": "BadRequest"}),
            ),
            false => (200, json!("bad schema")),
        });
        let failed = pod(json!({"state": {"terminated": {"exitCode": 1}}}));
        let told = with_last_words(&server.cluster("trii"), trouble(&failed).unwrap()).await;
        assert_eq!(told.log, ["bad schema"]);
    }

    #[tokio::test]
    async fn a_pod_that_is_not_ready_is_explained_by_its_probe_and_its_log() {
        let server = Server::new(|request| match request.path.ends_with("/log") {
            true => (200, json!("redis: connection refused")),
            false => {
                let event = |at: &str, message: &str| {
                    json!({"metadata": {"name": at}, "involvedObject": {},
                        "lastTimestamp": at, "message": message})
                };
                let items = json!([
                    event(
                        "2026-11-25T09:00:02Z",
                        "Readiness probe failed: HTTP probe failed with statuscode: 503"
                    ),
                    event(
                        "2026-11-25T09:00:01Z",
                        "Readiness probe failed: connection refused"
                    ),
                ]);
                (
                    200,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
                )
            }
        });
        let running = pod(json!({"restartCount": 0, "state": {"running": {}}}));
        assert_eq!(trouble(&running), None);
        let told = with_last_words(&server.cluster("trii"), unready(&running).unwrap()).await;
        assert!(told.words.ends_with("503"), "{told}");
        assert_eq!(told.log, ["redis: connection refused"]);
        assert!(told.kubectl().ends_with("--container app"));
        assert_eq!(
            unready(&pod(json!({"ready": true, "state": {"running": {}}}))),
            None
        );
        assert_eq!(unready(&waiting("ContainerCreating", "")), None);
    }
}
