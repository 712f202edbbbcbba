//! Where clients come in: an ingress or a router, reached by the platform's host names.

use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};

use crate::proxies::Proxies;

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
    /// no redirect, and takes answers as they are, not compressed. Where `address` says what
    /// the hosts resolve to no proxy does it instead; else `proxies` decide.
    ///
    /// # Errors
    /// When the authority cannot be read, or is no certificate, or a proxy cannot be used.
    pub fn client<'a>(
        &self,
        hosts: impl IntoIterator<Item = &'a str>,
        proxies: &Proxies,
    ) -> std::io::Result<reqwest::Client> {
        crate::tls::use_ring();
        let hosts: Vec<&str> = hosts.into_iter().collect();
        let mut client = reqwest::Client::builder();
        client = match self.address {
            Some(_) => client.no_proxy(),
            None => {
                for host in &hosts {
                    let url = self.url(host).parse().map_err(std::io::Error::other)?;
                    proxies.to(&url).map_err(std::io::Error::other)?;
                }
                proxies.clone().guide(client)
            }
        };
        client = client
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
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

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

    /// One that answers whatever it is asked with what it was asked for.
    async fn echo() -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut lines = BufReader::new(stream).lines();
                let asked = lines.next_line().await.unwrap().unwrap_or_default();
                let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{asked}");
                let mut stream = lines.into_inner().into_inner();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_proxy_leads_to_a_site_that_dns_knows_and_to_no_other() {
        let (site, proxy) = (echo().await, echo().await);
        let proxies = Proxies::of(|name| match name {
            "HTTP_PROXY" => Some(proxy.to_string()),
            _ => None,
        });
        let mut entry = Entry::plain(site);
        let asked = async |entry: &Entry, proxies: &Proxies| {
            let client = entry.client(["site.invalid"], proxies).unwrap();
            let answer = client.get(entry.url("site.invalid")).send().await?;
            answer.text().await
        };
        assert_eq!(asked(&entry, &proxies).await.unwrap(), "GET / HTTP/1.1");
        entry.address = None;
        let url = format!("GET http://site.invalid:{}/ HTTP/1.1", site.port());
        assert_eq!(asked(&entry, &proxies).await.unwrap(), url);
        // As load does: what it measures would be the proxy.
        assert!(asked(&entry, &Proxies::default()).await.is_err());
        let bad = Proxies::of(|name| (name == "HTTP_PROXY").then(|| "ftp://p".to_owned()));
        let error = entry.client(["site.invalid"], &bad).unwrap_err();
        assert!(error.to_string().starts_with("HTTP_PROXY names"), "{error}");
    }
}
