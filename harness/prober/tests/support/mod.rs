//! Servers with the behaviour that a test needs.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::header::HeaderName;
use prober::{Answer, IdentityHeaders, Lag, Lane, ProbeTarget, RequestOutcome, Spec};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

/// Longer than any test.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The behaviour of a server on a connection.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Answers with this status.
    Status(u16),
    /// Answers with 503 and this document.
    Unavailable(&'static str),
    /// Answers this many requests, then closes the connection.
    ThenClose(usize),
    /// Answers each with `Connection: close`.
    CloseHeader,
    /// Answers this many requests, reads one more, and closes the connection.
    ThenCutOff(usize),
    /// Sends a part of its answer, and closes the connection.
    CutShort,
    /// Reads, but never answers.
    Silent,
    /// Answers with something other than HTTP.
    Garbage,
    /// Answers after this time.
    After(Duration),
    /// Does not answer before this time.
    FrozenUntil(Instant),
}

/// A server, which stops when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    arrivals: Arrivals,
    task: JoinHandle<()>,
}

/// When each request arrived, by the server's own clock.
type Arrivals = Arc<Mutex<Vec<Instant>>>;

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(manner: Manner) -> Server {
        Server::listen(move |stream, arrivals| serve(stream, manner, arrivals)).await
    }

    /// A TLS server with a certificate for `localhost`, and the certificate's authority.
    pub async fn start_tls() -> (Server, String) {
        let (config, authority) = certificate();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = Server::listen(move |stream, arrivals| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, Manner::Status(200), arrivals).await;
                }
            }
        });
        (server.await, authority)
    }

    async fn listen<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream, Arrivals) -> F + Send + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrivals = Arrivals::default();
        let recorded = arrivals.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, recorded.clone()));
            }
        });
        Server {
            address,
            arrivals,
            task,
        }
    }

    /// Returns when each request arrived, in seconds after `started`, in order.
    pub fn arrivals(&self, started: Instant) -> Vec<f64> {
        let arrivals = self.arrivals.lock().unwrap();
        let after = |it: &Instant| match started.checked_duration_since(*it) {
            Some(before) => -before.as_secs_f64(),
            None => (*it - started).as_secs_f64(),
        };
        arrivals.iter().map(after).collect()
    }

    pub fn target(&self) -> ProbeTarget {
        ProbeTarget::of(format!("http://{}/quotes", self.address))
    }
}

/// Returns a server's TLS configuration for `localhost`, and the authority of its certificate.
pub fn certificate() -> (rustls::ServerConfig, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    (config, certificate.pem())
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    manner: Manner,
    arrivals: Arrivals,
) {
    for served in 0.. {
        if !read_request(&mut stream).await {
            return;
        }
        arrivals.lock().unwrap().push(Instant::now());
        let (mut status, mut body, mut header, mut last) = (200, "hello", "", false);
        match manner {
            Manner::Status(other) => status = other,
            Manner::Unavailable(document) => (status, body) = (503, document),
            Manner::ThenClose(many) => last = served + 1 == many,
            Manner::CloseHeader => (header, last) = ("connection: close\r\n", true),
            Manner::ThenCutOff(many) if served == many => return,
            Manner::ThenCutOff(_) => {}
            Manner::CutShort => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await;
                return;
            }
            Manner::Silent => std::future::pending().await,
            Manner::Garbage => {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
                return;
            }
            Manner::After(time) => tokio::time::sleep(time).await,
            Manner::FrozenUntil(moment) => sleep_until(moment).await,
        }
        let answer = format!(
            "HTTP/1.1 {status} Whatever\r\nx-trii-service: market-data-service\r\n\
             x-trii-version: v2.1.0\r\nx-trii-instance: pod-1\r\n{header}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() || last {
            return;
        }
    }
}

/// Returns a target where nothing listens.
pub fn closed_port() -> ProbeTarget {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    ProbeTarget::of(format!("http://{}/", listener.local_addr().unwrap()))
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
        }
    }
    true
}

/// The headers with which the server names itself.
pub fn headers() -> IdentityHeaders {
    IdentityHeaders {
        service: Some(HeaderName::from_static("x-trii-service")),
        version: Some(HeaderName::from_static("x-trii-version")),
        instance: Some(HeaderName::from_static("x-trii-instance")),
    }
}

/// Sends requests for `seconds` in this lane.
pub async fn probe(lane: Lane, seconds: f64) -> (Vec<Answer>, Lag) {
    probe_all(vec![lane], seconds).await
}

/// Sends requests for `seconds` in these lanes.
pub async fn probe_all(lanes: Vec<Lane>, seconds: f64) -> (Vec<Answer>, Lag) {
    let headers = headers();
    let spec = Spec {
        lanes,
        seconds,
        headers,
    };
    let (probing, answers) = prober::start(&spec).await.unwrap();
    (received(answers).await, probing.ended().await)
}

/// Receives all answers.
pub async fn received(mut answers: UnboundedReceiver<Answer>) -> Vec<Answer> {
    let receiving = async {
        let mut received = Vec::new();
        while let Some(answer) = answers.recv().await {
            received.push(answer);
        }
        received
    };
    timeout(TIMEOUT, receiving).await.unwrap()
}

/// Counts the answers with this outcome.
pub fn count(answers: &[Answer], outcome: &RequestOutcome) -> usize {
    let matching = answers.iter().filter(|answer| answer.outcome == *outcome);
    matching.count()
}
