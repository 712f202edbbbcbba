//! A service on two colours, without a cluster: the processes of its pods, the Services that
//! lead to them, and the part of the Kubernetes API that a release uses.
//!
//! The deployer and its scenarios are the same code as on a cluster, because what they ask is
//! answered here as there: two Deployments, two Services, what follows from them, a Lease and a
//! ConfigMap. The other way, a trait of what a deployer does to a stage, would have had a second
//! copy of the lock, the record and the rollout's verdict, and its own truth about each.

mod api;
mod chart;
mod forward;
mod life;
mod pod;
pub mod versions;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::chart::Role;
use self::pod::{Pod, State};
use self::world::{Behind, World};
use crate::api_server::Refusal;
use crate::blue_green::Colour;
use crate::bring_up::{Context, Owned, UpError};
use crate::cluster::Access;
use crate::environment::ClusterPlace;
use crate::router::Backends;
use crate::run::LOGS;
use crate::run::event::Part;
use crate::service::Service;
use crate::wait::{self, Observation};

/// The service that is released blue-green, as in the chart's values.
pub const SERVICE: Service = Service::MarketDataService;

/// The pods that the live colour has at rest.
const REPLICAS: u32 = 1;

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The namespace of a release; nothing is checked of it.
const NAMESPACE: &str = "trii-platform";
const CONTEXT: &str = "local";

/// The service on its colours. Its processes are the environment's, [`Owned`]; what sees to
/// them is this. A copy is the same one.
#[derive(Clone)]
pub struct Colours {
    shared: Arc<Shared>,
    addresses: [SocketAddr; 2],
    metrics: SocketAddr,
    place: ClusterPlace,
}

/// What each task of it needs.
struct Shared {
    service: Service,
    world: Mutex<World>,
    owned: Arc<Owned>,
    /// What every pod's process is told, secrets included.
    variables: Vec<(String, String)>,
    versions: PathBuf,
    logs: PathBuf,
    http: reqwest::Client,
    token: String,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Colours {
    /// Starts the first colour in the configured version, and answers the API.
    ///
    /// `variables` are for each of its processes; the platform's binary is at `platform`.
    ///
    /// # Errors
    /// [`UpError`].
    pub async fn start(
        context: &Context<'_>,
        platform: &std::path::Path,
        variables: Vec<(String, String)>,
    ) -> Result<Colours, UpError> {
        let version = &context.config.platform.version;
        versions::keep(context.folder, version, platform)
            .map_err(UpError::system("keep the version that is deployed first"))?;
        let shared = Arc::new(Shared {
            service: SERVICE,
            world: Mutex::default(),
            owned: Arc::clone(context.owned),
            variables,
            versions: versions::folder(context.folder),
            logs: context.run_folder.join(LOGS),
            http: context.http.clone(),
            token: format!("{:032x}", rand::random::<u128>()),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let [active, preview] = [listen().await?, listen().await?];
        let addresses = [address_of(&active)?, address_of(&preview)?];
        shared.begin(version, addresses).map_err(|refusal| {
            let reason = std::io::Error::other(format!("{refusal:?}"));
            UpError::system("make the first objects")(reason)
        })?;
        for (role, listener) in Role::ALL.into_iter().zip([active, preview]) {
            let backends = shared.behind(role).http;
            shared.spawn(forward::serve(listener, backends, Arc::clone(&shared)));
        }
        let listener = listen().await?;
        let metrics = address_of(&listener)?;
        let backends = shared.behind(Role::Active).metrics;
        shared.spawn(forward::serve(listener, backends, Arc::clone(&shared)));
        let api = listen().await?;
        let place = place(context, address_of(&api)?, &shared.token)?;
        shared.spawn(api::serve(api, Arc::clone(&shared)));
        let colours = Colours {
            shared,
            addresses,
            metrics,
            place,
        };
        // Before the first process, so that none is left where this is cut short.
        context.owned.adopt_colours(colours.clone());
        colours.shared.settle();
        Ok(colours)
    }

    /// Where the active Service is: callers in the platform ask it there.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Who answers for the service: an ingress leads to the pods themselves.
    pub fn backends(&self) -> Backends {
        self.shared.behind(Role::Active).http
    }

    /// Where the API is, and the kubeconfig that leads there.
    pub fn place(&self) -> &ClusterPlace {
        &self.place
    }

    /// For the report: which processes it is may change.
    pub fn part(&self) -> Part {
        let first = self.shared.first_pod();
        Part {
            name: self.shared.service.name().to_owned(),
            runs_as: "processes, of one of two colours".to_owned(),
            address: self.address().to_string(),
            metrics: Some(self.metrics.to_string()),
            log: first.map(|pod| format!("{LOGS}/{pod}.log")),
        }
    }

    /// Waits until a pod of the live colour is ready.
    ///
    /// # Errors
    /// [`UpError::Wait`].
    pub async fn ready(&self, deadline: Duration) -> Result<(), UpError> {
        let backends = self.backends();
        let service = self.shared.service;
        let what = format!("{service} is ready");
        let ready = wait::until(what, deadline, LOOK_EVERY, async || {
            match (backends.next(), self.shared.hopeless()) {
                (Some(_), _) => Observation::Ready(()),
                (None, Some(why)) => Observation::Hopeless(why),
                (None, None) => Observation::NotYet("no pod of it answers".into()),
            }
        });
        ready.await.map_err(|wait| UpError::Wait {
            part: service.name().into(),
            log: self.shared.first_pod().map(|pod| self.shared.log(&pod)),
            wait,
        })
    }

    /// Sees to its processes no more: no other is started, and none is asked to end.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    /// Blue is live, green at 0, as after the chart's first install.
    fn begin(&self, version: &str, addresses: [SocketAddr; 2]) -> Result<(), Refusal> {
        let mut world = self.world();
        for (colour, replicas) in [(Colour::Blue, REPLICAS), (Colour::Green, 0)] {
            let deployment = chart::deployment(self.service, colour, version, replicas);
            world.store.create("deployments", deployment)?;
        }
        for ((role, colour), address) in Role::ALL.into_iter().zip(Colour::ALL).zip(addresses) {
            let service = chart::service(self.service, role, colour, address.port());
            world.store.create("services", service)?;
            let name = role.name(self.service);
            world.backends.insert(name, Behind::default());
        }
        Ok(())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A panic while it was held leaves lists that are still whole.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn behind(&self, role: Role) -> Behind {
        let name = role.name(self.service);
        let behind = self.world().backends.get(&name).cloned();
        behind.unwrap_or_default()
    }

    /// Has processes and Services follow what is wanted now.
    fn settle(self: &Arc<Self>) {
        let mut world = self.world();
        let born = world.settle();
        for pod in &world.pods {
            let may_end = world.may_end(pod, self.service.name());
            self.owned.expect_end(&pod.name, may_end);
        }
        drop(world);
        for pod in born {
            self.spawn(life::live(Arc::clone(self), pod));
        }
    }

    /// A pod is like this now.
    fn tell(self: &Arc<Self>, pod: &Pod, state: State) {
        if let Some(pod) = self.world().pod(&pod.name) {
            pod.state = state;
        }
        self.settle();
    }

    /// A pod is gone.
    fn forget(self: &Arc<Self>, pod: &Pod) {
        self.world().pods.retain(|it| it.name != pod.name);
        self.settle();
    }

    /// Does it until it is done, or all is stopped.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    fn hopeless(&self) -> Option<String> {
        self.world().hopeless(self.service.name())
    }

    fn log(&self, pod: &str) -> PathBuf {
        self.logs.join(format!("{pod}.log"))
    }

    fn first_pod(&self) -> Option<String> {
        Some(self.world().pods.first()?.name.clone())
    }

    /// The program of a version, or why there is none, as a registry would say it.
    fn binary(&self, version: &str) -> Result<PathBuf, String> {
        let path = self.versions.join(version);
        match path.is_file() {
            true => Ok(path),
            false => Err(format!("{}: not found", path.display())),
        }
    }
}

async fn listen() -> Result<TcpListener, UpError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    bound.map_err(UpError::system("find a free port"))
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, UpError> {
    let address = listener.local_addr();
    address.map_err(UpError::system("find a free port"))
}

/// Where the API is told to be. The kubeconfig is for this user's eyes only: it has the token.
fn place(context: &Context<'_>, api: SocketAddr, token: &str) -> Result<ClusterPlace, UpError> {
    let kubeconfig = kubeconfig(api, token);
    Ok(ClusterPlace {
        name: CONTEXT.to_owned(),
        kubeconfig: context.folder.write_kubeconfig(&kubeconfig)?,
        context: CONTEXT.to_owned(),
        namespace: NAMESPACE.to_owned(),
        backing_services: None,
        access: Access::ours(),
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
