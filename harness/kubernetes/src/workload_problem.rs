//! What blocks a workload, in Kubernetes' terms.

use std::fmt;

/// What blocks a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadProblem {
    /// The object, as kubectl names it: `pod/api-gateway-6d5f-x2x4z`.
    pub object: String,
    /// The container, if it is one container's problem.
    pub container: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// The number of its restarts.
    pub restarts: i32,
    /// The kind of problem.
    pub cause: Cause,
    /// Kubernetes' reason: `ImagePullBackOff`.
    pub reason: String,
    /// Kubernetes' message; may be empty.
    pub message: String,
    /// The last lines of the container's log, if they were read.
    pub log: Vec<String>,
    /// Waiting does not help. A temporary problem may pass, or explains a wait that times out.
    pub permanent: bool,
}

/// The kinds of problem, by their remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The image is not available.
    Image,
    /// The container cannot be created: a Secret is missing, or a command does not exist.
    Configuration,
    /// The container starts and exits.
    Ends,
    /// The namespace's ResourceQuota leaves no room.
    Quota,
    /// An admission rule other than the quota refuses the pod.
    Admission,
    /// No node has room for the pod.
    Unschedulable,
    /// The container runs, and its readiness probe fails.
    Unready,
    /// The Deployment made no progress for its `progressDeadlineSeconds`.
    Stalled,
}

impl Cause {
    /// Returns the remedy, for messages.
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
            Cause::Unready => {
                "read its log: it may wait for something that does not answer, such as a database"
            }
            Cause::Stalled => "see why its pods do not become ready: their events and logs",
        }
    }
}

impl WorkloadProblem {
    /// Returns the problem of a whole object, which may pass.
    pub(super) fn new(
        object: String,
        cause: Cause,
        reason: String,
        message: String,
    ) -> WorkloadProblem {
        WorkloadProblem {
            object,
            container: None,
            image: None,
            restarts: 0,
            cause,
            reason,
            message,
            log: Vec::new(),
            permanent: false,
        }
    }

    /// Returns the problem of a controller whose pods are refused. An admission rule will refuse them again. A
    /// webhook that does not answer may answer the next time, and a quota may get room: see
    /// [`super::quota::FullQuota`].
    pub(super) fn no_pods(object: String, reason: String, message: String) -> WorkloadProblem {
        let cause = match message.contains("exceeded quota") || message.contains("failed quota") {
            true => Cause::Quota,
            false => Cause::Admission,
        };
        WorkloadProblem {
            permanent: cause == Cause::Admission
                && (message.contains("forbidden") || message.contains("is invalid")),
            ..WorkloadProblem::new(object, cause, reason, message)
        }
    }

    /// Whether the container's log may show the cause.
    pub fn has_log(&self) -> bool {
        matches!(self.cause, Cause::Ends | Cause::Unready) && self.container.is_some()
    }

    /// Whether the log of the container before its last restart shows the cause.
    pub(super) fn is_of_an_earlier_start(&self) -> bool {
        self.cause == Cause::Ends && self.restarts > 0
    }

    /// Returns the arguments of the `kubectl` command that shows more.
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

/// `pod/x, container y: ImagePullBackOff: message; last log lines: ...`
impl fmt::Display for WorkloadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if let Some(container) = &self.container {
            write!(f, ", container {container}")?;
        }
        write!(f, ": {}", self.reason)?;
        let message = self.message.as_str();
        if !message.is_empty() {
            write!(f, ": {message}")?;
        }
        if let Some(image) = &self.image
            && self.cause == Cause::Image
            && !message.contains(image.as_str())
        {
            write!(f, " (image {image})")?;
        }
        match self.log.is_empty() {
            true => Ok(()),
            false => write!(f, "; last log lines: {}", self.log.join(" | ")),
        }
    }
}
