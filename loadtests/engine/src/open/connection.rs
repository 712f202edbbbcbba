//! Connections to the target, over HTTP/1.1 or HTTP/2.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response};
use prober::RequestOutcome;
use prober::transport::Stream;

use super::origin::Body;

mod http1;
mod http2;

pub use http1::Http1Connection;
pub use http2::Http2Connection;

/// A stream, or the reason why there is none.
type Dialled = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, RequestOutcome>> + Send>>;
/// Connects to the target.
pub type Dial = Arc<dyn Fn() -> Dialled + Send + Sync>;

/// A connection that opens when there is a request for it.
pub enum Connection {
    /// HTTP/1.1: one request at a time.
    Http1(Http1Connection),
    /// HTTP/2: several requests at a time.
    Http2(Rc<Http2Connection>),
}

impl Connection {
    /// Sends a request, once, and reads its response with `read`.
    pub async fn exchange<T>(
        &mut self,
        request: impl Fn() -> Request<Body>,
        read: impl AsyncFn(Response<Incoming>) -> Result<T, RequestOutcome>,
    ) -> Result<T, RequestOutcome> {
        match self {
            Connection::Http1(connection) => connection.exchange(request, read).await,
            Connection::Http2(connection) => connection.exchange(request, read).await,
        }
    }
}
