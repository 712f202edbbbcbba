//! Why a release does not run.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::blue_green::lock::LockError;
use crate::cluster::rollout::{RolloutError, in_the_way};
use crate::cluster::trouble::{Cause, Trouble};
use crate::cluster::{Cluster, ClusterError};
use crate::exit::ExitCode;
use crate::run::event::Failure;
use crate::wait::WaitError;

/// Why a release does not run.
#[derive(Debug, Error, Diagnostic)]
pub enum DeployError {
    /// helm is not there, or cannot be started.
    #[error("cannot start helm, {}: {source}", program.display())]
    #[diagnostic(help("again with --provision, which builds it; or see https://helm.sh"))]
    NoHelm {
        /// What was started.
        program: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// helm's private directory, or a file in it, cannot be made.
    #[error("cannot write {}: {source}", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// helm does not take the chart or the values; nothing was changed.
    #[error("helm does not take the chart or its values: {words}")]
    #[diagnostic(help("mend the values or the chart; nothing was changed in the cluster"))]
    Refused {
        /// helm's error.
        words: String,
    },
    /// Somebody else may be deploying.
    #[error("another deployment may be at work: {what}")]
    #[diagnostic(help("wait for it to end"))]
    Pending {
        /// The revision, its status and time.
        what: String,
    },
    /// A revision is pending, where others deploy as well; nothing was changed.
    #[error("another deployment may be at work: {what}")]
    #[diagnostic(help(
        "wait for it to end; if nobody is deploying, its helm was killed: `{command}` makes the release usable again"
    ))]
    LeftPending {
        /// The revision, its status and time.
        what: String,
        /// What mends it.
        command: String,
    },
    /// A service is being released blue-green; nothing was changed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Releasing(#[from] LockError),
    /// helm failed, and no pod says why.
    #[error("helm failed: {words}")]
    Helm {
        /// helm's error.
        words: String,
    },
    /// The user, or the pipeline, does not want it any more.
    #[error("the deployment was called off")]
    #[diagnostic(help("the pods of before go on serving; deploy again to go on"))]
    CalledOff,
    /// The API server does not answer, or does not let us.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
    /// A pod, or what makes it, will not become ready by waiting.
    #[error("{trouble}{}", .helm.as_ref().map(|words| format!("; helm: {words}")).unwrap_or_default())]
    #[diagnostic(help("{}", .trouble.cause.advice()))]
    Trouble {
        /// Which, and why.
        trouble: Box<Trouble>,
        /// helm's own error, where it had one.
        helm: Option<String>,
    },
    /// The deadline passed.
    #[error("{wait}{}", in_the_way(.trouble.as_deref()))]
    #[diagnostic(help("{}", advice(.trouble.as_deref())))]
    TooLong {
        /// What was waited for, and the last state seen.
        wait: WaitError,
        /// What stood in the way at the end, if that was to be seen.
        trouble: Option<Box<Trouble>>,
    },
}

fn advice(trouble: Option<&Trouble>) -> &'static str {
    trouble.map_or(
        "see why its pods are not ready, or allow more time",
        |trouble| trouble.cause.advice(),
    )
}

impl From<RolloutError> for DeployError {
    fn from(error: RolloutError) -> DeployError {
        match error {
            RolloutError::Cluster(error) => DeployError::Cluster(error),
            RolloutError::Trouble(trouble) => DeployError::Trouble {
                trouble,
                helm: None,
            },
            RolloutError::TooLong { wait, trouble } => DeployError::TooLong { wait, trouble },
        }
    }
}

impl DeployError {
    /// Sorts helm's error by what can be done about it. helm 3 exits with 1 for all, so
    /// its words are all there is.
    pub(super) fn of_helm(words: &str) -> DeployError {
        const UNREACHABLE: [&str; 2] = ["cluster unreachable", "connection refused"];
        const PENDING: &str = "another operation (install/upgrade/rollback) is in progress";
        const REFUSED: [&str; 9] = [
            "values don't meet the specifications of the schema",
            "execution error at (",
            "parse error at (",
            "error calling ",
            "no such file or directory",
            "chart requires kubeVersion",
            "Chart.yaml file is missing",
            "cannot load values",
            "failed to parse ",
        ];
        let has = |pattern: &str| words.contains(pattern);
        let no_chart = words.starts_with("path ") && words.ends_with(" not found");
        let words = words.to_owned();
        if UNREACHABLE.into_iter().any(has) {
            let what = "helm".to_owned();
            return DeployError::Cluster(ClusterError::Silent {
                what,
                reason: words,
            });
        }
        if has(PENDING) {
            return DeployError::Pending { what: words };
        }
        match no_chart || REFUSED.into_iter().any(has) {
            true => DeployError::Refused { words },
            false => DeployError::Helm { words },
        }
    }

    /// The exit code it ends a run with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            DeployError::Refused { .. } => ExitCode::Usage,
            DeployError::Pending { .. } | DeployError::LeftPending { .. } => ExitCode::Refused,
            DeployError::Cluster(error) => error.exit_code(),
            DeployError::Releasing(LockError::Cluster(error)) => error.exit_code(),
            DeployError::Releasing(_) => ExitCode::Refused,
            _ => ExitCode::NoEnvironment,
        }
    }

    /// What a person needs to go on.
    pub fn failure(&self, cluster: &Cluster) -> Failure {
        let kubectl = |what: &str| format!("{} {what}", cluster.kubectl());
        let look_at = |what: &str| match cluster.context.is_empty() {
            true => format!("{what} in namespace {}", cluster.namespace),
            false => format!(
                "{what} in namespace {} of {}",
                cluster.namespace, cluster.context
            ),
        };
        let (expected, place, next) = match self {
            DeployError::NoHelm { program, .. } => (
                "a helm that can be started",
                program.display().to_string(),
                "cargo xtask doctor, or again with --provision".to_owned(),
            ),
            DeployError::Directory { path, .. } => (
                "a directory that can be written",
                path.display().to_string(),
                "df -h; ls -ld of the directory".to_owned(),
            ),
            DeployError::Refused { .. } => (
                "a chart and values that helm takes",
                "fixtures/helm/trii-platform/values.schema.json".to_owned(),
                "helm template fixtures/helm/trii-platform --kube-version 1.37".to_owned(),
            ),
            DeployError::Pending { .. } => (
                "a release that nobody else is changing",
                look_at("the release"),
                kubectl("get secrets --selector owner=helm"),
            ),
            DeployError::LeftPending { command, .. } => (
                "a release that nobody else is changing",
                kubectl("get secrets --selector owner=helm"),
                format!("{command} (only if nobody is deploying)"),
            ),
            DeployError::Releasing(LockError::Cluster(_)) | DeployError::Cluster(_) => (
                "an API server that answers and lets us",
                format!("the context {}", cluster.context),
                kubectl("version"),
            ),
            DeployError::Trouble { trouble, .. }
            | DeployError::TooLong {
                trouble: Some(trouble),
                ..
            } => (
                expected(trouble.cause),
                look_at(&trouble.object),
                kubectl(&trouble.kubectl()),
            ),
            DeployError::Releasing(_) => (
                "services that no deployer is releasing",
                look_at("the Leases"),
                kubectl("get leases"),
            ),
            DeployError::Helm { .. } | DeployError::TooLong { .. } | DeployError::CalledOff => (
                "every Deployment of the release complete",
                look_at("the events"),
                kubectl("get events --sort-by .lastTimestamp"),
            ),
        };
        Failure {
            what: "the release does not run".to_owned(),
            expected: expected.to_owned(),
            seen: self.to_string(),
            look_at: place,
            next,
        }
    }
}

fn expected(cause: Cause) -> &'static str {
    match cause {
        Cause::Image => "an image that the nodes have or can pull",
        Cause::Configuration => "a container that can be made",
        Cause::Ends => "a container that stays up",
        Cause::Quota => "room in the namespace's quota",
        Cause::Admission => "pods that the cluster's rules let in",
        Cause::Unschedulable => "a node with room for the pod",
        Cause::Unready => "a container that becomes ready",
        Cause::Stalled => "a rollout that goes on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helms_errors_are_sorted_by_what_can_be_done() {
        for (words, code) in [
            (
                "values don't meet the specifications of the schema(s) in the following chart(s):\ntrii-platform:\n- at '': additional properties 'nope' not allowed",
                ExitCode::Usage,
            ),
            (
                "execution error at (trii-platform/templates/serviceaccount.yaml:9:8): image tag latest: name a version",
                ExitCode::Usage,
            ),
            (
                "open /nonexist.yaml: no such file or directory",
                ExitCode::Usage,
            ),
            ("path \"/nochart\" not found", ExitCode::Usage),
            (
                "Kubernetes cluster unreachable: Get \"http://localhost:8080/version\": dial tcp 127.0.0.1:8080: connect: connection refused",
                ExitCode::NoEnvironment,
            ),
            (
                "UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress",
                ExitCode::Refused,
            ),
            (
                "create: failed to create: namespaces \"nons\" not found",
                ExitCode::NoEnvironment,
            ),
        ] {
            let error = DeployError::of_helm(words);
            assert_eq!(error.exit_code(), code, "{words}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn an_unreachable_cluster_is_not_helms_fault() {
        let error = DeployError::of_helm("Kubernetes cluster unreachable: EOF");
        assert!(matches!(
            error,
            DeployError::Cluster(ClusterError::Silent { .. })
        ));
    }
}
