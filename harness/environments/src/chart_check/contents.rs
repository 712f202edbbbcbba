//! What a cluster has before the releases are installed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::ListParams;
use kube::{Api, Discovery, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::builtin;
use super::definitions::{Kinds, defined_by};
use super::fields::{is_in, text};
use crate::config::{Config, KindTarget, SecretTexts};
use kubernetes::workloads::is_of_release;
use kubernetes::{Cluster, ClusterError};

/// The keys of a certificate's Secret.
const OF_CERTIFICATE: [&str; 2] = ["tls.crt", "tls.key"];

/// What a cluster has before the releases are installed.
#[derive(Clone, Debug)]
pub struct ClusterContents {
    /// Whether it is a cluster of ours, which gets the images and Secrets of the configuration.
    pub is_ours: bool,
    /// The version of Kubernetes: `1.37`, or `v1.37.2`.
    pub kubernetes: String,
    /// What its API serves.
    pub kinds: Kinds,
    /// The Services of the namespace that are of no release. None if they cannot be listed.
    pub services: Option<Vec<Value>>,
    /// The keys of the Secrets of the namespace, by name. None if they cannot be read.
    pub secrets: Option<BTreeMap<String, SecretKeys>>,
}

/// The keys of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretKeys {
    names: BTreeSet<String>,
    /// A controller adds keys.
    is_filled_later: bool,
}

impl SecretKeys {
    /// Those of a manifest. The values are not kept.
    pub fn of(secret: &Value) -> SecretKeys {
        let fields = ["data", "stringData"].into_iter();
        let keys = fields.filter_map(|field| secret[field].as_object());
        SecretKeys {
            names: keys.flat_map(|it| it.keys().cloned()).collect(),
            is_filled_later: secret["type"] == "kubernetes.io/service-account-token",
        }
    }

    /// These alone.
    pub fn named<Name: Into<String>>(names: impl IntoIterator<Item = Name>) -> SecretKeys {
        SecretKeys {
            names: names.into_iter().map(Into::into).collect(),
            is_filled_later: false,
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.is_filled_later || self.names.contains(key)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

impl ClusterContents {
    /// What a new cluster of a kind target will have: Kubernetes' own kinds, the objects of the
    /// platform's `manifests`, and the Secrets of the configuration.
    pub fn of_new(config: &Config, target: &KindTarget, manifests: &[Value]) -> ClusterContents {
        let namespace = target.namespace.as_str();
        let in_namespace = |kind: &'static str| {
            let of_kind = manifests.iter().filter(move |it| it["kind"] == kind);
            of_kind.filter(move |it| is_in(it, namespace))
        };
        let mut kinds = builtin::kinds(&target.kubernetes);
        kinds.extend(manifests.iter().flat_map(defined_by));
        let mut secrets = of_configuration(&config.secrets, config.platform.tls_secret.as_deref());
        secrets.extend(in_namespace("Secret").map(|it| {
            let name = text(&it["metadata"]["name"]);
            (name.to_owned(), SecretKeys::of(it))
        }));
        ClusterContents {
            is_ours: true,
            kubernetes: target.kubernetes.clone(),
            kinds,
            services: Some(in_namespace("Service").cloned().collect()),
            secrets: Some(secrets),
        }
    }

    /// What a cluster that is up has. What may not be read is not known.
    ///
    /// # Errors
    /// The API server does not answer, or not as expected.
    pub async fn of_existing(
        cluster: &Cluster,
        config: &Config,
        kubernetes: String,
    ) -> Result<ClusterContents, ClusterError> {
        let failed = |error| ClusterError::of("list what its API serves", error);
        let discovery = Discovery::new(cluster.client().clone());
        let discovery = discovery.run_aggregated().await.map_err(failed)?;
        let versions = discovery.groups().flat_map(|group| {
            let versions = group.versions();
            versions.flat_map(move |version| group.versioned_resources(version))
        });
        let kinds = versions.map(|(it, _)| (it.api_version, it.kind)).collect();
        let all = ListParams::default();
        let services = listed::<Service>(cluster, &all, "list Services").await?;
        // helm's own are large.
        let others = ListParams::default().fields("type!=helm.sh/release.v1");
        let secrets = listed::<Secret>(cluster, &others, "list Secrets").await?;
        let of_releases = |it: &Service| {
            let mut releases = config.releases.iter();
            releases.any(|release| is_of_release(it, &release.name))
        };
        let others = services.map(|services| {
            let others = services.into_iter().filter(|it| !of_releases(it));
            others
                .filter_map(|it| serde_json::to_value(it).ok())
                .collect()
        });
        let keys = secrets.map(|secrets| {
            let named = secrets.into_iter().filter_map(|secret| {
                let keys = secret.data.unwrap_or_default().into_keys();
                Some((secret.metadata.name?, SecretKeys::named(keys)))
            });
            named.collect()
        });
        Ok(ClusterContents {
            is_ours: cluster.permissions().is_ours(),
            kubernetes,
            kinds,
            services: others,
            secrets: keys,
        })
    }
}

/// The Secrets that the harness makes.
fn of_configuration(
    texts: &SecretTexts,
    certificate: Option<&str>,
) -> BTreeMap<String, SecretKeys> {
    let secrets = texts.iter();
    let secrets = secrets.map(|(name, keys)| (name.clone(), SecretKeys::named(keys.keys())));
    let certificate = certificate.map(|it| (it.to_owned(), SecretKeys::named(OF_CERTIFICATE)));
    secrets.chain(certificate).collect()
}

/// The objects of the namespace. None without the permission to list them.
async fn listed<K>(
    cluster: &Cluster,
    parameters: &ListParams,
    what: &str,
) -> Result<Option<Vec<K>>, ClusterError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = cluster.api();
    match api.list(parameters).await {
        Ok(listed) => Ok(Some(listed.items)),
        Err(error) => match ClusterError::of(what, error) {
            ClusterError::Forbidden { .. } => Ok(None),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use kubernetes::mock::MockServer;
    use serde_json::json;

    use super::*;

    /// A cluster with a Service of a release and another, and two Secrets.
    fn server(secrets_are_forbidden: bool) -> MockServer {
        let group = |name: &str, resource: &str, kind: &str| {
            json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
                "items": [{"metadata": {"name": name}, "versions": [{"version": "v1", "resources": [
                    {"resource": resource, "scope": "Namespaced", "verbs": ["list"],
                        "responseKind": {"group": name, "version": "v1", "kind": kind}}]}]}]})
        };
        let list = |items: Value| json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
        MockServer::new(move |request| match request.path.as_str() {
            "/apis" => (200, group("example.com", "things", "Thing")),
            "/api" => (200, group("", "pods", "Pod")),
            path if path.ends_with("services") => {
                let of_release = json!({"meta.helm.sh/release-name": "trii-platform"});
                let services = json!([
                    {"metadata": {"name": "ours", "annotations": of_release}},
                    {"metadata": {"name": "other"}, "spec": {"ports": [{"port": 80}]}},
                ]);
                (200, list(services))
            }
            path if path.ends_with("secrets") && secrets_are_forbidden => {
                let refused = json!({"kind": "Status", "status": "Failure", "code": 403,
                    "reason": "Forbidden", "message": "secrets is forbidden"});
                (403, refused)
            }
            _ => {
                let secrets = json!([{"metadata": {"name": "keys"}, "data": {"private": "eA=="}}]);
                (200, list(secrets))
            }
        })
    }

    async fn contents(server: &MockServer) -> ClusterContents {
        let text = include_str!("../../../../harness.toml");
        let config = Config::parse(std::path::Path::new("harness.toml"), text).unwrap();
        let cluster = server.cluster("shop");
        let contents = ClusterContents::of_existing(&cluster, &config, "v1.37.2".into());
        contents.await.unwrap()
    }

    #[tokio::test]
    async fn a_cluster_is_asked_for_its_kinds_and_for_what_no_release_has() {
        let server = server(false);
        let contents = contents(&server).await;
        let kind = |version: &str, kind: &str| (version.to_owned(), kind.to_owned());
        let kinds = [kind("v1", "Pod"), kind("example.com/v1", "Thing")];
        assert_eq!(contents.kinds, kinds.into());
        let services = contents.services.unwrap();
        assert_eq!(services.len(), 1);
        assert_eq!(services[0]["metadata"]["name"], "other");
        let secrets = contents.secrets.unwrap();
        assert_eq!(secrets["keys"], SecretKeys::named(["private"]));
        let requests = server.requests();
        let secrets = requests.iter().find(|it| it.path.ends_with("secrets"));
        let query = &secrets.unwrap().query;
        assert!(
            query.contains("helm.sh"),
            "helm's own are left out: {query}"
        );
        assert!(requests.iter().all(|it| it.method == "GET"));
    }

    #[tokio::test]
    async fn what_may_not_be_listed_is_not_known() {
        let contents = contents(&server(true)).await;
        assert_eq!(contents.secrets, None);
        assert!(contents.services.is_some());
    }

    #[test]
    fn a_secret_that_a_controller_fills_has_every_key() {
        let token = json!({"type": "kubernetes.io/service-account-token"});
        assert!(SecretKeys::of(&token).has("token"));
        let both = json!({"data": {"a": "eA=="}, "stringData": {"b": "x"}});
        let keys = SecretKeys::of(&both);
        assert_eq!(keys.names().collect::<Vec<_>>(), ["a", "b"]);
        assert!(!keys.has("c"));
    }
}
