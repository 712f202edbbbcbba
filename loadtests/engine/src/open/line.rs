//! A connection to the target, and requests on it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::{Request, Response};
use prober::Outcome;
use prober::classify::of_http;
use prober::way::Stream;

use super::requests::Body;

mod own;
mod shared;

pub use own::Own;
pub use shared::Shared;

/// A stream, or why there is none.
type Dialled = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, Outcome>> + Send>>;
/// Connects to the target.
pub type Dial = Arc<dyn Fn() -> Dialled + Send + Sync>;

/// A place for one connection, which is made when there is a request for it.
pub enum Line {
    /// HTTP/1.1: for one request at a time.
    Own(Own),
    /// HTTP/2: for several.
    Shared(Rc<Shared>),
}

impl Line {
    /// Sends a request, once, and has its answer read to its end.
    pub async fn exchange<T>(
        &mut self,
        request: impl Fn() -> Request<Body>,
        read: impl AsyncFn(Response<Incoming>) -> Result<T, Outcome>,
    ) -> Result<T, Outcome> {
        match self {
            Line::Own(own) => own.exchange(request, read).await,
            Line::Shared(shared) => shared.exchange(request, read).await,
        }
    }
}

/// The answer; none is that the server had closed the connection before, so that nothing was
/// sent.
fn answered(
    sent: Result<Response<Incoming>, TrySendError<Request<Body>>>,
) -> Result<Option<Response<Incoming>>, Outcome> {
    match sent {
        Ok(response) => Ok(Some(response)),
        Err(mut error) => match error.take_message() {
            Some(_unsent) => Ok(None),
            None => Err(of_http(error.error())),
        },
    }
}
