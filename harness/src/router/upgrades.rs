//! Connections that change their protocol, as WebSockets do (RFC 9110, 7.8): ingress-nginx passes
//! every `Upgrade` on.

use std::sync::{Mutex, PoisonError};

use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::task::JoinSet;

/// Those under way. They end when this is dropped.
#[derive(Default)]
pub(super) struct Upgrades(Mutex<JoinSet<()>>);

impl Upgrades {
    /// Once both sides have changed to the new protocol, passes on what either says until one
    /// closes. `client` is of the request that `response` answers.
    pub(super) fn pass_on<B>(&self, client: OnUpgrade, response: &mut Response<B>) {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let service = hyper::upgrade::on(response);
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while under_way.try_join_next().is_some() {}
        under_way.spawn(async move {
            if let (Ok(client), Ok(service)) = tokio::join!(client, service) {
                let (mut client, mut service) = (TokioIo::new(client), TokioIo::new(service));
                // Either may just go.
                let _ = copy_bidirectional(&mut client, &mut service).await;
            }
        });
    }
}

/// The protocol that is asked for, or has been changed to: the one hop-by-hop header that is
/// passed on.
pub(super) fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let names = headers.get_all(CONNECTION).iter();
    let mut names = names
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let named = names.any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| named).cloned()
}

/// Says it again where hop-by-hop headers have been dropped.
pub(super) fn set_protocol(headers: &mut HeaderMap, protocol: Option<HeaderValue>) {
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}
