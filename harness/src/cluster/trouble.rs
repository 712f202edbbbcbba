//! What keeps a workload from becoming ready, in Kubernetes' own words.

use std::fmt;

/// What keeps a workload from becoming ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// Whose, as kubectl takes it: `pod/api-gateway-6d5f-x2x4z`.
    pub object: String,
    /// The container, where it is one's.
    pub container: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// How often it was started again.
    pub restarts: i32,
    /// What kind of trouble it is.
    pub cause: Cause,
    /// Kubernetes' word for it: `ImagePullBackOff`.
    pub reason: String,
    /// What Kubernetes says beside the word; may be empty.
    pub words: String,
    /// The last lines that the container printed, where they were asked for.
    pub log: Vec<String>,
    /// Waiting does not help. Else it may pass, and is worth knowing when it does not.
    pub hopeless: bool,
}

/// The kinds of trouble, by what a person does about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The image cannot be had.
    Image,
    /// The container cannot be made: a Secret that is missing, a command that is not there.
    Configuration,
    /// The container runs and ends.
    Ends,
    /// The namespace's ResourceQuota leaves no room.
    Quota,
    /// An admission rule other than the quota does not let the pod in.
    Admission,
    /// No node has room for the pod.
    Unschedulable,
    /// The container runs, and its readiness probe fails.
    Unready,
    /// The Deployment made no progress for its `progressDeadlineSeconds`.
    Stalled,
}

impl Cause {
    /// What to do about it, in a sentence.
    pub fn advice(self) -> &'static str {
        match self {
            Cause::Image => "deploy a version whose image is there, or load or push it first",
            Cause::Configuration => {
                "make what the container refers to: the Secret, its key, the command"
            }
            Cause::Ends => {
                "read the container's log; its configuration or a service it needs is wrong"
            }
            Cause::Quota => {
                "raise the ResourceQuota in the cluster (hooks run before a release changes its own), or ask for less in the values"
            }
            Cause::Admission => "change the pod so that the rule named lets it in",
            Cause::Unschedulable => "make room on the nodes, or ask for less in the values",
            Cause::Unready => "read its log: what it waits for, a database say, is not there",
            Cause::Stalled => "see why its pods do not become ready: their events and logs",
        }
    }
}

impl Trouble {
    /// That of a controller whose pods are not let in. What an admission rule forbids it
    /// will forbid again; a webhook that does not answer may answer the next time, and a
    /// quota may get room: see [`super::quota::FullQuota`].
    pub(super) fn no_pods(object: String, reason: String, words: String) -> Trouble {
        let cause = match words.contains("exceeded quota") || words.contains("failed quota") {
            true => Cause::Quota,
            false => Cause::Admission,
        };
        Trouble {
            object,
            container: None,
            image: None,
            restarts: 0,
            cause,
            reason,
            hopeless: cause == Cause::Admission
                && (words.contains("forbidden") || words.contains("is invalid")),
            words,
            log: Vec::new(),
        }
    }

    /// Whether the container's log may tell more.
    pub fn has_log(&self) -> bool {
        matches!(self.cause, Cause::Ends | Cause::Unready) && self.container.is_some()
    }

    /// Whether it is about a start of the container before the present one.
    pub(super) fn is_of_an_earlier_start(&self) -> bool {
        self.cause == Cause::Ends && self.restarts > 0
    }

    /// The arguments of the `kubectl` that shows more.
    pub fn kubectl(&self) -> String {
        match &self.container {
            Some(container) if self.has_log() => {
                let previous = match self.is_of_an_earlier_start() {
                    true => " --previous",
                    false => "",
                };
                format!("logs {} --container {container}{previous}", self.object)
            }
            _ => format!("describe {}", self.object),
        }
    }
}

/// `pod/x, container y: ImagePullBackOff: its words; its last words: ...`
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if let Some(container) = &self.container {
            write!(f, ", container {container}")?;
        }
        write!(f, ": {}", self.reason)?;
        let words = self.words.as_str();
        if !words.is_empty() {
            write!(f, ": {words}")?;
        }
        if let Some(image) = &self.image
            && self.cause == Cause::Image
            && !words.contains(image.as_str())
        {
            write!(f, " (image {image})")?;
        }
        match self.log.is_empty() {
            true => Ok(()),
            false => write!(f, "; its last words: {}", self.log.join(" | ")),
        }
    }
}
