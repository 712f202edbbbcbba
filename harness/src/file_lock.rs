//! One process at a time, by a lock on a file that the kernel frees however its
//! holder ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two tries. Polled, since a blocked `flock` cannot be given up.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Waits until the lock on `path` is ours; dropping the file frees it.
///
/// # Errors
/// `TimedOut` after `deadline`, else what the file system says.
pub async fn lock(path: &Path, deadline: Duration) -> io::Result<File> {
    let file = File::create(path)?;
    let deadline = Instant::now() + deadline;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                let words = format!("another process holds {}", path.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(TRY_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_holder_waits_for_the_first() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("lock");
        let first = lock(&path, Duration::ZERO).await.unwrap();
        let late = lock(&path, Duration::from_millis(150)).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        drop(first);
        lock(&path, Duration::ZERO).await.unwrap();
    }
}
