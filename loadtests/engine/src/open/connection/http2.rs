//! HTTP/2: several requests at a time on a connection.

use std::cell::RefCell;

use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prober::answer::of_http;
use prober::{RequestOutcome, sent};
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use super::Dial;
use crate::open::origin::Body;

/// A connection for several requests at a time.
pub struct Http2Connection {
    dial: Dial,
    open: RefCell<Option<SendRequest<Body>>>,
    /// Locked while the connection opens.
    connecting: Mutex<()>,
}

impl Http2Connection {
    pub fn new(dial: Dial) -> Http2Connection {
        Http2Connection {
            dial,
            open: RefCell::new(None),
            connecting: Mutex::new(()),
        }
    }

    pub async fn exchange<T>(
        &self,
        request: impl Fn() -> Request<Body>,
        read: impl AsyncFn(Response<Incoming>) -> Result<T, RequestOutcome>,
    ) -> Result<T, RequestOutcome> {
        loop {
            let (mut sender, is_new) = match self.open() {
                Some(sender) => (sender, false),
                None => self.connected().await?,
            };
            let sent = match sender.ready().await {
                Ok(()) => sent(sender.try_send_request(request()).await)?,
                Err(_) => None,
            };
            match sent {
                Some(response) => return read(response).await,
                None if is_new => return Err(RequestOutcome::Reset),
                // A server may close a connection between requests at any time.
                None => {}
            }
        }
    }

    fn open(&self) -> Option<SendRequest<Body>> {
        let open = self.open.borrow();
        open.as_ref().filter(|sender| !sender.is_closed()).cloned()
    }

    async fn connected(&self) -> Result<(SendRequest<Body>, bool), RequestOutcome> {
        let _connecting = self.connecting.lock().await;
        if let Some(sender) = self.open() {
            return Ok((sender, false));
        }
        let stream = TokioIo::new((self.dial)().await?);
        let connected = handshake(TokioExecutor::new(), stream).await;
        let (sender, connection) = connected.map_err(|error| of_http(&error))?;
        // The requests also get the connection's error. The task ends when the senders are dropped,
        // or when the server closes the connection.
        spawn_local(async move {
            let _ = connection.await;
        });
        *self.open.borrow_mut() = Some(sender.clone());
        Ok((sender, true))
    }
}
