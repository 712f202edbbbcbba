//! The most memory that a deployer held: the high-water mark of its process and of what it has
//! started. Linux alone, where the processes of a node are seen from outside of it.

use std::fs;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use crate::bench::memory::high_water_kib;

/// The mark only rises; what a process grows in its very last milliseconds is missed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Awaits `work`; beside what that gives the most, MiB, that the process held which `find` tells
/// of, together with the largest of those that it has started: a script starts one after the
/// other. `None` where no such process was seen.
pub async fn during<T>(
    find: impl Fn() -> Option<u32>,
    work: impl Future<Output = T>,
) -> (T, Option<f64>) {
    let mut work = pin!(work);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
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

/// The process that was called so.
pub fn called(argv: &[&str]) -> Option<u32> {
    processes().find(|process| command_line(*process).is_some_and(|it| it == argv))
}

/// The process of a pod whose program this is: the pod is in the name of its cgroup.
pub fn of_pod(uid: &str, program: &str) -> Option<u32> {
    let by_systemd = uid.replace('-', "_");
    processes().find(|process| {
        let its = command_line(*process);
        let is_program = its.is_some_and(|it| it.first().is_some_and(|word| word == program));
        is_program
            && fs::read_to_string(of(*process, "cgroup"))
                .is_ok_and(|cgroup| cgroup.contains(uid) || cgroup.contains(&by_systemd))
    })
}

fn descendants(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(of(process, "task"));
    let children = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|line| {
            let pids = line.split_whitespace().map(str::parse);
            pids.filter_map(Result::ok).collect::<Vec<u32>>()
        })
        .collect();
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

    /// `sh` is small; what it starts writes 24 MiB into its memory.
    #[tokio::test]
    async fn what_a_process_has_started_counts() {
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
        let (ended, held) = during(find, work).await;
        assert!(ended.success());
        assert!(held.unwrap() > 24.0, "{held:?} MiB");
    }

    #[tokio::test]
    async fn a_process_that_is_not_there_holds_nothing() {
        let (done, held) = during(|| called(&["no such thing"]), async { 7 }).await;
        assert_eq!((done, held), (7, None));
    }
}
