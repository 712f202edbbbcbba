//! A service with two colours, without a cluster: the processes of its pods, its Services, and the
//! part of the Kubernetes API that a release uses.
//!
//! So the deployer and its scenarios run the same code as on a cluster. The API serves two
//! Deployments, two Services and their dependents, a Lease and a ConfigMap. The alternative, a
//! trait for the deployer's actions, would need a second implementation of the lock, the record and
//! the rollout's state.

mod api;
mod chart;
mod cluster;
mod forward;
mod lifecycle;
mod pod;
pub mod versions;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::chart::{PORTS, Role};
use self::cluster::{Endpoints, LocalCluster};
use self::pod::{Pod, State};
use super::process::{Listening, ServiceProcess};
use crate::bring_up::{Context, Owned, UpError};
use crate::environment::ClusterPlace;
use crate::router::Backends;
use base::run::LOGS;
use base::run::event::Part;
use base::wait::{self, Observation};
use blue_green::Colour;
use kubernetes::Permissions;
use kubernetes::in_memory_api::ApiRefusal;

/// The pods of the live colour.
const REPLICAS: u32 = 1;

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The namespace of a release. Nothing checks it.
const NAMESPACE: &str = "platform";
const CONTEXT: &str = "local";

/// The service with its colours. It starts and stops processes that the environment owns. A clone
/// is the same service.
#[derive(Clone)]
pub struct Colours {
    shared: Arc<Shared>,
    /// The active Service.
    listening: Listening,
    place: ClusterPlace,
}

/// The state that its tasks share.
struct Shared {
    service: String,
    cluster: Mutex<LocalCluster>,
    owned: Arc<Owned>,
    /// How a pod's process starts, with secrets.
    process: ServiceProcess,
    versions: PathBuf,
    logs: PathBuf,
    http: reqwest::Client,
    token: String,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Colours {
    /// Starts the first colour of `service` in the configured version, whose program is `program`,
    /// and the API.
    ///
    /// # Errors
    /// [`UpError`].
    pub(super) async fn start(
        context: &Context<'_>,
        program: &std::path::Path,
        service: &str,
        process: ServiceProcess,
    ) -> Result<Colours, UpError> {
        let version = &context.config.platform.version;
        versions::keep(context.folder, version, program)
            .map_err(UpError::system("keep the version that is deployed first"))?;
        let shared = Arc::new(Shared {
            service: service.to_owned(),
            cluster: Mutex::default(),
            owned: Arc::clone(context.owned),
            process,
            versions: versions::folder(context.folder),
            logs: context.run_folder.join(LOGS),
            http: context.http.clone(),
            token: format!("{:032x}", rand::random::<u128>()),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let [active, preview] = [listen().await?, listen().await?];
        let addresses = [active.1, preview.1];
        shared.begin(version, addresses).map_err(|refusal| {
            let reason = std::io::Error::other(format!("{refusal:?}"));
            UpError::system("create the first objects")(reason)
        })?;
        for (role, (listener, _)) in Role::ALL.into_iter().zip([active, preview]) {
            let backends = shared.endpoints(role).http;
            shared.spawn(forward::serve(listener, backends, Arc::clone(&shared)));
        }
        let mut metrics = None;
        if shared.process.has_metrics() {
            let (listener, address) = listen().await?;
            let backends = shared.endpoints(Role::Active).metrics;
            shared.spawn(forward::serve(listener, backends, Arc::clone(&shared)));
            metrics = Some(address);
        }
        let (listener, api) = listen().await?;
        let place = place(context, api, &shared.token)?;
        shared.spawn(api::serve(listener, Arc::clone(&shared)));
        let colours = Colours {
            shared,
            listening: Listening {
                address: addresses[0],
                metrics,
            },
            place,
        };
        // Before the first process starts, so that a cancelled bring-up leaves none.
        let stopped = colours.clone();
        context
            .owned
            .adopt_server(async move |_| stopped.stop().await);
        colours.shared.settle();
        Ok(colours)
    }

    /// Returns the addresses of its pods: an ingress connects to the pods themselves.
    pub fn backends(&self) -> Backends {
        self.shared.endpoints(Role::Active).http
    }

    /// Returns the URL of the active Service that answers 2xx while a pod is ready, if it has one.
    pub fn ready_url(&self) -> Option<String> {
        let Listening { address, metrics } = self.listening;
        let metrics_port = metrics.map_or(0, |it| it.port());
        self.shared
            .process
            .ready_url([address.port(), metrics_port])
    }

    /// Returns how to reach the API.
    pub fn place(&self) -> &ClusterPlace {
        &self.place
    }

    /// Returns the part for the report, without process ids, which may change.
    pub fn part(&self) -> Part {
        let first = self.shared.first_pod();
        Part {
            name: self.shared.service.clone(),
            runs_as: "processes, of one of two colours".to_owned(),
            address: self.listening.address.to_string(),
            metrics: self.listening.metrics.map(|it| it.to_string()),
            log: first.map(|pod| format!("{LOGS}/{pod}.log")),
        }
    }

    /// Waits until a pod of the live colour is ready.
    ///
    /// # Errors
    /// [`UpError::Wait`].
    pub async fn ready(&self, deadline: Duration) -> Result<(), UpError> {
        let backends = self.backends();
        let service = &self.shared.service;
        let what = format!("{service} is ready");
        let ready = wait::until(what, deadline, LOOK_EVERY, async || {
            match (backends.next(), self.shared.permanent_problem()) {
                (Some(_), _) => Observation::Ready(()),
                (None, Some(why)) => Observation::Failed(why),
                (None, None) => Observation::NotYet("none of its pods is ready".into()),
            }
        });
        ready.await.map_err(|wait| {
            let log = self.shared.first_pod().map(|pod| self.shared.log(&pod));
            UpError::wait(service, log)(wait)
        })
    }

    /// Stops managing the processes. It does not stop them.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    /// Creates the objects: blue is live, green has no pods, as after the chart's first install.
    fn begin(&self, version: &str, addresses: [SocketAddr; 2]) -> Result<(), ApiRefusal> {
        let ready = self.process.ready_url(PORTS);
        let mut cluster = self.cluster();
        for (colour, replicas) in [(Colour::Blue, REPLICAS), (Colour::Green, 0)] {
            let deployment =
                chart::deployment(&self.service, colour, version, replicas, ready.as_deref());
            cluster.store.create("deployments", deployment)?;
        }
        for ((role, colour), address) in Role::ALL.into_iter().zip(Colour::ALL).zip(addresses) {
            let service = chart::service(&self.service, role, colour, address.port());
            cluster.store.create("services", service)?;
            let name = role.name(&self.service);
            cluster.backends.insert(name, Endpoints::default());
        }
        Ok(())
    }

    fn cluster(&self) -> MutexGuard<'_, LocalCluster> {
        // The lists are consistent also after a panic.
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoints(&self, role: Role) -> Endpoints {
        let name = role.name(&self.service);
        let endpoints = self.cluster().backends.get(&name).cloned();
        endpoints.unwrap_or_default()
    }

    /// Starts and ends processes, and updates Services, as the objects require.
    fn settle(self: &Arc<Self>) {
        let mut cluster = self.cluster();
        let created = cluster.settle();
        for pod in &cluster.pods {
            let may_end = cluster.may_end(pod, &self.service);
            self.owned.expect_end(&pod.name, may_end);
        }
        drop(cluster);
        for pod in created {
            self.spawn(lifecycle::live(Arc::clone(self), pod));
        }
    }

    fn set_state(self: &Arc<Self>, pod: &Pod, state: State) {
        if let Some(pod) = self.cluster().pod(&pod.name) {
            pod.state = state;
        }
        self.settle();
    }

    fn forget(self: &Arc<Self>, pod: &Pod) {
        self.cluster().pods.retain(|it| it.name != pod.name);
        self.settle();
    }

    /// Runs a task until it is done or [`Colours::stop`] is called.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    fn permanent_problem(&self) -> Option<String> {
        self.cluster().permanent_problem(&self.service)
    }

    fn log(&self, pod: &str) -> PathBuf {
        self.logs.join(format!("{pod}.log"))
    }

    fn first_pod(&self) -> Option<String> {
        Some(self.cluster().pods.first()?.name.clone())
    }

    /// Returns the program of a version, or an error as a registry reports it.
    fn program(&self, version: &str) -> Result<PathBuf, String> {
        let path = self.versions.join(version);
        match path.is_file() {
            true => Ok(path),
            false => Err(format!("{}: not found", path.display())),
        }
    }
}

async fn listen() -> Result<(TcpListener, SocketAddr), UpError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    bound
        .and_then(|listener| listener.local_addr().map(|address| (listener, address)))
        .map_err(UpError::system("find a free port"))
}

/// Only this user may read the kubeconfig: it has the token.
fn place(context: &Context<'_>, api: SocketAddr, token: &str) -> Result<ClusterPlace, UpError> {
    let kubeconfig = kubeconfig(api, token);
    Ok(ClusterPlace {
        name: CONTEXT.to_owned(),
        kubeconfig: context.folder.write_kubeconfig(&kubeconfig)?,
        context: CONTEXT.to_owned(),
        namespace: NAMESPACE.to_owned(),
        backing_services: None,
        permissions: Permissions::ours(),
    })
}

fn kubeconfig(api: SocketAddr, token: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": CONTEXT,
        "clusters": [{"name": CONTEXT, "cluster": {"server": format!("http://{api}")}}],
        "users": [{"name": CONTEXT, "user": {"token": token}}],
        "contexts": [{"name": CONTEXT,
            "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": NAMESPACE}}],
    })
}
