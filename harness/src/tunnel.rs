//! A way into a cluster's own network: connections made here come out of a pod there.
//!
//! A client that speaks from 127.0.0.1 through the node port does not see what pods see: the
//! cluster's DNS, Services, network policies. Through a [`Tunnel`] the same client does. All its
//! connections go by one `exec` in a pod (what `kubectl exec` does), of the program `prober`, which
//! [relays](prober::relay()) them there: it takes nothing but the right to create pods and to
//! `exec`. An answer comes some milliseconds later than without. It is for checks, not for load.

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
use crate::router::accepted;

mod trunk;

use trunk::{Carrier, Trunk};

pub use crate::helper_pod::LABEL;

/// The pod ends by itself after this, whatever became of us.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Open at once; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// What its pods are for, and the name of their container.
const PART: &str = "tunnel";
/// Of each direction of the `exec`, in bytes.
const BUFFER: usize = 256 * 1024;
/// For a relay that has ended to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// As much of what it complains of is kept, in bytes.
const COMPLAINT: u64 = 4096;

/// An open way to one destination. Ends its connections when it is dropped; its pod goes with
/// [`Tunnel::close`], else within the hour.
pub struct Tunnel {
    address: SocketAddr,
    exit: Arc<Exit>,
    stop: DropGuard,
    forwarding: JoinHandle<()>,
}

/// A tunnel cannot be had, or be closed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TunnelError {
    /// Its pod cannot be had, or be deleted.
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
        /// What the relay in it said.
        why: String,
    },
    /// This machine gives no port.
    #[error("cannot listen on 127.0.0.1: {0}")]
    #[diagnostic(code(tunnel::listen))]
    Listen(io::Error),
}

impl Tunnel {
    /// Creates a pod of `image`, the prober's, in `namespace`, and has made sure within `deadline`
    /// that it reaches `destination`, a host and a port as pods know them.
    ///
    /// Where it does not, the pod is deleted again. Where this future is dropped before it is
    /// done, the pod may stay until its own end; [`LABEL`] finds it.
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
        let pod = HelperPod::start(client, namespace, &pod(image), at_once(), end).await?;
        let exit = Arc::new(Exit {
            pod,
            destination: format!("{host}:{port}"),
            carried: tokio::sync::Mutex::default(),
            last_failure: Mutex::default(),
        });
        if let Err(why) = exit.reaches(end).await {
            let pod = exit.pod.name();
            // What the caller has to know is why it failed.
            let _ = exit.pod.delete().await;
            return Err(TunnelError::Unreachable { pod, why });
        }
        let stop = CancellationToken::new();
        let forwarding = tokio::spawn(forward_all(listener, exit.clone(), stop.clone()));
        Ok(Tunnel {
            address,
            exit,
            stop: stop.drop_guard(),
            forwarding,
        })
    }

    /// Where to connect to, on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Why the last connection that failed did: its client only saw it end.
    pub fn last_failure(&self) -> Option<String> {
        self.exit.last_failure().clone()
    }

    /// Ends all connections and deletes the pod.
    ///
    /// # Errors
    /// [`TunnelError::Pod`].
    pub async fn close(self) -> Result<(), TunnelError> {
        drop(self.stop);
        // An error is its panic, which has been printed.
        let _ = self.forwarding.await;
        Ok(self.exit.pod.delete().await?)
    }
}

/// Deletes the pods of all tunnels that this process has opened in `namespace`: what is left
/// when it is called off, and they are dropped instead of closed.
///
/// # Errors
/// [`TunnelError::Pod`].
pub async fn close_all(client: kube::Client, namespace: &str) -> Result<(), TunnelError> {
    let all = (PART, &Owner::this_process());
    Ok(helper_pod::delete_all::<Pod>(client, namespace, all, &at_once()).await?)
}

/// Nothing in it is worth waiting for.
fn at_once() -> DeleteParams {
    DeleteParams::default().grace_period(0)
}

/// Forwards what is accepted, until it is told to stop; then nothing of it is left.
async fn forward_all(listener: TcpListener, exit: Arc<Exit>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (client, _) = accepted(&listener), if connections.len() < CONNECTIONS => {
                let exit = exit.clone();
                connections.spawn(async move { exit.serve(client).await });
            }
        }
    }
    connections.shutdown().await;
}

/// The far end: the pod, and where it connects to.
struct Exit {
    pod: HelperPod,
    /// Host and port.
    destination: String,
    carried: tokio::sync::Mutex<Option<Carried>>,
    last_failure: Mutex<Option<String>>,
}

/// A trunk, and what carries it as long as this is there.
struct Carried {
    trunk: Arc<Trunk>,
    _carrying: AbortOnDropHandle<()>,
}

impl Exit {
    /// Whether the pod reaches the destination, by a client that says nothing and leaves.
    async fn reaches(&self, end: Instant) -> Result<(), String> {
        let reached = timeout_at(end, self.forward(io::empty(), io::sink())).await;
        reached.unwrap_or_else(|_| Err(format!("{} is silent", self.destination)))
    }

    /// Forwards one client's connection.
    async fn serve(&self, mut client: TcpStream) {
        let (from_client, to_client) = client.split();
        if let Err(why) = self.forward(from_client, to_client).await {
            self.failed(why);
        }
    }

    /// Joins a client with the destination until that has ended, or either has failed.
    async fn forward(
        &self,
        from_client: impl AsyncRead + Unpin,
        to_client: impl AsyncWrite + Unpin,
    ) -> Result<(), String> {
        let trunk = self.trunk().await?;
        trunk.forward(from_client, to_client).await
    }

    /// The trunk there is, else a new one: an API server that went away took it along.
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

    fn failed(&self, why: String) {
        *self.last_failure() = Some(why);
    }
}

/// Carries a trunk until its relay has ended, and says why it has.
async fn carry(mut relay: AttachedProcess, mut carrier: Carrier) {
    let (Some(to_relay), Some(from_relay), Some(complaints), Some(status)) = (
        relay.stdin(),
        relay.stdout(),
        relay.stderr(),
        relay.take_status(),
    ) else {
        return carrier.end("exec came without its streams".into());
    };
    let carried = carrier.carry(from_relay, to_relay).await;
    let last_words = async {
        let mut text = Vec::new();
        // What was said before it broke is still worth telling.
        let _ = complaints.take(COMPLAINT).read_to_end(&mut text).await;
        let status = status.await.and_then(|status| status.message);
        (String::from_utf8_lossy(&text).trim().to_owned(), status)
    };
    let (complaint, status) = timeout(LAST_WORDS, last_words).await.unwrap_or_default();
    let why = match (complaint, status, carried) {
        (complaint, _, _) if !complaint.is_empty() => complaint,
        (_, Some(status), _) if !status.is_empty() => status,
        (_, _, Err(error)) => format!("the tunnel is broken: {error}"),
        (_, _, Ok(())) => "the relay in the pod has ended".into(),
    };
    carrier.end(why);
}

/// A pod that waits for a relay to be run in it.
fn pod(image: &str) -> Pod {
    let container = Container {
        name: PART.into(),
        image: Some(image.into()),
        args: Some(vec!["idle".into()]),
        resources: Some(ResourceRequirements {
            requests: Some(quantities("10m", "32Mi")),
            // A relay holds a mebibyte at most for each connection.
            limits: Some(quantities("1", "128Mi")),
            ..Default::default()
        }),
        ..Default::default()
    };
    helper_pod::restricted(PART, &Owner::this_process(), container, LIFETIME)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API server that answers every request with a status code and an object, and
    /// the methods and paths of the requests.
    fn api_server(
        answer: impl Fn(&Method) -> (u16, Value) + Clone + Send + 'static,
    ) -> (kube::Client, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = seen.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            requests.lock().unwrap().push(format!("{method} {path}"));
            let (code, object) = answer(&method);
            let response = Response::builder().status(code);
            let response = response.body(Body::from(object.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(response.unwrap()) }
        });
        (kube::Client::new(service, "default"), seen)
    }

    /// On a task of its own, as any caller may want it.
    async fn open(client: kube::Client) -> TunnelError {
        let deadline = Duration::from_secs(30);
        let opened = tokio::spawn(async move {
            Tunnel::open(client, "checks", "base:1", ("trii", 443), deadline).await
        });
        let opened = opened.await.unwrap();
        opened.err().expect("nothing there can be reached")
    }

    #[tokio::test]
    async fn a_pod_that_the_cluster_refuses_is_told_of() {
        let (client, _) = api_server(|_| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": "exceeded quota", "reason": "Forbidden", "code": 403});
            (403, status)
        });
        let error = open(client).await.to_string();
        assert!(error.starts_with("cannot create a tunnel's pod in namespace checks: "));
        assert!(error.contains("exceeded quota"), "{error}");
    }

    #[tokio::test]
    async fn a_pod_that_will_not_run_is_given_up_at_once_and_deleted() {
        let (client, seen) = api_server(|method| {
            let state =
                json!({"waiting": {"reason": "ErrImagePull", "message": "base:1: not found"}});
            let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "tunnel-a"},
                "status": {"phase": "Pending", "containerStatuses": [{"name": "relay", "state": state,
                    "image": "", "imageID": "", "ready": false, "restartCount": 0}]}});
            (if method == Method::POST { 201 } else { 200 }, pod)
        });
        let error = open(client).await;
        let error = error.to_string();
        assert!(
            error.starts_with("the tunnel's pod checks/tunnel-a runs: it never will be: "),
            "{error}"
        );
        assert!(error.contains("base:1: not found"), "{error}");
        let pod = "/api/v1/namespaces/checks/pods/tunnel-a";
        let expected = [
            "POST /api/v1/namespaces/checks/pods".to_owned(),
            format!("GET {pod}"),
            // For its last words.
            "GET /api/v1/namespaces/checks/pods".to_owned(),
            format!("DELETE {pod}"),
        ];
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}
