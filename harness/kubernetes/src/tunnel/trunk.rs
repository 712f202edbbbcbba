//! The near end of many connections on one stream; the far end is [`prober::relay`].

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::StreamExt;
use futures::future::pending;
use prober::relay::frame::{self, CHUNK, Frame, FramePart};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::bytes::BytesMut;

/// Frames that wait for the stream, or for a client. A client that does not read its answers blocks
/// the others.
const WAITING: usize = 64;

/// The near end.
pub struct Trunk {
    outgoing: Sender<Frame>,
    connections: Arc<Connections>,
    next: AtomicU32,
}

/// Carries the frames of a [`Trunk`] over a stream.
pub struct Carrier {
    outgoing: Receiver<Frame>,
    connections: Arc<Connections>,
}

#[derive(Default)]
struct Connections {
    open: Mutex<HashMap<u32, Sender<FramePart>>>,
    /// Why the trunk has ended.
    over: OnceLock<String>,
}

impl Trunk {
    /// Creates a trunk and its carrier.
    pub fn new() -> (Trunk, Carrier) {
        let (outgoing, to_carry) = channel(WAITING);
        let connections = Arc::new(Connections::default());
        let trunk = Trunk {
            outgoing,
            connections: connections.clone(),
            next: AtomicU32::new(0),
        };
        let carrier = Carrier {
            outgoing: to_carry,
            connections,
        };
        (trunk, carrier)
    }

    /// Whether the trunk has ended.
    pub fn is_over(&self) -> bool {
        self.connections.over.get().is_some()
    }

    /// Joins a client with the destination until the destination closes, or returns why either
    /// failed.
    pub async fn forward(
        &self,
        from_client: impl AsyncRead + Unpin,
        to_client: impl AsyncWrite + Unpin,
    ) -> Result<(), String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, incoming) = channel(WAITING);
        self.connections.enter(number, sender)?;
        let result = tokio::select! {
            Err(why) = self.send_all(number, from_client) => Err(why),
            received = self.receive_all(incoming, to_client) => received,
        };
        self.connections.lock().remove(&number);
        // An error means that the relay has exited.
        let _ = self.send(number, FramePart::Broken(String::new())).await;
        result
    }

    /// Returns only after a failure: when the client has sent everything, its answer may still
    /// come.
    async fn send_all(
        &self,
        number: u32,
        mut from_client: impl AsyncRead + Unpin,
    ) -> Result<(), String> {
        self.send(number, FramePart::Open).await?;
        loop {
            let mut bytes = BytesMut::with_capacity(CHUNK);
            let read = from_client.read_buf(&mut bytes).await;
            match read.map_err(|error| error.to_string())? {
                0 => break,
                _ => self.send(number, FramePart::Data(bytes.freeze())).await?,
            }
        }
        self.send(number, FramePart::End).await?;
        pending().await
    }

    async fn receive_all(
        &self,
        mut incoming: Receiver<FramePart>,
        mut to_client: impl AsyncWrite + Unpin,
    ) -> Result<(), String> {
        let message = |error: io::Error| error.to_string();
        while let Some(part) = incoming.recv().await {
            match part {
                FramePart::Data(bytes) => to_client.write_all(&bytes).await.map_err(message)?,
                FramePart::End => return to_client.shutdown().await.map_err(message),
                FramePart::Broken(why) => return Err(why),
                FramePart::Open => return Err("the relay opened a connection by itself".into()),
            }
        }
        Err(self.connections.why_over())
    }

    async fn send(&self, connection: u32, part: FramePart) -> Result<(), String> {
        let sent = self.outgoing.send(Frame { connection, part }).await;
        sent.map_err(|_| self.connections.why_over())
    }
}

impl Carrier {
    /// Carries frames until the relay's side of the stream ends, or either side fails.
    pub async fn carry(
        &mut self,
        from_relay: impl AsyncRead + Unpin,
        to_relay: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let connections = self.connections.clone();
        tokio::select! {
            Err(error) = frame::send_all(&mut self.outgoing, to_relay) => Err(error),
            received = connections.distribute(from_relay) => received,
        }
    }

    /// Ends the trunk and its connections, with the cause. A drop ends them too.
    pub fn end(self, why: String) {
        // The first cause counts.
        let _ = self.connections.over.set(why);
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let _ = self.connections.over.set("the tunnel has ended".into());
        self.connections.lock().clear();
    }
}

impl Connections {
    /// Adds a connection, or returns why the trunk has ended. Under the lock, so that the
    /// connection cannot miss the end.
    fn enter(&self, number: u32, sender: Sender<FramePart>) -> Result<(), String> {
        let mut open = self.lock();
        if let Some(why) = self.over.get() {
            return Err(why.clone());
        }
        open.insert(number, sender);
        Ok(())
    }

    async fn distribute(&self, from_relay: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut frames = frame::read(from_relay);
        while let Some(Frame { connection, part }) = frames.next().await.transpose()? {
            let sender = self.lock().get(&connection).cloned();
            if let Some(sender) = sender {
                // An error means that the connection has just ended.
                let _ = sender.send(part).await;
            }
        }
        Ok(())
    }

    fn why_over(&self) -> String {
        self.over.get().cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Sender<FramePart>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prober::relay::relay;
    use tokio::io::{duplex, empty, sink};
    use tokio::net::TcpListener;
    use tokio::task::{JoinHandle, JoinSet, spawn};
    use tokio::time::timeout;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);
    /// The buffer of each direction of the stream, in bytes.
    const STREAM: usize = 256 * 1024;

    type Relaying = JoinHandle<io::Result<()>>;

    /// A trunk to a port of 127.0.0.1, its carrier and its relay.
    fn to_port(port: u16) -> (Arc<Trunk>, AbortOnDropHandle<()>, Relaying) {
        let (near, far) = duplex(STREAM);
        let relaying = spawn(async move {
            let (from, to) = tokio::io::split(far);
            relay(&format!("127.0.0.1:{port}"), from, to).await
        });
        let (trunk, mut carrier) = Trunk::new();
        let carrying = spawn(async move {
            let (from, to) = tokio::io::split(near);
            let ended = carrier.carry(from, to).await;
            carrier.end(format!("the relay has ended: {ended:?}"));
        });
        (Arc::new(trunk), AbortOnDropHandle::new(carrying), relaying)
    }

    /// A server that returns the number of bytes that each client has sent.
    async fn counting() -> (u16, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                clients.spawn(async move {
                    let (mut count, mut bytes) = (0, vec![0; CHUNK]);
                    loop {
                        match client.read(&mut bytes).await.unwrap() {
                            0 => break,
                            read => count += read,
                        }
                    }
                    client
                        .write_all(count.to_string().as_bytes())
                        .await
                        .unwrap();
                });
            }
        });
        (port, AbortOnDropHandle::new(serving))
    }

    async fn counted(trunk: &Trunk, bytes: usize) -> Result<String, String> {
        let (mut client, end) = duplex(CHUNK);
        let (from, to) = tokio::io::split(end);
        let counting = async {
            client.write_all(&vec![7; bytes]).await.unwrap();
            client.shutdown().await.unwrap();
            let mut count = String::new();
            client.read_to_string(&mut count).await.unwrap();
            count
        };
        let both = async { tokio::join!(counting, trunk.forward(from, to)) };
        let (count, forwarded) = timeout(DEADLINE, both).await.expect("an answer in time");
        forwarded.map(|()| count)
    }

    /// Runs `action` once a connection has sent something, and returns the result of the
    /// connection.
    async fn interrupted(trunk: &Trunk, action: impl FnOnce()) -> Result<(), String> {
        let (mut client, end) = duplex(CHUNK);
        let (from, to) = tokio::io::split(end);
        let interrupting = async {
            client.write_all(b"hello").await.unwrap();
            action();
        };
        let both = async { tokio::join!(trunk.forward(from, to), interrupting) };
        timeout(DEADLINE, both).await.unwrap().0
    }

    #[tokio::test]
    async fn parallel_connections_keep_their_bytes_and_close_one_direction_first() {
        let (port, _serving) = counting().await;
        let (trunk, _carrying, _relaying) = to_port(port);
        let sizes = (0..40).map(|number| number * 50_000);
        let mut counts = JoinSet::new();
        for size in sizes {
            let trunk = trunk.clone();
            counts.spawn(async move { (size, counted(&trunk, size).await) });
        }
        while let Some(counted) = counts.join_next().await {
            let (size, count) = counted.unwrap();
            assert_eq!(count, Ok(size.to_string()));
        }
        assert!(trunk.connections.lock().is_empty());
    }

    #[tokio::test]
    async fn a_refused_connection_is_reported_and_does_not_end_the_trunk() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let (trunk, _carrying, _relaying) = to_port(port);
        for _ in 0..2 {
            let refused = timeout(DEADLINE, trunk.forward(empty(), sink())).await;
            let why = refused.unwrap().unwrap_err();
            let expected = format!("cannot reach 127.0.0.1:{port}: ");
            assert!(why.starts_with(&expected), "{why}");
        }
        assert!(!trunk.is_over());
    }

    #[tokio::test]
    async fn a_relay_that_exits_ends_its_connections_with_the_cause() {
        let (port, _serving) = counting().await;
        let (trunk, _carrying, relaying) = to_port(port);
        let ended = interrupted(&trunk, || relaying.abort()).await;
        assert!(ended.unwrap_err().contains("the relay has ended"));
        assert!(trunk.is_over());
        assert!(trunk.forward(empty(), sink()).await.is_err());
    }

    #[tokio::test]
    async fn the_end_of_the_stream_ends_the_relay_and_its_connections() {
        let (port, _serving) = counting().await;
        let (trunk, carrying, relaying) = to_port(port);
        assert!(interrupted(&trunk, || drop(carrying)).await.is_err());
        let relayed = timeout(DEADLINE, relaying).await.unwrap();
        assert!(relayed.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_server_that_does_not_read_blocks_its_client() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (trunk, _carrying, _relaying) = to_port(port);
        let (mut client, end) = duplex(CHUNK);
        let (from, to) = tokio::io::split(end);
        let _forwarding =
            AbortOnDropHandle::new(spawn(async move { trunk.forward(from, to).await }));
        let (mut server, _) = listener.accept().await.unwrap();
        let more_than_is_buffered = 200 << 20;
        let writing = async {
            for _ in 0..more_than_is_buffered / CHUNK {
                client.write_all(&[7; CHUNK]).await.unwrap();
            }
        };
        let written = timeout(Duration::from_secs(2), writing).await;
        assert!(written.is_err(), "everything was buffered");
        // The client continues when the server reads.
        let mut received = vec![0; 8 << 20];
        let receiving = server.read_exact(&mut received);
        timeout(DEADLINE, receiving).await.unwrap().unwrap();
        assert!(received.iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn an_invalid_frame_ends_the_trunk() {
        for invalid in [&b"\0\0\0\x02xx"[..], b"exec: not found\n", b"\0\0\0\x09d"] {
            let (_trunk, mut carrier) = Trunk::new();
            let carried = timeout(DEADLINE, carrier.carry(invalid, sink())).await;
            assert!(carried.unwrap().is_err(), "{invalid:?}");
        }
    }
}
