//! Why a pod is not ready.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Event, Pod,
    PodStatus,
};
use kube::ResourceExt;
use kube::api::{Api, ListParams, LogParams};

use super::Cluster;
use super::workload_problem::{Cause, WorkloadProblem};

/// The limits of a container's log in an error.
const LOG_LINES: i64 = 5;
const LOG_BYTES: i64 = 4096;

/// Whether the kubelet reports the pod as ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|it| it.conditions.as_ref());
    conditions
        .flatten()
        .any(|it| it.type_ == "Ready" && it.status == "True")
}

/// Returns what blocks a pod: a permanent problem first, then a temporary one. None if the pod is
/// starting, or ready.
pub fn problem(pod: &Pod) -> Option<WorkloadProblem> {
    let status = pod.status.as_ref()?;
    let containers = [&status.init_container_statuses, &status.container_statuses];
    containers
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|container| of_container(pod, container))
        .chain(of_pod(pod, status))
        .min_by_key(|problem| !problem.permanent)
}

/// Returns the problem of a running pod that is not ready. Kubernetes has no reason for it: its
/// events and its log show more. Every pod is in this state for a while, so use this after a
/// timeout only.
pub fn unready(pod: &Pod) -> Option<WorkloadProblem> {
    let status = pod.status.as_ref()?;
    let is_running =
        |it: &ContainerStatus| it.state.as_ref().is_some_and(|it| it.running.is_some());
    let mut containers = status.container_statuses.iter().flatten();
    let container = containers.find(|it| !it.ready && is_running(it))?;
    let reason = "it runs and is not ready".to_owned();
    Some(WorkloadProblem {
        container: Some(container.name.clone()),
        image: Some(container.image.clone()),
        restarts: container.restart_count,
        ..WorkloadProblem::new(object(pod), Cause::Unready, reason, String::new())
    })
}

fn object(pod: &Pod) -> String {
    format!("pod/{}", pod.metadata.name.as_deref().unwrap_or_default())
}

fn of_container(pod: &Pod, status: &ContainerStatus) -> Option<WorkloadProblem> {
    let (cause, reason, message, permanent) = match &status.state {
        Some(ContainerState {
            waiting: Some(waiting),
            ..
        }) => of_waiting(waiting, status)?,
        // For example of a Job, which decides whether it retries.
        Some(ContainerState {
            terminated: Some(ended),
            ..
        }) if ended.exit_code != 0 => of_ended(ended, status),
        // It runs again, so the next attempt may succeed.
        _ if !status.ready && status.restart_count > 0 => of_last_failure(status)?,
        _ => return None,
    };
    Some(WorkloadProblem {
        container: Some(status.name.clone()),
        image: Some(status.image.clone()),
        restarts: status.restart_count,
        permanent,
        ..WorkloadProblem::new(object(pod), cause, reason, message)
    })
}

/// Cause, reason, message, permanent.
type Found = (Cause, String, String, bool);

fn of_waiting(waiting: &ContainerStateWaiting, status: &ContainerStatus) -> Option<Found> {
    let reason = waiting.reason.clone().unwrap_or_default();
    let message = waiting.message.clone().unwrap_or_default();
    let (cause, permanent) = match reason.as_str() {
        "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => (Cause::Image, true),
        // The first failure. The kubelet retries before it reports ImagePullBackOff.
        "ErrImagePull" | "RegistryUnavailable" | "ImageInspectError" => {
            (Cause::Image, is_final_for_an_image(&message))
        }
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PostStartHookError" => (Cause::Configuration, !is_hiccup(&message)),
        "CrashLoopBackOff" => {
            let (_, _, message, _) = of_ended(last_end(status)?, status);
            return Some((Cause::Ends, reason, message, true));
        }
        // It waits for its next start after a failure.
        _ => return of_last_failure(status),
    };
    Some((cause, reason, message, permanent))
}

fn of_last_failure(status: &ContainerStatus) -> Option<Found> {
    let ended = last_end(status).filter(|ended| ended.exit_code != 0)?;
    Some(of_ended(ended, status))
}

fn last_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.last_state.as_ref()?.terminated.as_ref()
}

/// A single exit of a container is never permanent.
fn of_ended(ended: &ContainerStateTerminated, status: &ContainerStatus) -> Found {
    let reason = ended.reason.clone().unwrap_or_else(|| "Error".to_owned());
    let how = match ended.signal {
        Some(signal) if signal != 0 => format!("ended by signal {signal}"),
        _ => format!("exit code {}", ended.exit_code),
    };
    let mut message = format!("{how}, {}", restarts(status.restart_count));
    if reason != "Error" {
        message = format!("{reason}, {message}");
    }
    if let Some(reported) = &ended.message {
        message = format!("{message}: {}", reported.trim());
    }
    (Cause::Ends, reason, message, false)
}

fn restarts(count: i32) -> String {
    match count {
        0 => "not restarted".to_owned(),
        1 => "restarted once".to_owned(),
        _ => format!("restarted {count} times"),
    }
}

/// Whether another pull would fail in the same way. The kubelet retries after 10 s, and other
/// errors of a registry may have passed by then.
fn is_final_for_an_image(message: &str) -> bool {
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
    let message = message.to_lowercase();
    FINAL.iter().any(|end| message.contains(end))
}

/// Whether the kubelet or the runtime was slow. Both retry.
fn is_hiccup(message: &str) -> bool {
    const HICCUPS: [&str; 3] = [
        "timed out waiting for the condition",
        "context deadline exceeded",
        "failed to reserve container name",
    ];
    HICCUPS.iter().any(|hiccup| message.contains(hiccup))
}

/// Returns the problem of a pod that was evicted or has no node.
fn of_pod(pod: &Pod, status: &PodStatus) -> Option<WorkloadProblem> {
    let (cause, reason, message) = match status.phase.as_deref() {
        Some("Failed") => (Cause::Ends, status.reason.clone()?, status.message.clone()),
        _ => {
            let mut conditions = status.conditions.iter().flatten();
            let unscheduled =
                conditions.find(|it| it.type_ == "PodScheduled" && it.status == "False")?;
            let (reason, message) = (unscheduled.reason.clone()?, unscheduled.message.clone());
            (Cause::Unschedulable, reason, message)
        }
    };
    // Not permanent: the pod's owner creates another, and a node may get room.
    let message = message.unwrap_or_default();
    Some(WorkloadProblem::new(object(pod), cause, reason, message))
}

/// Adds the last lines of the container's log and the result of its probe to the problem, if they
/// are available.
pub async fn with_last_lines(cluster: &Cluster, mut problem: WorkloadProblem) -> WorkloadProblem {
    let Some(pod) = problem.object.strip_prefix("pod/") else {
        return problem;
    };
    if !problem.has_log() {
        return problem;
    }
    if problem.cause == Cause::Unready {
        problem.message = last_warning(cluster, pod).await.unwrap_or_default();
    }
    // The current log too, because the kubelet may have deleted the previous one.
    let starts: &[bool] = match problem.is_of_an_earlier_start() {
        true => &[true, false],
        false => &[false],
    };
    for previous in starts {
        let lines = log(cluster, pod, &problem.container, *previous).await;
        if let Some(lines) = lines.filter(|lines| !lines.is_empty()) {
            problem.log = lines;
            break;
        }
    }
    problem
}

async fn log(
    cluster: &Cluster,
    pod: &str,
    container: &Option<String>,
    previous: bool,
) -> Option<Vec<String>> {
    let pods: Api<Pod> = cluster.api();
    let params = LogParams {
        container: container.clone(),
        previous,
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        ..LogParams::default()
    };
    Some(lines(&pods.logs(pod, &params).await.ok()?))
}

/// Returns the last lines of each container in the namespace since `seconds` ago, by pod, or by
/// `POD/CONTAINER` if a pod has several. Logs that cannot be read are left out.
pub async fn logs_of_all(cluster: &Cluster, seconds: u64) -> Vec<(String, String)> {
    const LINES: i64 = 2_000;
    const BYTES: i64 = 1 << 20;
    let pods: Api<Pod> = cluster.api();
    let listed = pods.list(&ListParams::default()).await;
    let mut logs = Vec::new();
    for pod in listed.map(|list| list.items).unwrap_or_default() {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let containers: Vec<&str> = containers.map(|it| it.name.as_str()).collect();
        for container in &containers {
            let params = LogParams {
                container: Some((*container).to_owned()),
                since_seconds: Some(i64::try_from(seconds).unwrap_or(i64::MAX)),
                tail_lines: Some(LINES),
                limit_bytes: Some(BYTES),
                ..LogParams::default()
            };
            let name = match containers.len() {
                1 => pod.name_any(),
                _ => format!("{}/{container}", pod.name_any()),
            };
            if let Ok(log) = pods.logs(&pod.name_any(), &params).await {
                logs.push((name, log));
            }
        }
    }
    logs
}

async fn last_warning(cluster: &Cluster, pod: &str) -> Option<String> {
    let events: Api<Event> = cluster.api();
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

    use super::*;
    use crate::mock::MockServer;

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
    fn a_permanent_problem_keeps_its_message() {
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
            let problem = problem(&waiting(reason, message)).unwrap();
            assert!(problem.permanent, "{problem}");
            assert_eq!(problem.cause, cause);
            assert!(problem.to_string().contains(message), "{problem}");
        }
    }

    #[test]
    fn a_temporary_problem_is_not_permanent() {
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
                !problem(&waiting(reason, message)).unwrap().permanent,
                "{message}"
            );
        }
    }

    #[test]
    fn a_pod_that_starts_or_runs_has_no_problem() {
        assert_eq!(problem(&Pod::default()), None);
        assert_eq!(problem(&waiting("ContainerCreating", "")), None);
        assert_eq!(problem(&waiting("PodInitializing", "")), None);
        let running = json!({"state": {"running": {}}, "ready": true, "restartCount": 2,
            "lastState": {"terminated": {"exitCode": 1}}});
        assert_eq!(problem(&pod(running)), None);
        let done = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        assert_eq!(problem(&pod(done)), None);
    }

    #[test]
    fn a_crash_loop_reports_the_last_exit() {
        let crashing = pod(json!({
            "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "too big\n"}},
        }));
        let problem = problem(&crashing).unwrap();
        assert!(problem.permanent);
        assert_eq!(
            problem.to_string(),
            "pod/api-gateway-1, container app: CrashLoopBackOff: \
             OOMKilled, exit code 137, restarted 3 times: too big"
        );
        assert_eq!(
            problem.kubectl(),
            "logs pod/api-gateway-1 --container app --previous"
        );
    }

    #[test]
    fn a_single_crash_is_a_temporary_problem() {
        let once = pod(json!({"restartCount": 1, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}}}));
        let problem = problem(&once).unwrap();
        assert!(!problem.permanent);
        assert_eq!(problem.message, "exit code 2, restarted once");
    }

    #[test]
    fn a_pod_without_a_node_reports_the_cause() {
        let pending = serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {
            "phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]}}));
        let problem = problem(&pending.unwrap()).unwrap();
        assert_eq!(
            (problem.cause, problem.permanent),
            (Cause::Unschedulable, false)
        );
        assert!(problem.message.contains("Insufficient cpu"));
    }

    #[test]
    fn init_containers_count_and_a_permanent_problem_comes_first() {
        let pod = serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {
            "initContainerStatuses": [{"name": "init", "image": "i", "imageID": "", "ready": false,
                "restartCount": 1, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}}],
            "containerStatuses": [{"name": "app", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "InvalidImageName"}}}]}}));
        let problem = problem(&pod.unwrap()).unwrap();
        assert_eq!(problem.container.as_deref(), Some("app"));
    }

    proptest! {
        #[test]
        fn a_ready_container_never_has_a_problem(restarts in 0..100i32, code in -1..256i32) {
            let pod = pod(json!({"ready": true, "restartCount": restarts, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": code}}}));
            prop_assert_eq!(problem(&pod), None);
        }

        #[test]
        fn no_exit_is_permanent_before_kubernetes_backs_off(restarts in 0..100i32, code in -1..256i32) {
            let ended = pod(json!({"restartCount": restarts, "state": {"terminated": {"exitCode": code}}}));
            let problem = problem(&ended);
            prop_assert_eq!(problem.is_some(), code != 0);
            prop_assert!(problem.is_none_or(|problem| !problem.permanent));
        }
    }

    #[tokio::test]
    async fn the_log_is_that_of_the_container_before_the_restart() {
        let server = MockServer::new(|request| match request.query.contains("previous=true") {
            true => (200, json!("one\n\ncannot reach the database\n")),
            false => (200, json!("still starting")),
        });
        let crashed = pod(json!({"restartCount": 1, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 1}}}));
        let problem = with_last_lines(&server.cluster("trii"), problem(&crashed).unwrap()).await;
        assert_eq!(problem.log, ["one", "cannot reach the database"]);
        let message = problem.to_string();
        assert!(message.ends_with("one | cannot reach the database"));
    }

    #[tokio::test]
    async fn without_a_previous_container_the_log_is_the_current_one() {
        let server = MockServer::new(|request| match request.query.contains("previous=true") {
            true => (
                400,
                json!({"kind": "Status", "status": "Failure", "code": 400,
                "message": "previous terminated container not found", "reason": "BadRequest"}),
            ),
            false => (200, json!("bad schema")),
        });
        let failed = pod(json!({"state": {"terminated": {"exitCode": 1}}}));
        let problem = with_last_lines(&server.cluster("trii"), problem(&failed).unwrap()).await;
        assert_eq!(problem.log, ["bad schema"]);
    }

    #[tokio::test]
    async fn a_pod_that_is_not_ready_is_explained_by_its_probe_and_its_log() {
        let server = MockServer::new(|request| match request.path.ends_with("/log") {
            true => (200, json!("redis: connection refused")),
            false => {
                let event = |at: &str, message: &str| {
                    json!({"metadata": {"name": at}, "involvedObject": {},
                        "lastTimestamp": at, "message": message})
                };
                let items = json!([
                    event(
                        "2026-11-25T09:00:02Z",
                        "Readiness probe failed: statuscode: 503"
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
        assert_eq!(problem(&running), None);
        let problem = with_last_lines(&server.cluster("trii"), unready(&running).unwrap()).await;
        assert!(problem.message.ends_with("503"), "{problem}");
        assert_eq!(problem.log, ["redis: connection refused"]);
        assert!(problem.kubectl().ends_with("--container app"));
        let ready = pod(json!({"ready": true, "state": {"running": {}}}));
        assert_eq!(unready(&ready), None);
        assert_eq!(unready(&waiting("ContainerCreating", "")), None);
    }
}
