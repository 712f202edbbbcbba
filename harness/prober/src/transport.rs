//! Connects to a target, with TLS if its URL needs it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::answer::{RequestOutcome, of_io};
use crate::spec::{ProbeTarget, ProberError, Spec, certificates};

/// The time for a name to resolve. The name of a new Service takes a moment.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(100);

/// The name of HTTP/1.1 in TLS (RFC 7301, section 6).
pub const HTTP_1_1: &[u8] = b"http/1.1";
/// The name of HTTP/2 in TLS (RFC 9113, section 3.2).
pub const HTTP_2: &[u8] = b"h2";

/// A connection's bytes, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Connects to a target.
pub struct Transport {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Transport {
    /// Resolves the target's name once, so that no measurement includes it. Over TLS it offers only
    /// `protocol`.
    ///
    /// # Errors
    /// [`ProberError`], if no request to the target is possible.
    pub async fn to(target: &ProbeTarget, protocol: &[u8]) -> Result<Transport, ProberError> {
        let wrong = |why| ProberError::Tls {
            url: target.url.clone(),
            why,
        };
        let parts = target.parts().map_err(wrong)?;
        let tls = parts.tls.then(|| tls(target, &parts.host, protocol));
        Ok(Transport {
            tls: tls.transpose().map_err(wrong)?,
            address: resolve(&target.destination(&parts)).await?,
        })
    }

    /// Connects, with a TLS handshake if needed.
    ///
    /// # Errors
    /// The outcome of a request without a connection.
    pub async fn open(&self) -> Result<Box<dyn Stream>, RequestOutcome> {
        let tcp = TcpStream::connect(self.address).await;
        let tcp = tcp.map_err(|error| of_io(&error))?;
        // A request is one small packet, which must be sent immediately.
        tcp.set_nodelay(true).map_err(|error| of_io(&error))?;
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await;
                Ok(Box::new(tls.map_err(|error| of_io(&error))?))
            }
        }
    }
}

/// Waits until every target accepts a connection, but not longer than `limit`. After that the lanes
/// report refused connections.
///
/// # Errors
/// [`ProberError::Spec`].
pub async fn reachable(spec: &Spec, limit: Duration) -> Result<(), ProberError> {
    spec.check()?;
    let reaching = async {
        for lane in &spec.lanes {
            let Ok(parts) = lane.target.parts() else {
                continue;
            };
            let destination = lane.target.destination(&parts);
            while TcpStream::connect(&destination).await.is_err() {
                sleep(POLL_EVERY).await;
            }
        }
    };
    // The lanes start even after the time-out.
    let _ = timeout(limit, reaching).await;
    Ok(())
}

async fn resolve(destination: &str) -> Result<SocketAddr, ProberError> {
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
            sleep(POLL_EVERY).await;
        }
    };
    match timeout(RESOLVE_TIMEOUT, resolving).await {
        Ok(address) => Ok(address),
        Err(_) => Err(ProberError::Resolve {
            destination: destination.to_owned(),
            why: last,
        }),
    }
}

fn tls(
    target: &ProbeTarget,
    host: &str,
    protocol: &[u8],
) -> Result<(TlsConnector, ServerName<'static>), String> {
    let mut roots = RootCertStore::empty();
    let trusted = match &target.authority {
        Some(pem) => certificates(pem)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(trusted);
    if roots.is_empty() {
        return Err("there is no trusted certificate authority".into());
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    // A new connection must need a full handshake.
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|error| error.to_string())?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::identity_headers::IdentityHeaders;
    use crate::spec::Lane;

    fn spec(address: &str) -> Spec {
        let target = ProbeTarget::of(format!("http://{address}/"));
        Spec {
            lanes: vec![Lane::new_connection(target, 1.0)],
            seconds: 1.0,
            headers: IdentityHeaders::default(),
        }
    }

    #[tokio::test]
    async fn it_waits_for_a_target_that_starts_late() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let later = tokio::spawn(async move {
            sleep(3 * POLL_EVERY).await;
            TcpListener::bind(address).await.unwrap()
        });
        let started = Instant::now();
        let limit = Duration::from_secs(20);
        reachable(&spec(&address.to_string()), limit).await.unwrap();
        assert!(started.elapsed() >= 3 * POLL_EVERY);
        drop(later.await.unwrap());
    }

    #[tokio::test]
    async fn it_gives_up_on_a_target_that_never_starts() {
        let limit = Duration::from_millis(250);
        reachable(&spec("127.0.0.1:1"), limit).await.unwrap();
    }
}
