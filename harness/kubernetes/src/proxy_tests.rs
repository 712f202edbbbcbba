//! An API server behind a proxy, and one on loopback that needs none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A name that only the proxy resolves (RFC 6761).
const HOST: &str = "api.staging.invalid";

/// An API server that returns its version, over TLS.
struct Server {
    port: u16,
    authority: String,
}

impl Server {
    async fn start() -> Server {
        base::tls::use_ring();
        let hosts = [HOST, "localhost"].map(str::to_owned);
        let certified = rcgen::generate_simple_self_signed(hosts).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = tls.accept(stream).await else {
                    continue;
                };
                let service = service_fn(async |_: Request<hyper::body::Incoming>| {
                    let version = serde_json::json!({
                        "major": "1", "minor": "37", "gitVersion": "v1.37.2", "gitCommit": "",
                        "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "",
                        "platform": ""
                    });
                    Ok::<_, std::convert::Infallible>(Response::new(version.to_string()))
                });
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving);
            }
        });
        Server {
            port,
            authority: certified.cert.pem(),
        }
    }

    /// Writes a kubeconfig for `host`. `more` is the end of its cluster's entry.
    fn kubeconfig(&self, folder: &Path, host: &str, more: &str) -> PathBuf {
        std::fs::write(folder.join("ca.pem"), &self.authority).unwrap();
        let path = folder.join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: far, cluster: {{server: 'https://{host}:{}', \
             certificate-authority: ca.pem{more}}}}}]\n\
             contexts: [{{name: far, context: {{cluster: far}}}}]\n",
            self.port
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A proxy that forwards every connection to the API server.
struct Proxy {
    port: u16,
    used: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Protocol {
    Connect,
    Socks,
}

impl Proxy {
    async fn start(protocol: Protocol, server_port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let used = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&used);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let host = match protocol {
                        Protocol::Connect => connect(&mut client).await,
                        Protocol::Socks => socks(&mut client).await,
                    };
                    assert_eq!(host, HOST);
                    let server = TcpStream::connect(("127.0.0.1", server_port)).await;
                    // Either side may close without notice.
                    let _ = copy_bidirectional(&mut client, &mut server.unwrap()).await;
                });
            }
        });
        Proxy { port, used }
    }

    fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) > 0
    }
}

/// Answers HTTP's CONNECT (RFC 9110, 9.3.6), and returns the requested host.
async fn connect(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let head = String::from_utf8(head).unwrap();
    let target = head.strip_prefix("CONNECT ").unwrap();
    target.split_once(':').unwrap().0.to_owned()
}

/// Answers SOCKS5 without a password (RFC 1928), and returns the requested host.
async fn socks(client: &mut TcpStream) -> String {
    let [_version, methods] = *read(client, 2).await else {
        unreachable!()
    };
    read(client, methods.into()).await;
    client.write_all(&[5, 0]).await.unwrap();
    let [_, _, _, 3, length] = *read(client, 5).await else {
        panic!("not a host name")
    };
    let host = read(client, length.into()).await;
    read(client, 2).await;
    let granted = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    client.write_all(&granted).await.unwrap();
    String::from_utf8(host.into()).unwrap()
}

async fn read(stream: &mut TcpStream, length: usize) -> Box<[u8]> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes.into()
}

fn proxies(variables: &[(&str, &str)]) -> Proxies {
    let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
    Proxies::of(|name| find(name).map(|(_, value)| (*value).to_owned()))
}

async fn version(proxies: &Proxies, kubeconfig: &Path) -> Result<String, ClusterError> {
    let cluster = Cluster::open_by(proxies, kubeconfig, "far", "trii", Permissions::ours())?;
    cluster.version(Duration::from_secs(10)).await
}

#[tokio::test]
async fn a_remote_cluster_is_reached_through_the_environments_proxy() {
    let (folder, server) = (tempfile::TempDir::new().unwrap(), Server::start().await);
    let kubeconfig = server.kubeconfig(folder.path(), HOST, "");
    for (protocol, variable, scheme) in [
        (Protocol::Connect, "HTTPS_PROXY", "http"),
        (Protocol::Connect, "all_proxy", "http"),
        (Protocol::Socks, "HTTPS_PROXY", "socks5"),
        (Protocol::Socks, "ALL_PROXY", "socks5h"),
    ] {
        let proxy = Proxy::start(protocol, server.port).await;
        let url = format!("{scheme}://127.0.0.1:{}", proxy.port);
        // kube itself fails on an empty entry.
        let proxied = proxies(&[(variable, &url), ("NO_PROXY", "localhost,,.corp")]);
        let version_there = version(&proxied, &kubeconfig).await;
        assert_eq!(version_there.unwrap(), "v1.37.2", "{variable}={url}");
        assert!(proxy.is_used(), "{variable}={url}");
        let excepted = proxies(&[(variable, &url), ("NO_PROXY", HOST)]);
        let error = version(&excepted, &kubeconfig).await.unwrap_err();
        assert!(matches!(error, ClusterError::Silent { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_kubeconfigs_own_proxy_has_precedence() {
    let (folder, server) = (tempfile::TempDir::new().unwrap(), Server::start().await);
    let dead = proxies(&[("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "*")]);
    for (protocol, scheme) in [(Protocol::Connect, "http"), (Protocol::Socks, "socks5")] {
        let proxy = Proxy::start(protocol, server.port).await;
        let more = format!(", proxy-url: '{scheme}://127.0.0.1:{}'", proxy.port);
        let kubeconfig = server.kubeconfig(folder.path(), HOST, &more);
        assert_eq!(version(&dead, &kubeconfig).await.unwrap(), "v1.37.2");
        assert!(proxy.is_used());
    }
}

#[tokio::test]
async fn loopback_is_reached_without_a_proxy() {
    let (folder, server) = (tempfile::TempDir::new().unwrap(), Server::start().await);
    let kubeconfig = server.kubeconfig(folder.path(), "localhost", "");
    let dead = proxies(&[("HTTPS_PROXY", "http://127.0.0.1:1")]);
    assert_eq!(version(&dead, &kubeconfig).await.unwrap(), "v1.37.2");
}

#[tokio::test]
async fn an_unusable_proxy_is_named_by_its_setting() {
    let (folder, server) = (tempfile::TempDir::new().unwrap(), Server::start().await);
    let plain = server.kubeconfig(folder.path(), HOST, "");
    let refused = async |variables: &[(&str, &str)], kubeconfig: &Path| {
        let error = version(&proxies(variables), kubeconfig).await.unwrap_err();
        let error = error.to_string();
        assert!(!error.contains("kube/"), "no cargo feature: {error}");
        assert!(!error.contains("s3cret"), "{error}");
        error
    };
    let error = refused(&[("HTTPS_PROXY", "socks4://p:1")], &plain).await;
    assert!(error.contains("HTTPS_PROXY names a proxy"), "{error}");
    let error = refused(&[("ALL_PROXY", "socks5://u:s3cret@p:1")], &plain).await;
    assert!(error.contains("password"), "{error}");
    let own = server.kubeconfig(folder.path(), HOST, ", proxy-url: 'ftp://p:1'");
    let error = refused(&[], &own).await;
    assert!(error.contains("proxy-url names a proxy"), "{error}");
}
