//! A cluster of the user's kubeconfig that no target names. It is only read.

use kube::Client;

use super::kubeconfig::Read;
use base::proxies::Proxies;
use kubernetes::{ClusterError, Permissions};

/// A cluster that is only read. Its client sends no change.
pub struct ReadOnlyCluster {
    /// The client for its API server.
    pub client: Client,
    /// The URL of its API server.
    pub server: String,
}

impl ReadOnlyCluster {
    /// Opens a context of the kubeconfig that kubectl finds. Sends no request.
    ///
    /// # Errors
    /// [`ClusterError::Kubeconfig`] and [`ClusterError::Context`].
    pub fn open(context: &str, namespace: &str) -> Result<ReadOnlyCluster, ClusterError> {
        let read = Read::from(None)?;
        let path = read.path.clone();
        let minified = read.minified(context)?;
        let permissions = Permissions::granted(context, namespace, None, []);
        let proxies = Proxies::of_this_process();
        let client = kubernetes::connect(minified.kubeconfig(), context, &proxies, permissions);
        Ok(ReadOnlyCluster {
            client: client.map_err(|reason| ClusterError::Kubeconfig { path, reason })?,
            server: minified.server,
        })
    }
}
