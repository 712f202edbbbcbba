//! The report's data, as `report.json` has it.
//!
//! A reader may rely on `schema` and `version`: a change that breaks readers raises
//! the version; a field or a value that is only added does not. All durations are milliseconds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::exit::ExitCode;
use crate::run::comparison::Comparison;
use crate::run::counts::Counts;
use crate::run::event::{Check, Failure, Host, Outcome, Part, Stage, StageResult, Threshold};

/// One run, as its events tell it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`Report::SCHEMA`].
    pub schema: String,
    /// The schema's version, [`Report::VERSION`] when written by this harness.
    pub version: u32,
    /// The run's id, also the name of its folder.
    pub run: String,
    /// What was typed after `cargo xtask`.
    pub command: String,
    /// The target's name in `harness.toml`.
    pub target: String,
    /// The environment's name.
    pub environment: String,
    /// The machine; absent when the run was killed before it could say.
    pub host: Option<Host>,
    /// The time of the first event, UTC.
    pub started_at: Option<Timestamp>,
    /// How long the run took; of an unfinished run, until its last event.
    pub millis: u64,
    /// How the run is to be read.
    pub verdict: Verdict,
    /// What the shell saw; absent when the run did not finish.
    pub exit_code: Option<ExitCode>,
    /// All checks of all scenarios.
    pub checks: Counts,
    /// The stages in the order they began. They may overlap in time.
    pub stages: Vec<StageReport>,
    /// When the environment was up, milliseconds after the run began.
    pub up_after_millis: Option<u64>,
    /// What the environment was made of.
    pub parts: Vec<Part>,
    /// The parts that ended although nobody asked them to.
    pub lost_parts: Vec<LostPart>,
    /// The scenarios in the order they began.
    pub scenarios: Vec<ScenarioReport>,
    /// The rules that load results were judged by, in the order in which they were.
    #[serde(default)]
    pub thresholds: Vec<Threshold>,
    /// The load results that were held against each other.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    /// What went wrong outside of checks.
    pub failures: Vec<RunFailure>,
    /// The line of the record, counted from 1, that a kill cut short.
    pub torn_line: Option<usize>,
}

/// One stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// When it began, milliseconds after the run did.
    pub start_millis: u64,
    /// How long it took; when unfinished, until the last event.
    pub millis: u64,
    /// How it ended.
    pub end: StageEnd,
    /// What it did, in the order of completion.
    pub steps: Vec<StepReport>,
    /// What a reader should know of it.
    pub notes: Vec<String>,
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageEnd {
    /// It did what it is for.
    Done,
    /// It did not.
    Failed,
    /// It came to no conclusion.
    Inconclusive,
    /// It was cut short by a signal.
    Interrupted,
    /// Its end is not on record.
    Unfinished,
}

/// A part of a stage with its own time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// What was done.
    pub step: String,
    /// When it began, milliseconds after the run did.
    pub start_millis: u64,
    /// How long it took.
    pub millis: u64,
}

/// A part of the environment that ended although nobody asked it to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LostPart {
    /// Its name.
    pub part: String,
    /// When it was noticed, milliseconds after the run began.
    pub after_millis: u64,
    /// How it ended, in words.
    pub how: String,
    /// Where its last words are.
    pub log: String,
}

/// One scenario and what was observed in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioReport {
    /// Its name.
    pub scenario: String,
    /// The claim it proves.
    pub claim: String,
    /// When it began, milliseconds after the run did.
    pub start_millis: u64,
    /// How long it took; when unfinished, until the last event.
    pub millis: u64,
    /// Whether its end is on record.
    pub finished: bool,
    /// How it is to be read.
    pub result: ScenarioResult,
    /// Its checks, counted.
    pub counts: Counts,
    /// Its checks, in their order.
    pub checks: Vec<Check>,
}

/// How a scenario is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScenarioResult {
    /// It finished, at least one check passed and none failed or was inconclusive.
    Held,
    /// A check failed, whether or not it finished.
    Failed,
    /// It finished, no check failed and at least one was inconclusive.
    Inconclusive,
    /// It finished and every check was skipped.
    Skipped,
    /// It finished without a single check: that proves nothing.
    Unproven,
    /// Its end is not on record, and no check had failed until then.
    Unfinished,
}

/// Something that went wrong outside of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFailure {
    /// The stage it belongs to, where one was going on or had just failed.
    pub stage: Option<Stage>,
    /// What went wrong and what to do.
    #[serde(flatten)]
    pub failure: Failure,
}

impl Report {
    /// The name of the schema of `report.json`.
    pub const SCHEMA: &str = "trii-rehearsal/report";
    /// The version of the schema this harness writes.
    pub const VERSION: u32 = 1;

    /// The failed checks, with their scenario.
    pub fn failed_checks(&self) -> impl Iterator<Item = (&ScenarioReport, &Check, &Failure)> {
        self.scenarios.iter().flat_map(|scenario| {
            scenario
                .failed_checks()
                .map(move |(check, failure)| (scenario, check, failure))
        })
    }

    /// The inconclusive checks, with their scenario and what was lacking.
    pub fn inconclusive_checks(&self) -> impl Iterator<Item = (&ScenarioReport, &Check, &str)> {
        self.scenarios.iter().flat_map(|scenario| {
            scenario
                .inconclusive_checks()
                .map(move |(check, because)| (scenario, check, because))
        })
    }

    /// All that was judged, counted: `checks: 3 passed · thresholds: 2 hold`.
    pub fn judged(&self) -> String {
        let mut all = Vec::new();
        if self.checks.total() > 0 || (self.thresholds.is_empty() && self.comparisons.is_empty()) {
            all.push(format!("checks: {}", self.checks));
        }
        if !self.thresholds.is_empty() {
            all.push(format!("thresholds: {}", self.thresholds_counted()));
        }
        let comparisons = self.comparisons.iter();
        all.extend(comparisons.map(|it| format!("verdicts: {}", it.counted())));
        all.join(" · ")
    }

    /// `1 fails, 2 hold`.
    pub(super) fn thresholds_counted(&self) -> String {
        let (hold, fail) = (
            self.thresholds_that_hold(),
            self.failed_thresholds().count(),
        );
        let verb = |count: usize, one: &str, several: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {several}"),
        };
        match (hold, fail) {
            (hold, 0) => verb(hold, "holds", "hold"),
            (0, fail) => verb(fail, "fails", "fail"),
            (hold, fail) => {
                format!(
                    "{}, {}",
                    verb(fail, "fails", "fail"),
                    verb(hold, "holds", "hold")
                )
            }
        }
    }

    pub(super) fn thresholds_that_hold(&self) -> usize {
        self.thresholds.iter().filter(|it| it.holds).count()
    }

    /// The thresholds that do not hold.
    pub(super) fn failed_thresholds(&self) -> impl Iterator<Item = &Threshold> {
        self.thresholds.iter().filter(|it| !it.holds)
    }

    /// Whether load was put on the platform.
    pub(super) fn is_of_load(&self) -> bool {
        self.stages.iter().any(|it| it.stage == Stage::Load)
    }

    /// Whether the run was to stand up an environment, rather than look at one that is there.
    pub(super) fn stands_up(&self) -> bool {
        let begins =
            |stage: &StageReport| matches!(stage.stage, Stage::Preflight | Stage::Provision);
        self.up_after_millis.is_some() || self.stages.iter().any(begins)
    }

    /// The notes of all stages, with their stage.
    pub fn notes(&self) -> impl Iterator<Item = (Stage, &str)> {
        self.stages
            .iter()
            .flat_map(|stage| stage.notes.iter().map(|note| (stage.stage, note.as_str())))
    }
}

impl ScenarioReport {
    /// The failed checks.
    pub fn failed_checks(&self) -> impl Iterator<Item = (&Check, &Failure)> {
        self.checks.iter().filter_map(|check| match &check.outcome {
            Outcome::Failed { failure } => Some((check, failure)),
            _ => None,
        })
    }

    /// The inconclusive checks, with what was lacking.
    pub fn inconclusive_checks(&self) -> impl Iterator<Item = (&Check, &str)> {
        self.checks.iter().filter_map(|check| match &check.outcome {
            Outcome::Inconclusive { because } => Some((check, because.as_str())),
            _ => None,
        })
    }
}

impl From<StageResult> for StageEnd {
    fn from(result: StageResult) -> Self {
        match result {
            StageResult::Done => StageEnd::Done,
            StageResult::Failed => StageEnd::Failed,
            StageResult::Inconclusive => StageEnd::Inconclusive,
            StageResult::Interrupted => StageEnd::Interrupted,
        }
    }
}

impl std::fmt::Display for StageEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            StageEnd::Done => "done",
            StageEnd::Failed => "failed",
            StageEnd::Inconclusive => "inconclusive",
            StageEnd::Interrupted => "interrupted",
            StageEnd::Unfinished => "unfinished",
        })
    }
}

impl std::fmt::Display for ScenarioResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            ScenarioResult::Held => "held",
            ScenarioResult::Failed => "failed",
            ScenarioResult::Inconclusive => "inconclusive",
            ScenarioResult::Skipped => "skipped",
            ScenarioResult::Unproven => "unproven",
            ScenarioResult::Unfinished => "unfinished",
        })
    }
}
