//! Why a Job has no pod. Its events show that, its status does not.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::workload_problem::WorkloadProblem;
use super::{Cluster, ClusterError};

/// Returns the quota or the admission rule that refuses the Job's pods, according to its events.
///
/// # Errors
/// What the API server answered.
pub async fn refused_pods(
    cluster: &Cluster,
    job: &Job,
) -> Result<Option<WorkloadProblem>, ClusterError> {
    let Some(uid) = &job.metadata.uid else {
        return Ok(None);
    };
    let events: Api<Event> = cluster.api();
    let about = format!("involvedObject.uid={uid},reason=FailedCreate");
    let events = events.list(&ListParams::default().fields(&about)).await;
    let events = events.map_err(|error| ClusterError::of("list Events", error))?;
    let last = events
        .items
        .into_iter()
        .max_by_key(|event| event.last_timestamp.clone());
    Ok(last.map(|event| {
        WorkloadProblem::no_pods(
            format!("job/{}", job.name_any()),
            event.reason.unwrap_or_default(),
            event.message.unwrap_or_default(),
        )
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::workload_problem::Cause;
    use super::*;
    use crate::mock::MockServer;

    fn event(at: &str, message: &str) -> serde_json::Value {
        json!({"metadata": {"name": at}, "involvedObject": {}, "reason": "FailedCreate",
            "lastTimestamp": at, "message": message})
    }

    #[tokio::test]
    async fn the_last_event_has_the_cause() {
        let server = MockServer::new(|_| {
            let items = json!([
                event(
                    "2026-11-25T09:00:02Z",
                    "Error creating: pods \"m-1\" is forbidden: exceeded quota: q, requested: pods=1"
                ),
                event(
                    "2026-11-25T09:00:01Z",
                    "Internal error occurred: failed calling webhook"
                ),
            ]);
            (
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
            )
        });
        let job = json!({"metadata": {"name": "migration", "uid": "u"}});
        let job = serde_json::from_value(job).unwrap();
        let problem = refused_pods(&server.cluster("trii"), &job)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((problem.cause, problem.permanent), (Cause::Quota, false));
        assert_eq!(problem.object, "job/migration");
        let query = server.requests().pop().unwrap().query;
        assert!(query.contains("involvedObject.uid"), "{query}");
    }
}
