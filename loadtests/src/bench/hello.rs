//! The least an axum server does, on a core of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::process::bound::{BoundChild, describe};
use harness::wait::{self, Observation};
use serde_json::Value;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use super::cores::Core;
use super::error::BenchError;
use super::release::{self, RELEASE};

const LISTENS: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A server that can be loaded.
pub struct Server {
    /// What to ask.
    pub url: String,
    /// Its process.
    pub process: u32,
}

impl Server {
    /// Which part of a core it uses while `work` is done, from 0 to 1.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn busy_during<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<(T, f64), BenchError> {
        let used = || {
            cpu_time(self.process).ok_or_else(|| BenchError::Load {
                url: self.url.clone(),
                reason: "the server is gone".into(),
            })
        };
        let (before, begun) = (used()?, Instant::now());
        let done = work.await;
        let elapsed = begun.elapsed();
        let used = used()?.saturating_sub(before);
        Ok((done, used.as_secs_f64() / elapsed.as_secs_f64()))
    }
}

/// What a process has used of all cores together since it started.
fn cpu_time(process: u32) -> Option<Duration> {
    let id = sysinfo::Pid::from_u32(process);
    let mut system = System::new().ok()?;
    let wanted = ProcessRefreshKind::nothing().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), true, wanted);
    let millis = system.process(id)?.accumulated_cpu_time();
    Some(Duration::from_millis(millis))
}

/// Has cargo build it as the platform is released, and returns the binary.
pub async fn build(workspace: &Path) -> Result<PathBuf, BenchError> {
    let hello = ["--package=platform", "--example=hello"];
    release::build(workspace, RELEASE, &hello, "hello").await
}

/// Starts it on `core`.
pub async fn start(
    core: &Core,
    program: &Path,
    folder: &Path,
) -> Result<(BoundChild, Server), BenchError> {
    std::fs::create_dir_all(folder).map_err(BenchError::file("make", folder))?;
    let log = folder.join("hello.log");
    let environment = [("LISTEN_ADDRESS", "127.0.0.1:0"), ("WORKER_THREADS", "1")];
    let mut hello = core.start("hello", program, &[], &environment, &log)?;
    let address = wait::until("hello listens", LISTENS, LOOK_EVERY, async || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        match (said.lines().find_map(listening), hello.has_ended()) {
            (Some(address), _) => Observation::Ready(address),
            (None, Some(status)) => Observation::Hopeless(format!(
                "it ended with {}; it said: {said}",
                describe(status)
            )),
            (None, None) => Observation::NotYet(format!("it said: {said}")),
        }
    });
    let url = format!("http://{}/", address.await?);
    let process = hello.pid();
    Ok((hello, Server { url, process }))
}

/// The server's own word on where it listens.
fn listening(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["message"] != "listening" {
        return None;
    }
    line["address"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_taken_at_its_word() {
        let line = r#"{"message":"listening","address":"127.0.0.1:4711"}"#;
        assert_eq!(listening(line), "127.0.0.1:4711".parse().ok());
        let other = r#"{"message":"ready","address":"127.0.0.1:1"}"#;
        assert_eq!(listening(other), None);
    }

    #[test]
    fn a_process_that_works_uses_time_and_one_that_is_not_there_none() {
        let own = std::process::id();
        let before = cpu_time(own).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while cpu_time(own).unwrap() == before {
            assert!(Instant::now() < deadline, "no time is counted");
        }
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
