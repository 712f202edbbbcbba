//! The events of a run. Each is one line of `events.jsonl`.
//!
//! The events are the only source of the report: anything that a report shows must be an event.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::comparison::ComparisonSummary;
use super::load::LoadMeasurement;
use super::release::ReleaseTraffic;
use crate::exit::ExitCode;

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Wall-clock time, UTC.
    #[cfg_attr(feature = "schema", schemars(with = "String", extend("format" = "date-time")))]
    pub at: Timestamp,
    /// The content.
    #[serde(flatten)]
    pub what: Happening,
}

/// The kinds of event, by the key `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happening {
    /// The first event of every run.
    RunStarted {
        /// The run's id, also the name of its folder.
        run: String,
        /// The arguments after `cargo xtask`.
        command: String,
        /// The platform's name in `harness.toml`; empty in records of older versions.
        #[serde(default)]
        platform: String,
        /// The target's name in `harness.toml`.
        target: String,
        /// The environment's name.
        environment: String,
        /// The machine, so that runs can be compared.
        host: Host,
    },
    /// The checkout that the run uses: configuration, charts, programs.
    Checkout {
        /// Git's name of the commit.
        commit: String,
        /// Whether files differ from the commit.
        dirty: bool,
    },
    /// The version of the platform in the environment.
    PlatformVersion {
        /// e.g. `v2.1.0`.
        version: String,
    },
    /// A stage started.
    StageStarted {
        /// Which.
        stage: Stage,
    },
    /// A part of a stage with its own time in the report.
    Step {
        /// The stage it belongs to.
        stage: Stage,
        /// The result, e.g. `Postgres accepts connections`.
        step: String,
        /// How long it took, milliseconds.
        millis: u64,
    },
    /// Information for the reader, e.g. why binaries were used instead of containers.
    Note {
        /// The stage it belongs to.
        stage: Stage,
        /// One sentence.
        text: String,
    },
    /// A stage ended.
    StageFinished {
        /// Which.
        stage: Stage,
        /// How long it took, milliseconds.
        millis: u64,
        /// How it ended.
        result: StageResult,
    },
    /// The environment is up.
    EnvironmentUp {
        /// Its parts.
        parts: Vec<Part>,
    },
    /// A part of the environment exited unexpectedly.
    PartLost {
        /// Its name.
        part: String,
        /// Whether it is a service of the platform, or a pod of one.
        #[serde(default)]
        is_service: bool,
        /// How it exited, e.g. `signal 9 (SIGKILL)`.
        how: String,
        /// Its log.
        log: String,
    },
    /// A scenario started.
    ScenarioStarted {
        /// Its name, e.g. `smoke`.
        scenario: String,
        /// The claim it proves, one sentence.
        claim: String,
    },
    /// One observation inside a scenario.
    CheckFinished {
        /// The scenario's name.
        scenario: String,
        /// The observation.
        check: Check,
    },
    /// A scenario with a failed check ended, and logs have lines that may explain it.
    LogLines {
        /// The scenario's name.
        scenario: String,
        /// The lines of each log.
        logs: Vec<LogExcerpt>,
    },
    /// A scenario ended.
    ScenarioFinished {
        /// The scenario's name.
        scenario: String,
        /// How long it took, milliseconds.
        millis: u64,
    },
    /// A release ended, during which a scenario sent requests.
    ReleaseObserved {
        /// The requests.
        traffic: Box<ReleaseTraffic>,
    },
    /// A load ended.
    LoadMeasured {
        /// What it measured.
        load: Box<LoadMeasurement>,
    },
    /// A rule over a load result was evaluated.
    ThresholdJudged {
        /// The rule and its result.
        #[serde(flatten)]
        threshold: Threshold,
    },
    /// Load results were compared.
    Compared {
        /// The comparison.
        comparison: ComparisonSummary,
    },
    /// The cause that ended the run, other than a check.
    Failed {
        /// What went wrong and what to do.
        failure: Failure,
    },
    /// The last event of every run that was not killed.
    RunFinished {
        /// The process's exit code.
        exit_code: ExitCode,
        /// The whole run, milliseconds.
        millis: u64,
    },
}

/// The machine a run ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Host {
    /// e.g. `Debian GNU/Linux 12`.
    pub system: String,
    /// Logical processors.
    pub cores: usize,
    /// Physical memory, MiB.
    pub memory_mib: u64,
    /// The processor's name, if the system reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
}

/// On one line: `Debian GNU/Linux 12, 8 cores, 15.6 GiB, Some Processor 9000`.
impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (gib, tenths) = (self.memory_mib / 1024, self.memory_mib % 1024 * 10 / 1024);
        let cores = if self.cores == 1 { "core" } else { "cores" };
        write!(
            f,
            "{}, {} {cores}, {gib}.{tenths} GiB",
            self.system, self.cores
        )?;
        match &self.processor {
            Some(processor) => write!(f, ", {processor}"),
            None => Ok(()),
        }
    }
}

/// The stages of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Reads the configuration and selects what runs.
    Plan,
    /// Checks this machine.
    Preflight,
    /// Builds the platform and starts the backing services.
    Provision,
    /// Starts the platform on them.
    Deploy,
    /// Runs the scenarios.
    Verify,
    /// Puts load on the platform.
    Load,
    /// Stops and removes what the run started.
    Teardown,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Stage::Plan => "plan",
            Stage::Preflight => "preflight",
            Stage::Provision => "provision",
            Stage::Deploy => "deploy",
            Stage::Verify => "verify",
            Stage::Load => "load",
            Stage::Teardown => "teardown",
        })
    }
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum StageResult {
    /// It succeeded.
    Done,
    /// It failed; a `failed` event or a failed check has the cause.
    Failed,
    /// It was inconclusive; an inconclusive check has the cause.
    Inconclusive,
    /// A signal interrupted it.
    Interrupted,
}

/// One part of an environment that is up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Part {
    /// e.g. `postgres` or `api-gateway`.
    pub name: String,
    /// How it runs, e.g. `container trii-default-postgres` or `process 4711`.
    pub runs_as: String,
    /// Its address, e.g. `127.0.0.1:41233`.
    pub address: String,
    /// The address of its metrics and health, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Its log, relative to the run folder, if it is in there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

impl Part {
    /// Returns its process id, if it is a process on this machine.
    pub fn process_id(&self) -> Option<u32> {
        self.runs_as.strip_prefix("process ")?.parse().ok()
    }
}

/// One observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Check {
    /// The claim: `a bad token is refused`.
    pub name: String,
    /// How long it took, milliseconds.
    pub millis: u64,
    /// The outcome.
    pub outcome: CheckOutcome,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// The claim held.
    Passed {
        /// The evidence, one line, e.g. `401, www-authenticate: Bearer`.
        seen: String,
    },
    /// The claim did not hold.
    Failed {
        /// The details.
        failure: Failure,
    },
    /// There was not enough evidence for the claim or against it.
    Inconclusive {
        /// The reason, one sentence. It must not read like a pass.
        because: String,
    },
    /// The claim could not be checked here.
    Skipped {
        /// The reason. It must not read like a pass.
        because: String,
    },
}

/// Lines of one log that may explain a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogExcerpt {
    /// The part or the pod that wrote them.
    pub part: String,
    /// The log, relative to the folder of the run that brought the environment up, if it is in
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The lines, in order, without secrets.
    pub lines: Vec<String>,
    /// The number of such lines before them that were left out.
    pub left_out: usize,
}

/// A rule over a load result, and its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Threshold {
    /// The load: `average`, or `steady, a 3` if there are several.
    pub of: String,
    /// The rule as written: `http_req_duration: p(95)<500`.
    pub threshold: String,
    /// The value that was compared with the limit, as text.
    pub seen: String,
    /// Whether the rule holds.
    pub holds: bool,
}

/// On one line: `holds   http_req_duration: p(95)<500  41.307 ms`.
impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let outcome = if self.holds { "holds" } else { "FAILS" };
        write!(f, "{outcome:<6}  {}  {}", self.threshold, self.seen)
    }
}

/// The details of a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Failure {
    /// The problem, one sentence.
    pub what: String,
    /// The expected result.
    pub expected: String,
    /// The actual result.
    pub seen: String,
    /// Where to look: a URL, a file, a file and line.
    pub look_at: String,
    /// The command that shows more.
    pub next: String,
}
