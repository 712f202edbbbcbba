//! One connection to a lane's target, and requests on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::answer::{Identity, Outcome};
use crate::classify::{of_http, of_io};
use crate::probing::StartError;
use crate::spec::{Parts, Target, certificates};

/// For a name to resolve: that of a Service just made takes a moment.
const RESOLVES: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How a target is reached.
pub struct Way {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Way {
    /// Resolves the target's name, once: resolving is no part of what is measured.
    pub async fn to(target: &Target, parts: &Parts) -> Result<Way, StartError> {
        let tls = parts.tls.then(|| tls(target, &parts.host)).transpose();
        Ok(Way {
            tls: tls.map_err(|why| StartError::Tls {
                url: target.url.clone(),
                why,
            })?,
            address: resolve(&target.destination(parts)).await?,
        })
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, Outcome> {
        let tcp = TcpStream::connect(self.address).await;
        let tcp = tcp.map_err(|error| of_io(&error))?;
        // A request is one small packet and is not to wait for more.
        tcp.set_nodelay(true).map_err(|error| of_io(&error))?;
        match &self.tls {
            None => speak(tcp).await,
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await;
                speak(tls.map_err(|error| of_io(&error))?).await
            }
        }
    }
}

async fn resolve(destination: &str) -> Result<SocketAddr, StartError> {
    let mut last = "no answer".to_owned();
    let resolving = async {
        loop {
            match lookup_host(destination).await {
                Ok(mut found) => match found.next() {
                    Some(address) => return address,
                    None => last = "it has no address".into(),
                },
                Err(error) => last = error.to_string(),
            }
            sleep(LOOK_EVERY).await;
        }
    };
    match timeout(RESOLVES, resolving).await {
        Ok(address) => Ok(address),
        Err(_) => Err(StartError::Resolve {
            destination: destination.to_owned(),
            why: last,
        }),
    }
}

fn tls(target: &Target, host: &str) -> Result<(TlsConnector, ServerName<'static>), String> {
    let mut roots = RootCertStore::empty();
    let trusted = match &target.authority {
        Some(pem) => certificates(pem)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(trusted);
    if roots.is_empty() {
        return Err("there is no authority to trust".into());
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A new connection is to be one from the first byte on.
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|error| error.to_string())?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// The task ends when the sender is dropped, or the server closes.
async fn speak<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>, Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let spoken = handshake(TokioIo::new(stream)).await;
    let (sender, connection) = spoken.map_err(|error| of_http(&error))?;
    // What it fails with, the request in flight is told.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// A connection, open or about to be found closed.
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Of all connections of the prober.
    pub number: u64,
    /// Sent on it so far.
    pub requests: u32,
    /// Who answered on it last.
    pub by: Option<Arc<Identity>>,
    /// Counts the connections of a pool.
    _counted: Arc<()>,
}

impl Connection {
    pub async fn open(way: &Way, number: u64, counted: Arc<()>) -> Result<Connection, Outcome> {
        Ok(Connection {
            sender: way.connect().await?,
            number,
            requests: 0,
            by: None,
            _counted: counted,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request. None is that the server had closed the connection before, so that
    /// nothing of it was sent.
    pub async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Option<Response<Incoming>>, Outcome> {
        if self.sender.ready().await.is_err() {
            return Ok(None);
        }
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(Some(response)),
            Err(mut error) => match error.take_message() {
                Some(_unsent) => Ok(None),
                None => Err(of_http(error.error())),
            },
        }
    }
}

/// Reads a body to its end.
pub async fn drain(mut body: Incoming) -> Result<(), Outcome> {
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| of_http(&error))?;
    }
    Ok(())
}
