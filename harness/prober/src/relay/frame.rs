//! What goes on the stream, either way: frames, each some of a connection.
//!
//! A frame is a length (of all that follows, four bytes, the highest first), a letter for its
//! kind, the number of a connection (four bytes), and bytes:
//!
//! - `o`: open it; from the near end only
//! - `d`: these bytes
//! - `e`: no more bytes in this direction
//! - `x`: it is broken, or given up; the bytes say why

use std::io;

use futures::future::pending;
use futures::{SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::Receiver;
use tokio_util::bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// As many bytes a frame has at most.
pub const CHUNK: usize = 64 * 1024;
/// A kind and a connection's number.
const HEADER: usize = 5;

/// Some of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which.
    pub connection: u32,
    /// What of it.
    pub part: Part,
}

/// A part of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its beginning.
    Open,
    /// Bytes, [`CHUNK`] at most.
    Data(Bytes),
    /// The end of one direction.
    End,
    /// Its end altogether, and why.
    Broken(String),
}

impl Frame {
    fn encoded(self) -> Bytes {
        let (kind, bytes) = match self.part {
            Part::Open => (b'o', Bytes::new()),
            Part::Data(bytes) => (b'd', bytes),
            Part::End => (b'e', Bytes::new()),
            Part::Broken(why) => (b'x', Bytes::from(why)),
        };
        let bytes = &bytes[..bytes.len().min(CHUNK)];
        let mut encoded = BytesMut::with_capacity(HEADER + bytes.len());
        encoded.put_u8(kind);
        encoded.put_u32(self.connection);
        encoded.put(bytes);
        encoded.freeze()
    }

    fn decoded(mut encoded: BytesMut) -> io::Result<Frame> {
        let none = || io::Error::new(io::ErrorKind::InvalidData, "that is no frame");
        if encoded.len() < HEADER {
            return Err(none());
        }
        let (kind, connection) = (encoded.get_u8(), encoded.get_u32());
        let part = match kind {
            b'o' => Part::Open,
            b'd' => Part::Data(encoded.freeze()),
            b'e' => Part::End,
            b'x' => Part::Broken(String::from_utf8_lossy(&encoded).trim().to_owned()),
            _ => return Err(none()),
        };
        Ok(Frame { connection, part })
    }
}

/// The frames of a stream, to its end.
pub fn read(from: impl AsyncRead + Unpin) -> impl Stream<Item = io::Result<Frame>> + Unpin {
    FramedRead::new(from, codec()).map(|encoded| Frame::decoded(encoded?))
}

/// Sends what comes. Never done but by a failure.
///
/// # Errors
/// When `to` fails.
pub async fn send_all(frames: &mut Receiver<Frame>, to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut stream = FramedWrite::new(to, codec());
    while let Some(first) = frames.recv().await {
        stream.feed(first.encoded()).await?;
        // What waits goes together: what a write costs, it costs once.
        while let Ok(frame) = frames.try_recv() {
            stream.feed(frame.encoded()).await?;
        }
        SinkExt::<Bytes>::flush(&mut stream).await?;
    }
    pending().await
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(HEADER + CHUNK)
        .new_codec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, duplex};
    use tokio::sync::mpsc::channel;

    use super::*;

    fn part() -> impl Strategy<Value = Part> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            Just(Part::Open),
            bytes.prop_map(|bytes| Part::Data(bytes.into())),
            Just(Part::End),
            "[a-z :.0-9]{0,40}".prop_map(|why| Part::Broken(why.trim().to_owned())),
        ]
    }

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let frame = (any::<u32>(), part());
        let frame = frame.prop_map(|(connection, part)| Frame { connection, part });
        proptest::collection::vec(frame, 1..40)
    }

    /// Through a stream that takes `at_once` so many bytes.
    async fn sent(frames: &[Frame], at_once: usize) -> Vec<Frame> {
        let (near, far) = duplex(at_once);
        let (send, mut to_send) = channel(frames.len());
        for frame in frames {
            send.send(frame.clone()).await.unwrap();
        }
        let received = read(far).take(frames.len());
        tokio::select! {
            failed = send_all(&mut to_send, near) => panic!("{failed:?}"),
            received = received.map(Result::unwrap).collect() => received,
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received(frames in frames(), at_once in 1..100usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(sent(&frames, at_once)), frames);
        }
    }

    #[tokio::test]
    async fn the_largest_is_no_larger_than_one_may_be() {
        let part = Part::Data(vec![7; CHUNK].into());
        let largest = [Frame {
            connection: 1,
            part,
        }];
        assert_eq!(sent(&largest, 4096).await, largest);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused() {
        for nonsense in [
            &b"\0\0\0\x02xx"[..],
            b"\0\0\0\x05?\0\0\0\x01",
            b"exec: not found\n",
        ] {
            let (mut near, far) = duplex(64);
            near.write_all(nonsense).await.unwrap();
            drop(near);
            let first = read(far).next().await;
            assert!(first.unwrap().is_err(), "{nonsense:?}");
        }
    }
}
