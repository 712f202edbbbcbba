//! The tunnel into a cluster's network, to its ingress controller.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use environments::certificates::Certificates;
use futures::FutureExt;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kubernetes::tunnel::{LABEL, Tunnel, TunnelError};
use kubernetes::{Cluster, prober};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::images::on_nodes;
use super::shared::Shared;

const HOST: &str = "tunnel.example";
const INGRESS: &str = "ingress-nginx-controller.ingress-nginx";
const DEADLINE: Duration = Duration::from_secs(60);

/// A namespace with the page.
struct Page {
    cluster: Cluster,
    /// The image of the prober.
    image: String,
    certificates: Certificates,
}

impl Page {
    /// Creates the page from the image `shell`, which has perl.
    async fn create(shared: &Shared, shell: &str, image: String) -> Page {
        let namespace = format!("tunnel-{}", std::process::id());
        let page = Page {
            cluster: shared.cluster(&namespace).await,
            image,
            certificates: Certificates::generate(&[HOST]).unwrap(),
        };
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let certificate = &page.certificates.certificate_pem;
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "page-tls"},
            "stringData": {"tls.crt": certificate, "tls.key": page.certificates.key_pem}});
        let manifest = include_str!("tunnel/page.yaml")
            .replace("IMAGE", shell)
            .replace("HOST", HOST);
        for manifest in [namespace.to_string(), secret.to_string(), manifest] {
            page.cluster.apply(&manifest).await.unwrap();
        }
        page
    }

    async fn tunnel(&self, host: &str, port: u16) -> Result<Tunnel, TunnelError> {
        let (client, to) = (self.cluster.client().clone(), (host, port));
        Tunnel::open(client, &self.cluster.namespace, &self.image, to, DEADLINE).await
    }

    /// Returns a client that resolves the page's host to the tunnel's end.
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

    /// Returns the addresses of the tunnels' pods.
    async fn tunnel_addresses(&self) -> Vec<String> {
        let labelled = ListParams::default().labels(&format!("{LABEL}=tunnel"));
        let api: Api<Pod> = Api::namespaced(self.cluster.client().clone(), &self.cluster.namespace);
        let pods = api.list(&labelled).await.unwrap().items;
        let addresses = pods.into_iter().map(|pod| pod.status?.pod_ip);
        addresses.flatten().collect()
    }

    async fn delete(&self) {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client().clone());
        let now = DeleteParams::background();
        let deleted = namespaces.delete(&self.cluster.namespace, &now).await;
        deleted.unwrap();
    }
}

/// Returns the page's answer: the address of its client.
async fn get(http: &reqwest::Client) -> Result<String, String> {
    let answer = http.get(format!("https://{HOST}/")).send().await;
    let answer = answer.map_err(|error| base::chain(&error))?;
    match answer.status() {
        reqwest::StatusCode::OK => answer.text().await.map_err(|error| error.to_string()),
        status => Err(status.to_string()),
    }
}

/// Waits until the ingress serves the page.
async fn first_answer(http: &reqwest::Client) -> String {
    let started = Instant::now();
    loop {
        match get(http).await {
            Ok(address) => return address,
            Err(error) => assert!(started.elapsed() < DEADLINE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn forwards_https_from_a_pod(page: &Page) {
    let started = Instant::now();
    let tunnel = page.tunnel(INGRESS, 443).await.unwrap();
    println!("open: {:?}", started.elapsed());
    let http = page.http(&tunnel);
    let address = first_answer(&http).await;
    assert_eq!(page.tunnel_addresses().await, [address.as_str()]);

    let started = Instant::now();
    for _ in 0..50 {
        assert_eq!(get(&http).await.as_ref(), Ok(&address));
    }
    println!("one of 50 in turn: {:?}", started.elapsed() / 50);
    let started = Instant::now();
    for answer in join_all((0..8).map(|_| get(&http))).await {
        assert_eq!(answer.as_ref(), Ok(&address));
    }
    println!("8 at the same time: {:?}", started.elapsed());
    let fresh = page.http(&tunnel);
    let started = Instant::now();
    assert_eq!(get(&fresh).await.as_ref(), Ok(&address));
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

/// Sends more than the buffers hold, and receives an answer after the client has closed its side.
async fn closes_one_direction_alone(page: &Page) {
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

async fn reports_an_unreachable_destination(page: &Page) {
    let error = page.tunnel("nobody", 80).await.err().unwrap();
    assert!(matches!(error, TunnelError::Unreachable { .. }));
    let error = error.to_string();
    assert!(error.contains("cannot reach nobody:80: "), "{error}");
    println!("{error}");
    assert!(page.tunnel_addresses().await.is_empty());
}

#[tokio::test]
async fn a_tunnel_connects_from_inside_the_cluster() {
    let shared = Shared::find().await;
    let shell = on_nodes(&shared, "base").await;
    let image = on_nodes(&shared, prober::PART).await;
    let page = Page::create(&shared, &shell, image).await;

    let checked = async {
        forwards_https_from_a_pod(&page).await;
        closes_one_direction_alone(&page).await;
        reports_an_unreachable_destination(&page).await;
    };
    // A panic must not leave the namespace.
    let checked = AssertUnwindSafe(checked).catch_unwind().await;
    page.delete().await;
    if let Err(panic) = checked {
        std::panic::resume_unwind(panic);
    }
}
