//! Whether a result is good or bad, for colours and icons.

use super::model::{RunVerdict, ScenarioResult};

/// The tone of a result.
#[derive(Clone, Copy)]
pub(super) enum Tone {
    /// It held.
    Good,
    /// It failed.
    Bad,
    /// It neither held nor failed.
    Warn,
    /// It is neutral.
    Quiet,
}

impl Tone {
    /// The emoji for Markdown.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Tone::Good => "✅",
            Tone::Bad => "❌",
            Tone::Warn => "⚠️",
            Tone::Quiet => "⏭️",
        }
    }
}

impl From<RunVerdict> for Tone {
    fn from(verdict: RunVerdict) -> Tone {
        match verdict {
            RunVerdict::Held => Tone::Good,
            RunVerdict::Failed | RunVerdict::NotHad => Tone::Bad,
            RunVerdict::Refused
            | RunVerdict::Inconclusive
            | RunVerdict::CleanupIncomplete
            | RunVerdict::Interrupted
            | RunVerdict::Unfinished => Tone::Warn,
        }
    }
}

impl From<ScenarioResult> for Tone {
    fn from(result: ScenarioResult) -> Tone {
        match result {
            ScenarioResult::Held => Tone::Good,
            ScenarioResult::Failed => Tone::Bad,
            ScenarioResult::Skipped => Tone::Quiet,
            ScenarioResult::Inconclusive
            | ScenarioResult::Unproven
            | ScenarioResult::Unfinished => Tone::Warn,
        }
    }
}
