//! A tunnel into a cluster's network: connections from this machine leave from a pod.
//!
//! A client on 127.0.0.1 that connects to the node port does not use the cluster's DNS, Services
//! and network policies. Through a [`Tunnel`] it does. All connections go through one `exec` in a
//! pod (as with `kubectl exec`) of the program `prober`, which [relays](prober::relay()) them. This
//! needs only the permission to create pods and to `exec`. It adds some milliseconds to each
//! answer, so use it for checks, not for load.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use kube::api::{AttachParams, AttachedProcess, DeleteParams};
use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::helper_pod::{self, HelperError, HelperPod, Owner, quantities};
use base::listener::accepted;

mod trunk;

use trunk::{Carrier, Trunk};

pub use crate::helper_pod::LABEL;

/// The lifetime of the pod, after which the cluster stops it.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Open connections at a time. More wait to be accepted.
const CONNECTIONS: usize = 64;
/// The part of its pods, and the name of their container.
const PART: &str = "tunnel";
/// The buffer of each direction of the `exec`, in bytes.
const BUFFER: usize = 256 * 1024;
/// For the standard error of a relay that has exited.
const STDERR_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of its standard error is kept, in bytes.
const STDERR_BYTES: u64 = 4096;

/// A tunnel to one destination. A drop closes its connections. [`Tunnel::close`] deletes its pod,
/// which otherwise exits within the hour.
pub struct Tunnel {
    address: SocketAddr,
    far_end: Arc<FarEnd>,
    stop: DropGuard,
    forwarding: JoinHandle<()>,
}

/// A tunnel cannot be opened or closed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TunnelError {
    /// Its pod cannot be created, started or deleted.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pod(#[from] HelperError),
    /// The pod runs, but does not reach the destination.
    #[error("from the {pod}: {why}")]
    #[diagnostic(
        code(tunnel::unreachable),
        help(
            "does the name resolve in the cluster, and do its network policies let this pod out?"
        )
    )]
    Unreachable {
        /// Its namespace and name.
        pod: String,
        /// The error of the relay in it.
        why: String,
    },
    /// This machine has no free port.
    #[error("cannot listen on 127.0.0.1: {0}")]
    #[diagnostic(code(tunnel::listen))]
    Listen(io::Error),
}

impl Tunnel {
    /// Creates a pod of `image`, the prober's, in `namespace`, and checks within `deadline` that it
    /// reaches `host` and `port`, as pods know them.
    ///
    /// If it does not, the pod is deleted. If this future is dropped early, the pod may exist until
    /// the end of its lifetime; [`LABEL`] selects it.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub async fn open(
        client: kube::Client,
        namespace: &str,
        image: &str,
        (host, port): (&str, u16),
        deadline: Duration,
    ) -> Result<Tunnel, TunnelError> {
        let end = Instant::now() + deadline;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(TunnelError::Listen)?;
        let address = listener.local_addr().map_err(TunnelError::Listen)?;
        let pod = HelperPod::start(client, namespace, &pod(image), without_grace(), end).await?;
        let far_end = Arc::new(FarEnd {
            pod,
            destination: format!("{host}:{port}"),
            carried: tokio::sync::Mutex::default(),
            last_failure: Mutex::default(),
        });
        if let Err(why) = far_end.reaches(end).await {
            let pod = far_end.pod.name();
            // The caller needs the cause of the failure, not of a failed deletion.
            let _ = far_end.pod.delete().await;
            return Err(TunnelError::Unreachable { pod, why });
        }
        let stop = CancellationToken::new();
        let forwarding = tokio::spawn(forward_all(listener, far_end.clone(), stop.clone()));
        Ok(Tunnel {
            address,
            far_end,
            stop: stop.drop_guard(),
            forwarding,
        })
    }

    /// The address to connect to, on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns why the last failed connection failed. Its client only observes that it closes.
    pub fn last_failure(&self) -> Option<String> {
        self.far_end.last_failure().clone()
    }

    /// Closes all connections and deletes the pod.
    ///
    /// # Errors
    /// [`TunnelError::Pod`].
    pub async fn close(self) -> Result<(), TunnelError> {
        drop(self.stop);
        // An error is a panic, which was printed already.
        let _ = self.forwarding.await;
        Ok(self.far_end.pod.delete().await?)
    }
}

/// Deletes the pods of all tunnels that this process has opened in `namespace`, after a
/// cancellation, which drops tunnels instead of closing them.
///
/// # Errors
/// [`TunnelError::Pod`].
pub async fn close_all(client: kube::Client, namespace: &str) -> Result<(), TunnelError> {
    let all = (PART, &Owner::this_process());
    Ok(helper_pod::delete_all::<Pod>(client, namespace, all, &without_grace()).await?)
}

fn without_grace() -> DeleteParams {
    DeleteParams::default().grace_period(0)
}

/// Accepts and forwards connections until `stop`, and then closes them.
async fn forward_all(listener: TcpListener, far_end: Arc<FarEnd>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (client, _) = accepted(&listener), if connections.len() < CONNECTIONS => {
                let far_end = far_end.clone();
                connections.spawn(async move { far_end.serve(client).await });
            }
        }
    }
    connections.shutdown().await;
}

/// The pod, and its destination.
struct FarEnd {
    pod: HelperPod,
    /// Host and port.
    destination: String,
    carried: tokio::sync::Mutex<Option<Carried>>,
    last_failure: Mutex<Option<String>>,
}

/// A trunk with the task that carries it.
struct Carried {
    trunk: Arc<Trunk>,
    _carrying: AbortOnDropHandle<()>,
}

impl FarEnd {
    /// Checks that the pod reaches the destination, with a connection that closes immediately.
    async fn reaches(&self, end: Instant) -> Result<(), String> {
        let reached = timeout_at(end, self.forward(io::empty(), io::sink())).await;
        reached.unwrap_or_else(|_| Err(format!("{} does not answer", self.destination)))
    }

    /// Forwards one client's connection.
    async fn serve(&self, mut client: TcpStream) {
        let (from_client, to_client) = client.split();
        if let Err(why) = self.forward(from_client, to_client).await {
            *self.last_failure() = Some(why);
        }
    }

    /// Joins a client with the destination until the destination closes, or either fails.
    async fn forward(
        &self,
        from_client: impl AsyncRead + Unpin,
        to_client: impl AsyncWrite + Unpin,
    ) -> Result<(), String> {
        let trunk = self.trunk().await?;
        trunk.forward(from_client, to_client).await
    }

    /// Returns the open trunk, or a new one: a restart of the API server breaks the trunk.
    async fn trunk(&self) -> Result<Arc<Trunk>, String> {
        let mut carried = self.carried.lock().await;
        if let Some(carried) = carried.as_ref().filter(|it| !it.trunk.is_over()) {
            return Ok(carried.trunk.clone());
        }
        let (trunk, carrier) = Trunk::new();
        let trunk = Arc::new(trunk);
        let carrying = tokio::spawn(carry(self.relay().await?, carrier));
        *carried = Some(Carried {
            trunk: trunk.clone(),
            _carrying: AbortOnDropHandle::new(carrying),
        });
        Ok(trunk)
    }

    async fn relay(&self) -> Result<AttachedProcess, String> {
        let command = ["/prober", "relay", &self.destination];
        let streams = AttachParams::default()
            .container(PART)
            .stdin(true)
            .max_stdin_buf_size(BUFFER)
            .max_stdout_buf_size(BUFFER);
        self.pod.exec(command, &streams).await
    }

    fn last_failure(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        let last = self.last_failure.lock();
        last.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries a trunk until its relay has exited, and passes the cause to the connections.
async fn carry(mut relay: AttachedProcess, mut carrier: Carrier) {
    let (Some(to_relay), Some(from_relay), Some(stderr), Some(status)) = (
        relay.stdin(),
        relay.stdout(),
        relay.stderr(),
        relay.take_status(),
    ) else {
        return carrier.end("exec has no streams".into());
    };
    let carried = carrier.carry(from_relay, to_relay).await;
    let end = async {
        let mut text = Vec::new();
        // After an error, the output so far still explains the exit.
        let _ = stderr.take(STDERR_BYTES).read_to_end(&mut text).await;
        let status = status.await.and_then(|status| status.message);
        (String::from_utf8_lossy(&text).trim().to_owned(), status)
    };
    let (stderr, status) = timeout(STDERR_TIMEOUT, end).await.unwrap_or_default();
    let why = match (stderr, status, carried) {
        (stderr, _, _) if !stderr.is_empty() => stderr,
        (_, Some(status), _) if !status.is_empty() => status,
        (_, _, Err(error)) => format!("the tunnel is broken: {error}"),
        (_, _, Ok(())) => "the relay in the pod has exited".into(),
    };
    carrier.end(why);
}

/// A pod that is idle until a relay is run in it.
fn pod(image: &str) -> Pod {
    let container = Container {
        name: PART.into(),
        image: Some(image.into()),
        args: Some(vec!["idle".into()]),
        resources: Some(ResourceRequirements {
            requests: Some(quantities("10m", "32Mi")),
            // A relay buffers at most one mebibyte for each connection.
            limits: Some(quantities("1", "128Mi")),
            ..Default::default()
        }),
        ..Default::default()
    };
    helper_pod::restricted(PART, &Owner::this_process(), container, LIFETIME)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mock::MockServer;

    /// On its own task, which needs a `Send` future.
    async fn open(server: &MockServer) -> TunnelError {
        let client = server.cluster("checks").client().clone();
        let deadline = Duration::from_secs(30);
        let opened = tokio::spawn(async move {
            Tunnel::open(client, "checks", "base:1", ("trii", 443), deadline).await
        });
        let opened = opened.await.unwrap();
        opened.err().expect("an error")
    }

    #[tokio::test]
    async fn a_refused_pod_is_reported() {
        let server = MockServer::new(|_| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": "exceeded quota", "reason": "Forbidden", "code": 403});
            (403, status)
        });
        let error = open(&server).await.to_string();
        assert!(error.starts_with("cannot create a tunnel's pod in namespace checks: "));
        assert!(error.contains("exceeded quota"), "{error}");
    }

    #[tokio::test]
    async fn a_pod_that_cannot_run_is_deleted() {
        let server = MockServer::new(|request| {
            let state =
                json!({"waiting": {"reason": "ErrImagePull", "message": "base:1: not found"}});
            let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "tunnel-a"},
                "status": {"phase": "Pending", "containerStatuses": [{"name": "relay", "state": state,
                    "image": "", "imageID": "", "ready": false, "restartCount": 0}]}});
            (if request.method == "POST" { 201 } else { 200 }, pod)
        });
        let error = open(&server).await.to_string();
        assert!(
            error.starts_with("the tunnel's pod checks/tunnel-a runs: gave up: "),
            "{error}"
        );
        assert!(error.contains("base:1: not found"), "{error}");
        let pod = "/api/v1/namespaces/checks/pods/tunnel-a";
        let expected = [
            "POST /api/v1/namespaces/checks/pods".to_owned(),
            format!("GET {pod}"),
            // For its last output.
            "GET /api/v1/namespaces/checks/pods".to_owned(),
            format!("DELETE {pod}"),
        ];
        let requests = server.requests().into_iter();
        let requests: Vec<String> = requests
            .map(|it| format!("{} {}", it.method, it.path))
            .collect();
        assert_eq!(requests, expected);
    }
}
