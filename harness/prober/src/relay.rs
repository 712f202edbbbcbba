//! Relays many connections, multiplexed on one stream, to one server.
//!
//! A tunnel runs `prober relay HOST:PORT` in a pod. The stream is its standard input and output. It
//! exits when its input ends.

pub mod frame;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::bytes::BytesMut;

use frame::{CHUNK, Frame, FramePart};

/// The time for the server to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The most frames that wait for the server, or for the stream: a mebibyte. If the server does not
/// read one connection, the others wait, so that the memory is bounded.
const WAITING: usize = 16;

/// Relays until `from` ends.
///
/// # Errors
/// If `from` or `to` fails, or the input is not a [`Frame`].
pub async fn relay(
    server: &str,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (outgoing, mut to_send) = channel(WAITING);
    tokio::select! {
        Err(error) = frame::send_all(&mut to_send, to) => Err(error),
        result = dispatch(server, from, outgoing) => result,
    }
}

/// Sends each frame to its connection.
async fn dispatch(
    server: &str,
    from: impl AsyncRead + Unpin,
    outgoing: Sender<Frame>,
) -> io::Result<()> {
    let mut frames = frame::read(from);
    // Dropping a sender closes its connection.
    let mut open = HashMap::new();
    let mut connections = JoinSet::new();
    while let Some(Frame { connection, part }) = frames.next().await.transpose()? {
        match part {
            FramePart::Open => {
                while connections.try_join_next().is_some() {}
                let (sender, incoming) = channel(WAITING);
                open.insert(connection, sender);
                let relayed = RelayedConnection {
                    number: connection,
                    server: server.into(),
                    outgoing: outgoing.clone(),
                };
                connections.spawn(relayed.serve(incoming));
            }
            FramePart::Broken(_) => drop(open.remove(&connection)),
            part => {
                if let Some(sender) = open.get(&connection) {
                    // This fails if the connection has just ended.
                    let _ = sender.send(part).await;
                }
            }
        }
    }
    Ok(())
}

struct RelayedConnection {
    number: u32,
    server: Arc<str>,
    outgoing: Sender<Frame>,
}

impl RelayedConnection {
    /// Relays until the server ends, either side fails, or the client closes it.
    async fn serve(self, mut incoming: Receiver<FramePart>) {
        let ended = match self.connect().await {
            Err(why) => FramePart::Broken(why),
            Ok((from_server, to_server)) => tokio::select! {
                ended = self.read_from(from_server) => ended,
                written = self.write_to(&mut incoming, to_server) => match written {
                    // The client closed the connection.
                    Ok(()) => return,
                    Err(error) => self.broken("send to", &error),
                },
            },
        };
        self.send(ended).await;
    }

    async fn connect(&self) -> Result<(OwnedReadHalf, OwnedWriteHalf), String> {
        let connected = match timeout(CONNECT, TcpStream::connect(&*self.server)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        // Data is forwarded immediately.
        let connected = connected.and_then(|server| server.set_nodelay(true).map(|()| server));
        match connected {
            Ok(server) => Ok(server.into_split()),
            Err(error) => Err(format!("cannot reach {}: {error}", self.server)),
        }
    }

    /// Reads until the server ends. Then the connection ends, even if the client is still sending.
    async fn read_from(&self, mut server: OwnedReadHalf) -> FramePart {
        loop {
            let mut bytes = BytesMut::with_capacity(CHUNK);
            match server.read_buf(&mut bytes).await {
                Ok(0) => return FramePart::End,
                Ok(_) => self.send(FramePart::Data(bytes.freeze())).await,
                Err(error) => return self.broken("read from", &error),
            }
        }
    }

    /// Writes until the client closes the connection. The end of its data does not close it: the
    /// response may still come.
    async fn write_to(
        &self,
        incoming: &mut Receiver<FramePart>,
        mut server: OwnedWriteHalf,
    ) -> io::Result<()> {
        while let Some(part) = incoming.recv().await {
            match part {
                FramePart::Data(bytes) => server.write_all(&bytes).await?,
                _ => server.shutdown().await?,
            }
        }
        Ok(())
    }

    fn broken(&self, what: &str, error: &io::Error) -> FramePart {
        FramePart::Broken(format!("cannot {what} {}: {error}", self.server))
    }

    async fn send(&self, part: FramePart) {
        let connection = self.number;
        // This fails if the stream has ended.
        let _ = self.outgoing.send(Frame { connection, part }).await;
    }
}
