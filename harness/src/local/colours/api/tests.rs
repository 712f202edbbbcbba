use std::net::SocketAddr;

use kube::api::{Api, Patch};
use serde_json::json;

use super::super::pod::State;
use super::super::{SERVICE, Shared, listen};
use super::*;
use crate::blue_green::lock::Holder;
use crate::blue_green::objects::{Objects, as_deployer};
use crate::blue_green::{Colour, Status};
use crate::bring_up::Owned;
use crate::cluster::{Access, Cluster, rollout};
use crate::ledger::Ledger;
use crate::local::services::Listening;

/// The API of an environment in which no program is, and what it answers for.
struct Rig {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Rig {
    async fn new() -> Rig {
        crate::tls::use_ring();
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::at(folder.path().join("ledger.jsonl"));
        let shared = Arc::new(Shared {
            service: SERVICE,
            world: Default::default(),
            owned: Arc::new(Owned::new("mine", ledger)),
            variables: Vec::new(),
            versions: folder.path().to_owned(),
            logs: folder.path().to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            token: "token".into(),
            tasks: Default::default(),
            stop: Default::default(),
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        shared.begin("v1", [nowhere, nowhere]).unwrap();
        let listener = listen().await.unwrap();
        let address = listener.local_addr().unwrap();
        shared.spawn(serve(listener, Arc::clone(&shared)));
        shared.settle();
        Rig {
            folder,
            shared,
            address,
        }
    }

    async fn cluster(&self, token: &str) -> Cluster {
        let kubeconfig = super::super::kubeconfig(self.address, token);
        let path = self.folder.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        let opened = Cluster::open(&path, "local", "trii", Access::ours());
        opened.await.unwrap()
    }

    /// Its pods are at `address`, and well: after they have told that they have no program.
    async fn all_ready(&self, address: SocketAddr) {
        let starts = |pod: &super::super::Pod| pod.state == State::Starting;
        while self.shared.world().pods.iter().any(starts) {
            tokio::task::yield_now().await;
        }
        let pods = self.shared.world().pods.clone();
        for pod in pods {
            let (ready, failure) = (true, None);
            let listening = Listening {
                address,
                metrics: address,
            };
            let state = State::Running {
                listening,
                ready,
                failure,
            };
            self.shared.tell(&pod, state);
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_release_finds_what_it_finds_on_a_cluster() {
    let rig = Rig::new().await;
    let cluster = rig.cluster("token").await;
    let status = Status::of(&cluster, SERVICE.name()).await.unwrap();
    let [live, idle] = &status.colours;
    assert_eq!((live.colour, live.version.as_str()), (Colour::Blue, "v1"));
    assert_eq!((live.wanted, live.ready), (1, 0));
    assert_eq!((idle.wanted, idle.ready), (0, 0));
    // There is no program, which is no reason to wait.
    let cluster = &cluster;
    let service = SERVICE.name();
    let objects = Objects { cluster, service };
    let selector = objects.selector(Colour::Blue);
    let complete = rollout::complete(cluster, &selector, DEADLINE, &|_| {}).await;
    let error = complete.unwrap_err().to_string();
    assert!(error.contains("ErrImagePull"), "{error}");
    assert!(error.contains("v1: not found"), "{error}");
    rig.all_ready(rig.address).await;
    let status = Status::of(cluster, service).await.unwrap();
    assert_eq!(status.colours[0].ready, 1);
    let complete = rollout::complete(cluster, &selector, DEADLINE, &|_| {}).await;
    complete.unwrap();
    let endpoints = objects.endpoints(service).await.unwrap();
    assert_eq!(
        endpoints,
        [("market-data-service-blue-1-1".to_owned(), true)]
    );
}

#[tokio::test]
async fn the_second_to_lock_is_refused_and_the_second_to_patch_too() {
    let rig = Rig::new().await;
    let cluster = rig.cluster("token").await;
    let lock = async |run: &str| {
        let span = Duration::from_secs(5);
        let (service, holder) = (SERVICE.name(), Holder::this(run));
        crate::blue_green::lock::Lock::take(&cluster, service, &holder, span, &|_| {}).await
    };
    let first = lock("first").await.unwrap();
    let refused = lock("second").await.err().unwrap().to_string();
    assert!(refused.contains("run first"), "{refused}");
    first.release().await.unwrap();
    lock("second").await.unwrap().release().await.unwrap();

    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(cluster.client().clone(), "trii");
    let seen = services.get(SERVICE.name()).await.unwrap();
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": seen.metadata.resource_version},
        "spec": {"selector": {"trii.co/track": "green"}},
    }));
    let patched = |patch| async {
        let patch = patch;
        services.patch(SERVICE.name(), &as_deployer(), &patch).await
    };
    patched(patch.clone()).await.unwrap();
    match patched(patch).await {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 409),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pod_is_asked_through_it() {
    let rig = Rig::new().await;
    let cluster = rig.cluster("token").await;
    // Its own answer to one without the token is as good as any service's.
    rig.all_ready(rig.address).await;
    for what in [
        "pods/market-data-service-blue-1-1:8000",
        "pods/http:market-data-service-blue-1-1:8000",
        "pods/market-data-service-blue-1-1:9090",
        "services/market-data-service:http",
    ] {
        let uri = format!("/api/v1/namespaces/trii/{what}/proxy/health/ready?x=y");
        let request = Request::get(uri).body(kube::client::Body::empty()).unwrap();
        let answer = cluster.client().send(request).await.unwrap();
        assert_eq!(answer.status(), 401, "{what}");
    }
    for what in [
        "services/market-data-service-preview:http",
        "pods/market-data-service-blue-1-1:1234",
    ] {
        let uri = format!("/api/v1/namespaces/trii/{what}/proxy/");
        let request = Request::get(uri).body(kube::client::Body::empty()).unwrap();
        let answer = cluster.client().send(request).await.unwrap();
        assert_eq!(answer.status(), 503, "{what}");
    }
}

#[tokio::test]
async fn without_the_token_nothing_is_told() {
    let rig = Rig::new().await;
    let cluster = rig.cluster("another").await;
    let error = Status::of(&cluster, SERVICE.name()).await.unwrap_err();
    assert!(
        error.to_string().contains("the kubeconfig has the token"),
        "{error}"
    );
}
