//! A minimal axum server, on its own core.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::process::{BoundChild, describe};
use base::wait::{self, Observation};
use serde_json::Value;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use super::cargo_build::{self, RELEASE};
use super::cores::Core;
use super::error::BenchError;

const START_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(10);

pub struct ServerUnderLoad {
    /// The URL for requests.
    pub url: String,
    pub process: u32,
}

impl ServerUnderLoad {
    /// Returns the result of `work`, and the share of a core that the server used meanwhile, from 0
    /// to 1. Fails if the server has exited.
    pub async fn busy_during<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<(T, f64), BenchError> {
        let used = || {
            cpu_time(self.process).ok_or_else(|| BenchError::Load {
                url: self.url.clone(),
                reason: "the server has ended".into(),
            })
        };
        let (before, started) = (used()?, Instant::now());
        let done = work.await;
        let elapsed = started.elapsed();
        let used = used()?.saturating_sub(before);
        Ok((done, used.as_secs_f64() / elapsed.as_secs_f64()))
    }
}

/// Returns the CPU time of a process on all cores since it started.
fn cpu_time(process: u32) -> Option<Duration> {
    let id = sysinfo::Pid::from_u32(process);
    let mut system = System::new().ok()?;
    let wanted = ProcessRefreshKind::nothing().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), true, wanted);
    let millis = system.process(id)?.accumulated_cpu_time();
    Some(Duration::from_millis(millis))
}

/// Builds it with the platform's release profile, and returns the binary.
pub async fn build(workspace: &Path) -> Result<PathBuf, BenchError> {
    let hello = ["--package=platform", "--example=hello"];
    cargo_build::build(workspace, RELEASE, &hello, "hello").await
}

pub async fn start(
    core: &Core,
    program: &Path,
    folder: &Path,
) -> Result<(BoundChild, ServerUnderLoad), BenchError> {
    std::fs::create_dir_all(folder).map_err(BenchError::file("create", folder))?;
    let log = folder.join("hello.log");
    let environment = [("LISTEN_ADDRESS", "127.0.0.1:0"), ("WORKER_THREADS", "1")];
    let mut hello = core.start("hello", program, &[], &environment, &log)?;
    let address = wait::until("hello listens", START_TIMEOUT, POLL_EVERY, async || {
        let output = std::fs::read_to_string(&log).unwrap_or_default();
        match (output.lines().find_map(listening), hello.has_ended()) {
            (Some(address), _) => Observation::Ready(address),
            (None, Some(status)) => Observation::Failed(format!(
                "it ended with {}; its output: {output}",
                describe(status)
            )),
            (None, None) => Observation::NotYet(format!("its output: {output}")),
        }
    });
    let url = format!("http://{}/", address.await?);
    let process = hello.pid();
    Ok((hello, ServerUnderLoad { url, process }))
}

/// Stops the server, which `start` returned with `program`.
pub async fn stop(mut server: BoundChild, program: &Path) -> Result<(), BenchError> {
    let stopped = server.stop(STOP_TIMEOUT).await;
    stopped.map(drop).map_err(BenchError::file("stop", program))
}

/// Returns the address in the server's line `listening`.
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
    fn the_address_is_read_from_the_servers_line() {
        let line = r#"{"message":"listening","address":"127.0.0.1:4711"}"#;
        assert_eq!(listening(line), "127.0.0.1:4711".parse().ok());
        let other = r#"{"message":"ready","address":"127.0.0.1:1"}"#;
        assert_eq!(listening(other), None);
    }

    #[test]
    fn a_running_process_uses_cpu_time_and_one_that_does_not_exist_has_none() {
        let own = std::process::id();
        let before = cpu_time(own).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while cpu_time(own).unwrap() == before {
            assert!(Instant::now() < deadline, "no time is counted");
        }
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
