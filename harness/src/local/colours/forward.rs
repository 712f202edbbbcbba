//! A Service's own address: each connection is led to one of its pods and stays with it, as
//! kube-proxy has it. So callers in the platform stay with a colour until its pods let them go.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::router::Backends;

/// Leads connections to `backends` until stopped.
pub(super) async fn serve(
    listener: TcpListener,
    backends: Backends,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match (accepted, backends.next()) {
            (Ok((client, _)), Some(address)) => {
                let stopped = stop.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = stopped.cancelled() => {}
                        () = lead(client, address) => {}
                    }
                });
            }
            // Nobody answers: the connection is closed, as a Service without endpoints does.
            (Ok(_), None) => {}
            // Out of file descriptors, mostly: let some connections end first.
            (Err(_), _) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn lead(mut client: TcpStream, address: std::net::SocketAddr) {
    let Ok(mut pod) = TcpStream::connect(address).await else {
        return;
    };
    let _ = (client.set_nodelay(true), pod.set_nodelay(true));
    // How it ends, both sides see for themselves.
    let _ = copy_bidirectional(&mut client, &mut pod).await;
}
