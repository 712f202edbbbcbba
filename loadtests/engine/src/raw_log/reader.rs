//! Reading, record by record.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use jiff::Timestamp;

use super::record::{CHECKSUM, Trailer};
use super::{MAGIC, RECORD, RawLogError, Record, VERSION};

/// A raw log that is being read: an iterator of its records. Only one that comes to its end
/// without an error was whole.
#[derive(Debug)]
pub struct Reader<R = BufReader<File>> {
    path: PathBuf,
    source: R,
    checksum: Hasher,
    begun: Timestamp,
    names: Vec<String>,
    records: u64,
    missing: Option<u32>,
    ended: bool,
}

impl Reader {
    /// Opens a file, and reads its header.
    ///
    /// # Errors
    /// When it is none, or another version's, or cut off in its header.
    pub fn open(path: &Path) -> Result<Reader, RawLogError> {
        let file = File::open(path).map_err(|source| RawLogError::File {
            verb: "open",
            path: path.to_owned(),
            source,
        })?;
        Reader::of(BufReader::new(file), path)
    }
}

impl<R: BufRead> Reader<R> {
    /// The same of any source; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn of(source: R, path: &Path) -> Result<Reader<R>, RawLogError> {
        let mut reader = Reader {
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

    /// When its run began.
    pub fn begun(&self) -> Timestamp {
        self.begun
    }

    /// The names, by their number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many records are missing because the disk did not keep up: known at the end.
    pub fn missing(&self) -> Option<u32> {
        self.missing
    }

    fn header(&mut self) -> Result<(), RawLogError> {
        let magic: [u8; 8] = self.take()?;
        if magic != *MAGIC {
            return Err(RawLogError::NotALog {
                path: self.path.clone(),
            });
        }
        let found = u16::from_le_bytes(self.take()?);
        if found != VERSION {
            return Err(RawLogError::Version {
                path: self.path.clone(),
                found,
            });
        }
        let begun = Timestamp::from_microsecond(i64::from_le_bytes(self.take()?));
        self.begun = begun.map_err(|error| self.damaged(format!("its begin: {error}")))?;
        for _ in 0..u16::from_le_bytes(self.take()?) {
            let mut name = vec![0; usize::from(u16::from_le_bytes(self.take()?))];
            self.fill(&mut name)?;
            let name = String::from_utf8(name);
            let name = name.map_err(|_| self.damaged("a name is no UTF-8".into()))?;
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

    /// None at the end, once the trailer was found to agree.
    fn record(&mut self) -> Result<Option<Record>, RawLogError> {
        let mut bytes = [0; RECORD];
        self.read(&mut bytes)?;
        if let Some(trailer) = Trailer::of(&bytes) {
            self.checksum.update(&bytes[..CHECKSUM]);
            return self.end(trailer).map(|()| None);
        }
        self.checksum.update(&bytes);
        let record = Record::of(&bytes);
        let known = record.filter(|record| usize::from(record.name) < self.names.len());
        let number = self.records + 1;
        let record = known.ok_or_else(|| self.damaged(format!("record {number} is none")))?;
        self.records = number;
        Ok(Some(record))
    }

    fn end(&mut self, trailer: Trailer) -> Result<(), RawLogError> {
        if trailer.records != self.records {
            let (says, are) = (trailer.records, self.records);
            return Err(self.damaged(format!("it says {says} records, and there are {are}")));
        }
        if trailer.checksum != self.checksum.clone().finalize() {
            return Err(self.damaged("its checksum is another".into()));
        }
        let mut more = [0];
        match self.source.read(&mut more) {
            Ok(0) => {
                self.missing = Some(trailer.missing);
                Ok(())
            }
            _ => Err(self.damaged("something follows its trailer".into())),
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Record, RawLogError>;

    fn next(&mut self) -> Option<Result<Record, RawLogError>> {
        if self.ended {
            return None;
        }
        let record = self.record().transpose();
        self.ended = !matches!(record, Some(Ok(_)));
        record
    }
}
