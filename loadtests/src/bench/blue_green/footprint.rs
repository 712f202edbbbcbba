//! A deployer's peak memory: that of its process and of its child processes. Only on Linux, where
//! the processes of a node are visible from outside.

use std::fs;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use crate::bench::memory::high_water_kib;

/// The peak never falls; growth in a process's last milliseconds is missed.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Runs `work`. Returns its result, and the peak memory, in MiB, of the process that `find` returns
/// together with that of its largest descendant, as a script starts one program after the other.
/// `None` if the process was not found.
pub async fn during<T>(
    find: impl Fn() -> Option<u32>,
    work: impl Future<Output = T>,
) -> (T, Option<f64>) {
    let mut work = pin!(work);
    let mut ticks = tokio::time::interval(POLL_EVERY);
    let (mut process, mut own, mut below) = (None, None, 0);
    loop {
        tokio::select! {
            done = &mut work => {
                return (done, own.map(|own: u64| (own + below) as f64 / 1024.0));
            }
            _ = ticks.tick() => {
                process = process.or_else(&find);
                let Some(process) = process else { continue };
                own = high_water_kib(process).or(own);
                let started = descendants(process).into_iter();
                below = started.filter_map(high_water_kib).fold(below, u64::max);
            }
        }
    }
}

/// Finds the process with this command line.
pub fn called(argv: &[&str]) -> Option<u32> {
    processes().find(|process| command_line(*process).is_some_and(|it| it == argv))
}

/// Finds the process of this program in a pod, whose id is in the name of its cgroup.
pub fn of_pod(uid: &str, program: &str) -> Option<u32> {
    let by_systemd = uid.replace('-', "_");
    processes().find(|process| {
        let argv = command_line(*process).unwrap_or_default();
        let cgroup = || fs::read_to_string(of(*process, "cgroup"));
        let is_in_pod = |cgroup: String| cgroup.contains(uid) || cgroup.contains(&by_systemd);
        argv.first().is_some_and(|word| word == program) && cgroup().is_ok_and(is_in_pod)
    })
}

fn descendants(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(of(process, "task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let lines: Vec<String> = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .collect();
    let pids = lines.iter().flat_map(|line| line.split_whitespace());
    let children: Vec<u32> = pids.filter_map(|pid| pid.parse().ok()).collect();
    let below: Vec<u32> = children.iter().flat_map(|it| descendants(*it)).collect();
    [children, below].concat()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn command_line(process: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(of(process, "cmdline")).ok()?;
    let words = line.split_terminator('\0');
    Some(words.map(str::to_owned).collect())
}

fn of(process: u32, what: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/{what}"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Stdio;

    use tokio::io::AsyncWriteExt;
    use tokio::process::Command;

    use super::*;

    /// `sh` is small; a program that it starts holds 24 MiB.
    #[tokio::test]
    async fn the_memory_of_child_processes_counts() {
        let word = format!("word-{}", std::process::id());
        let script = "read -r line; printf %25165824s | tail -c 25165824 | wc -c";
        let mut child = Command::new("sh")
            .args(["-c", script, &word])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let work = async {
            input.write_all(b"go\n").await.unwrap();
            child.wait().await.unwrap()
        };
        let find = || called(&["sh", "-c", script, &word]);
        let (ended, memory) = during(find, work).await;
        assert!(ended.success());
        assert!(memory.unwrap() > 24.0, "{memory:?} MiB");
    }

    #[tokio::test]
    async fn a_process_that_does_not_exist_has_no_memory() {
        let (done, memory) = during(|| called(&["no such thing"]), async { 7 }).await;
        assert_eq!((done, memory), (7, None));
    }
}
