//! One connection to a lane's target, and requests on it.

use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::answer::{Identity, RequestOutcome, of_http};
use crate::transport::Transport;

/// A connection, which the server may have closed.
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Unique in the prober.
    pub number: u64,
    /// The number of requests sent on it.
    pub requests: u32,
    /// The identity of the last answer.
    pub by: Option<Arc<Identity>>,
    /// Its reference count is the number of connections in the pool.
    _counted: Arc<()>,
}

impl Connection {
    pub async fn open(
        transport: &Transport,
        number: u64,
        counted: Arc<()>,
    ) -> Result<Connection, RequestOutcome> {
        let handshake = handshake(TokioIo::new(transport.open().await?)).await;
        let (sender, connection) = handshake.map_err(|error| of_http(&error))?;
        // The task ends when the sender is dropped or the server closes. An error also reaches the
        // request in flight.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            number,
            requests: 0,
            by: None,
            _counted: counted,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request, and returns the response. None if nothing was sent, because the server had
    /// closed the connection.
    pub async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Option<Response<Incoming>>, RequestOutcome> {
        if self.sender.ready().await.is_err() {
            return Ok(None);
        }
        sent(self.sender.try_send_request(request).await)
    }
}

/// Returns the response. None if nothing was sent, because the server had closed the connection.
///
/// # Errors
/// The outcome of a request without a response.
pub fn sent<B>(
    result: Result<Response<Incoming>, TrySendError<Request<B>>>,
) -> Result<Option<Response<Incoming>>, RequestOutcome> {
    match result {
        Ok(response) => Ok(Some(response)),
        Err(mut error) => match error.take_message() {
            Some(_unsent) => Ok(None),
            None => Err(of_http(error.error())),
        },
    }
}

/// Reads a body to its end, and returns its first bytes, `limit` at most.
pub async fn read(mut body: Incoming, limit: usize) -> Result<Vec<u8>, RequestOutcome> {
    let mut beginning = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| of_http(&error))?;
        let data = frame.data_ref().map_or(&[][..], |data| &data[..]);
        let remaining = limit - beginning.len();
        beginning.extend_from_slice(&data[..remaining.min(data.len())]);
    }
    Ok(beginning)
}
