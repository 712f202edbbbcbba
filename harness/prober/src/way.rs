//! The way to a target: its address, and TLS where its URL says so.

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

use crate::answer::Outcome;
use crate::classify::of_io;
use crate::probing::StartError;
use crate::spec::{Target, certificates};

/// For a name to resolve: that of a Service just made takes a moment.
const RESOLVES: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// HTTP/1.1, as TLS negotiates it (RFC 7301, section 6).
pub const HTTP_1_1: &[u8] = b"http/1.1";
/// HTTP/2, as TLS negotiates it (RFC 9113, section 3.2).
pub const HTTP_2: &[u8] = b"h2";

/// A connection's bytes, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How a target is reached.
pub struct Way {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Way {
    /// Resolves the target's name, once: resolving is no part of what is measured. Over TLS,
    /// `protocol` is the only one that is offered.
    ///
    /// # Errors
    /// [`StartError`], where the target cannot be asked.
    pub async fn to(target: &Target, protocol: &[u8]) -> Result<Way, StartError> {
        let wrong = |why| StartError::Tls {
            url: target.url.clone(),
            why,
        };
        let parts = target.parts().map_err(wrong)?;
        let tls = parts.tls.then(|| tls(target, &parts.host, protocol));
        Ok(Way {
            tls: tls.transpose().map_err(wrong)?,
            address: resolve(&target.destination(&parts)).await?,
        })
    }

    /// Connects, and agrees on TLS where there is any.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn open(&self) -> Result<Box<dyn Stream>, Outcome> {
        let tcp = TcpStream::connect(self.address).await;
        let tcp = tcp.map_err(|error| of_io(&error))?;
        // A request is one small packet and is not to wait for more.
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

fn tls(
    target: &Target,
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
        return Err("there is no authority to trust".into());
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    // A new connection is to be one from the first byte on.
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|error| error.to_string())?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}
