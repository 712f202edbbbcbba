//! The far end of many connections on one stream: joins each of them with one server.
//!
//! `prober relay HOST:PORT` is what a tunnel runs in a pod: its standard input and output are the
//! stream, and it ends when its input does.

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

use frame::{CHUNK, Frame, Part};

/// For the server to take a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Frames that wait for the server, or for the stream: a mebibyte. A server that takes nothing
/// holds up the others, and does not fill this memory.
const WAITING: usize = 16;

/// Relays until `from` ends.
///
/// # Errors
/// When either of the two fails, or what comes is no [`Frame`].
pub async fn relay(
    server: &str,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (outgoing, mut to_send) = channel(WAITING);
    tokio::select! {
        Err(error) = frame::send_all(&mut to_send, to) => Err(error),
        ended = hand_out(server, from, outgoing) => ended,
    }
}

/// Gives each connection what is sent to it.
async fn hand_out(
    server: &str,
    from: impl AsyncRead + Unpin,
    outgoing: Sender<Frame>,
) -> io::Result<()> {
    let mut frames = frame::read(from);
    // Those that are open: dropped, one is given up.
    let mut open = HashMap::new();
    let mut connections = JoinSet::new();
    while let Some(Frame { connection, part }) = frames.next().await.transpose()? {
        match part {
            Part::Open => {
                while connections.try_join_next().is_some() {}
                let (given, incoming) = channel(WAITING);
                open.insert(connection, given);
                let joined = Connection {
                    number: connection,
                    server: server.into(),
                    outgoing: outgoing.clone(),
                };
                connections.spawn(joined.serve(incoming));
            }
            Part::Broken(_) => drop(open.remove(&connection)),
            part => {
                if let Some(to) = open.get(&connection) {
                    // One that has just ended takes nothing more.
                    let _ = to.send(part).await;
                }
            }
        }
    }
    Ok(())
}

/// One of them.
struct Connection {
    number: u32,
    server: Arc<str>,
    outgoing: Sender<Frame>,
}

impl Connection {
    /// Joins it with the server until that has ended, either has failed, or it is given up.
    async fn serve(self, mut incoming: Receiver<Part>) {
        let ended = match self.connect().await {
            Err(why) => Part::Broken(why),
            Ok((from_server, to_server)) => tokio::select! {
                ended = self.read_from(from_server) => ended,
                ended = self.write_to(&mut incoming, to_server) => match ended {
                    Ok(GivenUp) => return,
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
        // What comes is to go on at once: it has waited for others already.
        let connected = connected.and_then(|server| server.set_nodelay(true).map(|()| server));
        match connected {
            Ok(server) => Ok(server.into_split()),
            Err(error) => Err(format!("cannot reach {}: {error}", self.server)),
        }
    }

    /// How the server's side ended. Its client has nothing to wait for then, whatever it still
    /// had to say.
    async fn read_from(&self, mut server: OwnedReadHalf) -> Part {
        loop {
            let mut bytes = BytesMut::with_capacity(CHUNK);
            match server.read_buf(&mut bytes).await {
                Ok(0) => return Part::End,
                Ok(_) => self.send(Part::Data(bytes.freeze())).await,
                Err(error) => return self.broken("read from", &error),
            }
        }
    }

    /// Not done when the client has said all: an answer may yet come.
    async fn write_to(
        &self,
        incoming: &mut Receiver<Part>,
        mut server: OwnedWriteHalf,
    ) -> io::Result<GivenUp> {
        while let Some(part) = incoming.recv().await {
            match part {
                Part::Data(bytes) => server.write_all(&bytes).await?,
                _ => server.shutdown().await?,
            }
        }
        Ok(GivenUp)
    }

    fn broken(&self, what: &str, error: &io::Error) -> Part {
        Part::Broken(format!("cannot {what} {}: {error}", self.server))
    }

    async fn send(&self, part: Part) {
        let connection = self.number;
        // Nobody takes it any more where the stream has ended.
        let _ = self.outgoing.send(Frame { connection, part }).await;
    }
}

/// By its client.
struct GivenUp;
