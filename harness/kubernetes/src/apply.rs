//! Server-side apply: creates objects, or changes them to match a manifest.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, ObjectMeta};
use kube::discovery::{self, ApiResource, Scope};
use kube::error::DiscoveryError;

use super::{Cluster, ClusterError};
use base::wait::{self, Observation};

/// The field manager of this program.
pub const FIELD_MANAGER: &str = "trii-rehearsal";

/// How long the API server may take to serve a kind after its definition was applied.
const NEW_KIND_TIMEOUT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);

impl Cluster {
    /// Applies every document of `manifest` (YAML) in order. Objects without a namespace go into
    /// the cluster's. Custom resources may follow their CustomResourceDefinition.
    ///
    /// # Errors
    /// [`ClusterError::Manifest`] before anything is applied, otherwise the API server's answer for
    /// the first object that it refuses.
    pub async fn apply(&self, manifest: &str) -> Result<(), ClusterError> {
        let objects = documents(manifest)?;
        let defines_kinds = objects
            .iter()
            .any(|(kind, _)| kind.kind == "CustomResourceDefinition");
        for (kind, object) in objects {
            let (resource, scope) = match defines_kinds {
                true => self.wait_until_served(&kind).await?,
                false => self.served(&kind).await?,
            };
            self.apply_one(object, &resource, &scope).await?;
        }
        Ok(())
    }

    /// Creates or changes the Secret `name` with these values.
    ///
    /// # Errors
    /// What the API server answered, without the values.
    pub async fn apply_secret(
        &self,
        name: &str,
        values: BTreeMap<String, String>,
    ) -> Result<(), ClusterError> {
        let data = values
            .into_iter()
            .map(|(key, value)| (key, ByteString(value.into_bytes())));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some(data.collect()),
            ..Secret::default()
        };
        self.api::<Secret>()
            .patch(name, &as_owner(), &Patch::Apply(&secret))
            .await
            .map_err(|error| ClusterError::of(format!("apply Secret {name}"), error))?;
        Ok(())
    }

    async fn apply_one(
        &self,
        object: DynamicObject,
        resource: &ApiResource,
        scope: &Scope,
    ) -> Result<(), ClusterError> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let namespace = object.metadata.namespace.as_ref();
        let namespace = namespace.unwrap_or(&self.namespace);
        let client = self.client().clone();
        let api: Api<DynamicObject> = match scope {
            Scope::Cluster => Api::all_with(client, resource),
            Scope::Namespaced => Api::namespaced_with(client, namespace, resource),
        };
        api.patch(&name, &as_owner(), &Patch::Apply(&object))
            .await
            .map_err(|error| ClusterError::of(format!("apply {} {name}", resource.kind), error))?;
        Ok(())
    }

    async fn served(&self, kind: &GroupVersionKind) -> Result<(ApiResource, Scope), ClusterError> {
        let what = format!("serve {} of {}", kind.kind, kind.api_version());
        match discovery::pinned_kind(self.client(), kind).await {
            Ok((resource, capabilities)) => Ok((resource, capabilities.scope)),
            Err(kube::Error::Discovery(DiscoveryError::MissingKind(_))) => {
                let reason = "it has no such kind; is its definition (CRD) there?".to_owned();
                Err(ClusterError::Refused { what, reason })
            }
            Err(error) => Err(ClusterError::of(what, error)),
        }
    }

    async fn wait_until_served(
        &self,
        kind: &GroupVersionKind,
    ) -> Result<(ApiResource, Scope), ClusterError> {
        let mut last = None;
        let served = wait::until(
            "the kind is served",
            NEW_KIND_TIMEOUT,
            PAUSE,
            async || match self.served(kind).await {
                Ok(served) => Observation::Ready(served),
                Err(error) => {
                    let reason = error.to_string();
                    let observation = match error {
                        ClusterError::Forbidden { .. } => Observation::Failed(reason),
                        _ => Observation::NotYet(reason),
                    };
                    last = Some(error);
                    observation
                }
            },
        )
        .await;
        served.map_err(|timeout| {
            last.unwrap_or_else(|| ClusterError::Silent {
                what: format!("serve {}", kind.kind),
                reason: timeout.to_string(),
            })
        })
    }
}

/// Takes fields over from other field managers.
fn as_owner() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// Returns the objects of a manifest with their kinds. Empty documents are skipped.
fn documents(manifest: &str) -> Result<Vec<(GroupVersionKind, DynamicObject)>, ClusterError> {
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(manifest).map_err(|error| ClusterError::Manifest {
            number: 0,
            reason: error.to_string(),
        })?;
    documents
        .into_iter()
        .enumerate()
        .filter(|(_, document)| !document.is_null())
        .map(|(index, document)| {
            object(document).map_err(|reason| ClusterError::Manifest {
                number: index + 1,
                reason,
            })
        })
        .collect()
}

fn object(document: serde_json::Value) -> Result<(GroupVersionKind, DynamicObject), String> {
    let object: DynamicObject =
        serde_json::from_value(document).map_err(|error| error.to_string())?;
    let types = object.types.as_ref().ok_or("it has no kind")?;
    let kind = GroupVersionKind::try_from(types).map_err(|error| error.to_string())?;
    match object.metadata.name {
        Some(_) => Ok((kind, object)),
        None => Err(format!("this {} has no name", kind.kind)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mock::MockServer;

    fn core_kinds() -> serde_json::Value {
        json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
            {"name": "namespaces", "singularName": "namespace", "namespaced": false,
             "kind": "Namespace", "verbs": ["get", "patch"]},
            {"name": "configmaps", "singularName": "configmap", "namespaced": true,
             "kind": "ConfigMap", "verbs": ["get", "patch"]},
        ]})
    }

    const MANIFEST: &str = "---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: trii}\n---\n\
        apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n\
        apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: other}\n";

    #[tokio::test]
    async fn documents_are_applied_in_order_into_their_namespaces() {
        let server = MockServer::new(|request| match request.path.as_str() {
            "/api/v1" => (200, core_kinds()),
            _ => (200, request.body.clone()),
        });
        server.cluster("trii").apply(MANIFEST).await.unwrap();
        let patched: Vec<String> = server
            .requests()
            .into_iter()
            .filter(|request| request.method == "PATCH")
            .map(|request| {
                assert!(request.query.contains("fieldManager=trii-rehearsal"));
                assert!(request.query.contains("force=true"));
                request.path
            })
            .collect();
        assert_eq!(
            patched,
            [
                "/api/v1/namespaces/trii",
                "/api/v1/namespaces/trii/configmaps/a",
                "/api/v1/namespaces/other/configmaps/b",
            ]
        );
    }

    #[tokio::test]
    async fn a_kind_that_is_not_served_is_named() {
        let server = MockServer::new(|_| (200, core_kinds()));
        let manifest = "apiVersion: v1\nkind: Sekret\nmetadata: {name: a}";
        let error = server.cluster("trii").apply(manifest).await.unwrap_err();
        assert!(error.to_string().contains("Sekret of v1"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_the_manifest_defines_is_waited_for() {
        let requests = std::sync::atomic::AtomicUsize::new(0);
        let server = MockServer::new(move |request| match request.path.as_str() {
            "/apis/apiextensions.k8s.io/v1" => (
                200,
                json!({"kind": "APIResourceList", "groupVersion": "apiextensions.k8s.io/v1", "resources": [
                    {"name": "customresourcedefinitions", "singularName": "", "namespaced": false,
                     "kind": "CustomResourceDefinition", "verbs": ["patch"]}]}),
            ),
            "/apis/trii.co/v1" => match requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            {
                0..3 => (
                    404,
                    json!({"kind": "Status", "status": "Failure", "code": 404, "message": "not yet", "reason": "NotFound"}),
                ),
                _ => (
                    200,
                    json!({"kind": "APIResourceList", "groupVersion": "trii.co/v1", "resources": [
                        {"name": "quotes", "singularName": "", "namespaced": true, "kind": "Quote", "verbs": ["patch"]}]}),
                ),
            },
            _ => (200, request.body.clone()),
        });
        let manifest = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
            metadata: {name: quotes.trii.co}\n---\napiVersion: trii.co/v1\nkind: Quote\nmetadata: {name: q}";
        server.cluster("trii").apply(manifest).await.unwrap();
        let last = server.requests().pop().unwrap();
        assert_eq!(last.path, "/apis/trii.co/v1/namespaces/trii/quotes/q");
    }

    #[tokio::test]
    async fn a_manifest_with_an_error_is_not_applied_at_all() {
        let server = MockServer::new(|_| (200, core_kinds()));
        for (manifest, number) in [
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nkind: ConfigMap\nmetadata: {name: b}",
                2,
            ),
            ("apiVersion: v1\nkind: ConfigMap\nmetadata: {}", 1),
            ("a: [", 0),
        ] {
            let error = server.cluster("trii").apply(manifest).await.unwrap_err();
            assert!(
                matches!(error, ClusterError::Manifest { number: n, .. } if n == number),
                "{error}"
            );
        }
        assert!(server.requests().is_empty());
    }

    #[tokio::test]
    async fn a_secrets_values_are_in_no_error() {
        let server = MockServer::new(|_| {
            (
                403,
                json!({"kind": "Status", "status": "Failure", "code": 403,
                    "message": "secrets \"x\" is forbidden", "reason": "Forbidden"}),
            )
        });
        let values = BTreeMap::from([("url".to_owned(), "postgres://hunter2".to_owned())]);
        let cluster = server.cluster("trii");
        let error = cluster.apply_secret("x", values).await.unwrap_err();
        assert!(matches!(error, ClusterError::Forbidden { .. }));
        assert!(!format!("{error:?}").contains("hunter2"));
        let sent = server.requests().pop().unwrap();
        assert_eq!(sent.path, "/api/v1/namespaces/trii/secrets/x");
        assert_eq!(sent.body["data"]["url"], "cG9zdGdyZXM6Ly9odW50ZXIy");
    }
}
