//! Why a Job has no pod. It does not say so in its status, only in its events.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::trouble::Trouble;
use super::{Cluster, ClusterError};

/// Why the Job's pods are not let in: a quota, an admission rule. None where nothing
/// was said against them.
///
/// # Errors
/// What the API server said.
pub async fn refused_pods(cluster: &Cluster, job: &Job) -> Result<Option<Trouble>, ClusterError> {
    let Some(uid) = &job.metadata.uid else {
        return Ok(None);
    };
    let events: Api<Event> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
    let about = format!("involvedObject.uid={uid},reason=FailedCreate");
    let events = events.list(&ListParams::default().fields(&about)).await;
    let events = events.map_err(|error| ClusterError::of("list Events", error))?;
    let last = events
        .items
        .into_iter()
        .max_by_key(|event| event.last_timestamp.clone());
    Ok(last.map(|event| {
        Trouble::no_pods(
            format!("job/{}", job.name_any()),
            event.reason.unwrap_or_default(),
            event.message.unwrap_or_default(),
        )
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::mock::Server;
    use super::super::trouble::Cause;
    use super::*;

    fn event(at: &str, message: &str) -> serde_json::Value {
        json!({"metadata": {"name": at}, "involvedObject": {}, "reason": "FailedCreate",
            "lastTimestamp": at, "message": message})
    }

    #[tokio::test]
    async fn the_last_event_says_why() {
        let server = Server::new(|_| {
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
        let trouble = refused_pods(&server.cluster("trii"), &job)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((trouble.cause, trouble.hopeless), (Cause::Quota, false));
        assert_eq!(trouble.object, "job/migration");
        let asked = server.requests().pop().unwrap().query;
        assert!(asked.contains("involvedObject.uid"), "{asked}");
    }
}
