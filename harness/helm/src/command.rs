//! The `helm` program, without the user's own configuration.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::{DeployError, Release};
use base::process::run_bound;
use base::proxies::Proxies;
use kubernetes::{Cluster, ClusterError};

/// The timeout of a command that changes nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The program, with a home of its own.
pub(super) struct Program {
    path: PathBuf,
    /// helm's cache, configuration and data, and our values; only our user can read it.
    home: TempDir,
}

/// helm, configured for one cluster.
pub(super) struct Helm<'a> {
    /// Its home is beside the kubeconfig: a cleanup of the environment finds it there.
    pub program: Program,
    pub cluster: &'a Cluster,
}

/// helm's output after an installation.
#[derive(Debug, Deserialize)]
pub(super) struct HelmRelease {
    #[serde(rename = "version")]
    pub revision: u32,
    pub manifest: String,
}

impl Program {
    /// Makes its home in the directory `parent`.
    pub fn new(path: &Path, parent: &Path) -> Result<Program, DeployError> {
        let home = tempfile::Builder::new().prefix("helm-").tempdir_in(parent);
        let home = home.map_err(|source| DeployError::Directory {
            path: parent.to_owned(),
            source,
        })?;
        Ok(Program {
            path: path.to_owned(),
            home,
        })
    }

    /// The process is killed when we die, or when it is dropped.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = run_bound::killed_with_us(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HELM_") {
                command.env_remove(name);
            }
        }
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.home.path());
        }
        command
            .envs(Proxies::of_this_process().for_child(&[]))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// As [`Program::command`], but with the user's `helm registry login`.
    pub fn with_logins(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.env_remove("HELM_CONFIG_HOME");
        for name in ["HELM_CONFIG_HOME", "HELM_REGISTRY_CONFIG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Adds the values, the name and the chart of a release.
    pub fn of_release(
        &self,
        mut command: Command,
        release: &Release,
    ) -> Result<Command, DeployError> {
        let overrides = self.write_overrides(&release.overrides)?;
        for file in release.values_files.iter().chain([&overrides]) {
            command.arg("--values").arg(file);
        }
        // A name that begins with `-` is not an option.
        command.arg("--").arg(&release.name).arg(&release.chart);
        Ok(command)
    }

    /// YAML is a superset of JSON.
    fn write_overrides(&self, overrides: &Value) -> Result<PathBuf, DeployError> {
        let path = self.home.path().join("overrides.json");
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(overrides.to_string().as_bytes()));
        match written {
            Ok(()) => Ok(path),
            Err(source) => Err(DeployError::Directory { path, source }),
        }
    }

    /// Runs a command, and returns its standard output.
    pub async fn output_of(
        &self,
        mut command: Command,
        deadline: Duration,
    ) -> Result<String, DeployError> {
        match tokio::time::timeout(deadline, command.output()).await {
            Ok(output) => self.stdout_of(output),
            Err(_) => Err(DeployError::Helm {
                words: format!("it did not answer within {deadline:?}"),
            }),
        }
    }

    /// Returns standard output.
    ///
    /// # Errors
    /// helm's error from standard error, or why it did not start.
    pub fn stdout_of(&self, output: std::io::Result<Output>) -> Result<String, DeployError> {
        let output = output.map_err(|error| self.missing(error))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(DeployError::of_helm(&error_message(&output))),
        }
    }

    pub fn missing(&self, source: std::io::Error) -> DeployError {
        DeployError::NoHelm {
            program: self.path.clone(),
            source,
        }
    }
}

impl<'a> Helm<'a> {
    pub fn new(program: &Path, cluster: &'a Cluster) -> Result<Helm<'a>, DeployError> {
        Ok(Helm {
            program: Program::new(program, &beside(&cluster.kubeconfig))?,
            cluster,
        })
    }

    /// Locked while a release of this kubeconfig is being changed.
    pub fn lock_file(&self) -> PathBuf {
        beside(&self.cluster.kubeconfig).join("helm.lock")
    }

    /// Returns the command for a change: `verb` and its arguments.
    ///
    /// # Errors
    /// [`ClusterError::Denied`] if the cluster's permissions do not allow the change.
    pub fn change<Argument: AsRef<str>>(
        &self,
        verb: &str,
        arguments: &[Argument],
    ) -> Result<Command, DeployError> {
        let permissions = self.cluster.permissions();
        permissions.to_release(verb).map_err(ClusterError::from)?;
        let arguments = arguments.iter().map(AsRef::as_ref);
        let all: Vec<&str> = [verb].into_iter().chain(arguments).collect();
        Ok(self.command(&all))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program.command(arguments);
        command
            .env("KUBECONFIG", &self.cluster.kubeconfig)
            .args(["--kube-context", &self.cluster.context])
            .args(["--namespace", &self.cluster.namespace]);
        command
    }

    /// `helm upgrade --install` of the release, which waits for hooks only.
    pub fn upgrade(&self, release: &Release, timeout: Duration) -> Result<Command, DeployError> {
        let timeout = seconds(timeout);
        let arguments = ["--install", "--output", "json", "--timeout", &timeout];
        let upgrade = self.change("upgrade", &arguments)?;
        self.program.of_release(upgrade, release)
    }

    /// As [`Helm::upgrade`], but changes nothing.
    pub fn dry_run(&self, release: &Release) -> Result<Command, DeployError> {
        let arguments = ["--install", "--output", "json", "--dry-run=server"];
        let dry_run = self.command(&[&["upgrade"][..], &arguments].concat());
        self.program.of_release(dry_run, release)
    }

    /// Runs helm with these arguments, which change nothing, and returns its standard output.
    pub async fn output(&self, arguments: &[&str]) -> Result<String, DeployError> {
        let command = self.command(arguments);
        self.program.output_of(command, READ_TIMEOUT).await
    }

    /// Returns the manifest of the newest revision; none if there is no release.
    pub async fn manifest(&self, name: &str) -> Result<Option<String>, DeployError> {
        found(self.output(&["get", "manifest", name]).await)
    }
}

/// Returns none if helm reports that there is no such release.
pub(super) fn found(output: Result<String, DeployError>) -> Result<Option<String>, DeployError> {
    match output {
        Ok(text) => Ok(Some(text)),
        Err(DeployError::Helm { words }) if words.contains("release: not found") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Formats a duration for helm: whole seconds, at least one.
pub(super) fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs().max(1))
}

fn beside(kubeconfig: &Path) -> PathBuf {
    let parent = kubeconfig.parent();
    let parent = parent.filter(|it| !it.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_path_buf()
}

pub(super) fn installed(text: &str) -> Result<HelmRelease, DeployError> {
    serde_json::from_str(text).map_err(|error| DeployError::Helm {
        words: format!("its answer cannot be read: {error}"),
    })
}

/// Returns helm's error, without the warnings before it.
pub(super) fn error_message(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    match text.rsplit_once("Error: ").map_or(text, |(_, error)| error) {
        "" => output.status.to_string(),
        message => message.to_owned(),
    }
}
