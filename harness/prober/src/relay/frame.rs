//! The frames of the stream, in either direction.
//!
//! A frame is the length of the rest (four bytes, big-endian), a letter for its kind, the number of
//! a connection (four bytes), and bytes:
//!
//! - `o`: open the connection; only from the client's side
//! - `d`: data
//! - `e`: no more data in this direction
//! - `x`: the connection is broken or closed; the bytes are the cause

use std::io;

use futures::future::pending;
use futures::{SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::Receiver;
use tokio_util::bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// The most bytes of data in a frame.
pub const CHUNK: usize = 64 * 1024;
/// A kind and a connection's number.
const HEADER: usize = 5;

/// A frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The connection's number.
    pub connection: u32,
    /// The content.
    pub part: FramePart,
}

/// The content of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FramePart {
    /// The connection opens.
    Open,
    /// Bytes, [`CHUNK`] at most.
    Data(Bytes),
    /// The end of one direction.
    End,
    /// The end of both directions, and the cause.
    Broken(String),
}

impl Frame {
    fn encoded(self) -> Bytes {
        let (kind, bytes) = match self.part {
            FramePart::Open => (b'o', Bytes::new()),
            FramePart::Data(bytes) => (b'd', bytes),
            FramePart::End => (b'e', Bytes::new()),
            FramePart::Broken(why) => (b'x', Bytes::from(why)),
        };
        let bytes = &bytes[..bytes.len().min(CHUNK)];
        let mut encoded = BytesMut::with_capacity(HEADER + bytes.len());
        encoded.put_u8(kind);
        encoded.put_u32(self.connection);
        encoded.put(bytes);
        encoded.freeze()
    }

    fn decoded(mut encoded: BytesMut) -> io::Result<Frame> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a frame");
        if encoded.len() < HEADER {
            return Err(invalid());
        }
        let (kind, connection) = (encoded.get_u8(), encoded.get_u32());
        let part = match kind {
            b'o' => FramePart::Open,
            b'd' => FramePart::Data(encoded.freeze()),
            b'e' => FramePart::End,
            b'x' => FramePart::Broken(String::from_utf8_lossy(&encoded).trim().to_owned()),
            _ => return Err(invalid()),
        };
        Ok(Frame { connection, part })
    }
}

/// Returns the frames of a stream, until its end.
pub fn read(from: impl AsyncRead + Unpin) -> impl Stream<Item = io::Result<Frame>> + Unpin {
    FramedRead::new(from, codec()).map(|encoded| Frame::decoded(encoded?))
}

/// Sends all frames. Returns only if `to` fails.
///
/// # Errors
/// If `to` fails.
pub async fn send_all(frames: &mut Receiver<Frame>, to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut stream = FramedWrite::new(to, codec());
    while let Some(first) = frames.recv().await {
        stream.feed(first.encoded()).await?;
        // Frames that wait are sent in one write.
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

    fn part() -> impl Strategy<Value = FramePart> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            Just(FramePart::Open),
            bytes.prop_map(|bytes| FramePart::Data(bytes.into())),
            Just(FramePart::End),
            "[a-z :.0-9]{0,40}".prop_map(|why| FramePart::Broken(why.trim().to_owned())),
        ]
    }

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let frame = (any::<u32>(), part());
        let frame = frame.prop_map(|(connection, part)| Frame { connection, part });
        proptest::collection::vec(frame, 1..40)
    }

    /// Sends frames through a stream with a buffer of this size, and returns the received frames.
    async fn sent(frames: &[Frame], buffer: usize) -> Vec<Frame> {
        let (near, far) = duplex(buffer);
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
        fn sent_frames_are_received(frames in frames(), buffer in 1..100usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(sent(&frames, buffer)), frames);
        }
    }

    #[tokio::test]
    async fn the_largest_frame_is_received() {
        let part = FramePart::Data(vec![7; CHUNK].into());
        let largest = [Frame {
            connection: 1,
            part,
        }];
        assert_eq!(sent(&largest, 4096).await, largest);
    }

    #[tokio::test]
    async fn other_input_is_refused() {
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
