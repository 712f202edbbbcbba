//! A minimal HTTP/1.1 server on one thread: it finds the end of each request's head and sends the
//! same response. Load generators are measured with it, as the server must not be the bottleneck.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";
const HEAD_ENDS: &[u8] = b"\r\n\r\n";

/// Connections that wait to be accepted: enough for those that arrive while the server stalls.
const BACKLOG: u32 = 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::var("LISTEN_ADDRESS")?.parse()?;
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let socket = TcpSocket::new_v4()?;
            // Every accepted connection inherits the option.
            socket.set_nodelay(true)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            println!(r#"{{"message":"listening","address":"{address}"}}"#);
            loop {
                let (connection, _) = listener.accept().await?;
                // The client reports a broken connection.
                tokio::spawn(answer(connection));
            }
        })
}

async fn answer(mut connection: TcpStream) -> io::Result<()> {
    let mut received = Vec::with_capacity(512);
    while connection.read_buf(&mut received).await? > 0 {
        while let Some(end) = received
            .windows(HEAD_ENDS.len())
            .position(|window| window == HEAD_ENDS)
        {
            received.drain(..end + HEAD_ENDS.len());
            connection.write_all(ANSWER).await?;
        }
    }
    Ok(())
}
