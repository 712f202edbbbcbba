//! Accepts connections.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// Returns the next connection, with `TCP_NODELAY` set, and its peer's address.
pub async fn accepted(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            // Usually out of file descriptors: wait until some connections close.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
