//! The way into a cluster's network, through the ingress controller that is installed there.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::join_all;
use harness::certificates::Certificates;
use harness::prober;
use harness::tunnel::{LABEL, Tunnel, TunnelError};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::images::on_nodes;
use super::shared::Shared;

const HOST: &str = "tunnel.example";
const INGRESS: &str = "ingress-nginx-controller.ingress-nginx";
const DEADLINE: Duration = Duration::from_secs(60);

/// A namespace with the page in it.
struct Page {
    client: Client,
    namespace: String,
    /// The prober's.
    image: String,
    certificates: Certificates,
}

impl Page {
    /// Of an image that has perl, asked from pods of another.
    async fn create(client: Client, shell: &str, image: String) -> Page {
        let page = Page {
            client,
            namespace: format!("tunnel-{}", std::process::id()),
            image,
            certificates: Certificates::generate(&[HOST]).unwrap(),
        };
        let namespace = json!({"metadata": {"name": page.namespace}});
        let namespaces: Api<Namespace> = Api::all(page.client.clone());
        created(&namespaces, namespace).await;
        let secret = json!({"metadata": {"name": "page-tls"}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": page.certificates.certificate_pem, "tls.key": page.certificates.key_pem}});
        created(&page.api::<Secret>(), secret).await;
        let manifests = include_str!("tunnel/page.yaml")
            .replace("IMAGE", shell)
            .replace("HOST", HOST);
        let objects: Vec<Value> = serde_saphyr::from_multiple(&manifests).unwrap();
        for object in objects {
            match object["kind"].as_str() {
                Some("Pod") => created(&page.api::<Pod>(), object).await,
                Some("Service") => created(&page.api::<Service>(), object).await,
                Some("Ingress") => created(&page.api::<Ingress>(), object).await,
                kind => panic!("{kind:?}"),
            }
        }
        page
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn tunnel(&self, host: &str, port: u16) -> Result<Tunnel, TunnelError> {
        let (client, to) = (self.client.clone(), (host, port));
        Tunnel::open(client, &self.namespace, &self.image, to, DEADLINE).await
    }

    /// An ordinary client, that takes the page's host to be at the tunnel's end.
    fn http(&self, tunnel: &Tunnel) -> reqwest::Client {
        let authority = self.certificates.authority_pem.as_bytes();
        reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(authority).unwrap()])
            .resolve(HOST, tunnel.address())
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap()
    }

    /// The addresses of the pods of tunnels.
    async fn tunnel_addresses(&self) -> Vec<String> {
        let labelled = ListParams::default().labels(&format!("{LABEL}=tunnel"));
        let pods = self.api::<Pod>().list(&labelled).await.unwrap().items;
        let addresses = pods.into_iter().map(|pod| pod.status?.pod_ip);
        addresses.flatten().collect()
    }

    async fn delete(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let now = DeleteParams::background();
        namespaces.delete(&self.namespace, &now).await.unwrap();
    }
}

async fn created<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// What the page says: whom it answers.
async fn asked(http: &reqwest::Client) -> Result<String, String> {
    let answer = http.get(format!("https://{HOST}/")).send().await;
    let answer = answer.map_err(|error| harness::chain(&error))?;
    match answer.status() {
        reqwest::StatusCode::OK => answer.text().await.map_err(|error| error.to_string()),
        status => Err(status.to_string()),
    }
}

/// Once the ingress has learnt of the page.
async fn first_asked(http: &reqwest::Client) -> String {
    let started = Instant::now();
    loop {
        match asked(http).await {
            Ok(said) => return said,
            Err(why) => assert!(started.elapsed() < DEADLINE, "{why}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn speaks_https_from_a_pod(page: &Page) {
    let started = Instant::now();
    let tunnel = page.tunnel(INGRESS, 443).await.unwrap();
    println!("open: {:?}", started.elapsed());
    let http = page.http(&tunnel);
    let address = first_asked(&http).await;
    assert_eq!(page.tunnel_addresses().await, [address.as_str()]);

    let started = Instant::now();
    for _ in 0..50 {
        assert_eq!(asked(&http).await.as_ref(), Ok(&address));
    }
    println!("one of 50 in turn: {:?}", started.elapsed() / 50);
    let started = Instant::now();
    for said in join_all((0..8).map(|_| asked(&http))).await {
        assert_eq!(said.as_ref(), Ok(&address));
    }
    println!("8 at once: {:?}", started.elapsed());
    let fresh = page.http(&tunnel);
    let started = Instant::now();
    assert_eq!(asked(&fresh).await.as_ref(), Ok(&address));
    println!("the first of a client: {:?}", started.elapsed());
    assert_eq!(tunnel.last_failure(), None);

    let end = tunnel.address();
    let mut open = TcpStream::connect(end).await.unwrap();
    tunnel.close().await.unwrap();
    let read = tokio::time::timeout(DEADLINE, open.read(&mut [0])).await;
    assert!(matches!(read.unwrap(), Ok(0) | Err(_)));
    assert!(TcpStream::connect(end).await.is_err());
    assert!(page.tunnel_addresses().await.is_empty());
}

/// More than any buffer on the way holds, and an answer after the client's side has ended.
async fn ends_one_direction_while_the_other_goes_on(page: &Page) {
    const BYTES: usize = 3_000_000;
    let tunnel = page.tunnel("page", 7000).await.unwrap();
    let mut client = TcpStream::connect(tunnel.address()).await.unwrap();
    client.write_all(&vec![7; BYTES]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, format!("{BYTES}\n"));
    tunnel.close().await.unwrap();
}

async fn says_why_it_cannot_reach(page: &Page) {
    let error = page.tunnel("nobody", 80).await.err().unwrap();
    assert!(matches!(error, TunnelError::Unreachable { .. }));
    let error = error.to_string();
    assert!(error.contains("cannot reach nobody:80: "), "{error}");
    println!("{error}");
    assert!(page.tunnel_addresses().await.is_empty());
}

#[tokio::test]
async fn a_tunnel_speaks_from_inside_the_cluster() {
    let shared = Shared::find().await;
    let client = shared.cluster("default").await.client().clone();
    let shell = on_nodes(&shared, "base").await;
    let page = Page::create(client, &shell, on_nodes(&shared, prober::PART).await).await;

    let checked = async {
        speaks_https_from_a_pod(&page).await;
        ends_one_direction_while_the_other_goes_on(&page).await;
        says_why_it_cannot_reach(&page).await;
    };
    // A panic is not to leave the namespace.
    let checked = AssertUnwindSafe(checked).catch_unwind().await;
    page.delete().await;
    if let Err(panic) = checked {
        std::panic::resume_unwind(panic);
    }
}
