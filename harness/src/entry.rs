//! Where clients come in: an ingress or a router, reached by the platform's host names.

use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};

/// Where an ingress or router answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its port.
    pub port: u16,
    /// What the platform's host names are taken to resolve to; none leaves that to DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The file of the authority that signed its certificate (PEM); none trusts those that
    /// this machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
}

impl Entry {
    /// One that speaks plain HTTP.
    pub fn plain(address: SocketAddr) -> Entry {
        Entry {
            tls: false,
            port: address.port(),
            address: Some(address),
            authority: None,
        }
    }

    /// One that speaks TLS, with a certificate of this authority.
    pub fn signed_by(authority: PathBuf, address: SocketAddr) -> Entry {
        Entry {
            tls: true,
            port: address.port(),
            address: Some(address),
            authority: Some(authority),
        }
    }

    /// The same one, reached by another address.
    pub fn by_way_of(&self, address: SocketAddr) -> Entry {
        Entry {
            port: address.port(),
            address: Some(address),
            ..self.clone()
        }
    }

    /// The URL of `host` there, without a path.
    pub fn url(&self, host: &str) -> String {
        match (self.tls, self.port) {
            (true, 443) => format!("https://{host}"),
            (true, port) => format!("https://{host}:{port}"),
            (false, 80) => format!("http://{host}"),
            (false, port) => format!("http://{host}:{port}"),
        }
    }

    /// What `curl` must be told to reach `host` there, each option with a space behind it.
    pub fn curl_options(&self, host: &str) -> String {
        let authority = self.authority.iter();
        let authority = authority.map(|file| format!("--cacert {} ", file.display()));
        let port = self.port;
        let address = self.address.iter();
        let address = address.map(|address| format!("--connect-to {host}:{port}:{address} "));
        authority.chain(address).collect()
    }

    /// An HTTP client that resolves `hosts` to it, trusts its authority and no other, follows
    /// no redirect, and takes answers as they are, not compressed.
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
            // Goose brings the feature, which would have every client ask for it.
            .no_gzip()
            .redirect(Policy::none());
        if let Some(authority) = &self.authority {
            let pem = std::fs::read(authority)?;
            let authority = reqwest::Certificate::from_pem(&pem).map_err(std::io::Error::other)?;
            client = client.tls_certs_only([authority]);
        }
        if let Some(address) = self.address {
            for host in hosts {
                client = client.resolve(host, address);
            }
        }
        client.build().map_err(std::io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_port_is_not_said() {
        let mut entry = Entry {
            tls: true,
            port: 443,
            address: None,
            authority: None,
        };
        assert_eq!(entry.url("trii.co"), "https://trii.co");
        assert_eq!(entry.curl_options("trii.co"), "");
        entry.port = 8443;
        assert_eq!(entry.url("trii.co"), "https://trii.co:8443");
        let plain = Entry::plain("127.0.0.1:80".parse().unwrap());
        assert_eq!(plain.url("trii.co"), "http://trii.co");
    }

    #[test]
    fn a_person_reaches_it_as_the_client_does() {
        let address = "127.0.0.1:8443".parse().unwrap();
        let entry = Entry::signed_by("ca.pem".into(), address);
        assert_eq!(
            entry.curl_options("trii.co"),
            "--cacert ca.pem --connect-to trii.co:8443:127.0.0.1:8443 "
        );
    }
}
