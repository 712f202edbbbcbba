//! Reads the objects of a namespace. Of Secrets, only the names are read.

use std::collections::BTreeSet;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::objects::{PlatformObjects, Workload};
use kubernetes::ClusterError;
use kubernetes::workloads::release_of;

/// The objects of a namespace, and the helm releases that they are of.
#[derive(Debug, Default)]
pub struct NamespaceObjects {
    /// The objects.
    pub objects: PlatformObjects,
    /// The names of the releases.
    pub releases: BTreeSet<String>,
    /// Why the Secrets cannot be listed, if they cannot.
    pub no_secrets: Option<String>,
}

/// Returns the objects of a namespace. The own Secrets are those that helm installed.
///
/// # Errors
/// The API server does not answer, or does not permit a request other than that for Secrets.
pub async fn read(client: &Client, namespace: &str) -> Result<NamespaceObjects, ClusterError> {
    let reader = Reader { client, namespace };
    let mut found = NamespaceObjects::default();
    reader.workloads::<Deployment>(&mut found).await?;
    reader.workloads::<StatefulSet>(&mut found).await?;
    reader.workloads::<DaemonSet>(&mut found).await?;
    reader.workloads::<CronJob>(&mut found).await?;
    reader.workloads::<Job>(&mut found).await?;
    found.objects.services = reader.list::<Service>().await?;
    found.objects.ingresses = reader.list::<Ingress>().await?;
    found.objects.autoscalers = reader.list::<HorizontalPodAutoscaler>().await?;
    match reader.own_secrets().await {
        Ok(names) => found.objects.own_secrets = names,
        Err(ClusterError::Forbidden { reason, .. }) => found.no_secrets = Some(reason),
        Err(error) => return Err(error),
    }
    Ok(found)
}

struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Reader<'_> {
    async fn workloads<K>(&self, found: &mut NamespaceObjects) -> Result<(), ClusterError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Into<Workload>,
    {
        for object in self.list::<K>().await? {
            // A Job of a CronJob, which has the same pods.
            if !object.owner_references().is_empty() {
                continue;
            }
            found
                .releases
                .extend(release_of(&object).map(str::to_owned));
            found.objects.workloads.push(object.into());
        }
        Ok(())
    }

    async fn list<K>(&self) -> Result<Vec<K>, ClusterError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let listed = self.api::<K>().list(&ListParams::default()).await;
        let listed = listed.map_err(|error| self.failed::<K>(error))?;
        Ok(listed.items)
    }

    async fn own_secrets(&self) -> Result<BTreeSet<String>, ClusterError> {
        let api = self.api::<Secret>();
        let listed = api.list_metadata(&ListParams::default()).await;
        let listed = listed.map_err(|error| self.failed::<Secret>(error))?;
        let own = listed.items.iter().filter(|it| release_of(*it).is_some());
        Ok(own.map(ResourceExt::name_any).collect())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    fn failed<K: Resource<DynamicType = ()>>(&self, error: kube::Error) -> ClusterError {
        let what = format!("list {} in namespace {}", K::plural(&()), self.namespace);
        ClusterError::of(what, error)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use kubernetes::mock::MockServer;

    fn deployment(name: &str, release: Option<&str>) -> Value {
        let annotations = release.map(|it| json!({"meta.helm.sh/release-name": it}));
        json!({
            "metadata": {"name": name, "annotations": annotations},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": []}},
            },
        })
    }

    /// A namespace of two releases, and of a Job that a CronJob has made.
    fn answer(path: &str) -> Vec<Value> {
        let resource = path.rsplit('/').next().unwrap_or_default();
        match resource {
            "deployments" => vec![
                deployment("web", Some("front")),
                deployment("api", Some("back")),
                deployment("by-hand", None),
            ],
            "jobs" => vec![json!({"metadata": {
                "name": "report-1",
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "report", "uid": "1"}],
            }})],
            "services" => vec![json!({
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
            })],
            "secrets" => vec![
                json!({"metadata": {"name": "own", "annotations": {"meta.helm.sh/release-name": "front"}}}),
                json!({"metadata": {"name": "by-hand"}}),
            ],
            _ => vec![],
        }
    }

    fn list(items: Vec<Value>) -> Value {
        json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
    }

    #[tokio::test]
    async fn the_objects_of_a_namespace_and_their_releases_are_read() {
        let server = MockServer::new(|request| (200, list(answer(&request.path))));
        let cluster = server.cluster("shop");
        let found = read(cluster.client(), "shop").await.unwrap();
        let names = found.objects.workloads.iter().map(|it| it.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["web", "api", "by-hand"]);
        assert_eq!(
            found.releases.into_iter().collect::<Vec<_>>(),
            ["back", "front"]
        );
        assert_eq!(found.objects.services.len(), 1);
        let own = found.objects.own_secrets.into_iter();
        assert_eq!(own.collect::<Vec<_>>(), ["own"]);
        for request in server.requests() {
            assert_eq!(request.method, "GET");
            assert!(
                request.path.contains("/namespaces/shop/"),
                "{}",
                request.path
            );
        }
    }

    #[tokio::test]
    async fn without_the_right_to_list_secrets_the_reason_is_kept() {
        let server = MockServer::new(|request| match request.path.ends_with("/secrets") {
            true => (
                403,
                json!({"kind": "Status", "code": 403, "message": "secrets is forbidden"}),
            ),
            false => (200, list(answer(&request.path))),
        });
        let cluster = server.cluster("shop");
        let found = read(cluster.client(), "shop").await.unwrap();
        assert_eq!(found.no_secrets.as_deref(), Some("secrets is forbidden"));
        assert_eq!(found.objects.services.len(), 1);
    }

    #[tokio::test]
    async fn a_namespace_that_cannot_be_read_is_an_error_with_the_request() {
        let forbidden = json!({"kind": "Status", "code": 403, "message": "no"});
        let server = MockServer::new(move |_| (403, forbidden.clone()));
        let cluster = server.cluster("shop");
        let error = read(cluster.client(), "shop").await.unwrap_err();
        assert!(matches!(error, ClusterError::Forbidden { .. }));
        let expected = "list deployments in namespace shop";
        assert!(error.to_string().contains(expected), "{error}");
    }
}
