//! A short soak: the load generator's memory does not grow with the run.

use std::fs;

use loadtests::result::Ended;

use crate::machine::eventually;
use crate::rig::{Rig, UP};

/// The first seconds fill connections, histograms and buffers, which stay.
const WARM_UP: usize = 6;
const SECONDS: usize = 20;
const RATE: u64 = 300;
/// Less than a KiB for each request.
const GROWS_AT_MOST_KIB: u64 = 2 * 1024;
const AT_MOST_KIB: u64 = 150 * 1024;

#[test]
fn memory_does_not_grow_with_a_run() {
    let rig = Rig::new().arrivals(RATE, SECONDS as u64);
    rig.up();
    let running = rig.spawn(&["load", "run", "breakpoint"]);
    let (pid, mut samples) = (running.pid(), Vec::new());
    eventually("the load ends", UP, || {
        let memory = resident_kib(pid);
        samples.extend(memory);
        memory.map_or(Ok(()), |kib| Err(format!("{kib} KiB")))
    });
    running.ends_within(UP);
    let result = rig.load_result("breakpoint");
    assert_eq!(result.ended, Ended::Whole);
    let total = result.whole();
    let due = RATE * SECONDS as u64;
    assert_eq!(total.requests + total.dropped, due, "{total:?}");
    let second = samples.len() / SECONDS;
    let middle = median(&samples[WARM_UP * second..(WARM_UP + 4) * second]);
    let end = median(&samples[(SECONDS - 5) * second..(SECONDS - 1) * second]);
    assert!(
        end <= middle + GROWS_AT_MOST_KIB && end <= AT_MOST_KIB,
        "{middle} KiB, then {end} KiB"
    );
    rig.run(&["down"]).expect_code(0);
}

/// Returns the memory of a running process.
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
