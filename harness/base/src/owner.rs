//! The owners of resources, for all processes with the same harness home.
//!
//! An owner has an identity, and holds a lock while it is alive. Unlike a process id, the lock is
//! visible in every PID namespace. If neither shows for certain whether an owner is alive, its
//! resources are not touched.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::file_lock::{self, LockError, LockHolder};
use crate::process::identity::{Life, Place, ProcessIdentity};

/// The owners of one harness home.
#[derive(Clone, Debug)]
pub struct Owners {
    /// One lock for each owner.
    folder: PathBuf,
    /// The locks of environments' names. Earlier versions hold no others.
    names: PathBuf,
}

/// The locks that this process holds until it exits.
static LOCKS: Mutex<Vec<(PathBuf, File)>> = Mutex::const_new(Vec::new());

/// Other processes take an owner's lock for a moment, to check whether it is held.
const DEADLINE: Duration = Duration::from_secs(5);

impl Owners {
    /// The owners of the home with this state folder.
    pub fn of(state: &Path) -> Self {
        let names = state.join("locks");
        Owners {
            folder: names.join("owners"),
            names,
        }
    }

    /// Makes this process an owner until it exits, and returns its identity.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn sign_in(&self) -> Result<ProcessIdentity, LockError> {
        let own = ProcessIdentity::own();
        let Some(path) = self.lock_of(&own) else {
            return Ok(own);
        };
        let mut locks = LOCKS.lock().await;
        while !locks.iter().any(|(other, _)| *other == path) {
            let file = file_lock::lock(&path, DEADLINE, &|_| ()).await?;
            // `tidy` may have removed the file before it was locked.
            if is_at(&file, &path) {
                locks.push((path.clone(), file));
            }
        }
        Ok(own)
    }

    /// Returns whether the owner of a resource of this environment is alive.
    pub fn life_of(&self, owner: &ProcessIdentity, environment: &str) -> Life {
        let life = owner.life();
        if life == Life::Alive {
            return life;
        }
        let by_name = || self.names.join(format!("{environment}.lock"));
        let lock = self.lock_of(owner).unwrap_or_else(by_name);
        match (file_lock::is_held(&lock), life) {
            (Some(true), _) => Life::Alive,
            (Some(false), Life::Unknown(_)) if is_certain(owner, &lock) => Life::Dead,
            (_, life) => life,
        }
    }

    /// Removes the lock files of dead owners without resources.
    pub fn tidy(&self, in_use: &[ProcessIdentity]) {
        let in_use: Vec<_> = in_use
            .iter()
            .filter_map(|owner| self.lock_of(owner))
            .collect();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(holder) = LockHolder::of(&path).filter(|_| !in_use.contains(&path)) else {
                continue;
            };
            let free = File::open(&path).and_then(|file| Ok(file.try_lock()?));
            if free.is_ok() && is_certain(&holder.process, &path) {
                // If this fails, an unused lock file remains.
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// None for an owner of an earlier version, which has no lock.
    fn lock_of(&self, owner: &ProcessIdentity) -> Option<PathBuf> {
        let ProcessIdentity { pid, started, .. } = owner;
        let place = owner.place.as_ref()?;
        let (boot, pid_namespace) = (&place.boot, place.pid_namespace);
        let name = format!("{boot}-{pid_namespace}-{pid}-{started}.lock");
        Some(self.folder.join(name))
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let at_path = fs::metadata(path).ok().map(inode);
    at_path.is_some() && file.metadata().ok().map(inode) == at_path
}

/// Whether a free lock proves that the owner is dead. On the same kernel it does. Another kernel
/// may not see the lock, unless that was this host before a restart, and the file is on a disk that
/// only this host uses.
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

/// Whether only this host uses the file system.
#[cfg(target_os = "linux")]
fn is_on_own_disk(path: &Path) -> bool {
    use nix::sys::statfs::{
        BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC,
        statfs,
    };
    let own = [
        BTRFS_SUPER_MAGIC,
        // Also ext2 and ext3.
        EXT4_SUPER_MAGIC,
        OVERLAYFS_SUPER_MAGIC,
        TMPFS_MAGIC,
        XFS_SUPER_MAGIC,
    ];
    statfs(path).is_ok_and(|found| own.contains(&found.filesystem_type()))
}

/// Never certain: on a Mac, containers run in a virtual machine that shares the disk.
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

    /// Takes the owner's lock, as the owner does.
    fn lock(owners: &Owners, owner: &ProcessIdentity) -> File {
        file_lock::try_lock(&owners.lock_of(owner).unwrap()).unwrap()
    }

    #[test]
    fn in_another_pid_namespace_the_lock_decides() {
        let (_folder, owners) = owners();
        let owner = elsewhere(|place| place.pid_namespace += 1);
        let judged = owners.life_of(&owner, "mine");
        assert!(matches!(judged, Life::Unknown(_)), "no lock: {judged:?}");
        let file = lock(&owners, &owner);
        assert_eq!(owners.life_of(&owner, "mine"), Life::Alive);
        drop(file);
        assert_eq!(owners.life_of(&owner, "mine"), Life::Dead);
    }

    #[test]
    fn on_another_host_a_free_lock_proves_nothing() {
        let (_folder, owners) = owners();
        let owner = elsewhere(|place| {
            place.boot = "another".into();
            place.host = "laptop".into();
        });
        drop(lock(&owners, &owner));
        let Life::Unknown(why) = owners.life_of(&owner, "mine") else {
            panic!("not unknown");
        };
        assert!(why.contains("on host laptop"), "{why}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_ran_before_a_restart_of_this_host_is_dead() {
        let (folder, owners) = owners();
        assert!(is_on_own_disk(folder.path()), "this test needs a disk");
        let owner = elsewhere(|place| place.boot = "before".into());
        drop(lock(&owners, &owner));
        assert_eq!(owners.life_of(&owner, "mine"), Life::Dead);
    }

    #[test]
    fn an_owner_of_an_earlier_version_is_judged_by_its_environments_lock() {
        let (_folder, owners) = owners();
        let old = ProcessIdentity {
            place: None,
            ..ProcessIdentity::not_started(1)
        };
        let name = owners.names.join("mine.lock");
        assert!(matches!(owners.life_of(&old, "mine"), Life::Unknown(_)));
        let file = file_lock::try_lock(&name).unwrap();
        assert_eq!(owners.life_of(&old, "mine"), Life::Alive);
        drop(file);
        if cfg!(target_os = "linux") {
            assert_eq!(owners.life_of(&old, "mine"), Life::Dead);
        }
    }

    #[tokio::test]
    async fn an_owner_is_alive_and_only_dead_owners_without_resources_are_removed() {
        let (_folder, owners) = owners();
        let own = owners.sign_in().await.unwrap();
        assert_eq!(owners.sign_in().await.unwrap(), own, "once more");
        assert_eq!(owners.life_of(&own, "mine"), Life::Alive);
        let [with_resources, without] = [1, 2].map(|number| {
            let owner = elsewhere(|place| place.pid_namespace += number);
            drop(lock(&owners, &owner));
            owner
        });
        let lock_of = |owner| owners.lock_of(owner).unwrap();
        owners.tidy(std::slice::from_ref(&with_resources));
        assert!(lock_of(&own).exists());
        assert!(lock_of(&with_resources).exists());
        assert!(!lock_of(&without).exists());
    }
}
