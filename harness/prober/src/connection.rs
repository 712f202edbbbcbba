//! One connection to a lane's target, and requests on it.

use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::answer::{Identity, Outcome};
use crate::classify::of_http;
use crate::way::Way;

/// The task ends when the sender is dropped, or the server closes.
async fn connect(way: &Way) -> Result<SendRequest<Empty<Bytes>>, Outcome> {
    let spoken = handshake(TokioIo::new(way.open().await?)).await;
    let (sender, connection) = spoken.map_err(|error| of_http(&error))?;
    // What it fails with, the request in flight is told.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// A connection, open or about to be found closed.
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Of all connections of the prober.
    pub number: u64,
    /// Sent on it so far.
    pub requests: u32,
    /// Who answered on it last.
    pub by: Option<Arc<Identity>>,
    /// Counts the connections of a pool.
    _counted: Arc<()>,
}

impl Connection {
    pub async fn open(way: &Way, number: u64, counted: Arc<()>) -> Result<Connection, Outcome> {
        Ok(Connection {
            sender: connect(way).await?,
            number,
            requests: 0,
            by: None,
            _counted: counted,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request. None is that the server had closed the connection before, so that
    /// nothing of it was sent.
    pub async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Option<Response<Incoming>>, Outcome> {
        if self.sender.ready().await.is_err() {
            return Ok(None);
        }
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(Some(response)),
            Err(mut error) => match error.take_message() {
                Some(_unsent) => Ok(None),
                None => Err(of_http(error.error())),
            },
        }
    }
}

/// Reads a body to its end, and returns so many bytes of its beginning.
pub async fn read(mut body: Incoming, at_most: usize) -> Result<Vec<u8>, Outcome> {
    let mut beginning = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| of_http(&error))?;
        let data = frame.data_ref().map_or(&[][..], |data| &data[..]);
        let room = at_most - beginning.len();
        beginning.extend_from_slice(&data[..room.min(data.len())]);
    }
    Ok(beginning)
}
