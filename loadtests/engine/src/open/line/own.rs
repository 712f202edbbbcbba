//! HTTP/1.1: one request at a time has the connection.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prober::Outcome;
use prober::classify::of_http;
use prober::way::Stream;

use super::{Dial, answered};
use crate::open::requests::Body;

/// A connection of one's own, kept or not.
pub struct Own {
    dial: Dial,
    kept: bool,
    open: Option<Open>,
}

impl Own {
    pub fn new(dial: Dial, kept: bool) -> Own {
        Own {
            dial,
            kept,
            open: None,
        }
    }

    pub async fn exchange<T>(
        &mut self,
        request: impl Fn() -> Request<Body>,
        read: impl AsyncFn(Response<Incoming>) -> Result<T, Outcome>,
    ) -> Result<T, Outcome> {
        loop {
            // One that was not read to the end of its answer is no use to another request.
            let (open, is_new) = match self.open.take() {
                Some(open) => (open, false),
                None => (Open::by(&self.dial).await?, true),
            };
            match self.once(open, &request, &read).await? {
                Some(read) => return Ok(read),
                None if is_new => return Err(Outcome::Reset),
                // Closed between requests, as a server may at any time: not this one's loss.
                None => {}
            }
        }
    }

    /// None is that nothing was sent.
    async fn once<T>(
        &mut self,
        mut open: Open,
        request: &impl Fn() -> Request<Body>,
        read: &impl AsyncFn(Response<Incoming>) -> Result<T, Outcome>,
    ) -> Result<Option<T>, Outcome> {
        let exchanged = {
            let Open { sender, connection } = &mut open;
            let exchanging = pin!(async {
                if sender.ready().await.is_err() {
                    return Ok(None);
                }
                match answered(sender.try_send_request(request()).await)? {
                    Some(response) => read(response).await.map(Some),
                    None => Ok(None),
                }
            });
            connection.driven_by(exchanging).await?
        };
        if self.kept && exchanged.is_some() {
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
    async fn by(dial: &Dial) -> Result<Open, Outcome> {
        let stream = TokioIo::new(dial().await?);
        // A request is small: to copy its parts together is cheaper than writev(2).
        let shaken = Builder::new().writev(false).handshake(stream).await;
        let (sender, connection) = shaken.map_err(|error| of_http(&error))?;
        Ok(Open {
            sender,
            connection: Driven(Some(Box::pin(connection))),
        })
    }
}

/// A connection that whoever has a request on it drives: to wake a task of its own for it, and
/// that one this, would cost as much as the request.
struct Driven(Option<Pin<Box<Http1>>>);
type Http1 = Connection<TokioIo<Box<dyn Stream>>, Body>;

impl Driven {
    async fn driven_by<T>(&mut self, mut exchanging: Pin<&mut impl Future<Output = T>>) -> T {
        poll_fn(|context| {
            if let Poll::Ready(exchanged) = exchanging.as_mut().poll(context) {
                return Poll::Ready(exchanged);
            }
            // What it fails with, the request on it is told.
            let connection = self.0.as_mut();
            if connection.is_some_and(|it| it.as_mut().poll(context).is_ready()) {
                self.0 = None;
            }
            exchanging.as_mut().poll(context)
        })
        .await
    }
}
