//! Which requests change a cluster, and which of those a client may make.
//!
//! A cluster of ours is ours to change. One that is there is changed only as its target allows:
//! a client is made with an [`Access`], that of a remote target comes from its guard rails alone
//! ([`crate::remote::Site`]), and every request of the client is held against it before it is
//! sent. helm, which is no client of ours, is not started for a change without it.
//!
//! | what is changed | by | word of `allow` |
//! |---|---|---|
//! | the release | `helm upgrade` | `deploy` |
//! | the lock of a service that is released | create and update a Lease | `deploy` |
//! | the record of its release, and what is asked of it | create and update a ConfigMap | `deploy` |
//! | a colour: its pod template, replicas and mark | patch a Deployment and its scale | `deploy` |
//! | how many pods a colour keeps while it is released | patch its HorizontalPodAutoscaler | `deploy` |
//! | traffic: which colour a Service leads to | patch a Service | `deploy` |
//! | the prober of a release that is judged by its own requests | create, delete a pod in the namespace `trii-monitoring` | `deploy` |
//! | the pod to look from inside | create, delete, `exec`; in the namespace `default` | `inside` |
//! | load generators | create, delete a Job, attach to its pods; in `default` | `inside` |
//! | anything else: Secrets, manifests, faults, `helm rollback` and `uninstall` | | none, clusters of ours only |
//!
//! Of `deploy` only what is in the release's namespace is meant, and no deletion, the prober aside.
//! Reading, and asking the API server what one may do, changes nothing.
//!
//! The Roles that let a user do as much and no more: `fixtures/k8s-manifests/roles`.

use std::collections::BTreeSet;
use std::sync::Arc;

use hyper::{Method, Request};
use kube::client::Body;
use thiserror::Error;
use tower::BoxError;

use crate::config::remote::Action;

/// The namespace of pods that look, and make load, from inside.
pub const INSIDE: &str = "default";

/// The namespace of probers. The platform's network policies let this namespace ask every
/// service, and a scraper there is a client like it: nothing of the platform is changed for
/// it. In the release's own namespace it would have to carry a caller's labels, and that
/// caller's Service would send it requests.
pub const MONITORING: &str = "trii-monitoring";

/// What a client may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access(Option<Arc<Granted>>);

/// What was permitted on a target that is there.
#[derive(Debug, PartialEq, Eq)]
struct Granted {
    target: String,
    /// Where the release is.
    namespace: String,
    actions: BTreeSet<Action>,
}

/// A change that nobody permitted. It was not asked for.
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

impl Access {
    /// To a cluster that this program stood up.
    pub fn ours() -> Access {
        Access(None)
    }

    /// Whether nobody else changes it.
    pub fn is_ours(&self) -> bool {
        self.0.is_none()
    }

    /// To one that is there: for its guard rails to give.
    pub(crate) fn granted(
        target: &str,
        namespace: &str,
        actions: impl IntoIterator<Item = Action>,
    ) -> Access {
        Access(Some(Arc::new(Granted {
            target: target.to_owned(),
            namespace: namespace.to_owned(),
            actions: actions.into_iter().collect(),
        })))
    }

    /// Whether helm may change the release: `what` is its verb.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn to_release(&self, what: &str) -> Result<(), Denied> {
        let of_ours = matches!(what, "rollback" | "uninstall");
        let word = (!of_ours).then_some(Action::Deploy);
        self.must_have(word, || format!("helm {what}"))
    }

    /// Lets a request pass that changes nothing, or what may be changed.
    pub(super) fn pass(&self, request: Request<Body>) -> Result<Request<Body>, BoxError> {
        let (method, path) = (request.method(), request.uri().path());
        if !is_change(method, path) {
            return Ok(request);
        }
        let word = self.0.as_ref().and_then(|it| it.word(method, path));
        self.must_have(word, || format!("{method} {path}"))?;
        Ok(request)
    }

    /// No word is one that no target can allow.
    fn must_have(&self, word: Option<Action>, what: impl Fn() -> String) -> Result<(), Denied> {
        match &self.0 {
            None => Ok(()),
            Some(granted) if word.is_some_and(|it| granted.actions.contains(&it)) => Ok(()),
            Some(granted) => Err(Denied {
                what: what(),
                target: granted.target.clone(),
                action: word,
            }),
        }
    }
}

impl Denied {
    /// What to do about it.
    pub fn advice(&self) -> String {
        match self.action {
            Some(action) => format!(
                "what may be done there is in allow under [targets.{}] in harness.toml; {:?} lets a command that needs it do this",
                self.target,
                action.name()
            ),
            None => "only clusters that this program stood up are changed so".to_owned(),
        }
    }
}

impl Granted {
    /// The word of `allow` that permits a change; none where there is none.
    fn word(&self, method: &Method, path: &str) -> Option<Action> {
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
            ("pods", "") if namespace == MONITORING => Some(Action::Deploy),
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

/// Whether a request changes something. What runs a program in a container is upgraded from
/// a GET; so does a GET by way of a node's kubelet.
/// <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb>
fn is_change(method: &Method, path: &str) -> bool {
    let object = Object::at(path);
    match object {
        Some(Object {
            subresource: "exec" | "attach" | "portforward",
            ..
        }) => true,
        Some(Object {
            resource: "nodes",
            subresource: "proxy",
            ..
        }) => true,
        // A review is a question.
        Some(Object { resource, .. }) if *method == Method::POST && is_review(path, resource) => {
            false
        }
        _ => !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
    }
}

/// `SelfSubjectAccessReview`, `TokenReview` and their like.
fn is_review(path: &str, resource: &str) -> bool {
    let of_auth = [
        "/apis/authorization.k8s.io/",
        "/apis/authentication.k8s.io/",
    ];
    of_auth.iter().any(|it| path.starts_with(it)) && resource.ends_with("reviews")
}

/// What of the API a path leads to.
#[derive(Debug, PartialEq, Eq)]
struct Object<'a> {
    /// Empty: none.
    namespace: &'a str,
    /// In the plural: `pods`.
    resource: &'a str,
    /// Empty: none.
    subresource: &'a str,
}

impl<'a> Object<'a> {
    /// `/api/v1/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`, and `/apis/GROUP/VERSION/...`.
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
    use crate::cluster::ClusterError;
    use crate::cluster::mock::Server;

    fn staging(actions: &[Action]) -> Access {
        Access::granted("staging", "trii", actions.iter().copied())
    }

    fn passes(access: &Access, method: &str, path: &str) -> bool {
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

    /// Every change of the table, and the word that it takes.
    #[test]
    fn every_change_takes_its_word_and_no_other() {
        let trii = "namespaces/trii";
        for (word, method, path) in [
            (
                Action::Deploy,
                "POST",
                format!("/apis/coordination.k8s.io/v1/{trii}/leases"),
            ),
            (
                Action::Deploy,
                "PUT",
                format!("/apis/coordination.k8s.io/v1/{trii}/leases/a"),
            ),
            (
                Action::Deploy,
                "PUT",
                format!("/api/v1/{trii}/configmaps/a"),
            ),
            (
                Action::Deploy,
                "PATCH",
                format!("/apis/apps/v1/{trii}/deployments/a"),
            ),
            (
                Action::Deploy,
                "PATCH",
                format!("/apis/apps/v1/{trii}/deployments/a/scale"),
            ),
            (
                Action::Deploy,
                "PATCH",
                format!("/apis/autoscaling/v2/{trii}/horizontalpodautoscalers/a"),
            ),
            (
                Action::Deploy,
                "PATCH",
                format!("/api/v1/{trii}/services/a"),
            ),
            (
                Action::Deploy,
                "POST",
                "/api/v1/namespaces/trii-monitoring/pods".into(),
            ),
            (
                Action::Deploy,
                "DELETE",
                "/api/v1/namespaces/trii-monitoring/pods/a".into(),
            ),
            (
                Action::Inside,
                "POST",
                "/api/v1/namespaces/default/pods".into(),
            ),
            (
                Action::Inside,
                "DELETE",
                "/api/v1/namespaces/default/pods".into(),
            ),
            (
                Action::Inside,
                "GET",
                "/api/v1/namespaces/default/pods/a/exec".into(),
            ),
            (
                Action::Inside,
                "GET",
                "/api/v1/namespaces/default/pods/a/attach".into(),
            ),
            (
                Action::Inside,
                "POST",
                "/apis/batch/v1/namespaces/default/jobs".into(),
            ),
            (
                Action::Inside,
                "DELETE",
                "/apis/batch/v1/namespaces/default/jobs/a".into(),
            ),
        ] {
            assert!(passes(&Access::ours(), method, &path));
            assert!(!passes(&staging(&[]), method, &path), "{method} {path}");
            for action in ALL {
                let passed = passes(&staging(&[action]), method, &path);
                assert_eq!(passed, action == word, "{action} for {method} {path}");
            }
        }
    }

    #[test]
    fn what_no_target_can_allow_is_done_on_clusters_of_ours_only() {
        for (method, path) in [
            ("DELETE", "/apis/apps/v1/namespaces/trii/deployments/a"),
            (
                "DELETE",
                "/apis/coordination.k8s.io/v1/namespaces/trii/leases/a",
            ),
            ("PATCH", "/apis/apps/v1/namespaces/another/deployments/a"),
            ("POST", "/api/v1/namespaces/trii/pods"),
            ("GET", "/api/v1/namespaces/trii/pods/a/exec"),
            ("GET", "/api/v1/namespaces/trii-monitoring/pods/a/exec"),
            ("GET", "/api/v1/namespaces/default/pods/a/portforward"),
            ("PUT", "/api/v1/namespaces/trii/pods/a:8000/proxy/faults"),
            ("POST", "/api/v1/namespaces/trii/pods/a/eviction"),
            ("PATCH", "/api/v1/namespaces/trii/secrets/a"),
            ("PATCH", "/api/v1/namespaces/trii"),
            ("PATCH", "/api/v1/nodes/a"),
            ("GET", "/api/v1/nodes/a/proxy/run/trii/a/b"),
            ("POST", "/who/knows"),
        ] {
            assert!(passes(&Access::ours(), method, path));
            assert!(!passes(&staging(&ALL), method, path), "{method} {path}");
        }
    }

    #[test]
    fn reading_and_asking_what_one_may_do_passes() {
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

    proptest! {
        /// Whatever the path: without a word nothing but reading gets through.
        #[test]
        fn no_path_gets_around_it(
            method in "POST|PUT|PATCH|DELETE",
            path in "(/[a-z.0-9:]{1,12}){1,8}",
        ) {
            prop_assert!(!passes(&staging(&[]), &method, &path));
        }
    }

    /// By the client itself: what is refused is not sent.
    #[tokio::test]
    async fn a_client_that_may_only_read_sends_nothing_else() {
        let server = Server::new(|_| (200, json!({"metadata": {}, "items": []})));
        let cluster = server.cluster_with("trii", staging(&[]));
        let client = cluster.client();
        let pods: Api<Pod> = Api::namespaced(client.clone(), "trii");
        let (post, patch) = (PostParams::default(), Patch::Merge(json!({})));
        let (delete, all) = (DeleteParams::default(), ListParams::default());
        pods.list(&all).await.unwrap();
        let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let question = serde_json::from_value(json!({"spec": {}})).unwrap();
        // The answer makes no sense; that it was asked is what counts.
        let _ = reviews.create(&post, &question).await;
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
