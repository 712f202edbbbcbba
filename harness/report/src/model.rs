//! The report's data, as in `report.json`.
//!
//! A breaking change raises `version`. An added field or value does not. All durations are
//! milliseconds, except where a field says otherwise.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use base::exit::ExitCode;
use base::run::comparison::ComparisonSummary;
use base::run::counts::Counts;
use base::run::event::{
    Check, CheckOutcome, Failure, Host, LogExcerpt, Part, Stage, StageResult, Threshold,
};
use base::run::load::LoadMeasurement;
use base::run::release::ReleaseTraffic;

/// The report of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// Always [`Report::SCHEMA`].
    pub schema: String,
    /// The schema's version, [`Report::VERSION`] if this harness wrote it.
    pub version: u32,
    /// The run's id, also the name of its folder.
    pub run: String,
    /// The arguments after `cargo xtask`.
    pub command: String,
    /// The platform's name in `harness.toml`; empty if the record is of an older version.
    #[serde(default)]
    pub platform: String,
    /// The version of the platform; empty if it is not on record.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub platform_version: String,
    /// The checkout; none if it was not one of Git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout: Option<Checkout>,
    /// The target's name in `harness.toml`.
    pub target: String,
    /// The environment's name.
    pub environment: String,
    /// The machine; none if the run was killed before it reported it.
    pub host: Option<Host>,
    /// The time of the first event, UTC.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", extend("format" = "date-time")))]
    pub started_at: Option<Timestamp>,
    /// The duration of the run; until its last event if it is unfinished.
    pub millis: u64,
    /// The verdict.
    pub verdict: RunVerdict,
    /// The verdict's reason, in a sentence or two: the same in every form of the report, and on
    /// the terminal.
    #[serde(default)]
    pub headline: String,
    /// The exit code; none if the run did not finish.
    pub exit_code: Option<ExitCode>,
    /// The checks of all scenarios.
    pub checks: Counts,
    /// The stages, in the order in which they started. They may overlap.
    pub stages: Vec<StageReport>,
    /// What the end of the run waited for, in the order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub critical_path: Vec<CriticalPart>,
    /// When the environment was up, after the start of the run.
    pub up_after_millis: Option<u64>,
    /// The parts of the environment.
    pub parts: Vec<Part>,
    /// The parts that exited unexpectedly.
    pub lost_parts: Vec<LostPart>,
    /// The scenarios, in the order in which they started.
    pub scenarios: Vec<ScenarioReport>,
    /// The traffic during releases, in the order of the releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<ReleaseTraffic>,
    /// What loads measured, in the order of the loads. Their times are microseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loads: Vec<LoadMeasurement>,
    /// The rules for load results, in the order of their evaluation.
    #[serde(default)]
    pub thresholds: Vec<Threshold>,
    /// The comparisons of load results.
    #[serde(default)]
    pub comparisons: Vec<ComparisonSummary>,
    /// The failures outside of checks.
    pub failures: Vec<RunFailure>,
    /// The number, from 1, of the record's line that a kill cut short.
    pub torn_line: Option<usize>,
}

/// A state of the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checkout {
    /// Git's name of the commit.
    pub commit: String,
    /// Whether files differ from the commit.
    pub dirty: bool,
}

/// On one line: `7161467a1b2c, with changes`.
impl std::fmt::Display for Checkout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let commit: String = self.commit.chars().take(12).collect();
        let state = if self.dirty {
            "with changes"
        } else {
            "unchanged"
        };
        write!(f, "{commit}, {state}")
    }
}

/// One stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StageReport {
    /// The stage.
    pub stage: Stage,
    /// Its start, after the start of the run.
    pub start_millis: u64,
    /// Its duration; until the last event if it is unfinished.
    pub millis: u64,
    /// How it ended.
    pub end: StageEnd,
    /// Its steps, in the order of completion.
    pub steps: Vec<StepReport>,
    /// Information for the reader.
    pub notes: Vec<String>,
}

impl StageReport {
    /// Its end, after the start of the run.
    pub fn end_millis(&self) -> u64 {
        self.start_millis.saturating_add(self.millis)
    }
}

/// A part of the critical path: what came after it waited for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CriticalPart {
    /// The stage.
    pub stage: Stage,
    /// The step or scenario; none for time of the stage in no step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// Its start, after the start of the run.
    pub start_millis: u64,
    /// How long it was waited for.
    pub millis: u64,
}

impl CriticalPart {
    /// Its end, after the start of the run.
    pub fn end_millis(&self) -> u64 {
        self.start_millis.saturating_add(self.millis)
    }
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum StageEnd {
    /// It succeeded.
    Done,
    /// It failed.
    Failed,
    /// It was inconclusive.
    Inconclusive,
    /// A signal interrupted it.
    Interrupted,
    /// Its end is not on record.
    Unfinished,
}

/// A part of a stage with its own time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepReport {
    /// The result.
    pub step: String,
    /// Its start, after the start of the run.
    pub start_millis: u64,
    /// Its duration.
    pub millis: u64,
}

/// A part of the environment that exited unexpectedly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LostPart {
    /// Its name.
    pub part: String,
    /// When its exit was detected, after the start of the run.
    pub after_millis: u64,
    /// How it exited, as text.
    pub how: String,
    /// Its log.
    pub log: String,
}

/// One scenario and its checks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScenarioReport {
    /// Its name.
    pub scenario: String,
    /// The claim it proves.
    pub claim: String,
    /// Its start, after the start of the run.
    pub start_millis: u64,
    /// Its duration; until the last event if it is unfinished.
    pub millis: u64,
    /// Whether its end is on record.
    pub finished: bool,
    /// Its result.
    pub result: ScenarioResult,
    /// The counts of its checks.
    pub counts: Counts,
    /// Its checks, in order.
    pub checks: Vec<Check>,
    /// Lines of logs that may explain its failed checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogExcerpt>,
}

/// The result of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ScenarioResult {
    /// It finished, at least one check passed, and none failed or was inconclusive.
    Held,
    /// A check failed, whether or not it finished.
    Failed,
    /// It finished, no check failed, and at least one was inconclusive.
    Inconclusive,
    /// It finished, and every check was skipped.
    Skipped,
    /// It finished without a check, which proves nothing.
    Unproven,
    /// Its end is not on record, and no check failed.
    Unfinished,
}

/// A failure outside of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunFailure {
    /// Its stage, if one was running or had just failed.
    pub stage: Option<Stage>,
    /// The details.
    #[serde(flatten)]
    pub failure: Failure,
}

impl Report {
    /// The name of the schema of `report.json`.
    pub const SCHEMA: &str = "trii-rehearsal/report";
    /// The version of the schema that this harness writes.
    pub const VERSION: u32 = 1;

    /// What the report is about: `TRII rehearsal`.
    pub fn product(&self) -> String {
        match self.platform.as_str() {
            "" => "Rehearsal".to_owned(),
            platform => format!("{platform} rehearsal"),
        }
    }

    /// Returns the failed checks, with their scenario.
    pub fn failed_checks(&self) -> impl Iterator<Item = (&ScenarioReport, &Check, &Failure)> {
        self.scenarios.iter().flat_map(|scenario| {
            scenario
                .failed_checks()
                .map(move |(check, failure)| (scenario, check, failure))
        })
    }

    /// Returns the inconclusive checks, with their scenario and the reason.
    pub fn inconclusive_checks(&self) -> impl Iterator<Item = (&ScenarioReport, &Check, &str)> {
        self.scenarios.iter().flat_map(|scenario| {
            scenario
                .inconclusive_checks()
                .map(move |(check, because)| (scenario, check, because))
        })
    }

    /// Returns the versions that ran: of the platform, and those that answered a load.
    pub fn versions(&self) -> Vec<String> {
        let platform = match (self.platform.as_str(), self.platform_version.as_str()) {
            (_, "") => None,
            ("", version) => Some(version.to_owned()),
            (platform, version) => Some(format!("{platform} {version}")),
        };
        let answered = self.loads.iter().flat_map(|load| &load.versions);
        let answered = answered.map(|(service, version)| format!("{service} {version}"));
        let answered: BTreeSet<String> = answered.collect();
        platform.into_iter().chain(answered).collect()
    }

    /// Returns the counts of all results: `checks: 3 passed · thresholds: 2 hold`.
    pub fn judged(&self) -> String {
        let mut counts = Vec::new();
        if self.checks.total() > 0 || (self.thresholds.is_empty() && self.comparisons.is_empty()) {
            counts.push(format!("checks: {}", self.checks));
        }
        if !self.thresholds.is_empty() {
            counts.push(format!("thresholds: {}", self.thresholds_counted()));
        }
        let comparisons = self.comparisons.iter();
        counts.extend(comparisons.map(|it| format!("verdicts: {}", it.counted())));
        counts.join(" · ")
    }

    /// `1 fails, 2 hold`.
    pub(super) fn thresholds_counted(&self) -> String {
        let counts = [
            (self.failed_thresholds().count(), "fail"),
            (self.thresholds_that_hold(), "hold"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let counts = counts.map(|(count, verb)| match count {
            1 => format!("1 {verb}s"),
            _ => format!("{count} {verb}"),
        });
        counts.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn thresholds_that_hold(&self) -> usize {
        self.thresholds.iter().filter(|it| it.holds).count()
    }

    pub(super) fn failed_thresholds(&self) -> impl Iterator<Item = &Threshold> {
        self.thresholds.iter().filter(|it| !it.holds)
    }

    /// Whether the run generated load.
    pub(super) fn is_of_load(&self) -> bool {
        self.stages.iter().any(|it| it.stage == Stage::Load)
    }

    /// Whether the run started an environment, rather than use one that was up.
    pub(super) fn stands_up(&self) -> bool {
        let mut stages = self.stages.iter().map(|it| it.stage);
        self.up_after_millis.is_some()
            || stages.any(|stage| matches!(stage, Stage::Preflight | Stage::Provision))
    }

    /// Returns the notes of all stages, with their stage.
    pub fn notes(&self) -> impl Iterator<Item = (Stage, &str)> {
        self.stages
            .iter()
            .flat_map(|stage| stage.notes.iter().map(|note| (stage.stage, note.as_str())))
    }
}

impl ScenarioReport {
    /// Returns the failed checks.
    pub fn failed_checks(&self) -> impl Iterator<Item = (&Check, &Failure)> {
        self.checks.iter().filter_map(|check| match &check.outcome {
            CheckOutcome::Failed { failure } => Some((check, failure)),
            _ => None,
        })
    }

    /// Returns the inconclusive checks, with the reason.
    pub fn inconclusive_checks(&self) -> impl Iterator<Item = (&Check, &str)> {
        self.checks.iter().filter_map(|check| match &check.outcome {
            CheckOutcome::Inconclusive { because } => Some((check, because.as_str())),
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

/// The verdict on a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RunVerdict {
    /// It exited with 0, and nothing in the record contradicts this.
    Held,
    /// A check or the run failed.
    Failed,
    /// The environment did not start.
    NotHad,
    /// A guard rail refused it.
    Refused,
    /// There is not enough evidence.
    Inconclusive,
    /// Something that it created was not removed.
    CleanupIncomplete,
    /// A signal interrupted it, and it cleaned up.
    Interrupted,
    /// Its end is not on record: it is still running, or the harness was killed.
    #[default]
    Unfinished,
}

impl std::fmt::Display for RunVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            RunVerdict::Held => "Held",
            RunVerdict::Failed => "Failed",
            RunVerdict::NotHad => "No environment",
            RunVerdict::Refused => "Refused",
            RunVerdict::Inconclusive => "Inconclusive",
            RunVerdict::CleanupIncomplete => "Cleanup incomplete",
            RunVerdict::Interrupted => "Interrupted",
            RunVerdict::Unfinished => "Unfinished",
        })
    }
}
