//! Why a release does not run.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use super::Release;
use base::exit::ExitCode;
use base::run::event::Failure;
use base::wait::WaitError;
use blue_green::lock::LeaseError;
use kubernetes::rollout::{RolloutError, blocked_by};
use kubernetes::workload_problem::{Cause, WorkloadProblem};
use kubernetes::{Cluster, ClusterError};

/// Why a release does not run.
#[derive(Debug, Error, Diagnostic)]
pub enum DeployError {
    /// helm does not exist, or cannot be started.
    #[error("cannot start helm, {}: {source}", program.display())]
    #[diagnostic(help("again with --provision, which builds it; or see https://helm.sh"))]
    NoHelm {
        /// The program.
        program: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// helm's private directory, or a file in it, cannot be created.
    #[error("cannot write {}: {source}", path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// helm refuses the chart or the values; nothing was changed.
    #[error("helm rejects the chart or its values: {words}")]
    #[diagnostic(help("fix the values or the chart; nothing was changed in the cluster"))]
    Refused {
        /// helm's error.
        words: String,
    },
    /// Somebody else may be deploying.
    #[error("another deployment may be running: {what}")]
    #[diagnostic(help("wait for it to end"))]
    Pending {
        /// The revision, its status and time.
        what: String,
    },
    /// A revision is pending, and others deploy as well; nothing was changed.
    #[error("another deployment may be running: {what}")]
    #[diagnostic(help(
        "wait for it to end; if nobody is deploying, its helm was killed: `{command}` makes the release usable again"
    ))]
    LeftPending {
        /// The revision, its status and time.
        what: String,
        /// The command that repairs it.
        command: String,
    },
    /// A service is being released blue-green; nothing was changed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Releasing(#[from] LeaseError),
    /// helm failed, and no pod shows the cause.
    #[error("helm failed: {words}")]
    Helm {
        /// helm's error.
        words: String,
    },
    /// The user, or the pipeline, cancelled it.
    #[error("the deployment was cancelled")]
    #[diagnostic(help("the old pods continue to serve; deploy again to continue"))]
    Cancelled,
    /// The API server refused a request, or did not answer.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
    /// A pod, or its controller, will never become ready.
    #[error("{problem}{}", .helm.as_ref().map(|words| format!("; helm: {words}")).unwrap_or_default())]
    #[diagnostic(help("{}", .problem.cause.advice()))]
    Problem {
        /// The object and the cause.
        problem: Box<WorkloadProblem>,
        /// helm's own error, if it had one.
        helm: Option<String>,
    },
    /// The deadline passed.
    #[error("{wait}{}", blocked_by(.problem.as_deref()))]
    #[diagnostic(help("{}", advice(.problem.as_deref())))]
    TooLong {
        /// The condition, and the last state.
        wait: WaitError,
        /// What blocked it at the end, if that is known.
        problem: Option<Box<WorkloadProblem>>,
    },
}

fn advice(problem: Option<&WorkloadProblem>) -> &'static str {
    problem.map_or(
        "see why its pods are not ready, or allow more time",
        |problem| problem.cause.advice(),
    )
}

impl From<RolloutError> for DeployError {
    fn from(error: RolloutError) -> DeployError {
        match error {
            RolloutError::Cluster(error) => DeployError::Cluster(error),
            RolloutError::Problem(problem) => DeployError::Problem {
                problem,
                helm: None,
            },
            RolloutError::TooLong { wait, problem } => DeployError::TooLong { wait, problem },
        }
    }
}

impl DeployError {
    /// Classifies helm's error by its message: helm 3 exits with 1 for all errors.
    pub(super) fn of_helm(message: &str) -> DeployError {
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
        let has = |pattern: &str| message.contains(pattern);
        let no_chart = message.starts_with("path ") && message.ends_with(" not found");
        let words = message.to_owned();
        if UNREACHABLE.into_iter().any(has) {
            return DeployError::Cluster(ClusterError::Silent {
                what: "helm".to_owned(),
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

    /// Returns the exit code of a run that fails with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            DeployError::Refused { .. } => ExitCode::Usage,
            DeployError::Pending { .. } | DeployError::LeftPending { .. } => ExitCode::Refused,
            DeployError::Cluster(error) => error.exit_code(),
            DeployError::Releasing(LeaseError::Cluster(error)) => error.exit_code(),
            DeployError::Releasing(_) => ExitCode::Refused,
            _ => ExitCode::NoEnvironment,
        }
    }

    /// Returns the failure of a release for the report.
    pub fn failure(&self, cluster: &Cluster, release: &Release) -> Failure {
        let kubectl = |what: &str| format!("{} {what}", cluster.kubectl());
        let (namespace, context) = (&cluster.namespace, &cluster.context);
        let look_at = |what: &str| match context.is_empty() {
            true => format!("{what} in namespace {namespace}"),
            false => format!("{what} in namespace {namespace} of {context}"),
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
                "a chart and values that helm accepts",
                release.chart.display().to_string(),
                release.template_command(),
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
            DeployError::Releasing(LeaseError::Cluster(_)) | DeployError::Cluster(_) => (
                "an API server that answers and permits this",
                format!("the context {context}"),
                kubectl("version"),
            ),
            DeployError::Problem { problem, .. }
            | DeployError::TooLong {
                problem: Some(problem),
                ..
            } => (
                expected(problem.cause),
                look_at(&problem.object),
                kubectl(&problem.kubectl()),
            ),
            DeployError::Releasing(_) => (
                "services that no deployer is releasing",
                look_at("the Leases"),
                kubectl("get leases"),
            ),
            DeployError::Helm { .. } | DeployError::TooLong { .. } | DeployError::Cancelled => (
                "every workload of the release complete",
                look_at("the events"),
                kubectl("get events --sort-by .lastTimestamp"),
            ),
        };
        Failure {
            what: format!("the release {} does not run", release.name),
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
        Cause::Configuration => "a container that can be created",
        Cause::Ends => "a container that stays up",
        Cause::Quota => "room in the namespace's quota",
        Cause::Admission => "pods that the cluster's rules admit",
        Cause::Unschedulable => "a node with room for the pod",
        Cause::Unready => "a container that becomes ready",
        Cause::Stalled => "a rollout that progresses",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_helm_are_classified_by_their_messages() {
        for (message, code) in [
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
            let error = DeployError::of_helm(message);
            assert_eq!(error.exit_code(), code, "{message}");
            assert!(error.to_string().contains(message), "{error}");
        }
        let error = DeployError::of_helm("Kubernetes cluster unreachable: EOF");
        assert!(matches!(
            error,
            DeployError::Cluster(ClusterError::Silent { .. })
        ));
    }
}
