//! A file that gets its name only when it is complete.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use super::error::OutputError;

/// A file that is written under a temporary name, compressed if its name ends in `.gz`. If it is
/// dropped before [`keep`](Self::keep), it is removed.
pub struct OutputFile {
    path: PathBuf,
    writer: Encoder,
}

enum Encoder {
    Plain(BufWriter<NamedTempFile>),
    Gzip(GzEncoder<BufWriter<NamedTempFile>>),
}

impl OutputFile {
    /// Creates a file that will be at `path`.
    pub fn create(path: &Path) -> Result<OutputFile, OutputError> {
        let created = replaceable(path).and_then(|()| temporary_file(path));
        let file = created.map_err(|error| OutputError::of(path, error))?;
        Ok(OutputFile::onto(file, path))
    }

    fn onto(file: NamedTempFile, path: &Path) -> OutputFile {
        let writer = BufWriter::with_capacity(1 << 18, file);
        let writer = match path.extension() {
            Some(extension) if extension == "gz" => {
                Encoder::Gzip(GzEncoder::new(writer, Compression::fast()))
            }
            _ => Encoder::Plain(writer),
        };
        OutputFile {
            path: path.to_owned(),
            writer,
        }
    }

    /// Returns its final path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        let written = match &mut self.writer {
            Encoder::Plain(writer) => writer.write_all(bytes),
            Encoder::Gzip(writer) => writer.write_all(bytes),
        };
        written.map_err(|error| OutputError::of(&self.path, error))
    }

    /// Gives the file its name.
    pub fn keep(self) -> Result<(), OutputError> {
        let persisted = self.writer.finish().and_then(|file| {
            // Before the rename: a crash must not leave an empty file under the name.
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        });
        persisted.map_err(|error| OutputError::of(&self.path, error))
    }
}

impl Encoder {
    fn finish(self) -> io::Result<NamedTempFile> {
        let writer = match self {
            Encoder::Plain(writer) => writer,
            Encoder::Gzip(writer) => writer.finish()?,
        };
        writer.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// Checks that `path` can be replaced: it must not be a device or a pipe.
fn replaceable(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(existing) if !existing.is_file() => {
            Err(io::Error::other("it exists and is not a regular file"))
        }
        _ => Ok(()),
    }
}

/// Creates `.NAME.xxxxxx.partial`, with the default mode of a new file before the umask.
fn temporary_file(path: &Path) -> io::Result<NamedTempFile> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".partial")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
}

#[cfg(all(test, target_os = "linux"))]
impl OutputFile {
    /// A file that would be at `path`, on a full disk.
    pub fn on_a_full_disk(path: &Path) -> OutputFile {
        let (_, temporary_file) = temporary_file(path).expect("a folder").into_parts();
        let full = std::fs::File::options().write(true).open("/dev/full");
        OutputFile::onto(
            NamedTempFile::from_parts(full.expect("/dev/full"), temporary_file),
            path,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use flate2::read::GzDecoder;
    use tempfile::TempDir;

    use super::*;

    fn files_in(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_complete() {
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
    fn a_dropped_file_leaves_the_previous_one_unchanged() {
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
    fn a_file_whose_name_ends_in_gz_is_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json.gz");
        let mut file = OutputFile::create(&path).unwrap();
        file.write(b"one\n").unwrap();
        file.keep().unwrap();
        let decoder = GzDecoder::new(File::open(&path).unwrap());
        assert_eq!(io::read_to_string(decoder).unwrap(), "one\n");
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("out.json");
        let error = OutputFile::create(&path).err().unwrap();
        assert!(matches!(error, OutputError::Write { .. }), "{error}");
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        for path in ["/dev/null", "/"] {
            let error = OutputFile::create(Path::new(path)).err().unwrap();
            assert!(error.to_string().contains("not a regular file"), "{error}");
        }
    }

    #[test]
    fn a_full_disk_has_its_own_error() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = OutputError::of(Path::new("out.json"), full);
        assert!(matches!(error, OutputError::DiskFull { .. }), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_no_file() {
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
