//! A Kubernetes cluster, reached by one context of one kubeconfig.

pub mod access;
pub mod apply;
mod context;
pub mod error;
pub mod jobs;
pub mod pods;
pub mod quota;
mod retry;
pub mod rollout;
pub mod trouble;
pub mod workloads;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Request;
use kube::client::{Body, Client, ClientBuilder};
use kube::config::{Config, Kubeconfig};
use tower::buffer::BufferLayer;
use tower::filter::FilterLayer;
use tower::retry::RetryLayer;

pub use access::Access;
pub use error::ClusterError;

use crate::proxies::Proxies;
use retry::Retry;

/// How long the API server may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long it may say nothing while it answers. It gives up on its own requests
/// after 60 s (`--request-timeout`), but none of ours is long.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// How many requests may wait for the connection.
const QUEUE: usize = 64;

/// A cluster and the namespace we work in.
#[derive(Clone)]
pub struct Cluster {
    /// The file it is reached by; the user's own is never looked for.
    pub kubeconfig: PathBuf,
    /// The context in it.
    pub context: String,
    /// Where objects go that do not say so themselves.
    pub namespace: String,
    /// The file as its user knows it, for messages; none is the one that kubectl finds.
    known_as: Option<PathBuf>,
    access: Access,
    client: Client,
}

impl Cluster {
    /// Reads the kubeconfig; whether the API server answers is [`Cluster::version`]'s to tell.
    /// A request for a change that is not in `access` is refused before it is sent.
    ///
    /// No request hangs: see the constants of this module. One that is refused with
    /// 429, 503 or 504 is made again three times within seconds; kube's own default
    /// would be fifteen times with pauses that grow without bound. What a pod or a Service
    /// answers through the API server's proxy is never asked for again: it is what was
    /// to be found out.
    ///
    /// # Errors
    /// [`ClusterError::Kubeconfig`] and [`ClusterError::Context`].
    pub async fn open(
        kubeconfig: &Path,
        context: &str,
        namespace: &str,
        access: Access,
    ) -> Result<Cluster, ClusterError> {
        Cluster::open_by(
            &Proxies::of_this_process(),
            kubeconfig,
            context,
            namespace,
            access,
        )
    }

    fn open_by(
        proxies: &Proxies,
        path: &Path,
        context: &str,
        namespace: &str,
        access: Access,
    ) -> Result<Cluster, ClusterError> {
        let unusable = |reason: String| ClusterError::Kubeconfig {
            path: path.to_path_buf(),
            reason,
        };
        let kubeconfig =
            Kubeconfig::read_from(path).map_err(|error| unusable(crate::chain(&error)))?;
        if !kubeconfig.contexts.iter().any(|it| it.name == context) {
            let known = kubeconfig.contexts.iter().map(|it| it.name.as_str());
            return Err(ClusterError::no_context(context, path, known));
        }
        let client = connect(kubeconfig, context, proxies, access.clone()).map_err(unusable)?;
        Ok(Cluster {
            kubeconfig: path.to_path_buf(),
            context: context.to_owned(),
            namespace: namespace.to_owned(),
            known_as: Some(path.to_path_buf()),
            client,
            access,
        })
    }

    /// A cluster behind a client of one's own, for tests; helm cannot reach it.
    pub fn behind(client: Client, namespace: &str) -> Cluster {
        Cluster {
            kubeconfig: PathBuf::new(),
            context: String::new(),
            namespace: namespace.to_owned(),
            known_as: None,
            access: Access::ours(),
            client,
        }
    }

    /// What may be changed of it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The client to ask it with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The API server's version, e.g. `v1.37.2`, if it tells within `patience`.
    ///
    /// # Errors
    /// [`ClusterError::Silent`] when nothing answers, [`ClusterError::Forbidden`].
    pub async fn version(&self, patience: Duration) -> Result<String, ClusterError> {
        let asked = self.client.apiserver_version();
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(info)) => Ok(info.git_version),
            Ok(Err(error)) => Err(ClusterError::of("ask for its version", error)),
            Err(_) => Err(ClusterError::Silent {
                what: "ask for its version".to_owned(),
                reason: format!("no answer within {patience:?}"),
            }),
        }
    }

    /// How `kubectl` is told which cluster is meant, for messages.
    pub fn kubectl(&self) -> String {
        self.told("kubectl", "--context")
    }

    /// The same of `helm`.
    pub fn helm(&self) -> String {
        self.told("helm", "--kube-context")
    }

    fn told(&self, program: &str, context_flag: &str) -> String {
        let file = self.known_as.iter();
        let file: String = file
            .map(|it| format!("--kubeconfig {} ", it.display()))
            .collect();
        let (context, namespace) = (&self.context, &self.namespace);
        format!("{program} {file}{context_flag} {context} --namespace {namespace}")
    }

    /// The same, reached by a copy of `kubeconfig` (none: of the one that kubectl finds),
    /// which is what messages name.
    pub fn copied_from(self, kubeconfig: Option<PathBuf>) -> Cluster {
        Cluster {
            known_as: kubeconfig,
            ..self
        }
    }
}

/// A client of what the context leads to, for changes that are in `access`.
///
/// # Errors
/// Why the context cannot be used, in words.
pub(crate) fn connect(
    kubeconfig: Kubeconfig,
    context: &str,
    proxies: &Proxies,
    access: Access,
) -> Result<Client, String> {
    let config = context::config(kubeconfig, context, proxies)?;
    client(config, access).map_err(|error| crate::chain(&error))
}

fn client(mut config: Config, access: Access) -> Result<Client, kube::Error> {
    crate::tls::use_ring();
    config.connect_timeout = Some(CONNECT_PATIENCE);
    config.read_timeout = Some(READ_PATIENCE);
    config.write_timeout = Some(READ_PATIENCE);
    // Else the time a connection lay idle counts as time without an answer.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    let client = ClientBuilder::try_from(config)?
        // Next to the connection: nothing gets around it.
        .with_layer(&FilterLayer::new(move |request: Request<Body>| {
            access.pass(request)
        }))
        .with_layer(&BufferLayer::new(QUEUE))
        .with_layer(&RetryLayer::new(Retry::default()))
        .build();
    Ok(client)
}

#[cfg(test)]
pub(crate) mod mock;
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
        Cluster::open(path, context, "trii", Access::ours()).await
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
    async fn a_context_that_is_not_there_brings_up_the_nearest() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = kubeconfig(dir.path(), "https://127.0.0.1:1");
        let error = open(&path, "stagin").await.err().unwrap();
        let ClusterError::Context { hint, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(hint, "did you mean \"staging\"?");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_silent() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = kubeconfig(dir.path(), "http://127.0.0.1:1");
        let cluster = open(&path, "staging").await.unwrap();
        let error = cluster.version(Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, ClusterError::Silent { .. }), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_never_answers_is_silent_in_time() {
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::TempDir::new().unwrap();
        let path = kubeconfig(
            dir.path(),
            &format!("http://{}", deaf.local_addr().unwrap()),
        );
        let cluster = open(&path, "staging").await.unwrap();
        let started = Instant::now();
        let error = cluster.version(Duration::from_millis(200)).await;
        assert!(matches!(error, Err(ClusterError::Silent { .. })));
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}
