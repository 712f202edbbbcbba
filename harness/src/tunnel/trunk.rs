//! The near end of many connections on one stream; the far end is [`prober::relay`].

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::StreamExt;
use futures::future::pending;
use prober::relay::frame::{self, CHUNK, Frame, Part};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::bytes::BytesMut;

/// Frames that wait for the stream, or for a client. One that does not read its answers holds
/// up the others.
const WAITING: usize = 64;

/// The near end.
pub struct Trunk {
    outgoing: Sender<Frame>,
    connections: Arc<Connections>,
    next: AtomicU32,
}

/// What carries a [`Trunk`]'s frames.
pub struct Carrier {
    outgoing: Receiver<Frame>,
    connections: Arc<Connections>,
}

#[derive(Default)]
struct Connections {
    open: Mutex<HashMap<u32, Sender<Part>>>,
    /// Why there can be no more.
    over: OnceLock<String>,
}

impl Trunk {
    /// A trunk, and the carrier that it needs to get anywhere.
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

    /// Whether nothing is carried any more.
    pub fn is_over(&self) -> bool {
        self.connections.over.get().is_some()
    }

    /// Joins a client with the destination until the destination has ended, or either has
    /// failed: then why.
    pub async fn forward(
        &self,
        from_client: impl AsyncRead + Unpin,
        to_client: impl AsyncWrite + Unpin,
    ) -> Result<(), String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (given, incoming) = channel(WAITING);
        self.connections.enter(number, given)?;
        let ended = tokio::select! {
            Err(why) = self.send_all(number, from_client) => Err(why),
            ended = self.receive_all(incoming, to_client) => ended,
        };
        self.connections.lock().remove(&number);
        // A relay that is gone has no use for it.
        let _ = self.send(number, Part::Broken(String::new())).await;
        ended
    }

    /// Never done but by a failure: an answer may yet come.
    async fn send_all(
        &self,
        number: u32,
        mut from_client: impl AsyncRead + Unpin,
    ) -> Result<(), String> {
        self.send(number, Part::Open).await?;
        loop {
            let mut bytes = BytesMut::with_capacity(CHUNK);
            let read = from_client.read_buf(&mut bytes).await;
            match read.map_err(|error| error.to_string())? {
                0 => break,
                _ => self.send(number, Part::Data(bytes.freeze())).await?,
            }
        }
        self.send(number, Part::End).await?;
        pending().await
    }

    async fn receive_all(
        &self,
        mut incoming: Receiver<Part>,
        mut to_client: impl AsyncWrite + Unpin,
    ) -> Result<(), String> {
        let said = |error: io::Error| error.to_string();
        while let Some(part) = incoming.recv().await {
            match part {
                Part::Data(bytes) => to_client.write_all(&bytes).await.map_err(said)?,
                Part::End => return to_client.shutdown().await.map_err(said),
                Part::Broken(why) => return Err(why),
                Part::Open => return Err("the relay opens what it is not asked for".into()),
            }
        }
        Err(self.connections.why_over())
    }

    async fn send(&self, connection: u32, part: Part) -> Result<(), String> {
        let sent = self.outgoing.send(Frame { connection, part }).await;
        sent.map_err(|_| self.connections.why_over())
    }
}

impl Carrier {
    /// Carries frames until the relay's side of the stream ends, or either side fails. Its
    /// owner says why with [`Carrier::end`]; dropped, it has ended too.
    pub async fn carry(
        &mut self,
        from_relay: impl AsyncRead + Unpin,
        to_relay: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let connections = self.connections.clone();
        tokio::select! {
            Err(error) = frame::send_all(&mut self.outgoing, to_relay) => Err(error),
            received = connections.hand_out(from_relay) => received,
        }
    }

    /// Tells all connections that they have ended, and why.
    pub fn end(self, why: String) {
        // The first reason is the one that counts.
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
    /// Has a connection hear of its frames, and of the end: there is none that it could miss.
    fn enter(&self, number: u32, given: Sender<Part>) -> Result<(), String> {
        let mut open = self.lock();
        match self.over.get() {
            Some(why) => Err(why.clone()),
            None => {
                open.insert(number, given);
                Ok(())
            }
        }
    }

    async fn hand_out(&self, from_relay: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut frames = frame::read(from_relay);
        while let Some(Frame { connection, part }) = frames.next().await.transpose()? {
            let to = self.lock().get(&connection).cloned();
            if let Some(to) = to {
                // One that has just ended takes nothing more.
                let _ = to.send(part).await;
            }
        }
        Ok(())
    }

    fn why_over(&self) -> String {
        self.over.get().cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Sender<Part>>> {
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
    /// More than the streams of an `exec` hold at once.
    const STREAM: usize = 256 * 1024;

    /// A trunk to a port of 127.0.0.1, and its relay.
    fn to_port(
        port: u16,
    ) -> (
        Arc<Trunk>,
        AbortOnDropHandle<()>,
        JoinHandle<io::Result<()>>,
    ) {
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

    /// A server that counts what it is sent, and at its end says how much it was.
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
        let asking = async {
            client.write_all(&vec![7; bytes]).await.unwrap();
            client.shutdown().await.unwrap();
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            said
        };
        let both = async { tokio::join!(asking, trunk.forward(from, to)) };
        let (said, forwarded) = timeout(DEADLINE, both).await.expect("nothing is held up");
        forwarded.map(|()| said)
    }

    #[tokio::test]
    async fn connections_side_by_side_keep_their_bytes_and_end_one_way_before_the_other() {
        let (port, _serving) = counting().await;
        let (trunk, _carrying, _relaying) = to_port(port);
        let sizes = (0..40).map(|number| number * 50_000);
        let mut asking = JoinSet::new();
        for size in sizes {
            let trunk = trunk.clone();
            asking.spawn(async move { (size, counted(&trunk, size).await) });
        }
        while let Some(asked) = asking.join_next().await {
            let (size, said) = asked.unwrap();
            assert_eq!(said, Ok(size.to_string()));
        }
        assert!(trunk.connections.lock().is_empty());
    }

    #[tokio::test]
    async fn a_port_nobody_listens_at_is_told_of_and_others_go_on() {
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
    async fn a_relay_that_goes_takes_its_connections_along_and_says_why() {
        let (port, _serving) = counting().await;
        let (trunk, _carrying, relaying) = to_port(port);
        let (mut client, end) = duplex(CHUNK);
        let (from, to) = tokio::io::split(end);
        let killing = async {
            client.write_all(b"hello").await.unwrap();
            relaying.abort();
        };
        let both = async { tokio::join!(trunk.forward(from, to), killing) };
        let (ended, ()) = timeout(DEADLINE, both).await.unwrap();
        assert!(ended.unwrap_err().contains("the relay has ended"));
        assert!(trunk.is_over());
        assert!(trunk.forward(empty(), sink()).await.is_err());
    }

    #[tokio::test]
    async fn a_relay_ends_with_its_stream_and_so_do_its_connections() {
        let (port, _serving) = counting().await;
        let (trunk, carrying, relaying) = to_port(port);
        let (mut client, end) = duplex(CHUNK);
        let (from, to) = tokio::io::split(end);
        let ending = async {
            client.write_all(b"hello").await.unwrap();
            drop(carrying);
        };
        let both = async { tokio::join!(trunk.forward(from, to), ending) };
        let (ended, ()) = timeout(DEADLINE, both).await.unwrap();
        assert!(ended.is_err());
        let relayed = timeout(DEADLINE, relaying).await.unwrap();
        assert!(relayed.unwrap().is_ok());
    }

    /// It holds as much as is on its way, and no more.
    #[tokio::test]
    async fn a_server_that_takes_nothing_holds_its_client_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (trunk, _carrying, _relaying) = to_port(port);
        let (mut client, end) = duplex(CHUNK);
        let (from, to) = tokio::io::split(end);
        let _forwarding =
            AbortOnDropHandle::new(spawn(async move { trunk.forward(from, to).await }));
        let (mut server, _) = listener.accept().await.unwrap();
        let more_than_is_held = 200 << 20;
        let writing = async {
            for _ in 0..more_than_is_held / CHUNK {
                client.write_all(&[7; CHUNK]).await.unwrap();
            }
        };
        let quiet = Duration::from_secs(2);
        assert!(
            timeout(quiet, writing).await.is_err(),
            "it takes all there is"
        );
        // And lets it go on.
        let mut taken = vec![0; 8 << 20];
        let taking = server.read_exact(&mut taken);
        timeout(DEADLINE, taking).await.unwrap().unwrap();
        assert!(taken.iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_trunk() {
        for nonsense in [&b"\0\0\0\x02xx"[..], b"exec: not found\n", b"\0\0\0\x09d"] {
            let (_trunk, mut carrier) = Trunk::new();
            let carried = timeout(DEADLINE, carrier.carry(nonsense, sink())).await;
            assert!(carried.unwrap().is_err(), "{nonsense:?}");
        }
    }
}
