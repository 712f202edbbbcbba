//! How fast cached quotes are read, as a share of what a bare HTTP server does on the same
//! core. The ratio says what the service's own work costs, whatever the machine.
//!
//! Both servers have one worker thread and the same core, the load generator the next one;
//! only one of the servers is under load at a time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use harness::process::bound::{BoundChild, Program, describe};
use harness::service::Service;
use harness::subprocess;
use harness::tools::on_path;
use harness::wait::{self, Observation};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::cores::Cores;
use super::error::BenchError;
use super::results::Measured;
use super::scratch::Scratch;
use super::series::{Series, Unit};
use super::threshold::{Bound, Statistic, Threshold};
use super::wrk::{CONNECTIONS, Wrk};
use super::{Figure, Plan, Progress};

/// The series.
pub const HELLO: &str = "a bare axum server";
pub const QUOTES: &str = "cached quotes of market-data-service";
const SHARE: &str = "quotes as a share of bare, pair by pair";

const STATED: Threshold = Threshold {
    series: SHARE,
    statistic: Statistic::Median,
    bound: Bound::AtLeast(0.25),
};

/// A seeded symbol.
const SYMBOL: &str = "ECOPETROL";

const SECONDS: u64 = 5;
/// Not counted: connections are made, caches filled.
const WARM_UP_SECONDS: u64 = 1;

/// A cold build of all that the platform is made of.
const BUILD: Duration = Duration::from_secs(30 * 60);
const LISTENS: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const PIN: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(5);
const STOP: Duration = Duration::from_secs(5);

/// What the measurement needs of this machine, found.
pub struct Bench {
    wrk: Wrk,
    taskset: PathBuf,
    server_core: usize,
}

impl Bench {
    /// Looks whether this machine has what is needed.
    pub fn prepare() -> Result<Bench, BenchError> {
        let taskset = on_path("taskset").ok_or(BenchError::NoTaskset)?;
        let program = on_path("wrk").ok_or(BenchError::NoWrk)?;
        let cores = Cores::choose()?;
        Ok(Bench {
            wrk: Wrk {
                program,
                taskset: taskset.clone(),
                core: cores.generator,
            },
            taskset,
            server_core: cores.server,
        })
    }

    /// Loads the two servers in turn, as often as planned.
    pub async fn measure(
        &self,
        plan: &Plan,
        scratch: &Scratch,
        progress: Progress<'_>,
    ) -> Result<Measured, BenchError> {
        progress("quotes: builds and starts what is measured: minutes, the first time");
        let program = build_hello(&plan.workspace).await?;
        let service = self.start_service(plan, scratch).await?;
        let (mut hello, address) = self.start_hello(&program, &scratch.root()).await?;
        let bare = format!("http://{address}/");
        let cached = format!("http://{service}/quotes/{SYMBOL}");
        self.wrk.load(&bare, WARM_UP_SECONDS).await?;
        self.wrk.load(&cached, WARM_UP_SECONDS).await?;
        let (mut of_bare, mut of_cached) = (Vec::new(), Vec::new());
        for round in 1..=plan.rounds {
            of_bare.push(self.wrk.load(&bare, SECONDS).await?);
            is_cached(&cached).await?;
            of_cached.push(self.wrk.load(&cached, SECONDS).await?);
            progress(&format!("quotes: round {round} of {}", plan.rounds));
        }
        hello
            .stop(STOP)
            .await
            .map_err(BenchError::file("stop", &program))?;
        scratch.take_down().await?;
        let rates = |name, values| Series::new(name, Unit::RequestsPerSecond, values);
        Ok(judge(rates(HELLO, of_bare), rates(QUOTES, of_cached)))
    }

    /// Stands the platform up, market-data-service with one worker thread, and puts that
    /// service on its core. Returns its address.
    async fn start_service(
        &self,
        plan: &Plan,
        scratch: &Scratch,
    ) -> Result<SocketAddr, BenchError> {
        let config = with_one_worker(&plan.config, &scratch.root())?;
        scratch.rehearse("up", &config).await?;
        let environment = scratch.environment()?;
        let name = Service::MarketDataService.name();
        let part = environment.parts.iter().find(|part| part.name == name);
        let part = part.ok_or_else(|| scratch.report_lacks("up", "market-data-service"))?;
        let no_process = || BenchError::NoProcess {
            runs_as: format!("{} at {}", part.runs_as, part.address),
        };
        self.pin(part.process_id().ok_or_else(no_process)?).await?;
        part.address.parse().map_err(|_| no_process())
    }

    /// Puts every thread of a process on the servers' core.
    async fn pin(&self, process: u32) -> Result<(), BenchError> {
        let argv = [
            self.taskset.display().to_string(),
            "--all-tasks".into(),
            "--cpu-list".into(),
            "--pid".into(),
            self.server_core.to_string(),
            process.to_string(),
        ];
        Ok(subprocess::run(&argv, PIN, &|_| ()).await?)
    }

    /// Starts the bare server on the servers' core. Returns it and its address.
    async fn start_hello(
        &self,
        program: &Path,
        folder: &Path,
    ) -> Result<(BoundChild, SocketAddr), BenchError> {
        let log = folder.join("hello.log");
        let mut hello = Program {
            name: "hello".into(),
            path: self.taskset.clone(),
            arguments: vec![
                "--cpu-list".into(),
                self.server_core.to_string().into(),
                program.into(),
            ],
            environment: vec![
                ("LISTEN_ADDRESS".into(), "127.0.0.1:0".into()),
                ("WORKER_THREADS".into(), "1".into()),
            ],
            user: None,
            log: log.clone(),
            stop_signal: Signal::SIGTERM,
            death_signal: Signal::SIGKILL,
        }
        .start()?;
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
        let address = address.await?;
        Ok((hello, address))
    }
}

/// The figure, and what it says of what is stated.
pub fn judge(bare: Series, cached: Series) -> Measured {
    let share = cached.ratio(SHARE, &bare);
    Measured {
        figure: Figure::Quotes,
        about: format!(
            "quotes: GET /quotes/{SYMBOL} against a bare GET, one core each for server and \
             generator, {CONNECTIONS} connections, {SECONDS} s"
        ),
        verdicts: vec![STATED.judge(&share)],
        series: vec![bare, cached, share],
    }
}

/// The configuration in `path`, but with one worker thread for market-data-service.
fn with_one_worker(path: &Path, folder: &Path) -> Result<PathBuf, BenchError> {
    let text = std::fs::read_to_string(path).map_err(BenchError::file("read", path))?;
    let changed = set_one_worker(&text).map_err(|reason| BenchError::Configuration {
        path: path.to_owned(),
        reason,
    })?;
    let copy = folder.join("harness.toml");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&copy, changed))
        .map_err(BenchError::file("write", &copy))?;
    Ok(copy)
}

fn set_one_worker(config: &str) -> Result<String, String> {
    let mut config: toml::Table = config.parse().map_err(|error| format!("{error}"))?;
    let path = ["services", Service::MarketDataService.name(), "env"];
    let mut table = &mut config;
    for key in path {
        let next = table
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = next
            .as_table_mut()
            .ok_or_else(|| format!("{key:?} is no table"))?;
    }
    table.insert("WORKER_THREADS".into(), "1".into());
    Ok(config.to_string())
}

/// Has cargo build the bare server as the platform is released, and returns the binary.
async fn build_hello(workspace: &Path) -> Result<PathBuf, BenchError> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = workspace.join("Cargo.toml").display().to_string();
    let argv = [
        cargo.as_str(),
        "build",
        "--release",
        "--package=platform",
        "--example=hello",
        "--locked",
        "--message-format=json-render-diagnostics",
        "--manifest-path",
        manifest.as_str(),
    ]
    .map(str::to_owned);
    let built = Mutex::new(None);
    let listen = |line: &str| {
        if let (Some(path), Ok(mut built)) = (executable(line), built.lock()) {
            *built = Some(path);
        }
    };
    subprocess::run(&argv, BUILD, &listen).await?;
    built.into_inner().ok().flatten().ok_or(BenchError::NoHello)
}

/// Cargo's own word on where the binary is.
fn executable(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["target"]["name"] != "hello" {
        return None;
    }
    Some(message["executable"].as_str()?.into())
}

/// The server's own word on where it listens.
fn listening(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["message"] != "listening" {
        return None;
    }
    line["address"].as_str()?.parse().ok()
}

/// The first read may fill the cache; the second has to come from it.
async fn is_cached(url: &str) -> Result<(), BenchError> {
    let not_cached = |seen: String| BenchError::NotCached {
        url: url.to_owned(),
        seen,
    };
    let unanswered = |error: reqwest::Error| not_cached(harness::chain(&error));
    let client = reqwest::Client::builder()
        .timeout(ANSWER)
        .no_proxy()
        .build()
        .map_err(unanswered)?;
    client.get(url).send().await.map_err(unanswered)?;
    let answer = client.get(url).send().await.map_err(unanswered)?;
    match answer.headers().get("x-cache") {
        Some(found) if found == "hit" => Ok(()),
        found => Err(not_cached(format!(
            "{}, x-cache: {found:?}",
            answer.status()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use harness::config::Config;

    use super::*;

    #[test]
    fn one_worker_is_set_in_a_configuration_that_stays_good() {
        let shipped = include_str!("../../../harness.toml");
        let text = set_one_worker(shipped).unwrap();
        let config = Config::parse(Path::new("harness.toml"), &text).unwrap();
        let of = |service| config.service_env[&service].clone();
        assert_eq!(of(Service::MarketDataService)["WORKER_THREADS"], "1");
        assert_eq!(of(Service::ApiGateway)["RATE_LIMIT_PER_SECOND"], "100");
        // A user's own setting is in the way of the measurement, and gives way.
        assert_eq!(set_one_worker(&text).unwrap(), text);
    }

    #[test]
    fn a_configuration_that_cannot_be_changed_is_refused() {
        assert!(
            set_one_worker("services = 3")
                .unwrap_err()
                .contains("services")
        );
        assert!(set_one_worker("[").is_err());
    }

    #[test]
    fn cargo_and_the_server_are_taken_at_their_word() {
        let built =
            r#"{"reason":"compiler-artifact","target":{"name":"hello"},"executable":"/t/hello"}"#;
        assert_eq!(executable(built), Some("/t/hello".into()));
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"platform"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable("   Compiling platform"), None);
        let line = r#"{"message":"listening","address":"127.0.0.1:4711"}"#;
        assert_eq!(listening(line), "127.0.0.1:4711".parse().ok());
        assert_eq!(
            listening(r#"{"message":"ready","address":"127.0.0.1:1"}"#),
            None
        );
    }
}
