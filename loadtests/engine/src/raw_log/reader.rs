//! Reads a raw log, record by record.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use jiff::Timestamp;

use super::record::{CHECKSUM, Trailer};
use super::{MAGIC, RECORD, RawLogError, RawRecord, VERSION, failed};

/// Iterates over the records of a raw log. The log is complete if there is no error.
#[derive(Debug)]
pub struct RawLogReader<R = BufReader<File>> {
    path: PathBuf,
    source: R,
    checksum: Hasher,
    begun: Timestamp,
    names: Vec<String>,
    records: u64,
    missing: Option<u32>,
    ended: bool,
}

impl RawLogReader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// If it is not a raw log, has another version, or is truncated in its header.
    pub fn open(path: &Path) -> Result<RawLogReader, RawLogError> {
        let file = File::open(path).map_err(failed("open", path))?;
        RawLogReader::of(BufReader::new(file), path)
    }
}

impl<R: BufRead> RawLogReader<R> {
    /// As [`RawLogReader::open`], from any source; errors name `path`.
    ///
    /// # Errors
    /// As [`RawLogReader::open`].
    pub fn of(source: R, path: &Path) -> Result<RawLogReader<R>, RawLogError> {
        let mut reader = RawLogReader {
            path: path.to_owned(),
            source,
            checksum: Hasher::new(),
            begun: Timestamp::UNIX_EPOCH,
            names: Vec::new(),
            records: 0,
            missing: None,
            ended: false,
        };
        reader.header()?;
        Ok(reader)
    }

    /// Returns the start time of its run.
    pub fn begun(&self) -> Timestamp {
        self.begun
    }

    /// Returns the names, by number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns how many records are missing because the disk did not keep up. None before the end.
    pub fn missing(&self) -> Option<u32> {
        self.missing
    }

    fn header(&mut self) -> Result<(), RawLogError> {
        let path = self.path.clone();
        let magic: [u8; 8] = self.take()?;
        if magic != *MAGIC {
            return Err(RawLogError::NotALog { path });
        }
        let found = u16::from_le_bytes(self.take()?);
        if found != VERSION {
            return Err(RawLogError::Version { path, found });
        }
        let begun = Timestamp::from_microsecond(i64::from_le_bytes(self.take()?));
        self.begun = begun.map_err(|error| self.damaged(format!("its start: {error}")))?;
        for _ in 0..u16::from_le_bytes(self.take()?) {
            let mut name = vec![0; usize::from(u16::from_le_bytes(self.take()?))];
            self.fill(&mut name)?;
            let name = String::from_utf8(name);
            let name = name.map_err(|_| self.damaged("a name is not UTF-8".into()))?;
            self.names.push(name);
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], RawLogError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RawLogError> {
        self.read(bytes)?;
        self.checksum.update(bytes);
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), RawLogError> {
        self.source.read_exact(bytes).map_err(|source| {
            let path = self.path.clone();
            match source.kind() {
                io::ErrorKind::UnexpectedEof => RawLogError::Truncated {
                    path,
                    records: self.records,
                },
                _ => RawLogError::File {
                    verb: "read",
                    path,
                    source,
                },
            }
        })
    }

    fn damaged(&self, why: String) -> RawLogError {
        RawLogError::Damaged {
            path: self.path.clone(),
            why,
        }
    }

    /// Returns the next record; none after a valid trailer.
    fn record(&mut self) -> Result<Option<RawRecord>, RawLogError> {
        let mut bytes = [0; RECORD];
        self.read(&mut bytes)?;
        if let Some(trailer) = Trailer::of(&bytes) {
            self.checksum.update(&bytes[..CHECKSUM]);
            return self.end(trailer).map(|()| None);
        }
        self.checksum.update(&bytes);
        let record = RawRecord::of(&bytes);
        let known = record.filter(|record| usize::from(record.name) < self.names.len());
        let number = self.records + 1;
        let record = known.ok_or_else(|| self.damaged(format!("record {number} is invalid")))?;
        self.records = number;
        Ok(Some(record))
    }

    fn end(&mut self, trailer: Trailer) -> Result<(), RawLogError> {
        if trailer.records != self.records {
            return Err(self.damaged(format!(
                "its trailer says {} records, but there are {}",
                trailer.records, self.records
            )));
        }
        if trailer.checksum != self.checksum.clone().finalize() {
            return Err(self.damaged("its checksum does not match".into()));
        }
        if !matches!(self.source.read(&mut [0]), Ok(0)) {
            return Err(self.damaged("something follows its trailer".into()));
        }
        self.missing = Some(trailer.missing);
        Ok(())
    }
}

impl<R: BufRead> Iterator for RawLogReader<R> {
    type Item = Result<RawRecord, RawLogError>;

    fn next(&mut self) -> Option<Result<RawRecord, RawLogError>> {
        if self.ended {
            return None;
        }
        let record = self.record().transpose();
        self.ended = !matches!(record, Some(Ok(_)));
        record
    }
}
