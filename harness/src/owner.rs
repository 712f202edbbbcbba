//! Who owns what exists, told by every process that sees the same harness home.
//!
//! An owner is known by its identity, and by a lock that it holds as long as it lives: the
//! kernel knows of the lock in every PID namespace. What neither tells for certain is not
//! judged, and what belongs to it is left alone.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::file_lock::{self, Holder, LockError};
use crate::process::identity::{Life, Place, ProcessIdentity};

/// The owners of one harness home.
#[derive(Clone, Debug)]
pub struct Owners {
    /// One lock an owner.
    folder: PathBuf,
    /// The locks of environments' names: what earlier versions held, and no other.
    names: PathBuf,
}

/// The locks that this process holds until it ends.
static HELD: Mutex<Vec<(PathBuf, File)>> = Mutex::const_new(Vec::new());

/// Others have an owner's lock for an instant, to see whether it is held.
const AN_INSTANT: Duration = Duration::from_secs(5);

impl Owners {
    /// Those of the home with this state folder.
    pub fn of(state: &Path) -> Self {
        let names = state.join("locks");
        Owners {
            folder: names.join("owners"),
            names,
        }
    }

    /// Makes this process one of them, until it ends.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn sign_in(&self) -> Result<ProcessIdentity, LockError> {
        let own = ProcessIdentity::own();
        let Some(path) = self.lock_of(&own) else {
            return Ok(own);
        };
        let mut held = HELD.lock().await;
        while !held.iter().any(|(other, _)| *other == path) {
            let file = file_lock::lock(&path, AN_INSTANT, &|_| ()).await?;
            // `tidy` may have removed it before it was locked.
            if is_at(&file, &path) {
                held.push((path.clone(), file));
            }
        }
        Ok(own)
    }

    /// Whether an owner of something of this environment lives.
    pub fn judge(&self, owner: &ProcessIdentity, environment: &str) -> Life {
        let life = owner.life();
        if life == Life::Alive {
            return life;
        }
        let lock = match self.lock_of(owner) {
            Some(lock) => lock,
            None => self.names.join(format!("{environment}.lock")),
        };
        match (file_lock::is_held(&lock), life) {
            (Some(true), _) => Life::Alive,
            (Some(false), Life::Unknown(_)) if is_certain(owner, &lock) => Life::Dead,
            (_, life) => life,
        }
    }

    /// Removes the locks of dead owners that nothing belongs to.
    pub fn tidy(&self, in_use: &[ProcessIdentity]) {
        let in_use: Vec<_> = in_use.iter().filter_map(|it| self.lock_of(it)).collect();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(holder) = Holder::of(&path).filter(|_| !in_use.contains(&path)) else {
                continue;
            };
            let free = File::open(&path).and_then(|file| Ok(file.try_lock()?));
            if free.is_ok() && is_certain(&holder.process, &path) {
                // What stays is an empty lock that nobody asks for.
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// None for one that an earlier version wrote down: it has no lock of its own.
    fn lock_of(&self, owner: &ProcessIdentity) -> Option<PathBuf> {
        let ProcessIdentity {
            pid,
            started,
            place,
        } = owner;
        let Place {
            boot,
            pid_namespace,
            ..
        } = place.as_ref()?;
        let name = format!("{boot}-{pid_namespace}-{pid}-{started}.lock");
        Some(self.folder.join(name))
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let at = fs::metadata(path).ok().map(inode);
    at.is_some() && file.metadata().ok().map(inode) == at
}

/// Whether the owner is dead for certain where its lock is free. On one kernel it is. Another
/// kernel knows of the lock only where the file system tells it: but before a restart of
/// this host the file was this host's alone, where it is on a disk of its own.
pub fn is_certain(owner: &ProcessIdentity, lock: &Path) -> bool {
    let Some(here) = Place::own() else {
        return false;
    };
    match &owner.place {
        Some(there) if there.boot == here.boot => true,
        Some(there) => there.host == here.host && is_on_own_disk(lock),
        None => is_on_own_disk(lock),
    }
}

/// Whether the file system is this host's, and not shared with another.
#[cfg(target_os = "linux")]
fn is_on_own_disk(path: &Path) -> bool {
    use nix::sys::statfs::{
        BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC,
        statfs,
    };
    let own = [
        BTRFS_SUPER_MAGIC,
        // Of ext2 and ext3, too.
        EXT4_SUPER_MAGIC,
        OVERLAYFS_SUPER_MAGIC,
        TMPFS_MAGIC,
        XFS_SUPER_MAGIC,
    ];
    statfs(path).is_ok_and(|found| own.contains(&found.filesystem_type()))
}

/// Whether the file system is this host's, and not shared with another. A Mac's disk is, but
/// containers there run in a virtual machine that shares it: never certain.
#[cfg(not(target_os = "linux"))]
fn is_on_own_disk(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners() -> (tempfile::TempDir, Owners) {
        let folder = tempfile::tempdir().unwrap();
        let owners = Owners::of(folder.path());
        (folder, owners)
    }

    fn elsewhere(change: impl FnOnce(&mut Place)) -> ProcessIdentity {
        let mut owner = ProcessIdentity::own();
        change(owner.place.as_mut().unwrap());
        owner
    }

    /// Takes the owner's lock, as if this process were it.
    fn lock(owners: &Owners, owner: &ProcessIdentity) -> File {
        file_lock::try_lock(&owners.lock_of(owner).unwrap()).unwrap()
    }

    #[test]
    fn in_another_pid_namespace_the_lock_tells() {
        let (_folder, owners) = owners();
        let owner = elsewhere(|place| place.pid_namespace += 1);
        let judged = owners.judge(&owner, "mine");
        assert!(matches!(judged, Life::Unknown(_)), "no lock: {judged:?}");
        let held = lock(&owners, &owner);
        assert_eq!(owners.judge(&owner, "mine"), Life::Alive);
        drop(held);
        assert_eq!(owners.judge(&owner, "mine"), Life::Dead);
    }

    #[test]
    fn on_another_host_a_free_lock_tells_nothing() {
        let (_folder, owners) = owners();
        let owner = elsewhere(|place| {
            place.boot = "another".into();
            place.host = "laptop".into();
        });
        drop(lock(&owners, &owner));
        let Life::Unknown(why) = owners.judge(&owner, "mine") else {
            panic!("judged");
        };
        assert!(why.contains("on host laptop"), "{why}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_ran_before_a_restart_of_this_host_is_dead() {
        let (folder, owners) = owners();
        assert!(is_on_own_disk(folder.path()), "this test wants a disk");
        let owner = elsewhere(|place| place.boot = "before".into());
        drop(lock(&owners, &owner));
        assert_eq!(owners.judge(&owner, "mine"), Life::Dead);
    }

    #[test]
    fn an_owner_of_an_earlier_version_is_told_by_its_environments_name() {
        let (_folder, owners) = owners();
        let old = ProcessIdentity {
            place: None,
            ..ProcessIdentity::not_started(1)
        };
        let name = owners.names.join("mine.lock");
        assert!(matches!(owners.judge(&old, "mine"), Life::Unknown(_)));
        let held = file_lock::try_lock(&name).unwrap();
        assert_eq!(owners.judge(&old, "mine"), Life::Alive);
        drop(held);
        if cfg!(target_os = "linux") {
            assert_eq!(owners.judge(&old, "mine"), Life::Dead);
        }
    }

    #[tokio::test]
    async fn who_signs_in_is_alive_and_only_dead_owners_of_nothing_are_forgotten() {
        let (_folder, owners) = owners();
        let own = owners.sign_in().await.unwrap();
        assert_eq!(owners.sign_in().await.unwrap(), own, "once more");
        assert_eq!(owners.judge(&own, "mine"), Life::Alive);
        let [has_something, has_nothing] = [1, 2].map(|number| {
            let owner = elsewhere(|place| place.pid_namespace += number);
            // Signed by its holder: this test is none of them.
            drop(lock(&owners, &owner));
            owner
        });
        let lock_of = |owner| owners.lock_of(owner).unwrap();
        owners.tidy(std::slice::from_ref(&has_something));
        assert!(lock_of(&own).exists());
        assert!(lock_of(&has_something).exists());
        assert!(!lock_of(&has_nothing).exists());
    }
}
