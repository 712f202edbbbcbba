//! Connections that change their protocol, as WebSockets do (RFC 9110, 7.8): ingress-nginx forwards
//! every `Upgrade`.

use std::sync::{Mutex, PoisonError};

use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::task::JoinSet;

/// The running upgraded connections. They end when this is dropped.
#[derive(Default)]
pub(super) struct Upgrades(Mutex<JoinSet<()>>);

impl Upgrades {
    /// Forwards data in both directions until one side closes, once both use the new protocol.
    /// `client` is of the request that `response` answers.
    pub(super) fn forward<B>(&self, client: OnUpgrade, response: &mut Response<B>) {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let service = hyper::upgrade::on(response);
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(async move {
            if let (Ok(client), Ok(service)) = tokio::join!(client, service) {
                let (mut client, mut service) = (TokioIo::new(client), TokioIo::new(service));
                // Either side may close the connection.
                let _ = copy_bidirectional(&mut client, &mut service).await;
            }
        });
    }
}

/// Returns the headers that `Connection` names.
pub(super) fn connection_headers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Returns the requested or the new protocol: the only hop-by-hop header that is forwarded.
pub(super) fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let named = connection_headers(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| named).cloned()
}

/// Sets the protocol after the removal of hop-by-hop headers.
pub(super) fn set_protocol(headers: &mut HeaderMap, protocol: Option<HeaderValue>) {
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}
