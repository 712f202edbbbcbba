//! A server for tests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use prober::transport::Stream;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// Answers with the status in the path, else 200; hangs on `/hangs`. Stops when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    /// The certificate authority, if it uses TLS.
    pub authority: Option<String>,
    connections: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
    _serves: AbortOnDropHandle<()>,
}

impl Server {
    pub async fn plain() -> Server {
        Server::start(None, None).await
    }

    pub async fn tls() -> Server {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Server::start(Some(acceptor), Some(key.cert.pem())).await
    }

    async fn start(tls: Option<TlsAcceptor>, authority: Option<String>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU64::new(0));
        let requests = Arc::new(AtomicU64::new(0));
        let counted = (connections.clone(), requests.clone());
        let serves = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                counted.0.fetch_add(1, Relaxed);
                let (tls, requests) = (tls.clone(), counted.1.clone());
                serving.spawn(async move {
                    let stream: Box<dyn Stream> = match tls {
                        None => Box::new(tcp),
                        Some(tls) => match tls.accept(tcp).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let answers = service_fn(|request| {
                        requests.fetch_add(1, Relaxed);
                        answer(request)
                    });
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), answers)
                        .await;
                });
            }
        });
        Server {
            address,
            authority,
            connections,
            requests,
            _serves: AbortOnDropHandle::new(serves),
        }
    }

    /// The number of connections so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// The number of requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

async fn answer<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().trim_start_matches('/');
    if path == "hangs" {
        std::future::pending::<()>().await;
    }
    let mut response = Response::new(Full::new(Bytes::from_static(b"hello")));
    if let Ok(status) = path.parse::<StatusCode>() {
        *response.status_mut() = status;
    }
    Ok(response)
}
