//! Disks that are full or fill up, in file systems that these tests mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use loadtests::result::LoadResult;

use crate::rig::{E2E, Rig, SECONDS};

/// A small file system.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Room for the platform's program, which an environment keeps, and little more. MiB.
    const SIZE: usize = 128;

    fn mount() -> SmallDisk {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={}m", Self::SIZE),
                "tmpfs",
            ])
            .arg(disk.path())
            .output();
        let output = mounted.expect("`mount` runs");
        assert!(
            output.status.success(),
            "these tests mount a file system, which takes root on Linux; `cargo xtask test` \
             leaves them out where it cannot be done: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes until there is no space.
    fn fill(&self) {
        let full = fs::write(self.filler(), vec![0; (Self::SIZE + 1) << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Writes until there is no more space than this.
    fn fill_but(&self, bytes: u64) {
        self.fill();
        let filler = fs::File::options().write(true).open(self.filler());
        let filler = filler.unwrap();
        let length = filler.metadata().unwrap().len();
        filler.set_len(length - bytes).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Not mounted, or left to the directory's removal to complain about.
        let _ = Command::new("umount").arg(self.path()).output();
    }
}

#[test]
fn a_disk_that_is_full_from_the_start_is_named() {
    let disk = SmallDisk::mount();
    disk.fill();
    let rig = Rig::new().at_home(disk.path());
    let ended = rig.spawn(&E2E).ends_within(SECONDS);
    ended
        .expect_code(3)
        .expect_words("No space left on device")
        .expect_words(&disk.path().display().to_string());
    rig.traces().are_gone(&rig);
}

#[test]
fn a_disk_that_fills_up_ends_the_run_and_leaves_nothing() {
    let disk = SmallDisk::mount();
    let rig = Rig::new().at_home(disk.path());
    let mut traces = None;
    let mut course = rig.spawn(&E2E);
    course.paused_when_up(|| {
        disk.fill();
        traces = Some(rig.traces());
    });
    let ended = course.ends_within(SECONDS);
    ended
        .expect_code(3)
        .expect_words("cannot write the run folder")
        .expect_words("No space left on device")
        .expect_words("--home");
    traces.unwrap().are_gone(&rig);
    rig.run(&["down", "--all"]).expect_code(0);
}

#[test]
fn a_disk_that_a_load_runs_log_fills_up_still_takes_its_result() {
    let disk = SmallDisk::mount();
    let rig = Rig::new().at_home(disk.path()).change(
        "stages = [{ rate = 2000, seconds = 1200 }]",
        "stages = [{ rate = 1500, seconds = 0 }, { rate = 1500, seconds = 8 }]",
    );
    rig.up();
    // The log would take 288 kB.
    disk.fill_but(192 << 10);
    let ended = rig.run(&["load", "run", "breakpoint"]);
    // What it measured, slow or not, decides before the log does.
    let code = ended.status.code().unwrap();
    assert!([3, 5, 99].contains(&code), "{ended:?}");
    ended
        .expect_words("cannot write the raw log")
        .expect_words("No space left on device");
    let folder = rig.run_folder("load").unwrap();
    let result = LoadResult::read(&folder.join("load-breakpoint.json")).unwrap();
    // Every arrival, also of a run that a threshold ended while it drained.
    let whole = result.whole();
    assert_eq!(whole.requests + whole.dropped, 12_000, "{whole:?}");
    assert!(folder.join("index.html").exists(), "{ended:?}");
    rig.run(&["down"]).expect_code(0);
}
