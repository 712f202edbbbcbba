//! Many connections on one stream, as `relay.pl` at its other end speaks them.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::future::pending;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// Read from a client at once, in bytes; the relay's frames hold no more either.
const CHUNK: usize = 64 * 1024;
/// A kind and a connection's number.
const HEADER: usize = 5;
/// Frames that wait for the stream, or for a client. One that does not read its answers holds
/// up the others.
const WAITING: usize = 64;

const OPEN: u8 = b'o';
const DATA: u8 = b'd';
const END: u8 = b'e';
const BROKEN: u8 = b'x';

/// Some of a connection.
struct Frame {
    kind: u8,
    connection: u32,
    bytes: Bytes,
}

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
    open: Mutex<HashMap<u32, Sender<Frame>>>,
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
        let _ = self.send(BROKEN, number, Bytes::new()).await;
        ended
    }

    /// Never done but by a failure: an answer may yet come.
    async fn send_all(
        &self,
        number: u32,
        mut from_client: impl AsyncRead + Unpin,
    ) -> Result<(), String> {
        self.send(OPEN, number, Bytes::new()).await?;
        loop {
            let mut bytes = BytesMut::with_capacity(CHUNK);
            let read = from_client.read_buf(&mut bytes).await;
            match read.map_err(|error| error.to_string())? {
                0 => break,
                _ => self.send(DATA, number, bytes.freeze()).await?,
            }
        }
        self.send(END, number, Bytes::new()).await?;
        pending().await
    }

    async fn receive_all(
        &self,
        mut incoming: Receiver<Frame>,
        mut to_client: impl AsyncWrite + Unpin,
    ) -> Result<(), String> {
        let said = |error: io::Error| error.to_string();
        while let Some(frame) = incoming.recv().await {
            match frame.kind {
                DATA => to_client.write_all(&frame.bytes).await.map_err(said)?,
                END => return to_client.shutdown().await.map_err(said),
                _ => return Err(String::from_utf8_lossy(&frame.bytes).trim().to_owned()),
            }
        }
        Err(self.connections.why_over())
    }

    async fn send(&self, kind: u8, connection: u32, bytes: Bytes) -> Result<(), String> {
        let frame = Frame {
            kind,
            connection,
            bytes,
        };
        let sent = self.outgoing.send(frame).await;
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
            Err(error) = send_on(&mut self.outgoing, to_relay) => Err(error),
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

/// Never done but by a failure.
async fn send_on(
    outgoing: &mut Receiver<Frame>,
    to_relay: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut frames = FramedWrite::new(to_relay, codec());
    while let Some(first) = outgoing.recv().await {
        frames.feed(encoded(first)).await?;
        // What waits goes together: what a write costs, it costs once.
        while let Ok(frame) = outgoing.try_recv() {
            frames.feed(encoded(frame)).await?;
        }
        SinkExt::<Bytes>::flush(&mut frames).await?;
    }
    pending().await
}

impl Connections {
    /// Has a connection hear of its frames, and of the end: there is none that it could miss.
    fn enter(&self, number: u32, given: Sender<Frame>) -> Result<(), String> {
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
        let mut frames = FramedRead::new(from_relay, codec());
        while let Some(frame) = frames.next().await {
            let frame = decoded(frame?)?;
            let to = self.lock().get(&frame.connection).cloned();
            if let Some(to) = to {
                // One that has just ended takes nothing more.
                let _ = to.send(frame).await;
            }
        }
        Ok(())
    }

    fn why_over(&self) -> String {
        self.over.get().cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Sender<Frame>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(HEADER + CHUNK)
        .new_codec()
}

fn encoded(frame: Frame) -> Bytes {
    let mut encoded = BytesMut::with_capacity(HEADER + frame.bytes.len());
    encoded.put_u8(frame.kind);
    encoded.put_u32(frame.connection);
    encoded.put(frame.bytes);
    encoded.freeze()
}

fn decoded(mut encoded: BytesMut) -> io::Result<Frame> {
    if encoded.len() < HEADER {
        let why = "the relay says what is no frame";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Frame {
        kind: encoded.get_u8(),
        connection: encoded.get_u32(),
        bytes: encoded.freeze(),
    })
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Duration;

    use tokio::io::{duplex, empty, sink};
    use tokio::net::TcpListener;
    use tokio::process::{Child, Command};
    use tokio::task::{JoinSet, spawn};
    use tokio::time::timeout;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::tunnel::RELAY;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A trunk to a port of 127.0.0.1 over a real relay, which ends with it.
    fn to_port(port: u16) -> (Arc<Trunk>, AbortOnDropHandle<()>) {
        let relay = relay(port);
        let (trunk, mut carrier) = Trunk::new();
        let carrying = spawn(async move {
            // All of it: not only what is used below.
            let mut relay = relay;
            let (from, to) = (relay.stdout.take().unwrap(), relay.stdin.take().unwrap());
            let ended = carrier.carry(from, to).await;
            carrier.end(format!("the relay has ended: {ended:?}"));
        });
        (Arc::new(trunk), AbortOnDropHandle::new(carrying))
    }

    fn relay(port: u16) -> Child {
        let mut perl = Command::new("perl");
        perl.args(["-e", RELAY, "127.0.0.1", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        perl.spawn().expect("perl runs")
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
        let (trunk, _carrying) = to_port(port);
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
        let (trunk, _carrying) = to_port(port);
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
        let mut relay = relay(port);
        let (from, to) = (relay.stdout.take().unwrap(), relay.stdin.take().unwrap());
        let (trunk, mut carrier) = Trunk::new();
        let carrying = spawn(async move {
            let ended = carrier.carry(from, to).await;
            carrier.end(format!("killed: {}", ended.is_ok()));
        });
        let (mut client, end) = duplex(CHUNK);
        let (from, to) = tokio::io::split(end);
        let killing = async {
            client.write_all(b"hello").await.unwrap();
            relay.kill().await.unwrap();
        };
        let both = async { tokio::join!(trunk.forward(from, to), killing) };
        let (ended, ()) = timeout(DEADLINE, both).await.unwrap();
        assert!(ended.unwrap_err().contains("killed"), "its reason");
        carrying.await.unwrap();
        assert!(trunk.is_over());
        assert!(trunk.forward(empty(), sink()).await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_trunk() {
        for nonsense in [&b"\0\0\0\x02xx"[..], b"perl: not found\n", b"\0\0\0\x09d"] {
            let (_trunk, mut carrier) = Trunk::new();
            let carried = timeout(DEADLINE, carrier.carry(nonsense, sink())).await;
            assert!(carried.unwrap().is_err(), "{nonsense:?}");
        }
    }
}
