//! HTTP/2: several requests at once have the connection.

use std::cell::RefCell;

use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prober::Outcome;
use prober::classify::of_http;
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use super::{Dial, answered};
use crate::open::requests::Body;

/// A connection for several requests.
pub struct Shared {
    dial: Dial,
    open: RefCell<Option<SendRequest<Body>>>,
    /// Who waits for it finds the connection made.
    connecting: Mutex<()>,
}

impl Shared {
    pub fn new(dial: Dial) -> Shared {
        Shared {
            dial,
            open: RefCell::new(None),
            connecting: Mutex::new(()),
        }
    }

    pub async fn exchange<T>(
        &self,
        request: impl Fn() -> Request<Body>,
        read: impl AsyncFn(Response<Incoming>) -> Result<T, Outcome>,
    ) -> Result<T, Outcome> {
        loop {
            let (mut sender, is_new) = match self.open() {
                Some(sender) => (sender, false),
                None => self.connected().await?,
            };
            let sent = match sender.ready().await {
                Ok(()) => answered(sender.try_send_request(request()).await)?,
                Err(_) => None,
            };
            match sent {
                Some(response) => return read(response).await,
                None if is_new => return Err(Outcome::Reset),
                // Closed between requests, as a server may at any time: not this one's loss.
                None => {}
            }
        }
    }

    fn open(&self) -> Option<SendRequest<Body>> {
        let open = self.open.borrow();
        open.as_ref().filter(|sender| !sender.is_closed()).cloned()
    }

    async fn connected(&self) -> Result<(SendRequest<Body>, bool), Outcome> {
        let _alone = self.connecting.lock().await;
        if let Some(sender) = self.open() {
            return Ok((sender, false));
        }
        let stream = TokioIo::new((self.dial)().await?);
        let shaken = handshake(TokioExecutor::new(), stream).await;
        let (sender, connection) = shaken.map_err(|error| of_http(&error))?;
        // What it fails with, the requests on it are told. It ends when its senders are
        // dropped, or the server closes.
        spawn_local(async move {
            let _ = connection.await;
        });
        *self.open.borrow_mut() = Some(sender.clone());
        Ok((sender, true))
    }
}
