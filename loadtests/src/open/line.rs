//! A connection to the target, and requests on it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prober::Outcome;
use prober::classify::of_http;
use prober::way::Stream;
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use super::plan::Connections;
use super::requests::Body;

/// A stream, or why there is none.
type Dialled = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, Outcome>> + Send>>;
/// Connects to the target.
pub type Dial = Arc<dyn Fn() -> Dialled + Send + Sync>;

/// A place for one connection, which is made when there is a request for it.
pub struct Line {
    connections: Connections,
    dial: Dial,
    /// Open, and free for a request.
    free: RefCell<Option<Sender>>,
    /// Who waits for it finds the connection made.
    connecting: Mutex<()>,
}

/// The sending side of a connection.
pub enum Sender {
    /// For one request at a time.
    Http1(http1::SendRequest<Body>),
    /// For several.
    Http2(http2::SendRequest<Body>),
}

impl Line {
    pub fn new(connections: Connections, dial: Dial) -> Line {
        Line {
            connections,
            dial,
            free: RefCell::new(None),
            connecting: Mutex::new(()),
        }
    }

    /// Sends a request, once, and returns its answer's begin, and what to give back after its
    /// end.
    pub async fn send(
        &self,
        request: impl Fn() -> Request<Body>,
    ) -> Result<(Response<Incoming>, Sender), Outcome> {
        loop {
            let (mut sender, is_new) = match self.lent() {
                Some(sender) => (sender, false),
                None => self.connected().await?,
            };
            match sender.send(request()).await? {
                Some(response) => return Ok((response, sender)),
                None if is_new => return Err(Outcome::Reset),
                // Closed between requests, as a server may at any time: not this one's loss.
                None => {}
            }
        }
    }

    /// Takes back what an answer came on, which was read to its end.
    pub fn give_back(&self, sender: Sender) {
        if self.connections == Connections::Kept {
            *self.free.borrow_mut() = Some(sender);
        }
    }

    fn lent(&self) -> Option<Sender> {
        let mut free = self.free.borrow_mut();
        match &*free {
            Some(Sender::Http2(shared)) if !shared.is_closed() => {
                Some(Sender::Http2(shared.clone()))
            }
            _ => free.take().filter(|sender| !sender.is_closed()),
        }
    }

    async fn connected(&self) -> Result<(Sender, bool), Outcome> {
        let _alone = self.connecting.lock().await;
        if let Some(sender) = self.lent() {
            return Ok((sender, false));
        }
        let stream = TokioIo::new((self.dial)().await?);
        // What a connection fails with, the requests on it are told. It ends when its sender
        // is dropped, or the server closes.
        match self.connections {
            Connections::New | Connections::Kept => {
                // A request is small: to copy its parts together is cheaper than writev(2).
                let mut one_write = http1::Builder::new();
                let shaken = one_write.writev(false).handshake(stream).await;
                let (sender, connection) = shaken.map_err(|error| of_http(&error))?;
                spawn_local(async move {
                    let _ = connection.await;
                });
                Ok((Sender::Http1(sender), true))
            }
            Connections::Http2 { .. } => {
                let shaken = http2::handshake(TokioExecutor::new(), stream).await;
                let (sender, connection) = shaken.map_err(|error| of_http(&error))?;
                spawn_local(async move {
                    let _ = connection.await;
                });
                *self.free.borrow_mut() = Some(Sender::Http2(sender.clone()));
                Ok((Sender::Http2(sender), true))
            }
        }
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// None is that the server had closed the connection before, so that nothing was sent.
    async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Option<Response<Incoming>>, Outcome> {
        let sent = match self {
            Sender::Http1(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(_) => return Ok(None),
            },
            Sender::Http2(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(_) => return Ok(None),
            },
        };
        match sent {
            Ok(response) => Ok(Some(response)),
            Err(mut error) => match error.take_message() {
                Some(_unsent) => Ok(None),
                None => Err(of_http(error.error())),
            },
        }
    }
}
