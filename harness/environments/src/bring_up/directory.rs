//! Removes a part's directory, and the shared memory of its Postgres.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use base::process;
use base::wait::{self, Observation};

/// Postgres' processes may write until they notice that the postmaster was killed.
const TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Removes a directory, if it exists, and the shared memory of a Postgres that was killed there.
/// Returns why it could not.
pub async fn remove(path: &Path) -> Result<(), String> {
    remove_shared_memory(path).await?;
    let removed = wait::until(
        "the directory is removed",
        TIMEOUT,
        LOOK_EVERY,
        async || match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Observation::Failed(error.to_string())
            }
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Observation::NotYet(error.to_string())
            }
            _ => Observation::Ready(()),
        },
    );
    removed.await.map_err(|error| error.to_string())
}

/// A System V segment outlives the processes that used it. Postgres removes its own segment and its
/// `postmaster.pid`, except after SIGKILL. `postgres --check`, which initdb runs, has a segment and
/// no such file.
async fn remove_shared_memory(directory: &Path) -> Result<(), String> {
    let pid_file = directory.join("data/postmaster.pid");
    let text = match std::fs::read_to_string(&pid_file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{}: {error}", pid_file.display())),
    };
    let of_postmaster = Segment::of_postmaster(&text);
    let Some(segment) = of_postmaster.or_else(|| Segment::of_data(&directory.join("data"))) else {
        return Ok(());
    };
    let unused = wait::until(
        "no process uses Postgres' shared memory",
        TIMEOUT,
        LOOK_EVERY,
        async || match segment.users() {
            Some(0) => Observation::Ready(true),
            Some(users) => Observation::NotYet(format!("{users} processes use it")),
            None => Observation::Ready(false),
        },
    );
    if !unused.await.map_err(|error| error.to_string())? {
        return Ok(());
    }
    let remove = ["ipcrm", "-m", &segment.id].map(str::to_owned);
    let removed = process::run(&remove, TIMEOUT, &|_| ()).await;
    match segment.users() {
        None => Ok(()),
        Some(_) => removed.map(drop).map_err(|error| error.to_string()),
    }
}

/// A System V shared memory segment.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    key: String,
    id: String,
}

impl Segment {
    /// Line 7 of `postmaster.pid` has key and id (PostgreSQL's `utils/pidfile.h`).
    fn of_postmaster(pid_file: &str) -> Option<Segment> {
        let mut words = pid_file.lines().nth(6)?.split_whitespace();
        let (key, id) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Segment { key, id })
    }

    /// Postgres' key is the inode of its data directory (its `port/sysv_shmem.c`). A directory of
    /// another file system may have the same: a segment in use is not taken.
    #[cfg(target_os = "linux")]
    fn of_data(data: &Path) -> Option<Segment> {
        use std::os::unix::fs::MetadataExt;
        let inode = std::fs::metadata(data).ok()?.ino();
        let table = std::fs::read_to_string("/proc/sysvipc/shm").ok()?;
        unused_in(&table, inode)
    }

    #[cfg(not(target_os = "linux"))]
    fn of_data(_: &Path) -> Option<Segment> {
        None
    }

    /// The number of processes that have it attached; `None` if it does not exist. An id that is
    /// used again has another key.
    #[cfg(target_os = "linux")]
    fn users(&self) -> Option<u32> {
        let table = std::fs::read_to_string("/proc/sysvipc/shm").ok()?;
        users_in(&table, self)
    }

    /// Other systems have no table to read. They remove a segment after its last process exits.
    #[cfg(not(target_os = "linux"))]
    fn users(&self) -> Option<u32> {
        Some(0)
    }
}

/// proc_sysvipc(5): `key shmid perms size cpid lpid nattch ...`.
#[cfg(target_os = "linux")]
fn users_in(table: &str, segment: &Segment) -> Option<u32> {
    table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let same = columns.get(..2)? == [segment.key.as_str(), segment.id.as_str()];
        same.then(|| columns.get(6)?.parse().ok()).flatten()
    })
}

/// The segment with the inode's lower 32 bits as its key that no process has attached.
#[cfg(target_os = "linux")]
fn unused_in(table: &str, inode: u64) -> Option<Segment> {
    let key = (inode as u32).cast_signed().to_string();
    table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let id = (*columns.first()? == key && *columns.get(6)? == "0").then_some(columns.get(1)?);
        id.map(|id| Segment {
            key: key.clone(),
            id: (*id).to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_segment_of_initdb_is_found_by_the_directorys_inode() {
        let table = "\
       key      shmid perms                  size  cpid  lpid nattch   uid
  11238361     753698   600                    56  7586  7586      0  1001
  11238362     753699   600                    56  7587  7587      2  1001
";
        let found = unused_in(table, 11_238_361).unwrap();
        assert_eq!(found.id, "753698");
        // The key has 32 bits of 64.
        assert_eq!(unused_in(table, (1 << 32) + 11_238_361), Some(found));
        assert_eq!(unused_in(table, 11_238_362), None, "it is in use");
        assert_eq!(unused_in(table, 4711), None);
    }

    const PID_FILE: &str =
        "4711\n/tmp/x/data\n1795580729\n39495\n\n127.0.0.1\n 27265057        12\nready   \n";

    #[test]
    fn the_segment_is_read_from_postmaster_pid() {
        let segment = Segment::of_postmaster(PID_FILE).unwrap();
        assert_eq!(
            (segment.key.as_str(), segment.id.as_str()),
            ("27265057", "12")
        );
        assert_eq!(Segment::of_postmaster("4711\n/tmp/x/data\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_segment_is_identified_by_key_and_id() {
        let segment = Segment::of_postmaster(PID_FILE).unwrap();
        let line = |key, id| format!("{key} {id} 600 56 1 1 3 999 999 999 999 0 0 0 0 0");
        assert_eq!(users_in(&line("27265057", "12"), &segment), Some(3));
        assert_eq!(users_in(&line("27265057", "13"), &segment), None);
        assert_eq!(users_in(&line("5", "12"), &segment), None);
    }

    #[tokio::test]
    async fn a_directory_that_does_not_exist_counts_as_removed() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("none")).await.unwrap();
    }
}
