use std::net::SocketAddr;

use kube::api::{Api, Patch};
use serde_json::json;

use super::super::pod::State;
use super::super::{Shared, listen};
use super::*;
use crate::bring_up::Owned;
use crate::local::process::Listening;
use base::ledger::Ledger;
use blue_green::lock::DeployerIdentity;
use blue_green::naming::as_deployer;
use blue_green::objects::ServiceObjects;
use blue_green::{Colour, ServiceStatus};
use kubernetes::{Cluster, Permissions, rollout};

const SERVICE: &str = "market-data-service";

/// The API of an environment without programs.
struct Rig {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Rig {
    async fn new() -> Rig {
        base::tls::use_ring();
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::at(folder.path().join("ledger.jsonl"));
        let shared = Arc::new(Shared {
            service: SERVICE.to_owned(),
            cluster: Default::default(),
            owned: Arc::new(Owned::new("mine", ledger)),
            process: Default::default(),
            versions: folder.path().to_owned(),
            logs: folder.path().to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            token: "token".into(),
            tasks: Default::default(),
            stop: Default::default(),
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        shared.begin("v1", [nowhere, nowhere]).unwrap();
        let (listener, address) = listen().await.unwrap();
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
        let opened = Cluster::open(&path, "local", "trii", Permissions::ours());
        opened.await.unwrap()
    }

    /// Makes all pods ready at `address`, after they have failed to start.
    async fn all_ready(&self, address: SocketAddr) {
        let is_starting = |pod: &super::super::Pod| pod.state == State::Starting;
        while self.shared.cluster().pods.iter().any(is_starting) {
            tokio::task::yield_now().await;
        }
        let pods = self.shared.cluster().pods.clone();
        for pod in pods {
            let listening = Listening {
                address,
                metrics: Some(address),
            };
            let state = State::Running {
                listening,
                ready: true,
                failure: None,
            };
            self.shared.set_state(&pod, state);
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
async fn a_release_finds_the_same_objects_as_on_a_cluster() {
    let rig = Rig::new().await;
    let cluster = rig.cluster("token").await;
    let status = ServiceStatus::of(&cluster, SERVICE).await.unwrap();
    let [live, idle] = &status.colours;
    assert_eq!((live.colour, live.version.as_str()), (Colour::Blue, "v1"));
    assert_eq!((live.wanted, live.ready), (1, 0));
    assert_eq!((idle.wanted, idle.ready), (0, 0));
    // Without a program, waiting does not help.
    let cluster = &cluster;
    let service = SERVICE;
    let objects = ServiceObjects { cluster, service };
    let selector = objects.selector(Colour::Blue);
    let complete = rollout::complete(cluster, &selector, DEADLINE, &|_| {}).await;
    let error = complete.unwrap_err().to_string();
    assert!(error.contains("ErrImagePull"), "{error}");
    assert!(error.contains("v1: not found"), "{error}");
    rig.all_ready(rig.address).await;
    let status = ServiceStatus::of(cluster, service).await.unwrap();
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
async fn a_second_lock_and_a_second_patch_of_one_version_are_refused() {
    let rig = Rig::new().await;
    let cluster = rig.cluster("token").await;
    let lock = async |run: &str| {
        let span = Duration::from_secs(5);
        let (service, holder) = (SERVICE, DeployerIdentity::this(run));
        blue_green::lock::ReleaseLock::take(&cluster, service, &holder, span, &|_| {}).await
    };
    let first = lock("first").await.unwrap();
    let refused = lock("second").await.err().unwrap().to_string();
    assert!(refused.contains("run first"), "{refused}");
    first.release().await.unwrap();
    lock("second").await.unwrap().release().await.unwrap();

    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(cluster.client().clone(), "trii");
    let service = services.get(SERVICE).await.unwrap();
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": service.metadata.resource_version},
        "spec": {"selector": {"trii.co/track": "green"}},
    }));
    let patched = |patch| async {
        let patch = patch;
        services.patch(SERVICE, &as_deployer(), &patch).await
    };
    patched(patch.clone()).await.unwrap();
    match patched(patch).await {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 409),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn requests_to_pods_and_services_are_forwarded() {
    let rig = Rig::new().await;
    let cluster = rig.cluster("token").await;
    // The API itself stands in for the pods: it answers 401 without the token.
    rig.all_ready(rig.address).await;
    for (path, status) in [
        (
            "pods/market-data-service-blue-1-1:8000/proxy/health/ready?x=y",
            401_u16,
        ),
        (
            "pods/http:market-data-service-blue-1-1:8000/proxy/health/ready?x=y",
            401,
        ),
        (
            "pods/market-data-service-blue-1-1:9090/proxy/health/ready?x=y",
            401,
        ),
        (
            "services/market-data-service:http/proxy/health/ready?x=y",
            401,
        ),
        ("services/market-data-service-preview:http/proxy/", 503),
        ("pods/market-data-service-blue-1-1:1234/proxy/", 503),
    ] {
        let uri = format!("/api/v1/namespaces/trii/{path}");
        let request = Request::get(uri).body(kube::client::Body::empty()).unwrap();
        let answer = cluster.client().send(request).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
}

#[tokio::test]
async fn a_request_without_the_token_is_refused() {
    let rig = Rig::new().await;
    let cluster = rig.cluster("another").await;
    let error = ServiceStatus::of(&cluster, SERVICE).await.unwrap_err();
    assert!(
        error.to_string().contains("the kubeconfig has the token"),
        "{error}"
    );
}
