//! Writing: by one thread, from a buffer that has a bound.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use crc32fast::Hasher;
use jiff::Timestamp;

use super::record::Trailer;
use super::{MAGIC, RawLogError, Record, VERSION};

/// So many records go to the thread at once.
const BATCH: usize = 1024;
/// What a log that cannot go on gives back of the disk, in bytes, or half of itself: the
/// run's result is yet to be written, and a log that is cut off stays one.
const GIVEN_BACK: u64 = 8 << 20;
/// So many batches may wait for it: 6 MiB, some seconds of the fastest load.
const BATCHES_WAITING: usize = 256;

/// What the thread is told.
pub(super) enum Message {
    Records(Vec<Record>),
    Finish,
}

/// A raw log that is being written. Dropped before it is finished, it stays without a trailer;
/// its thread ends with the last sink.
pub struct Writer {
    path: PathBuf,
    messages: SyncSender<Message>,
    missing: Arc<AtomicU64>,
    thread: JoinHandle<Result<Written, RawLogError>>,
}

/// A raw log that was written, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// In the file.
    pub records: u64,
    /// Not in the file, because the disk did not keep up. The file says so too.
    pub missing: u64,
}

/// Where one worker puts its records.
pub struct Sink {
    batch: Vec<Record>,
    messages: SyncSender<Message>,
    missing: Arc<AtomicU64>,
}

impl Writer {
    /// Makes the file, and begins it.
    ///
    /// # Errors
    /// [`RawLogError::File`].
    pub fn create(path: &Path, begun: Timestamp, names: &[String]) -> Result<Writer, RawLogError> {
        let created = File::create(path).map_err(failed("create", path))?;
        let mut log = Log {
            file: BufWriter::new(created),
            checksum: Hasher::new(),
            records: 0,
        };
        log.header(begun, names).map_err(failed("write", path))?;
        let (messages, received) = sync_channel(BATCHES_WAITING);
        let missing = Arc::new(AtomicU64::new(0));
        let writes = {
            let (path, missing) = (path.to_owned(), missing.clone());
            move || {
                log.write(&received, &missing)
                    .map_err(failed("write", &path))
            }
        };
        let thread = thread::Builder::new().name("raw-log".into());
        Ok(Writer {
            path: path.to_owned(),
            messages,
            missing,
            thread: thread.spawn(writes).map_err(failed("write", path))?,
        })
    }

    /// Where one worker puts its records.
    pub fn sink(&self) -> Sink {
        Sink::to(self.messages.clone(), self.missing.clone())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finishes the file. What a sink still holds, or puts later, is not in it.
    ///
    /// # Errors
    /// Why it is not whole: then it has no trailer.
    pub fn finish(self) -> Result<Written, RawLogError> {
        // The thread is gone where it could not write, and tells why.
        let _ = self.messages.send(Message::Finish);
        match self.thread.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RawLogError {
    let path = path.to_owned();
    move |source| RawLogError::File { verb, path, source }
}

impl Sink {
    pub(super) fn to(messages: SyncSender<Message>, missing: Arc<AtomicU64>) -> Sink {
        Sink {
            batch: Vec::with_capacity(BATCH),
            messages,
            missing,
        }
    }

    /// Puts a record. Never waits: what the thread cannot take any more is counted as missing.
    pub fn put(&mut self, record: Record) {
        self.batch.push(record);
        if self.batch.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        match self.messages.try_send(Message::Records(batch)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(Message::Records(batch))) => {
                self.missing.fetch_add(batch.len() as u64, Relaxed);
            }
            Err(TrySendError::Full(Message::Finish)) => {}
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The file, and what is known of it so far.
struct Log {
    file: BufWriter<File>,
    checksum: Hasher,
    records: u64,
}

impl Log {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.file.write_all(bytes)
    }

    fn header(&mut self, begun: Timestamp, names: &[String]) -> io::Result<()> {
        self.put(MAGIC)?;
        self.put(&VERSION.to_le_bytes())?;
        self.put(&begun.as_microsecond().to_le_bytes())?;
        self.put(&short(names.len())?)?;
        for name in names {
            self.put(&short(name.len())?)?;
            self.put(name.as_bytes())?;
        }
        self.file.flush()
    }

    fn write(mut self, messages: &Receiver<Message>, missing: &AtomicU64) -> io::Result<Written> {
        match self.write_all(messages, missing) {
            Ok(Some(written)) => Ok(written),
            Ok(None) => Err(io::Error::other("it was given up")),
            Err(error) => {
                // What counts is the error before.
                let _ = self.give_back();
                Err(error)
            }
        }
    }

    /// None where its writer was dropped: then it stays without a trailer.
    fn write_all(
        &mut self,
        messages: &Receiver<Message>,
        missing: &AtomicU64,
    ) -> io::Result<Option<Written>> {
        while let Ok(message) = messages.recv() {
            match message {
                Message::Finish => return self.finish(missing.load(Relaxed)).map(Some),
                Message::Records(batch) => {
                    for record in batch {
                        self.put(&record.bytes())?;
                        self.records += 1;
                    }
                }
            }
        }
        self.file.flush()?;
        Ok(None)
    }

    fn give_back(self) -> io::Result<()> {
        // What its buffer holds is not tried once more.
        let (file, _unwritten) = self.file.into_parts();
        let length = file.metadata()?.len();
        file.set_len(length - GIVEN_BACK.min(length / 2))
    }

    fn finish(&mut self, missing: u64) -> io::Result<Written> {
        let short = u32::try_from(missing).unwrap_or(u32::MAX);
        let trailer = Trailer::written(self.records, short, self.checksum.clone());
        self.file.write_all(&trailer)?;
        self.file.flush()?;
        // Some file systems say only now that they are full. A device or a pipe has no sync.
        match self.file.get_ref().sync_all() {
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
            _ => Ok(Written {
                records: self.records,
                missing,
            }),
        }
    }
}

fn short(number: usize) -> io::Result<[u8; 2]> {
    let short = u16::try_from(number).map(u16::to_le_bytes);
    short.map_err(|_| io::Error::other(format!("{number} does not fit its header")))
}
