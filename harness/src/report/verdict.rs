//! How a run is to be read, in one word and in one sentence.

use serde::{Deserialize, Serialize};

use super::model::{Report, ScenarioResult, StageEnd};
use crate::duration::human;
use crate::exit::ExitCode;
use crate::run::comparison;

/// How a run is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It exited with 0, and the record has nothing that speaks against it.
    Held,
    /// A check failed, or the run did.
    Failed,
    /// The environment could not be had.
    NotHad,
    /// A guard rail refused it.
    Refused,
    /// Not enough evidence.
    Inconclusive,
    /// Something it created is left.
    CleanupIncomplete,
    /// A signal ended it, and it cleaned up.
    Interrupted,
    /// Its end is not on record: it is still going, or the harness was killed.
    Unfinished,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Verdict::Held => "Held",
            Verdict::Failed => "Failed",
            Verdict::NotHad => "No environment",
            Verdict::Refused => "Refused",
            Verdict::Inconclusive => "Inconclusive",
            Verdict::CleanupIncomplete => "Cleanup incomplete",
            Verdict::Interrupted => "Interrupted",
            Verdict::Unfinished => "Unfinished",
        })
    }
}

/// The verdict on a report whose other fields are filled in.
///
/// The exit code decides, with one exception: 0 is not believed over a record that
/// shows something red, or that has a hole where evidence should be.
pub(super) fn of(report: &Report) -> Verdict {
    match report.exit_code {
        None => Verdict::Unfinished,
        Some(ExitCode::Held) if shows_red(report) => Verdict::Failed,
        Some(ExitCode::Held) if lacks_evidence(report) => Verdict::Inconclusive,
        Some(ExitCode::Held) => Verdict::Held,
        Some(
            ExitCode::CheckFailed
            | ExitCode::Usage
            | ExitCode::Regression
            | ExitCode::ThresholdFailed,
        ) => Verdict::Failed,
        Some(ExitCode::NoEnvironment) => Verdict::NotHad,
        Some(ExitCode::Refused) => Verdict::Refused,
        Some(ExitCode::Inconclusive) => Verdict::Inconclusive,
        Some(ExitCode::CleanupIncomplete) => Verdict::CleanupIncomplete,
        Some(ExitCode::Interrupted | ExitCode::Terminated) => Verdict::Interrupted,
    }
}

fn shows_red(report: &Report) -> bool {
    report.checks.failed > 0
        || !report.failures.is_empty()
        || !report.lost_parts.is_empty()
        || report.failed_thresholds().next().is_some()
        || compared_as(report, comparison::Verdict::Regressed)
        || report.stages.iter().any(|it| it.end == StageEnd::Failed)
}

fn compared_as(report: &Report, verdict: comparison::Verdict) -> bool {
    report.comparisons.iter().any(|it| it.verdict == verdict)
}

/// A run without scenarios has nothing to prove; one with scenarios has to.
fn lacks_evidence(report: &Report) -> bool {
    let proves_nothing = !report.scenarios.is_empty() && report.checks.passed == 0;
    proves_nothing
        || report.checks.inconclusive > 0
        || compared_as(report, comparison::Verdict::Inconclusive)
        || compared_as(report, comparison::Verdict::NotComparable)
        || report.stages.iter().any(|it| it.end != StageEnd::Done)
        || report
            .scenarios
            .iter()
            .any(|it| !it.finished || it.result == ScenarioResult::Unproven)
}

impl Report {
    /// The verdict in one sentence, without its name.
    pub fn headline(&self) -> String {
        match self.verdict {
            Verdict::Held => self.what_held(),
            Verdict::Unfinished => format!(
                "The record stops after {}{}: the run is still going, or the harness was killed.",
                human(self.millis),
                self.while_in(StageEnd::Unfinished),
            ),
            Verdict::Interrupted => format!(
                "A signal ended the run{}; it cleaned up and left after {}.{}",
                self.while_in(StageEnd::Interrupted),
                human(self.millis),
                self.so_far(),
            ),
            Verdict::Failed
            | Verdict::NotHad
            | Verdict::Refused
            | Verdict::Inconclusive
            | Verdict::CleanupIncomplete => self.what_went_wrong(),
        }
    }

    /// What to do about what the run may have left on the machine.
    pub fn cleanup_advice(&self) -> Option<&'static str> {
        matches!(
            self.verdict,
            Verdict::Unfinished | Verdict::CleanupIncomplete
        )
        .then_some("cargo xtask down --all")
    }

    fn what_held(&self) -> String {
        if let Some(comparison) = self.comparisons.first() {
            return format!("Nothing regressed: {}.", comparison.counted());
        }
        match (self.checks.passed, self.checks.skipped) {
            (0, _) if self.is_of_load() => {
                let ran = "The load ran to its end, and all that must hold of it does.";
                match self.thresholds.is_empty() {
                    true => ran.to_owned(),
                    false => format!("{ran} {}.", capital(&self.judged())),
                }
            }
            (0, _) => "The command did what it is for; no check ran, so nothing is proven about the platform.".to_owned(),
            (1, 0) => "The one check passed.".to_owned(),
            (passed, 0) => format!("All {passed} checks passed."),
            (passed, skipped) => format!("{passed} of {} checks passed, {skipped} skipped.", self.checks.total()),
        }
    }

    fn what_went_wrong(&self) -> String {
        let mut sentences = Vec::new();
        // What was compared is told last, and is what the run was for.
        let telling = match self.comparisons.is_empty() {
            true => self.failures.first(),
            false => self.failures.last(),
        };
        if let Some(telling) = telling {
            sentences.push(sentence(&telling.failure.what));
        }
        if self.checks.failed > 0 {
            let (failed, total) = (self.checks.failed, self.checks.total());
            sentences.push(format!("{failed} of {total} checks failed."));
        }
        if self.checks.inconclusive > 0 {
            let (inconclusive, total) = (self.checks.inconclusive, self.checks.total());
            let verb = if inconclusive == 1 { "is" } else { "are" };
            sentences.push(format!(
                "{inconclusive} of {total} checks {verb} inconclusive."
            ));
        }
        if let Some(lost) = self.lost_parts.first() {
            sentences.push(format!("{} was lost: {}.", lost.part, lost.how));
        }
        let code = self.exit_code.unwrap_or(ExitCode::Held);
        match (code, sentences.is_empty()) {
            (ExitCode::Held, true) => sentences
                .push("The exit code said 0, but the record lacks the evidence.".to_owned()),
            (ExitCode::Held, false) => {
                sentences.push("The exit code said 0; the record says otherwise.".to_owned());
            }
            (code, true) => sentences.push(sentence(code.meaning())),
            (_, false) => {}
        }
        sentences.join(" ")
    }

    /// What a run that was cut short had judged.
    fn so_far(&self) -> String {
        let nothing = self.checks.total() == 0 && self.thresholds.is_empty();
        match nothing && self.is_of_load() {
            true => " What was measured until then is kept.".to_owned(),
            false => format!(" {}.", capital(&self.judged())),
        }
    }

    /// ` during verify`, for the last stage that ended that way.
    fn while_in(&self, end: StageEnd) -> String {
        let stage = self.stages.iter().rfind(|stage| stage.end == end);
        stage.map_or_else(String::new, |stage| format!(" during {}", stage.stage))
    }
}

/// Makes a sentence of a phrase.
fn sentence(phrase: &str) -> String {
    match phrase.trim_end_matches('.') {
        "" => String::new(),
        phrase => format!("{}.", capital(phrase)),
    }
}

fn capital(phrase: &str) -> String {
    let mut characters = phrase.chars();
    match characters.next() {
        Some(first) => format!("{}{}", first.to_uppercase(), characters.as_str()),
        None => String::new(),
    }
}
