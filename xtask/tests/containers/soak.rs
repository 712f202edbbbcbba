//! A soak, shortened: what the load generator holds of a run does not grow with it.

use std::fs;

use loadtests::result::{Ended, LoadResult};

use crate::machine::eventually;
use crate::rig::{Rig, UP};

/// The first seconds fill what is kept throughout: connections, histograms, buffers.
const WARM_UP: usize = 6;
const SECONDS: usize = 20;
const RATE: u64 = 300;
/// A KiB kept of each request would be more.
const GROWS_AT_MOST_KIB: u64 = 2 * 1024;
const AT_MOST_KIB: u64 = 150 * 1024;

#[test]
fn memory_does_not_grow_with_a_run() {
    let rig = Rig::new().change(
        "stages = [{ rate = 2000, seconds = 1200 }]",
        &format!(
            "stages = [{{ rate = {RATE}, seconds = 0 }}, {{ rate = {RATE}, seconds = {SECONDS} }}]"
        ),
    );
    rig.up();
    let course = rig.spawn(&["load", "run", "breakpoint"]);
    let (pid, mut seen) = (course.pid(), Vec::new());
    eventually("the load ends", UP, || {
        let memory = resident_kib(pid);
        seen.extend(memory);
        memory.map_or(Ok(()), |kib| Err(format!("{kib} KiB")))
    });
    course.ends_within(UP);
    let folder = rig.run_folder("load").unwrap();
    let result = LoadResult::read(&folder.join("load-breakpoint.json")).unwrap();
    assert_eq!(result.ended, Ended::Whole);
    let whole = result.whole();
    let due = RATE * SECONDS as u64;
    assert_eq!(whole.requests + whole.dropped, due, "{whole:?}");
    let second = seen.len() / SECONDS;
    let middle = median(&seen[WARM_UP * second..(WARM_UP + 4) * second]);
    let end = median(&seen[(SECONDS - 5) * second..(SECONDS - 1) * second]);
    assert!(
        end <= middle + GROWS_AT_MOST_KIB && end <= AT_MOST_KIB,
        "{middle} KiB, then {end} KiB"
    );
    rig.run(&["down"]).expect_code(0);
}

/// What a process that runs has of memory.
fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
