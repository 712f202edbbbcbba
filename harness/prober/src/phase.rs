//! The phases of a release, by the deployer's actions and the version that answered.

use std::fmt;

use crate::answer::Answer;

/// The times of the deployer's actions, in microseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moments {
    /// When it sent the patch that switches. This is before the patch was accepted, so that no
    /// effect of the patch counts as before it.
    pub patch: u64,
    /// When it started to scale the old colour down, if it did.
    pub scale_down: Option<u64>,
    /// The version before the switch.
    pub old: String,
    /// The version after it.
    pub new: String,
}

/// A phase of a release. A request belongs to the phase in which it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before the patch.
    Before,
    /// From the patch until the new version first answers.
    PatchToFirstGreen,
    /// Both versions answer.
    Mixed,
    /// The old version has answered for the last time.
    AfterLastBlue,
    /// From the scale-down on, for either version.
    ScaleDown,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Phase; 5] = [
        Phase::Before,
        Phase::PatchToFirstGreen,
        Phase::Mixed,
        Phase::AfterLastBlue,
        Phase::ScaleDown,
    ];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Before => "before",
            Phase::PatchToFirstGreen => "patch to first green",
            Phase::Mixed => "mixed",
            Phase::AfterLastBlue => "after the last blue",
            Phase::ScaleDown => "scale-down",
        })
    }
}

/// The times at which the phases begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phases {
    /// The times of the deployer's actions.
    pub moments: Moments,
    /// When the first request that the new version answered was due. Without one, it is the
    /// scale-down.
    first_green: u64,
    /// The old version answered no request that was due from here on.
    after_last_blue: u64,
    scale_down: u64,
}

impl Phases {
    /// Finds the phases in the answers of all probers. A version that one of them sees counts for
    /// all.
    pub fn find<'a>(moments: Moments, answers: impl IntoIterator<Item = &'a Answer>) -> Phases {
        let patch = moments.patch;
        // A scale-down before the switch is an error of the deployer. It must not panic here.
        let scale_down = moments.scale_down.unwrap_or(u64::MAX).max(patch);
        let (mut first_green, mut after_last_blue) = (scale_down, patch);
        for answer in answers.into_iter().filter(|it| it.intended >= patch) {
            match answer.version() {
                Some(version) if version == moments.new => {
                    first_green = first_green.min(answer.intended);
                }
                Some(version) if version == moments.old => {
                    after_last_blue = after_last_blue.max(answer.intended + 1);
                }
                _ => {}
            }
        }
        Phases {
            moments,
            first_green,
            after_last_blue: after_last_blue.clamp(first_green, scale_down),
            scale_down,
        }
    }

    /// Returns when a phase begins, in microseconds since the Unix epoch; none for the first one,
    /// and for a scale-down that did not happen.
    pub fn begins(&self, phase: Phase) -> Option<u64> {
        let begins = match phase {
            Phase::Before => return None,
            Phase::PatchToFirstGreen => self.moments.patch,
            Phase::Mixed => self.first_green,
            Phase::AfterLastBlue => self.after_last_blue,
            Phase::ScaleDown => self.scale_down,
        };
        (begins < u64::MAX).then_some(begins)
    }

    /// Returns the phase of a request that was due at this time.
    pub fn of(&self, intended: u64) -> Phase {
        match intended {
            due if due < self.moments.patch => Phase::Before,
            due if due < self.first_green => Phase::PatchToFirstGreen,
            due if due < self.after_last_blue => Phase::Mixed,
            due if due < self.scale_down => Phase::AfterLastBlue,
            _ => Phase::ScaleDown,
        }
    }
}
