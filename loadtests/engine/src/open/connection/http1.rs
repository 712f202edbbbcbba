//! HTTP/1.1: one request at a time on a connection.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prober::answer::of_http;
use prober::transport::Stream;
use prober::{RequestOutcome, sent};

use super::Dial;
use crate::open::origin::Body;

/// A connection for one request at a time, kept alive or not.
pub struct Http1Connection {
    dial: Dial,
    keep_alive: bool,
    open: Option<Open>,
}

impl Http1Connection {
    pub fn new(dial: Dial, keep_alive: bool) -> Http1Connection {
        Http1Connection {
            dial,
            keep_alive,
            open: None,
        }
    }

    pub async fn exchange<T>(
        &mut self,
        request: impl Fn() -> Request<Body>,
        read: impl AsyncFn(Response<Incoming>) -> Result<T, RequestOutcome>,
    ) -> Result<T, RequestOutcome> {
        loop {
            // A connection with an unread response cannot be used again: it is put back later.
            let (open, is_new) = match self.open.take() {
                Some(open) => (open, false),
                None => (Open::by(&self.dial).await?, true),
            };
            match self.once(open, &request, &read).await? {
                Some(read) => return Ok(read),
                None if is_new => return Err(RequestOutcome::Reset),
                // A server may close a connection between requests at any time.
                None => {}
            }
        }
    }

    /// Returns none if nothing was sent.
    async fn once<T>(
        &mut self,
        mut open: Open,
        request: &impl Fn() -> Request<Body>,
        read: &impl AsyncFn(Response<Incoming>) -> Result<T, RequestOutcome>,
    ) -> Result<Option<T>, RequestOutcome> {
        let exchanged = {
            let Open { sender, connection } = &mut open;
            let exchanging = pin!(async {
                if sender.ready().await.is_err() {
                    return Ok(None);
                }
                match sent(sender.try_send_request(request()).await)? {
                    Some(response) => read(response).await.map(Some),
                    None => Ok(None),
                }
            });
            connection.driven_by(exchanging).await?
        };
        if self.keep_alive && exchanged.is_some() {
            self.open = Some(open);
        }
        Ok(exchanged)
    }
}

struct Open {
    sender: SendRequest<Body>,
    connection: Driven,
}

impl Open {
    async fn by(dial: &Dial) -> Result<Open, RequestOutcome> {
        let stream = TokioIo::new(dial().await?);
        // A request is small: copying its parts together is cheaper than writev(2).
        let handshake = Builder::new().writev(false).handshake(stream).await;
        let (sender, connection) = handshake.map_err(|error| of_http(&error))?;
        Ok(Open {
            sender,
            connection: Driven(Some(Box::pin(connection))),
        })
    }
}

/// A connection that is driven by the task of its request. A separate task for the connection would
/// cost as much as the request, as the two wake each other.
struct Driven(Option<Pin<Box<Http1>>>);
type Http1 = Connection<TokioIo<Box<dyn Stream>>, Body>;

impl Driven {
    async fn driven_by<T>(&mut self, mut exchanging: Pin<&mut impl Future<Output = T>>) -> T {
        poll_fn(|context| {
            if let Poll::Ready(exchanged) = exchanging.as_mut().poll(context) {
                return Poll::Ready(exchanged);
            }
            // The request also gets the connection's error.
            let connection = self.0.as_mut();
            if connection.is_some_and(|driven| driven.as_mut().poll(context).is_ready()) {
                self.0 = None;
            }
            exchanging.as_mut().poll(context)
        })
        .await
    }
}
