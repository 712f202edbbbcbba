//! Full disks and disks that fill up, in file systems that these tests mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::{E2E, Rig, SECONDS};

/// A small file system.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// In MiB: enough for an environment's copy of the platform's program, and little more.
    const SIZE: usize = 128;

    fn mount() -> SmallDisk {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        let size = format!("-osize={}m", Self::SIZE);
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", &size, "tmpfs"])
            .arg(disk.path())
            .output();
        let output = mounted.expect("`mount` runs");
        assert!(
            output.status.success(),
            "these tests mount a file system, as root on Linux; `cargo xtask test` leaves them out \
             where that is impossible: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes until the disk is full.
    fn fill(&self) {
        let full = fs::write(self.filler(), vec![0; (Self::SIZE + 1) << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Writes until this space is left.
    fn fill_except(&self, bytes: u64) {
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
        // If this fails, the directory's removal reports it.
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
        .expect(3, "No space left on device")
        .expect_stderr(&disk.path().display().to_string());
    rig.traces().are_gone(&rig);
}

#[test]
fn a_disk_that_fills_up_ends_the_run_and_leaves_nothing() {
    let disk = SmallDisk::mount();
    let rig = Rig::new().at_home(disk.path());
    let mut traces = None;
    let mut running = rig.spawn(&E2E);
    running.paused_when_up(|| {
        disk.fill();
        traces = Some(rig.traces());
    });
    let ended = running.ends_within(SECONDS);
    ended
        .expect(3, "cannot write the run folder")
        .expect_stderr("No space left on device")
        .expect_stderr("--home");
    traces.unwrap().are_gone(&rig);
    rig.run(&["down", "--all"]).expect_code(0);
}

#[test]
fn a_disk_that_the_log_of_a_load_run_fills_up_still_takes_its_result() {
    let disk = SmallDisk::mount();
    let rig = Rig::new().at_home(disk.path()).arrivals(1500, 16);
    rig.up();
    // The log takes 576 kB. Half of what is written is freed for the result and the report.
    disk.fill_except(512 << 10);
    let ended = rig.run(&["load", "run", "breakpoint"]);
    // The measurements decide before the log does.
    let code = ended.status.code().unwrap();
    assert!([3, 5, 99].contains(&code), "{ended:?}");
    ended
        .expect_stderr("cannot write the raw log")
        .expect_stderr("No space left on device");
    let folder = rig.run_folder("load").unwrap();
    // Every arrival, also of a run that a threshold aborted while it drained.
    let total = rig.load_result("breakpoint").whole();
    assert_eq!(total.requests + total.dropped, 24_000, "{total:?}");
    assert!(folder.join("index.html").exists(), "{ended:?}");
    rig.run(&["down"]).expect_code(0);
}
