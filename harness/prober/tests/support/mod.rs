//! Servers that do what a test wants them to.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prober::{Answer, Lag, Lane, Outcome, Spec, Target};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

/// Longer than any test.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server does with the requests of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Answers with this status.
    Status(u16),
    /// Answers with 503 and this document.
    Unavailable(&'static str),
    /// Answers so many, then closes without a word.
    ThenClose(usize),
    /// Answers each with `Connection: close`.
    SaysClose,
    /// Answers so many, reads one more, and closes.
    ThenCutOff(usize),
    /// Begins its answer, and closes.
    CutShort,
    /// Reads, and never answers.
    Silent,
    /// Answers something else than HTTP.
    Garbage,
    /// Answers after this long.
    After(Duration),
    /// Answers nothing before this moment.
    FrozenUntil(Instant),
}

/// A server, which ends with the test.
pub struct Server {
    pub address: SocketAddr,
    arrivals: Arrivals,
    task: JoinHandle<()>,
}

/// When each request had come in, by the server's own watch.
type Arrivals = Arc<Mutex<Vec<Instant>>>;

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(manner: Manner) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrivals = Arrivals::default();
        let noted = arrivals.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, manner, noted.clone()));
            }
        });
        Server {
            address,
            arrivals,
            task,
        }
    }

    /// With a certificate of an authority for `localhost`, and that authority.
    pub async fn start_tls() -> (Server, String) {
        let (config, authority) = certificate();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrivals = Arrivals::default();
        let noted = arrivals.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, noted) = (acceptor.clone(), noted.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, Manner::Status(200), noted).await;
                    }
                });
            }
        });
        let server = Server {
            address,
            arrivals,
            task,
        };
        (server, authority)
    }

    /// When each request came in, in seconds after `begun`, from the first to the last.
    pub fn arrivals(&self, begun: Instant) -> Vec<f64> {
        let arrivals = self.arrivals.lock().unwrap();
        let after = |it: &Instant| match begun.checked_duration_since(*it) {
            Some(before) => -before.as_secs_f64(),
            None => (*it - begun).as_secs_f64(),
        };
        let seconds = arrivals.iter().map(after);
        seconds.collect()
    }

    pub fn target(&self) -> Target {
        Target::of(format!("http://{}/quotes", self.address))
    }
}

/// An authority that nobody has a certificate of, or one of whom the server has.
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
        let body = match manner {
            Manner::Unavailable(document) => document,
            _ => "hello",
        };
        let (status, more, last) = match manner {
            Manner::Status(status) => (status, "", false),
            Manner::Unavailable(_) => (503, "", false),
            Manner::ThenClose(many) => (200, "", served + 1 == many),
            Manner::SaysClose => (200, "connection: close\r\n", true),
            Manner::ThenCutOff(many) if served == many => return,
            Manner::ThenCutOff(_) => (200, "", false),
            Manner::CutShort => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await;
                return;
            }
            Manner::Silent => std::future::pending().await,
            Manner::Garbage => {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
                return;
            }
            Manner::After(time) => {
                tokio::time::sleep(time).await;
                (200, "", false)
            }
            Manner::FrozenUntil(moment) => {
                sleep_until(moment).await;
                (200, "", false)
            }
        };
        let answer = format!(
            "HTTP/1.1 {status} Whatever\r\nx-trii-service: market-data-service\r\n\
             x-trii-version: v2.1.0\r\nx-trii-instance: pod-1\r\n{more}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() || last {
            return;
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(some) => read.extend_from_slice(&buffer[..some]),
        }
    }
    true
}

/// Asks for `seconds` on this lane alone.
pub async fn probe(lane: Lane, seconds: f64) -> (Vec<Answer>, Lag) {
    probe_all(vec![lane], seconds).await
}

/// Asks for `seconds` on these lanes.
pub async fn probe_all(lanes: Vec<Lane>, seconds: f64) -> (Vec<Answer>, Lag) {
    let (probing, mut answers) = prober::start(&Spec { lanes, seconds }).await.unwrap();
    let all = timeout(PATIENCE, async {
        let mut all = Vec::new();
        while let Some(answer) = answers.recv().await {
            all.push(answer);
        }
        all
    });
    (all.await.unwrap(), probing.ended().await)
}

/// How often each outcome came.
pub fn count(answers: &[Answer], outcome: &Outcome) -> usize {
    let such = answers.iter().filter(|answer| answer.outcome == *outcome);
    such.count()
}
