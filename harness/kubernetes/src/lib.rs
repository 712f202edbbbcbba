//! A Kubernetes cluster, reached by one context of one kubeconfig.

mod action;
pub mod apply;
mod client;
pub mod error;
mod helper_pod;
pub mod in_memory_api;
pub mod indexed_job;
pub mod job_events;
mod kubeconfig;
pub mod mock;
pub mod permissions;
pub mod pods;
pub mod prober;
pub mod quota;
mod retry;
pub mod rollout;
pub mod tunnel;
pub mod workload_problem;
pub mod workloads;

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::client::Client;
use kube::config::Kubeconfig;
use kube::{Api, Resource};

pub use action::Action;
pub use client::connect;
pub use error::ClusterError;
pub use permissions::Permissions;

use base::proxies::Proxies;

/// A cluster, and the namespace to work in.
#[derive(Clone)]
pub struct Cluster {
    /// The kubeconfig. The user's own file is never searched for.
    pub kubeconfig: PathBuf,
    /// The context in it.
    pub context: String,
    /// The namespace of objects that name none.
    pub namespace: String,
    /// The kubeconfig that messages name; none for the one that kubectl finds.
    known_as: Option<PathBuf>,
    permissions: Permissions,
    client: Client,
}

impl Cluster {
    /// Reads the kubeconfig and sends no request. [`Cluster::version`] checks that the API server
    /// answers. A change that `permissions` does not permit is refused before it is sent.
    ///
    /// Every request times out. After 429, 503 or 504 a request is retried three times within
    /// seconds; kube's own default is fifteen times with growing pauses. Requests to a pod or a
    /// Service through the API server's proxy are never retried: their first answer counts.
    ///
    /// # Errors
    /// [`ClusterError::Kubeconfig`] and [`ClusterError::Context`].
    pub async fn open(
        kubeconfig: &Path,
        context: &str,
        namespace: &str,
        permissions: Permissions,
    ) -> Result<Cluster, ClusterError> {
        Cluster::open_by(
            &Proxies::of_this_process(),
            kubeconfig,
            context,
            namespace,
            permissions,
        )
    }

    fn open_by(
        proxies: &Proxies,
        path: &Path,
        context: &str,
        namespace: &str,
        permissions: Permissions,
    ) -> Result<Cluster, ClusterError> {
        let unusable = |reason: String| ClusterError::Kubeconfig {
            path: path.to_path_buf(),
            reason,
        };
        let kubeconfig =
            Kubeconfig::read_from(path).map_err(|error| unusable(base::chain(&error)))?;
        let known = kubeconfig.contexts.iter().map(|it| it.name.as_str());
        if !known.clone().any(|name| name == context) {
            return Err(ClusterError::no_context(context, path, known));
        }
        let client =
            connect(kubeconfig, context, proxies, permissions.clone()).map_err(unusable)?;
        Ok(Cluster {
            kubeconfig: path.to_path_buf(),
            context: context.to_owned(),
            namespace: namespace.to_owned(),
            known_as: Some(path.to_path_buf()),
            client,
            permissions,
        })
    }

    /// Returns a cluster that `client` reaches, for tests. helm cannot reach it.
    pub fn behind(client: Client, namespace: &str) -> Cluster {
        Cluster {
            kubeconfig: PathBuf::new(),
            context: String::new(),
            namespace: namespace.to_owned(),
            known_as: None,
            permissions: Permissions::ours(),
            client,
        }
    }

    /// The permitted changes.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// The client for its API server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The objects of one kind in its namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Returns the API server's version, e.g. `v1.37.2`.
    ///
    /// # Errors
    /// [`ClusterError::Silent`] without an answer within `timeout`, [`ClusterError::Forbidden`].
    pub async fn version(&self, timeout: Duration) -> Result<String, ClusterError> {
        let version = self.client.apiserver_version();
        match tokio::time::timeout(timeout, version).await {
            Ok(Ok(info)) => Ok(info.git_version),
            Ok(Err(error)) => Err(ClusterError::of("get its version", error)),
            Err(_) => Err(ClusterError::Silent {
                what: "get its version".to_owned(),
                reason: format!("no answer within {timeout:?}"),
            }),
        }
    }

    /// Returns the start of a `kubectl` command for this cluster, for messages.
    pub fn kubectl(&self) -> String {
        self.with_context("kubectl", "--context")
    }

    /// Returns the start of a `helm` command for this cluster, for messages.
    pub fn helm(&self) -> String {
        self.with_context("helm", "--kube-context")
    }

    fn with_context(&self, program: &str, context_flag: &str) -> String {
        let file = match &self.known_as {
            Some(path) => format!("--kubeconfig {} ", path.display()),
            None => String::new(),
        };
        let (context, namespace) = (&self.context, &self.namespace);
        format!("{program} {file}{context_flag} {context} --namespace {namespace}")
    }

    /// Makes messages name `kubeconfig` (none: the one that kubectl finds), of which this cluster
    /// uses a copy.
    pub fn copied_from(self, kubeconfig: Option<PathBuf>) -> Cluster {
        Cluster {
            known_as: kubeconfig,
            ..self
        }
    }
}

#[cfg(test)]
mod proxy_tests;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn kubeconfig(dir: &Path, server: &str) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: here, cluster: {{server: '{server}'}}}}]\n\
             users: [{{name: me, user: {{}}}}]\n\
             contexts:\n\
             - {{name: kind-trii, context: {{cluster: here, user: me}}}}\n\
             - {{name: staging, context: {{cluster: here, user: me}}}}\n"
        );
        let path = dir.join("kubeconfig");
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn open(path: &Path, context: &str) -> Result<Cluster, ClusterError> {
        Cluster::open(path, context, "trii", Permissions::ours()).await
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("nowhere");
        let error = open(&path, "kind-trii").await.err();
        let error = error.unwrap().to_string();
        assert!(error.contains("nowhere"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[tokio::test]
    async fn an_unknown_context_suggests_the_nearest() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = kubeconfig(dir.path(), "https://127.0.0.1:1");
        let error = open(&path, "stagin").await.err().unwrap();
        let ClusterError::Context { hint, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(hint, "did you mean \"staging\"?");
    }

    #[tokio::test]
    async fn a_server_that_refuses_connections_is_silent() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = kubeconfig(dir.path(), "http://127.0.0.1:1");
        let cluster = open(&path, "staging").await.unwrap();
        let error = cluster.version(Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, ClusterError::Silent { .. }), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_never_answers_is_silent_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::TempDir::new().unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let path = kubeconfig(dir.path(), &server);
        let cluster = open(&path, "staging").await.unwrap();
        let started = Instant::now();
        let error = cluster.version(Duration::from_millis(200)).await;
        assert!(matches!(error, Err(ClusterError::Silent { .. })));
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}
