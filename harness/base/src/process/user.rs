//! The user of a program that refuses to run as root, and the folders which that user may enter.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

/// The users of Postgres' programs, by preference.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// The machine has none of the users.
#[derive(Debug, thiserror::Error)]
#[error("it refuses to run as root, and there is no user `postgres` or `nobody`")]
pub struct Nobody;

/// Returns the user for a program that refuses to run as root; none if this process is not root.
///
/// # Errors
/// [`Nobody`].
pub fn unprivileged() -> Result<Option<User>, Nobody> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let mut known = UNPRIVILEGED.into_iter().map(User::from_name);
    let first = known.find_map(|user| user.ok().flatten());
    first.map(Some).ok_or(Nobody)
}

/// Returns the first folder for temporary files that `user` may enter.
pub fn temporary_folder(user: &User) -> Option<PathBuf> {
    first_for(
        user,
        [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()],
    )
}

fn first_for(user: &User, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.into_iter().find(|it| may_enter(it, user))
}

/// Checks the mode of the folder and of its parents (path_resolution(7)) for the user and its
/// primary group.
fn may_enter(folder: &Path, user: &User) -> bool {
    let Ok(whole) = folder.canonicalize() else {
        return false;
    };
    whole.ancestors().all(|it| {
        let Ok(of) = it.metadata() else {
            return false;
        };
        let search = match () {
            () if of.uid() == user.uid.as_raw() => 0o100,
            () if of.gid() == user.gid.as_raw() => 0o010,
            () => 0o001,
        };
        of.is_dir() && of.mode() & search != 0
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use nix::unistd::{Gid, Uid};

    use super::*;

    #[test]
    fn a_folder_that_the_user_may_not_enter_is_skipped() {
        let room = tempfile::TempDir::new().unwrap();
        set_permissions(room.path(), Permissions::from_mode(0o755)).unwrap();
        let [closed, open] = ["closed", "open"].map(|name| room.path().join(name));
        for folder in [&closed, &open, &closed.join("inner")] {
            create_dir(folder).unwrap();
            set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
        set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        let own = room.path().metadata().unwrap();
        let user = |uid, gid| User {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            ..User::from_uid(Uid::effective()).unwrap().unwrap()
        };
        let stranger = user(own.uid() + 1, own.gid() + 1);
        let places = || [closed.clone(), closed.join("inner"), open.clone()];
        assert_eq!(first_for(&stranger, places()), Some(open.clone()));
        let ours = user(own.uid(), own.gid());
        assert_eq!(first_for(&ours, places()), Some(closed.clone()));
        set_permissions(&closed, Permissions::from_mode(0o710)).unwrap();
        let colleague = user(own.uid() + 1, own.gid());
        assert_eq!(first_for(&colleague, places()), Some(closed));
        assert_eq!(first_for(&stranger, [room.path().join("gone")]), None);
    }
}
