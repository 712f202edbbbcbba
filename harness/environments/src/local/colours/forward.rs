//! A Service's address: each connection goes to one of its pods and stays there, as with
//! kube-proxy. So callers in the platform stay with a colour until its pods close the connections.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::Shared;
use crate::router::Backends;
use base::listener::accepted;

/// Forwards connections to `backends`.
pub(super) async fn serve(listener: TcpListener, backends: Backends, shared: Arc<Shared>) {
    loop {
        let (client, _) = accepted(&listener).await;
        // Without endpoints, the connection is closed.
        if let Some(address) = backends.next() {
            shared.spawn(forward(client, address));
        }
    }
}

async fn forward(mut client: TcpStream, address: SocketAddr) {
    let Ok(mut pod) = TcpStream::connect(address).await else {
        return;
    };
    let _ = pod.set_nodelay(true);
    // Both sides notice the end themselves.
    let _ = copy_bidirectional(&mut client, &mut pod).await;
}
