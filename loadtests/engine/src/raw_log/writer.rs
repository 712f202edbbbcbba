//! Writes a raw log, in a thread with a bounded buffer.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use crc32fast::Hasher;
use jiff::Timestamp;

use super::record::Trailer;
use super::{MAGIC, RawLogError, RawRecord, VERSION, failed};

/// The number of records in a message to the thread.
const BATCH: usize = 1024;
/// If the disk is full, the log is truncated by this many bytes, or by half: the run's result needs
/// space, and the log is incomplete in any case.
const FREED: u64 = 8 << 20;
/// The most batches that wait for the thread: 6 MiB, some seconds of the fastest load.
const BATCHES_WAITING: usize = 256;

/// A message to the thread.
pub(super) enum Message {
    Records(Vec<RawRecord>),
    Finish,
}

/// A raw log that is being written. If it is dropped before it is finished, the file has no
/// trailer. Its thread ends with the last sink.
pub struct RawLogWriter {
    messages: SyncSender<Message>,
    missing: Arc<AtomicU64>,
    thread: JoinHandle<Result<RawLogSummary, RawLogError>>,
}

/// A complete raw log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawLogSummary {
    /// Records in the file.
    pub records: u64,
    /// Records that are missing because the disk did not keep up. The trailer has the number too.
    pub missing: u64,
}

/// Takes the records of one worker.
pub struct Sink {
    batch: Vec<RawRecord>,
    messages: SyncSender<Message>,
    missing: Arc<AtomicU64>,
}

impl RawLogWriter {
    /// Creates the file and writes its header.
    ///
    /// # Errors
    /// [`RawLogError::File`].
    pub fn create(
        path: &Path,
        begun: Timestamp,
        names: &[String],
    ) -> Result<RawLogWriter, RawLogError> {
        let created = File::create(path).map_err(failed("create", path))?;
        let mut log = LogFile {
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
        Ok(RawLogWriter {
            messages,
            missing,
            thread: thread.spawn(writes).map_err(failed("write", path))?,
        })
    }

    /// Returns a sink for the records of one worker.
    pub fn sink(&self) -> Sink {
        Sink::to(self.messages.clone(), self.missing.clone())
    }

    /// Finishes the file, without the records that are still in a sink.
    ///
    /// # Errors
    /// If the file is incomplete. It then has no trailer.
    pub fn finish(self) -> Result<RawLogSummary, RawLogError> {
        // If the thread could not write, it has ended, and returns its error.
        let _ = self.messages.send(Message::Finish);
        match self.thread.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Sink {
    pub(super) fn to(messages: SyncSender<Message>, missing: Arc<AtomicU64>) -> Sink {
        Sink {
            batch: Vec::with_capacity(BATCH),
            messages,
            missing,
        }
    }

    /// Adds a record. Never waits: records that the thread cannot take are counted as missing.
    pub fn put(&mut self, record: RawRecord) {
        self.batch.push(record);
        if self.batch.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        let count = batch.len() as u64;
        let sent = self.messages.try_send(Message::Records(batch));
        if matches!(sent, Err(TrySendError::Full(_))) {
            self.missing.fetch_add(count, Relaxed);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The file, with its checksum and records so far.
struct LogFile {
    file: BufWriter<File>,
    checksum: Hasher,
    records: u64,
}

impl LogFile {
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

    fn write(
        mut self,
        messages: &Receiver<Message>,
        missing: &AtomicU64,
    ) -> io::Result<RawLogSummary> {
        match self.write_all(messages, missing) {
            Ok(Some(written)) => Ok(written),
            Ok(None) => Err(io::Error::other("its run was abandoned")),
            Err(error) => {
                // The first error is returned.
                let _ = self.free_space();
                Err(error)
            }
        }
    }

    /// Returns none if the writer was dropped. The file then has no trailer.
    fn write_all(
        &mut self,
        messages: &Receiver<Message>,
        missing: &AtomicU64,
    ) -> io::Result<Option<RawLogSummary>> {
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

    fn free_space(self) -> io::Result<()> {
        // This does not try to write the buffer again.
        let (file, _unwritten) = self.file.into_parts();
        let length = file.metadata()?.len();
        file.set_len(length - FREED.min(length / 2))
    }

    fn finish(&mut self, missing: u64) -> io::Result<RawLogSummary> {
        let saturated = u32::try_from(missing).unwrap_or(u32::MAX);
        let trailer = Trailer::bytes(self.records, saturated, self.checksum.clone());
        self.file.write_all(&trailer)?;
        self.file.flush()?;
        // Some file systems report only now that they are full. A device or a pipe has no sync.
        match self.file.get_ref().sync_all() {
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
            _ => Ok(RawLogSummary {
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
