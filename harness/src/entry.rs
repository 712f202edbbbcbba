//! Where clients come in: an ingress or a router, reached by the platform's host names.

use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};

/// Where an ingress or router answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What the platform's host names are taken to resolve to.
    pub address: SocketAddr,
    /// The file of the authority that signed its certificate (PEM); none where it speaks
    /// plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
}

impl Entry {
    /// One that speaks plain HTTP.
    pub fn plain(address: SocketAddr) -> Entry {
        Entry {
            address,
            authority: None,
        }
    }

    /// The URL of `host` there, without a path.
    pub fn url(&self, host: &str) -> String {
        let scheme = match self.authority {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://{host}:{}", self.address.port())
    }

    /// An HTTP client that resolves `hosts` to it, trusts its authority and no other, and
    /// follows no redirect.
    ///
    /// # Errors
    /// When the authority cannot be read, or is no certificate.
    pub fn client<'a>(
        &self,
        hosts: impl IntoIterator<Item = &'a str>,
    ) -> std::io::Result<reqwest::Client> {
        crate::tls::use_ring();
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none());
        if let Some(authority) = &self.authority {
            let pem = std::fs::read(authority)?;
            let authority = reqwest::Certificate::from_pem(&pem).map_err(std::io::Error::other)?;
            client = client.tls_certs_only([authority]);
        }
        for host in hosts {
            client = client.resolve(host, self.address);
        }
        client.build().map_err(std::io::Error::other)
    }
}
