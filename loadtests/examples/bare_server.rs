//! The least an HTTP/1.1 server does, on one thread: it looks for the end of a request's head
//! and answers the same to all. What load generators are measured with, so that the server is
//! the last to be out of breath.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";
const HEAD_ENDS: &[u8] = b"\r\n\r\n";

/// Connections that wait to be taken: as many as come while the server stands still.
const BACKLOG: u32 = 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::var("LISTEN_ADDRESS")?.parse()?;
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let socket = TcpSocket::new_v4()?;
            // Every connection that is taken inherits it.
            socket.set_nodelay(true)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            println!(r#"{{"message":"listening","address":"{address}"}}"#);
            loop {
                let (connection, _) = listener.accept().await?;
                // One that breaks is the client's to tell of.
                tokio::spawn(answer(connection));
            }
        })
}

async fn answer(mut connection: TcpStream) -> io::Result<()> {
    let mut asked = Vec::with_capacity(512);
    while connection.read_buf(&mut asked).await? > 0 {
        while let Some(end) = asked
            .windows(HEAD_ENDS.len())
            .position(|it| it == HEAD_ENDS)
        {
            asked.drain(..end + HEAD_ENDS.len());
            connection.write_all(ANSWER).await?;
        }
    }
    Ok(())
}
