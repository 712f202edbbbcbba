//! Which requests change a cluster, and which of them a client may send.
//!
//! Clusters that this program creates may be changed freely. An existing cluster is changed only as
//! its target allows. Each client has [`Permissions`], and checks each request before it is sent.
//! The permissions of a remote target come from its guard rails alone
//! (`environments::remote::Site`). helm has its own client, and is started for a change only with
//! the permission.
//!
//! | what is changed | by | action in `allow` |
//! |---|---|---|
//! | the release | `helm upgrade` | `deploy` |
//! | the lock of a service that is released | create and update a Lease | `deploy` |
//! | the record of its release, and requests to it | create and update a ConfigMap | `deploy` |
//! | a colour: its pod template, replicas and mark | patch a Deployment and its scale | `deploy` |
//! | how many pods a colour keeps while it is released | patch its HorizontalPodAutoscaler | `deploy` |
//! | traffic: the colour that a Service selects | patch a Service | `deploy` |
//! | the prober of a release whose analysis is `probe` | create, delete a pod in `platform.helpers_namespace` | `deploy` |
//! | the pod for checks from inside | create, delete, `exec`; in the namespace `default` | `inside` |
//! | load generators | create, delete a Job, attach to its pods; in `default` | `inside` |
//! | anything else: Secrets, manifests, faults, `helm rollback` and `uninstall` | | none, clusters of ours only |
//!
//! `deploy` covers the release's namespace only, and deletes only the prober. Reads and access
//! reviews change nothing.
//!
//! The Roles with exactly these permissions: `fixtures/k8s-manifests/roles`.

use std::collections::BTreeSet;
use std::sync::Arc;

use hyper::{Method, Request};
use kube::client::Body;
use thiserror::Error;
use tower::BoxError;

use super::Action;

/// The namespace of pods that check and generate load from inside.
pub const INSIDE: &str = "default";

/// The changes that a client may make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions(Option<Arc<Granted>>);

/// What is permitted on an existing target.
#[derive(Debug, PartialEq, Eq)]
struct Granted {
    target: String,
    /// The release's namespace.
    namespace: String,
    /// The namespace of probers.
    helpers_namespace: Option<String>,
    actions: BTreeSet<Action>,
}

/// A change without permission. The request was not sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what} is refused: {} on the target {target}", .action.map_or_else(
    || "it is never done".to_owned(),
    |action| format!("{:?} was not permitted", action.name()),
))]
pub struct Denied {
    what: String,
    target: String,
    action: Option<Action>,
}

impl Permissions {
    /// All changes, for a cluster that this program created.
    pub fn ours() -> Permissions {
        Permissions(None)
    }

    /// Whether this program created the cluster.
    pub fn is_ours(&self) -> bool {
        self.0.is_none()
    }

    /// The changes of these actions, for an existing cluster, to a release in `namespace` and to
    /// probers in `helpers_namespace`. Only its guard rails may call this.
    pub fn granted(
        target: &str,
        namespace: &str,
        helpers_namespace: Option<&str>,
        actions: impl IntoIterator<Item = Action>,
    ) -> Permissions {
        Permissions(Some(Arc::new(Granted {
            target: target.to_owned(),
            namespace: namespace.to_owned(),
            helpers_namespace: helpers_namespace.map(str::to_owned),
            actions: actions.into_iter().collect(),
        })))
    }

    /// Checks that helm may change the release with the command `what`.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn to_release(&self, what: &str) -> Result<(), Denied> {
        let only_ours = matches!(what, "rollback" | "uninstall");
        let action = (!only_ours).then_some(Action::Deploy);
        self.require(action, || format!("helm {what}"))
    }

    /// Returns the request if it changes nothing, or if the change is permitted.
    pub(super) fn pass(&self, request: Request<Body>) -> Result<Request<Body>, BoxError> {
        let (method, path) = (request.method(), request.uri().path());
        if !is_change(method, path) {
            return Ok(request);
        }
        let action = self.0.as_ref().and_then(|it| it.action_for(method, path));
        self.require(action, || format!("{method} {path}"))?;
        Ok(request)
    }

    /// Without an action, only clusters of ours permit it.
    fn require(&self, action: Option<Action>, what: impl Fn() -> String) -> Result<(), Denied> {
        match &self.0 {
            None => Ok(()),
            Some(granted) if action.is_some_and(|it| granted.actions.contains(&it)) => Ok(()),
            Some(granted) => Err(Denied {
                what: what(),
                target: granted.target.clone(),
                action,
            }),
        }
    }
}

impl Denied {
    /// Returns the remedy, for messages.
    pub fn advice(&self) -> String {
        match self.action {
            Some(action) => format!(
                "what may be done there is in allow under [targets.{}] in harness.toml; {:?} lets a command that needs it do this",
                self.target,
                action.name()
            ),
            None => "only clusters that this program created can be changed so".to_owned(),
        }
    }
}

impl Granted {
    /// Returns the action that permits a change; none if no action does.
    fn action_for(&self, method: &Method, path: &str) -> Option<Action> {
        let Object {
            namespace,
            resource,
            subresource,
        } = Object::at(path)?;
        let deletes = *method == Method::DELETE;
        match (resource, subresource) {
            ("pods", "" | "exec" | "attach") | ("jobs", "") if namespace == INSIDE => {
                Some(Action::Inside)
            }
            ("pods", "") if self.helpers_namespace.as_deref() == Some(namespace) => {
                Some(Action::Deploy)
            }
            (
                "leases" | "configmaps" | "deployments" | "horizontalpodautoscalers" | "services",
                "",
            )
            | ("deployments", "scale")
                if namespace == self.namespace && !deletes =>
            {
                Some(Action::Deploy)
            }
            _ => None,
        }
    }
}

/// Whether a request changes something. `exec` starts as a GET, and a GET through a node's kubelet
/// can also run a program in a container.
/// <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb>
fn is_change(method: &Method, path: &str) -> bool {
    let (resource, subresource) =
        Object::at(path).map_or(("", ""), |it| (it.resource, it.subresource));
    match (resource, subresource) {
        (_, "exec" | "attach" | "portforward") | ("nodes", "proxy") => true,
        // A review only reads.
        _ if *method == Method::POST && is_review(path, resource) => false,
        _ => !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
    }
}

/// `SelfSubjectAccessReview`, `TokenReview` and similar reviews.
fn is_review(path: &str, resource: &str) -> bool {
    let of_auth = [
        "/apis/authorization.k8s.io/",
        "/apis/authentication.k8s.io/",
    ];
    of_auth.iter().any(|it| path.starts_with(it)) && resource.ends_with("reviews")
}

/// The resource of a path of the API.
#[derive(Debug, PartialEq, Eq)]
struct Object<'a> {
    /// May be empty.
    namespace: &'a str,
    /// The plural: `pods`.
    resource: &'a str,
    /// May be empty.
    subresource: &'a str,
}

impl<'a> Object<'a> {
    /// Parses `/api/v1/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE` and
    /// `/apis/GROUP/VERSION/...`.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris>
    fn at(path: &'a str) -> Option<Object<'a>> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let within = match parts[..] {
            ["api", _, ref within @ ..] | ["apis", _, _, ref within @ ..] => within,
            _ => return None,
        };
        let (namespace, within) = match within {
            ["namespaces", namespace, within @ ..] if !within.is_empty() => (*namespace, within),
            within => ("", within),
        };
        Some(Object {
            namespace,
            resource: within.first()?,
            subresource: within.get(2).copied().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
    use k8s_openapi::api::coordination::v1::Lease;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
    use kube::Api;
    use kube::api::{AttachParams, DeleteParams, ListParams, Patch, PatchParams, PostParams};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::ClusterError;
    use crate::mock::MockServer;

    fn staging(actions: &[Action]) -> Permissions {
        Permissions::granted("staging", "trii", Some("helpers"), actions.iter().copied())
    }

    fn passes(access: &Permissions, method: &str, path: &str) -> bool {
        let request = Request::builder().method(method).uri(path);
        access.pass(request.body(Body::empty()).unwrap()).is_ok()
    }

    const ALL: [Action; 5] = [
        Action::Deploy,
        Action::Orders,
        Action::Burst,
        Action::Inside,
        Action::Load,
    ];

    /// The table of this module.
    #[test]
    fn every_change_needs_its_action_and_no_other() {
        let deploy = [
            "POST /apis/coordination.k8s.io/v1/namespaces/trii/leases",
            "PUT /apis/coordination.k8s.io/v1/namespaces/trii/leases/a",
            "PUT /api/v1/namespaces/trii/configmaps/a",
            "PATCH /apis/apps/v1/namespaces/trii/deployments/a",
            "PATCH /apis/apps/v1/namespaces/trii/deployments/a/scale",
            "PATCH /apis/autoscaling/v2/namespaces/trii/horizontalpodautoscalers/a",
            "PATCH /api/v1/namespaces/trii/services/a",
            "POST /api/v1/namespaces/helpers/pods",
            "DELETE /api/v1/namespaces/helpers/pods/a",
        ];
        let inside = [
            "POST /api/v1/namespaces/default/pods",
            "DELETE /api/v1/namespaces/default/pods",
            "GET /api/v1/namespaces/default/pods/a/exec",
            "GET /api/v1/namespaces/default/pods/a/attach",
            "POST /apis/batch/v1/namespaces/default/jobs",
            "DELETE /apis/batch/v1/namespaces/default/jobs/a",
        ];
        let deploy = deploy.map(|change| (Action::Deploy, change));
        let inside = inside.map(|change| (Action::Inside, change));
        for (needed, change) in deploy.into_iter().chain(inside) {
            let (method, path) = change.split_once(' ').unwrap();
            assert!(passes(&Permissions::ours(), method, path));
            assert!(!passes(&staging(&[]), method, path), "{change}");
            for action in ALL {
                let passed = passes(&staging(&[action]), method, path);
                assert_eq!(passed, action == needed, "{action} for {change}");
            }
        }
    }

    #[test]
    fn some_changes_are_for_clusters_of_ours_only() {
        for (method, path) in [
            ("DELETE", "/apis/apps/v1/namespaces/trii/deployments/a"),
            (
                "DELETE",
                "/apis/coordination.k8s.io/v1/namespaces/trii/leases/a",
            ),
            ("PATCH", "/apis/apps/v1/namespaces/another/deployments/a"),
            ("POST", "/api/v1/namespaces/trii/pods"),
            ("GET", "/api/v1/namespaces/trii/pods/a/exec"),
            ("GET", "/api/v1/namespaces/helpers/pods/a/exec"),
            ("POST", "/api/v1/namespaces/another/pods"),
            ("GET", "/api/v1/namespaces/default/pods/a/portforward"),
            ("PUT", "/api/v1/namespaces/trii/pods/a:8000/proxy/faults"),
            ("POST", "/api/v1/namespaces/trii/pods/a/eviction"),
            ("PATCH", "/api/v1/namespaces/trii/secrets/a"),
            ("PATCH", "/api/v1/namespaces/trii"),
            ("PATCH", "/api/v1/nodes/a"),
            ("GET", "/api/v1/nodes/a/proxy/run/trii/a/b"),
            ("POST", "/who/knows"),
        ] {
            assert!(passes(&Permissions::ours(), method, path));
            assert!(!passes(&staging(&ALL), method, path), "{method} {path}");
        }
    }

    #[test]
    fn reads_and_access_reviews_pass() {
        for (method, path) in [
            ("GET", "/version"),
            ("GET", "/api/v1/namespaces/trii/pods?watch=true"),
            ("GET", "/api/v1/namespaces/trii/pods/a/log"),
            ("GET", "/api/v1/namespaces/trii/pods/a:8000/proxy/metrics"),
            (
                "POST",
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            ),
            ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ] {
            assert!(passes(&staging(&[]), method, path), "{method} {path}");
        }
    }

    #[test]
    fn without_a_namespace_for_probers_there_is_no_prober() {
        let deploys = [Action::Deploy];
        let reads = Permissions::granted("staging", "trii", None, deploys);
        assert!(!passes(&reads, "POST", "/api/v1/namespaces/helpers/pods"));
        assert!(!passes(&reads, "POST", "/api/v1/pods"));
    }

    proptest! {
        /// Without an action no change passes, for any path.
        #[test]
        fn no_path_bypasses_the_check(
            method in "POST|PUT|PATCH|DELETE",
            path in "(/[a-z.0-9:]{1,12}){1,8}",
        ) {
            prop_assert!(!passes(&staging(&[]), &method, &path));
        }
    }

    #[tokio::test]
    async fn a_client_that_may_only_read_sends_no_change() {
        let server = MockServer::new(|_| (200, json!({"metadata": {}, "items": []})));
        let cluster = server.cluster_with("trii", staging(&[]));
        let client = cluster.client();
        let pods: Api<Pod> = Api::namespaced(client.clone(), "trii");
        let (post, patch) = (PostParams::default(), Patch::Merge(json!({})));
        let (delete, all) = (DeleteParams::default(), ListParams::default());
        pods.list(&all).await.unwrap();
        let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let review = serde_json::from_value(json!({"spec": {}})).unwrap();
        // The mock's answer is not a review. Only the request counts.
        let _ = reviews.create(&post, &review).await;
        let sent = server.requests().len();
        assert_eq!(sent, 2);

        let leases: Api<Lease> = Api::namespaced(client.clone(), "trii");
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "trii");
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), "trii");
        let services: Api<Service> = Api::namespaced(client.clone(), "trii");
        let secrets: Api<Secret> = Api::namespaced(client.clone(), "trii");
        let as_us = PatchParams::default();
        let refused = [
            leases.create(&post, &Lease::default()).await.err(),
            maps.replace("a", &post, &ConfigMap::default()).await.err(),
            deployments.patch("a", &as_us, &patch).await.err(),
            deployments.patch_scale("a", &as_us, &patch).await.err(),
            services.patch("a", &as_us, &patch).await.err(),
            secrets.delete("a", &delete).await.err(),
            pods.delete_collection(&delete, &all).await.err(),
            pods.exec("a", ["true"], &AttachParams::default())
                .await
                .err(),
            pods.attach("a", &AttachParams::default()).await.err(),
            pods.portforward("a", &[80]).await.err(),
        ];
        for error in refused {
            let error = ClusterError::of("change it", error.unwrap());
            assert!(matches!(error, ClusterError::Denied(_)), "{error}");
        }
        assert_eq!(server.requests().len(), sent, "something was sent");
    }
}
