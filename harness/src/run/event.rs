//! What happens in a run, as one line of `events.jsonl` each.
//!
//! The events are the only source of the report: whatever a reader should learn
//! later has to be an event now.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::comparison::Comparison;
use super::counts::Counts;
use crate::exit::ExitCode;

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Wall-clock time, UTC.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub what: Happening,
}

/// The kinds of event, told apart by the key `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happening {
    /// The first event of every run.
    RunStarted {
        /// The run's id, also the name of its folder.
        run: String,
        /// What was typed after `cargo xtask`.
        command: String,
        /// The target's name in `harness.toml`.
        target: String,
        /// The environment's name.
        environment: String,
        /// The machine, for whoever compares runs.
        host: Host,
    },
    /// A stage began.
    StageStarted {
        /// Which.
        stage: Stage,
    },
    /// A part of a stage that is worth its own time in the report.
    Step {
        /// The stage it belongs to.
        stage: Stage,
        /// What was done, e.g. `Postgres accepts connections`.
        step: String,
        /// How long it took, milliseconds.
        millis: u64,
    },
    /// Something a reader should know, e.g. why binaries were used instead of containers.
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
    /// The environment answers; what it is made of.
    EnvironmentUp {
        /// The parts.
        parts: Vec<Part>,
    },
    /// A part of the environment ended although nobody asked it to.
    PartLost {
        /// Its name.
        part: String,
        /// How it ended, in words, e.g. `signal 9 (SIGKILL)`.
        how: String,
        /// Where its last words are.
        log: String,
    },
    /// A scenario began.
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
    /// A scenario ended.
    ScenarioFinished {
        /// The scenario's name.
        scenario: String,
        /// How long it took, milliseconds.
        millis: u64,
    },
    /// A rule over a load result was judged.
    ThresholdJudged {
        /// The rule, and how it fared.
        #[serde(flatten)]
        threshold: Threshold,
    },
    /// Load results were held against each other.
    Compared {
        /// What it came to.
        comparison: Comparison,
    },
    /// What ended the run, where it was not a check.
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
pub struct Host {
    /// e.g. `Debian GNU/Linux 12`.
    pub system: String,
    /// Logical processors.
    pub cores: usize,
    /// Physical memory, MiB.
    pub memory_mib: u64,
    /// The processor's name, where the system tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
}

/// In one phrase: `Debian GNU/Linux 12, 8 cores, 15.6 GiB, Some Processor 9000`.
impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, tenth) = (self.memory_mib / 1024, self.memory_mib % 1024 * 10 / 1024);
        let cores = if self.cores == 1 { "core" } else { "cores" };
        write!(
            f,
            "{}, {} {cores}, {whole}.{tenth} GiB",
            self.system, self.cores
        )?;
        match &self.processor {
            Some(processor) => write!(f, ", {processor}"),
            None => Ok(()),
        }
    }
}

/// The stages of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Reads the configuration and decides what will run.
    Plan,
    /// Looks whether this machine can do it.
    Preflight,
    /// Builds the platform and starts the backing services.
    Provision,
    /// Brings the platform up on them.
    Deploy,
    /// Runs the scenarios.
    Verify,
    /// Puts load on the platform.
    Load,
    /// Ends what the run started.
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
#[serde(rename_all = "kebab-case")]
pub enum StageResult {
    /// It did what it is for.
    Done,
    /// It did not; a `failed` event or a failed check says why.
    Failed,
    /// It came to no conclusion; an inconclusive check says why.
    Inconclusive,
    /// It was cut short by a signal.
    Interrupted,
}

/// One part of an environment that is up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// e.g. `postgres` or `api-gateway`.
    pub name: String,
    /// How it runs, e.g. `container trii-default-postgres` or `process 4711`.
    pub runs_as: String,
    /// Where it answers, e.g. `127.0.0.1:41233`.
    pub address: String,
    /// Where it tells of its metrics and its health, where that is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Its log, relative to the run folder, where it has one there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

impl Part {
    /// Its process id, where it is a process of this machine.
    pub fn process_id(&self) -> Option<u32> {
        self.runs_as.strip_prefix("process ")?.parse().ok()
    }
}

/// One observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What is observed, as a claim: `a bad token is refused`.
    pub name: String,
    /// How long it took, milliseconds.
    pub millis: u64,
    /// What was seen.
    pub outcome: Outcome,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// The claim held.
    Passed {
        /// The evidence, one line, e.g. `401, www-authenticate: Bearer`.
        seen: String,
    },
    /// The claim did not hold.
    Failed {
        /// What a person needs to go on.
        failure: Failure,
    },
    /// There was not enough evidence to say whether the claim held.
    Inconclusive {
        /// What was lacking, one sentence: it never reads like a pass.
        because: String,
    },
    /// The claim could not be looked at here.
    Skipped {
        /// The reason: a skip never reads like a pass.
        because: String,
    },
}

/// A rule over a load result, and how it fared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Of which load: `average`, or `steady, a 3` of several.
    pub of: String,
    /// As it was written: `http_req_duration: p(95)<500`.
    pub threshold: String,
    /// What was compared with its limit, in words.
    pub seen: String,
    /// Whether it holds.
    pub holds: bool,
}

/// In one line: `holds   http_req_duration: p(95)<500  41.307 ms`.
impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let outcome = if self.holds { "holds" } else { "FAILS" };
        write!(f, "{outcome:<6}  {}  {}", self.threshold, self.seen)
    }
}

/// What every failure carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong, one sentence.
    pub what: String,
    /// What was expected.
    pub expected: String,
    /// What was seen instead.
    pub seen: String,
    /// Where to look: a URL, a file, a file and line.
    pub look_at: String,
    /// The command that shows more.
    pub next: String,
}

impl StageResult {
    /// A stage that made these checks.
    pub fn of_checks(checks: Counts) -> Self {
        match ExitCode::of_checks(checks) {
            ExitCode::Held => StageResult::Done,
            ExitCode::Inconclusive => StageResult::Inconclusive,
            _ => StageResult::Failed,
        }
    }
}
