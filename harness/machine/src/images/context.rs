//! The context of a Dockerfile: the recipe's files and compiled or downloaded ones, as one archive.
//! The same content always gives the same archive.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tokio_tar::{Builder, Header};

use super::recipe::Files;

/// A file or directory of this machine that the context has besides the recipe's.
#[derive(Clone, Debug)]
pub(super) struct Addition {
    pub from: PathBuf,
    /// In the context.
    pub to: PathBuf,
    pub kind: FileKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Files,
    Programs,
}

impl FileKind {
    /// The same in every checkout. Dockerfiles set the other modes.
    fn mode(self) -> u32 {
        match self {
            FileKind::Files => 0o644,
            FileKind::Programs => 0o755,
        }
    }
}

/// Packs a context into `archive`.
pub(super) async fn pack(files: &Files, additions: &[Addition], archive: &Path) -> io::Result<()> {
    let archive = tokio::fs::File::create(archive).await?;
    let mut builder = Builder::new(archive);
    for (path, content) in files {
        let mut header = header(content.len() as u64, FileKind::Files.mode());
        builder
            .append_data(&mut header, path, content.as_slice())
            .await?;
    }
    for Addition { from, to, kind } in additions {
        for file in files_below(from)? {
            let path = to.join(file.strip_prefix(from).unwrap_or(&file));
            let file = File::open(&file)?;
            let mut header = header(file.metadata()?.len(), kind.mode());
            let content = tokio::fs::File::from_std(file);
            builder.append_data(&mut header, &path, content).await?;
        }
    }
    builder.into_inner().await?.sync_all().await
}

fn header(size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header
}

/// Returns all files below `dir`, sorted.
pub(super) fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            match path.is_dir() {
                true => dirs.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tempfile::TempDir;

    use super::*;

    async fn listed(archive: &Path) -> Vec<(String, u32)> {
        let file = tokio::fs::File::open(archive).await.unwrap();
        let mut entries = tokio_tar::Archive::new(file).entries().unwrap();
        let mut listed = Vec::new();
        while let Some(entry) = entries.next().await {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            listed.push((path, entry.header().mode().unwrap()));
        }
        listed
    }

    #[tokio::test]
    async fn a_context_has_files_and_programs_and_is_reproducible() {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("made/deep")).unwrap();
        fs::write(dir.path().join("made/one"), "1").unwrap();
        fs::write(dir.path().join("made/deep/two"), "2").unwrap();
        let files = Files::from([("Dockerfile".into(), b"FROM scratch".to_vec())]);
        let additions = [Addition {
            from: dir.path().join("made"),
            to: "bin".into(),
            kind: FileKind::Programs,
        }];
        let (a, b) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
        pack(&files, &additions, &a).await.unwrap();
        pack(&files, &additions, &b).await.unwrap();
        let expected = [
            ("Dockerfile", 0o644),
            ("bin/deep/two", 0o755),
            ("bin/one", 0o755),
        ];
        let listed = listed(&a).await;
        let listed: Vec<(&str, u32)> = listed.iter().map(|(p, m)| (p.as_str(), *m)).collect();
        assert_eq!(listed, expected);
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
    }
}
