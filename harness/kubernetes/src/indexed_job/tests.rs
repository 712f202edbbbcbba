use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};

use super::*;
use crate::mock::{ApiRequest, MockServer};
use base::wait;

const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

fn wanted(pods: usize) -> JobSettings {
    JobSettings {
        part: "generator",
        image: "generator:1".into(),
        variable: ("LOAD_ORDER", "{}".into()),
        pods,
        lifetime: Duration::from_secs(90),
        grace: Duration::from_secs(12),
    }
}

fn created() -> Value {
    json!({"kind": "Job", "apiVersion": "batch/v1",
        "metadata": {"name": "generator-a", "uid": "u"}})
}

fn pod(number: usize, phase: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "status": {"phase": phase}, "metadata": {
        "name": format!("generator-a-{number}-x"), "annotations": {INDEX: number.to_string()}}})
}

fn list(items: Vec<Value>) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// Two pods that run until the Job is deleted. Successive reads of a log return `logs`, and then
/// the last one again.
fn cluster(logs: Vec<String>) -> MockServer {
    let (log_reads, deleted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    MockServer::new(move |request: &ApiRequest| {
        let phase = match deleted.load(SeqCst) {
            0 => "Running",
            _ => "Succeeded",
        };
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", _) => (201, created()),
            ("DELETE", _) => {
                deleted.store(1, SeqCst);
                (200, created())
            }
            (_, path) if path.ends_with("/log") => {
                let read = log_reads.fetch_add(1, SeqCst) / 2;
                (200, logs[read.min(logs.len() - 1)].clone().into())
            }
            // Not in the order of their numbers.
            (_, path) if path.ends_with("/pods") => (200, list(vec![pod(1, phase), pod(0, phase)])),
            (_, path) => (200, pod(usize::from(path.contains("-1-")), phase)),
        }
    })
}

async fn start(server: &MockServer) -> Result<IndexedJob, IndexedJobError> {
    let cluster = server.cluster("trii-monitoring");
    let started =
        tokio::spawn(async move { IndexedJob::start(&cluster, &wanted(2), DEADLINE).await });
    started.await.unwrap()
}

async fn is_deleted(server: &MockServer) {
    let deletion = wait::until("the Job is deleted", DEADLINE, PAUSE, async || {
        let requests = server.requests();
        match requests.iter().find(|request| request.method == "DELETE") {
            Some(request) => Observation::Ready(request.clone()),
            None => Observation::NotYet(format!("{requests:?}")),
        }
    });
    let request = deletion.await.unwrap();
    let path = request.path;
    assert!(path.ends_with("/jobs/generator-a"), "{path}");
    assert_eq!(request.body["propagationPolicy"], "Background");
}

#[tokio::test]
async fn the_output_of_each_pod_is_received_until_its_end() {
    let server = cluster(vec!["one\n".into(), "one\ntwo\n".into()]);
    let mut job = start(&server).await.unwrap();
    assert_eq!(job.pods, ["generator-a-0-x", "generator-a-1-x"]);
    let mut received = [Vec::new(), Vec::new()];
    let mut ended = false;
    while let Some((number, output)) = job.next().await {
        received[number].push(output);
        if !ended && received.iter().all(|output| output.len() >= 3) {
            job.end().await.unwrap();
            ended = true;
        }
    }
    let line = |line: &str| PodOutput::Line(line.into());
    for output in received {
        assert_eq!(output[..3], [line("one"), line("one"), line("two")]);
        assert_eq!(output.last(), Some(&PodOutput::Ended("Succeeded".into())));
    }
    is_deleted(&server).await;
}

#[tokio::test]
async fn its_pods_are_restricted_bounded_and_found() {
    let server = cluster(vec![String::new()]);
    drop(start(&server).await.unwrap());
    is_deleted(&server).await;
    let job = server.requests()[0].body.clone();
    let path = &server.requests()[0].path;
    assert_eq!(path, "/apis/batch/v1/namespaces/trii-monitoring/jobs");
    let owner = job["metadata"]["labels"]["trii.rehearsal/owner"].clone();
    assert_eq!(owner.as_str().unwrap().len(), 16);
    let job = job.to_string().replace(owner.as_str().unwrap(), "ours");
    let job: Value = serde_json::from_str(&job).unwrap();
    insta::assert_json_snapshot!(job);
}

#[tokio::test]
async fn a_pod_that_exits_before_all_run_is_quoted_and_the_job_is_deleted() {
    let server = MockServer::new(|request: &ApiRequest| match request.method.as_str() {
        "POST" => (201, created()),
        _ if request.path.ends_with("/log") => {
            (200, "load-generator: LOAD_ORDER is no order\n".into())
        }
        _ if request.path.ends_with("/pods") => {
            (200, list(vec![pod(0, "Running"), pod(1, "Failed")]))
        }
        _ => (200, created()),
    });
    let error = start(&server).await.err().unwrap().to_string();
    insta::assert_snapshot!(error, @"the generator's Job trii-monitoring/generator-a has 2 pods that run: gave up: generator-a-1-x: Failed; its last output: load-generator: LOAD_ORDER is no order");
    is_deleted(&server).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_quota_is_named() {
    let server = MockServer::new(|request: &ApiRequest| match request.method.as_str() {
        "POST" => (201, created()),
        _ if request.path.ends_with("/events") => {
            let event = json!({"metadata": {"name": "e"}, "involvedObject": {},
                "reason": "FailedCreate", "message": "exceeded quota: small, requested: cpu=400m"});
            (200, list(vec![event]))
        }
        _ if request.path.ends_with("/pods") => (200, list(vec![pod(0, "Running")])),
        _ => (200, created()),
    });
    let cluster = server.cluster("trii-monitoring");
    let error = IndexedJob::start(&cluster, &wanted(2), DEADLINE).await;
    let error = error.err().unwrap().to_string();
    assert!(error.contains("1 of 2 run"), "{error}");
    assert!(error.contains("exceeded quota: small"), "{error}");
}

#[tokio::test]
async fn a_refused_job_is_reported() {
    let forbidden = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
        "reason": "Forbidden", "message": "jobs.batch is forbidden"});
    let server = MockServer::new(move |_| (403, forbidden.clone()));
    let error = start(&server).await.err().unwrap();
    assert!(
        matches!(&error, IndexedJobError::Job(HelperError::Create { why, .. }) if why.contains("forbidden"))
    );
}

#[tokio::test]
async fn remaining_jobs_are_deleted_by_their_labels() {
    let server = MockServer::new(|_| (200, list(vec![])));
    end_all(&server.cluster("trii-monitoring"), "generator")
        .await
        .unwrap();
    let request = &server.requests()[0];
    assert_eq!(request.method, "DELETE");
    let query = &request.query;
    let selector = "trii.rehearsal%2Fpart%3Dgenerator%2C";
    assert!(query.contains(selector), "{query}");
}
