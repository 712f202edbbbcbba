//! The entry of an environment: an ingress or a router, reached by the platform's host names.

use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};

use crate::proxies::Proxies;

/// The address of an ingress or router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPoint {
    /// Whether it uses TLS.
    pub tls: bool,
    /// Its port.
    pub port: u16,
    /// The address to which clients resolve the platform's host names; if none, DNS does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The file of the authority that signed its certificate (PEM); if none, those that this
    /// machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
}

impl EntryPoint {
    /// An entry without TLS.
    pub fn plain(address: SocketAddr) -> EntryPoint {
        EntryPoint {
            tls: false,
            port: address.port(),
            address: Some(address),
            authority: None,
        }
    }

    /// An entry with TLS, and a certificate of this authority.
    pub fn signed_by(authority: PathBuf, address: SocketAddr) -> EntryPoint {
        EntryPoint {
            tls: true,
            authority: Some(authority),
            ..EntryPoint::plain(address)
        }
    }

    /// Returns the same entry at another address.
    pub fn connected_to(&self, address: SocketAddr) -> EntryPoint {
        EntryPoint {
            port: address.port(),
            address: Some(address),
            ..self.clone()
        }
    }

    /// Returns the URL of `host`, without a path.
    pub fn url(&self, host: &str) -> String {
        match (self.tls, self.port) {
            (true, 443) => format!("https://{host}"),
            (true, port) => format!("https://{host}:{port}"),
            (false, 80) => format!("http://{host}"),
            (false, port) => format!("http://{host}:{port}"),
        }
    }

    /// Returns the options with which `curl` reaches `host`, each with a space after it.
    pub fn curl_options(&self, host: &str) -> String {
        let authority = self.authority.iter();
        let authority = authority.map(|file| format!("--cacert {} ", file.display()));
        let port = self.port;
        let address = self.address.iter();
        let address = address.map(|address| format!("--connect-to {host}:{port}:{address} "));
        authority.chain(address).collect()
    }

    /// Returns an HTTP client that resolves `hosts` to it and trusts only its authority. The client
    /// does not follow redirects and does not request compression. With an `address` it uses no
    /// proxy, otherwise `proxies`.
    ///
    /// # Errors
    /// If the authority cannot be read or is not a certificate, or a proxy cannot be used.
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
                proxies.clone().configure(client)
            }
        };
        client = client
            // Goose enables the feature, with which every client would request it.
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
    fn a_default_port_is_omitted() {
        let mut entry = EntryPoint {
            tls: true,
            port: 443,
            address: None,
            authority: None,
        };
        assert_eq!(entry.url("trii.co"), "https://trii.co");
        assert_eq!(entry.curl_options("trii.co"), "");
        entry.port = 8443;
        assert_eq!(entry.url("trii.co"), "https://trii.co:8443");
        let plain = EntryPoint::plain("127.0.0.1:80".parse().unwrap());
        assert_eq!(plain.url("trii.co"), "http://trii.co");
    }

    #[test]
    fn curl_uses_the_clients_authority_and_address() {
        let address = "127.0.0.1:8443".parse().unwrap();
        let entry = EntryPoint::signed_by("ca.pem".into(), address);
        assert_eq!(
            entry.curl_options("trii.co"),
            "--cacert ca.pem --connect-to trii.co:8443:127.0.0.1:8443 "
        );
    }

    /// A server that responds with the first line of each request.
    async fn echo() -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut lines = BufReader::new(stream).lines();
                let request = lines.next_line().await.unwrap().unwrap_or_default();
                let response = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{request}");
                let mut stream = lines.into_inner().into_inner();
                stream.write_all(response.as_bytes()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_proxy_is_used_only_without_an_address() {
        let (site, proxy) = (echo().await, echo().await);
        let proxies = Proxies::of(|name| match name {
            "HTTP_PROXY" => Some(proxy.to_string()),
            _ => None,
        });
        let mut entry = EntryPoint::plain(site);
        let get = async |entry: &EntryPoint, proxies: &Proxies| {
            let client = entry.client(["site.invalid"], proxies).unwrap();
            let response = client.get(entry.url("site.invalid")).send().await?;
            response.text().await
        };
        assert_eq!(get(&entry, &proxies).await.unwrap(), "GET / HTTP/1.1");
        entry.address = None;
        let url = format!("GET http://site.invalid:{}/ HTTP/1.1", site.port());
        assert_eq!(get(&entry, &proxies).await.unwrap(), url);
        // Load uses no proxies: it would measure the proxy.
        assert!(get(&entry, &Proxies::default()).await.is_err());
        let bad = Proxies::of(|name| (name == "HTTP_PROXY").then(|| "ftp://p".to_owned()));
        let error = entry.client(["site.invalid"], &bad).unwrap_err();
        assert!(error.to_string().starts_with("HTTP_PROXY names"), "{error}");
    }
}
