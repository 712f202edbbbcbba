//! Whether a process answers.

use std::fmt::Display;
use std::time::Duration;

use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

/// The longest part of an answer that a message shows, in characters.
const SHOWN: usize = 200;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Succeeds if a connection is accepted. Else returns what was seen.
pub(crate) async fn accepts_connections(
    address: impl ToSocketAddrs + Display,
) -> Result<(), String> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&address)).await;
    match connected {
        // While nothing listens there, the client may get that port and so connect to itself.
        Ok(Ok(stream)) if stream.local_addr().ok() == stream.peer_addr().ok() => {
            Err(format!("nothing listens on {address}"))
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!(
            "{address}: no connection within {CONNECT_TIMEOUT:?}"
        )),
    }
}

/// Succeeds if the URL answers 2xx. Else returns what was seen.
pub(crate) async fn answers(http: &reqwest::Client, url: &str) -> Result<(), String> {
    match http.get(url).send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => {
            let status = answer.status();
            let body = answer.text().await.unwrap_or_default();
            let first = body.lines().next().unwrap_or_default();
            let first: String = first.chars().take(SHOWN).collect();
            Err(format!("{url} answers {status}: {first}"))
        }
        Err(error) => Err(format!("{url}: {}", base::chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_succeeds_only_where_something_listens() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        accepts_connections(address).await.unwrap();
        drop(listener);
        let reason = accepts_connections(address).await.unwrap_err();
        assert!(reason.contains(&address.to_string()), "{reason}");
    }
}
