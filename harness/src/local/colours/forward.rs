//! A Service's own address: each connection is led to one of its pods and stays with it, as
//! kube-proxy has it. So callers in the platform stay with a colour until its pods let them go.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::Shared;
use crate::router::{Backends, accepted};

/// Leads whoever connects to `backends`.
pub(super) async fn serve(listener: TcpListener, backends: Backends, shared: Arc<Shared>) {
    loop {
        let (client, _) = accepted(&listener).await;
        // Where nobody answers it is closed, as a Service without endpoints does.
        if let Some(address) = backends.next() {
            shared.spawn(lead(client, address));
        }
    }
}

async fn lead(mut client: TcpStream, address: SocketAddr) {
    let Ok(mut pod) = TcpStream::connect(address).await else {
        return;
    };
    let _ = pod.set_nodelay(true);
    // How it ends, both sides see for themselves.
    let _ = copy_bidirectional(&mut client, &mut pod).await;
}
