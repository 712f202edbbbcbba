//! The phases of a release, cut at the deployer's own moments and at what was answered.

use std::fmt;

use crate::answer::Answer;

/// What the deployer did, and when: microseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moments {
    /// It sent the patch that switches. Of sent and accepted the earlier one: then nothing that
    /// the patch did counts as before it.
    pub patch: u64,
    /// It began to scale the old colour down; none where it did not.
    pub scale_down: Option<u64>,
    /// The version before the switch.
    pub old: String,
    /// The version after it.
    pub new: String,
}

/// A stretch of a release. A request belongs to the one in which it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before the patch.
    Before,
    /// From the patch until the new version first answers.
    PatchToFirstGreen,
    /// Both answer.
    Mixed,
    /// The old version has answered for the last time.
    AfterLastBlue,
    /// From the scale-down on, whoever answers.
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

/// Where the phases begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phases {
    /// The moments they were found by.
    pub moments: Moments,
    /// When the first request that the new version answered was due; where none was, the
    /// phase before lasts until the scale-down.
    first_green: u64,
    /// From here on, the old version answered none.
    after_last_blue: u64,
    scale_down: u64,
}

impl Phases {
    /// Finds them in the answers of all probers together: a version that one of them still
    /// sees is still there for all.
    pub fn find<'a>(moments: Moments, answers: impl IntoIterator<Item = &'a Answer>) -> Phases {
        let patch = moments.patch;
        // A scale-down before its switch is an error of the deployer's, and no reason to panic.
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

    /// The phase of a request that was due then.
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
