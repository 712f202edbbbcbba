//! A file that has its name only once it is whole.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use super::error::OutputError;

/// A file that is written beside its place, compressed where its name ends in `.gz`. Dropped
/// before [`keep`](Self::keep), it is removed.
pub struct OutputFile {
    path: PathBuf,
    writer: Writer,
}

enum Writer {
    Plain(BufWriter<NamedTempFile>),
    Gzip(GzEncoder<BufWriter<NamedTempFile>>),
}

impl OutputFile {
    /// Begins one that will be at `path`.
    pub fn create(path: &Path) -> Result<OutputFile, OutputError> {
        let begun = replaceable(path).and_then(|()| beside(path));
        let file = begun.map_err(|error| OutputError::of(path, error))?;
        Ok(OutputFile::onto(file, path))
    }

    fn onto(file: NamedTempFile, path: &Path) -> OutputFile {
        let writer = BufWriter::with_capacity(1 << 18, file);
        let writer = match path.extension() {
            Some(extension) if extension == "gz" => {
                Writer::Gzip(GzEncoder::new(writer, Compression::fast()))
            }
            _ => Writer::Plain(writer),
        };
        OutputFile {
            path: path.to_owned(),
            writer,
        }
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds to it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        let written = match &mut self.writer {
            Writer::Plain(writer) => writer.write_all(bytes),
            Writer::Gzip(writer) => writer.write_all(bytes),
        };
        written.map_err(|error| OutputError::of(&self.path, error))
    }

    /// Gives it its name.
    pub fn keep(self) -> Result<(), OutputError> {
        let kept = self.writer.finish().and_then(|file| {
            // Before the rename: a crash after it must not leave an empty file under the name.
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        });
        kept.map_err(|error| OutputError::of(&self.path, error))
    }
}

impl Writer {
    fn finish(self) -> io::Result<NamedTempFile> {
        let writer = match self {
            Writer::Plain(writer) => writer,
            Writer::Gzip(writer) => writer.finish()?,
        };
        writer.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// What is written replaces what was there: no device, nor a pipe that somebody reads.
fn replaceable(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(there) if !there.is_file() => Err(io::Error::other("what is there is no file")),
        _ => Ok(()),
    }
}

/// `.NAME.xxxxxx.partial`, with the rights that a file usually gets before the umask.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".partial")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
}

#[cfg(all(test, target_os = "linux"))]
impl OutputFile {
    /// One that would be at `path`, on a disk that takes nothing.
    pub fn on_a_full_disk(path: &Path) -> OutputFile {
        let (_, beside) = beside(path).expect("a folder").into_parts();
        let full = std::fs::File::options().write(true).open("/dev/full");
        OutputFile::onto(
            NamedTempFile::from_parts(full.expect("/dev/full"), beside),
            path,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;

    use flate2::read::GzDecoder;
    use tempfile::TempDir;

    use super::*;

    fn files_in(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn it_has_its_name_only_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        let mut file = OutputFile::create(&path).unwrap();
        file.write(b"one\n").unwrap();
        assert!(!path.exists());
        file.keep().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
        assert_eq!(files_in(&folder), ["out.json"]);
    }

    #[test]
    fn what_is_not_kept_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        fs::write(&path, "before").unwrap();
        let mut file = OutputFile::create(&path).unwrap();
        file.write(&[b'x'; 1 << 20]).unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        assert_eq!(files_in(&folder), ["out.json"]);
    }

    #[test]
    fn one_that_ends_in_gz_is_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json.gz");
        let mut file = OutputFile::create(&path).unwrap();
        file.write(b"one\n").unwrap();
        file.keep().unwrap();
        let mut read = String::new();
        let mut decoder = GzDecoder::new(File::open(&path).unwrap());
        decoder.read_to_string(&mut read).unwrap();
        assert_eq!(read, "one\n");
    }

    #[test]
    fn a_folder_that_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("out.json");
        let error = OutputFile::create(&path).err().unwrap();
        assert!(matches!(error, OutputError::Write { .. }), "{error}");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        for path in ["/dev/null", "/"] {
            let error = OutputFile::create(Path::new(path)).err().unwrap();
            assert!(error.to_string().contains("no file"), "{error}");
        }
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = OutputError::of(Path::new("out.json"), full);
        assert!(matches!(error, OutputError::DiskFull { .. }), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nothing_is_kept_of_a_file_for_which_the_disk_was_too_small() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["out.json", "out.json.gz"] {
            let path = folder.path().join(name);
            let mut file = OutputFile::on_a_full_disk(&path);
            file.write(b"fits the buffer").unwrap();
            let error = file.keep().unwrap_err();
            assert!(matches!(error, OutputError::DiskFull { .. }), "{error}");
            assert!(files_in(&folder).is_empty());
        }
    }
}
