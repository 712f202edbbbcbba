//! The verdict on a run, and its headline.

use super::model::{Report, RunVerdict, ScenarioResult, StageEnd};
use base::duration::human;
use base::exit::ExitCode;
use base::run::comparison;

/// Returns the verdict on a report whose other fields are set.
///
/// The exit code decides, except for 0 if the record shows a failure or lacks evidence.
pub(super) fn of(report: &Report) -> RunVerdict {
    match report.exit_code {
        None => RunVerdict::Unfinished,
        Some(ExitCode::Held) if shows_failure(report) => RunVerdict::Failed,
        Some(ExitCode::Held) if lacks_evidence(report) => RunVerdict::Inconclusive,
        Some(ExitCode::Held) => RunVerdict::Held,
        Some(
            ExitCode::CheckFailed
            | ExitCode::Usage
            | ExitCode::Regression
            | ExitCode::ThresholdFailed,
        ) => RunVerdict::Failed,
        Some(ExitCode::NoEnvironment) => RunVerdict::NotHad,
        Some(ExitCode::Refused) => RunVerdict::Refused,
        Some(ExitCode::Inconclusive) => RunVerdict::Inconclusive,
        Some(ExitCode::CleanupIncomplete) => RunVerdict::CleanupIncomplete,
        Some(ExitCode::Interrupted | ExitCode::Terminated) => RunVerdict::Interrupted,
    }
}

fn shows_failure(report: &Report) -> bool {
    report.checks.failed > 0
        || !report.failures.is_empty()
        || !report.lost_parts.is_empty()
        || report.failed_thresholds().next().is_some()
        || compared_as(report, comparison::ComparisonVerdict::Regressed)
        || report.stages.iter().any(|it| it.end == StageEnd::Failed)
}

fn compared_as(report: &Report, verdict: comparison::ComparisonVerdict) -> bool {
    report.comparisons.iter().any(|it| it.verdict == verdict)
}

/// Only a run with scenarios must prove something.
fn lacks_evidence(report: &Report) -> bool {
    let proves_nothing = !report.scenarios.is_empty() && report.checks.passed == 0;
    proves_nothing
        || report.checks.inconclusive > 0
        || compared_as(report, comparison::ComparisonVerdict::Inconclusive)
        || compared_as(report, comparison::ComparisonVerdict::NotComparable)
        || report.stages.iter().any(|it| it.end != StageEnd::Done)
        || report
            .scenarios
            .iter()
            .any(|it| !it.finished || it.result == ScenarioResult::Unproven)
}

impl Report {
    /// Returns the verdict's reason, without its name.
    pub(super) fn sentences(&self) -> String {
        match self.verdict {
            RunVerdict::Held => self.what_held(),
            RunVerdict::Unfinished => format!(
                "The record stops after {}{}: the run is still running, or the harness was killed.",
                human(self.millis),
                self.while_in(StageEnd::Unfinished),
            ),
            RunVerdict::Interrupted => format!(
                "A signal interrupted the run{}. It cleaned up and exited after {}.{}",
                self.while_in(StageEnd::Interrupted),
                human(self.millis),
                self.so_far(),
            ),
            RunVerdict::Failed
            | RunVerdict::NotHad
            | RunVerdict::Refused
            | RunVerdict::Inconclusive
            | RunVerdict::CleanupIncomplete => self.what_went_wrong(),
        }
    }

    /// Returns the command that removes what the run may have left on the machine.
    pub fn cleanup_advice(&self) -> Option<&'static str> {
        matches!(
            self.verdict,
            RunVerdict::Unfinished | RunVerdict::CleanupIncomplete
        )
        .then_some("cargo xtask down --all")
    }

    fn what_held(&self) -> String {
        if let Some(comparison) = self.comparisons.first() {
            return format!("Nothing regressed: {}.", comparison.counted());
        }
        match (self.checks.passed, self.checks.skipped) {
            (0, _) if self.is_of_load() => {
                let finished = "The load finished, and nothing failed.";
                match self.thresholds.is_empty() {
                    true => finished.to_owned(),
                    false => format!("{finished} {}.", capital(&self.judged())),
                }
            }
            (0, _) => "The command succeeded. No check ran: nothing is proven about the platform."
                .to_owned(),
            (1, 0) => "The one check passed.".to_owned(),
            (passed, 0) => format!("All {passed} checks passed."),
            (passed, skipped) => format!(
                "{passed} of {} checks passed, {skipped} skipped.",
                self.checks.total()
            ),
        }
    }

    fn what_went_wrong(&self) -> String {
        let total = self.checks.total();
        let mut sentences = Vec::new();
        // A comparison is the purpose of its run, and fails last.
        let failure = match self.comparisons.is_empty() {
            true => self.failures.first(),
            false => self.failures.last(),
        };
        sentences.extend(failure.map(|it| sentence(&it.failure.what)));
        if self.checks.failed > 0 {
            sentences.push(format!("{} of {total} checks failed.", self.checks.failed));
        }
        match self.checks.inconclusive {
            0 => {}
            1 => sentences.push(format!("1 of {total} checks is inconclusive.")),
            several => sentences.push(format!("{several} of {total} checks are inconclusive.")),
        }
        if let Some(lost) = self.lost_parts.first() {
            sentences.push(format!("{} was lost: {}.", lost.part, lost.how));
        }
        let code = self.exit_code.unwrap_or(ExitCode::Held);
        match (code, sentences.is_empty()) {
            (ExitCode::Held, true) => {
                sentences.push("The exit code is 0, but the record lacks evidence.".to_owned());
            }
            (ExitCode::Held, false) => sentences.push("But the exit code is 0.".to_owned()),
            (code, true) => sentences.push(sentence(code.meaning())),
            (_, false) => {}
        }
        sentences.join(" ")
    }

    /// Returns the results of a run that was interrupted.
    fn so_far(&self) -> String {
        let nothing = self.checks.total() == 0 && self.thresholds.is_empty();
        match nothing && self.is_of_load() {
            true => " The measurements until then are kept.".to_owned(),
            false => format!(" {}.", capital(&self.judged())),
        }
    }

    /// Returns ` during verify` for the last stage with this end.
    fn while_in(&self, end: StageEnd) -> String {
        let stage = self.stages.iter().rfind(|stage| stage.end == end);
        stage.map_or_else(String::new, |stage| format!(" during {}", stage.stage))
    }
}

/// Turns a phrase into a sentence.
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
