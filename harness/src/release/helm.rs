//! The `helm` program, kept apart from its user's configuration.

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
use crate::cluster::{Cluster, ClusterError};
use crate::process::bound;
use crate::proxies::Proxies;

/// How long helm may take to answer a question.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// helm, told of one cluster.
pub(super) struct Helm<'a> {
    program: PathBuf,
    pub cluster: &'a Cluster,
    /// Its cache, configuration and data, and our values; only our user can read it.
    /// Beside the kubeconfig, so that whoever clears up the environment finds it.
    home: TempDir,
}

/// What helm says it installed.
#[derive(Debug, Deserialize)]
pub(super) struct Installed {
    #[serde(rename = "version")]
    pub revision: u32,
    pub manifest: String,
    /// The values it was given, those of the chart not among them.
    #[serde(default)]
    config: Value,
    chart: Chart,
}

#[derive(Debug, Deserialize)]
struct Chart {
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    app_version: String,
}

impl Installed {
    /// The tag of the services' images, by the chart's rule: `global.imageTag`, else `v`
    /// and the chart's appVersion.
    pub fn version(&self) -> String {
        match self.config["global"]["imageTag"].as_str() {
            Some(tag) if !tag.is_empty() => tag.to_owned(),
            _ => format!("v{}", self.chart.metadata.app_version),
        }
    }
}

impl<'a> Helm<'a> {
    pub fn new(program: &Path, cluster: &'a Cluster) -> Result<Helm<'a>, DeployError> {
        let parent = beside(&cluster.kubeconfig);
        let home = tempfile::Builder::new()
            .prefix("helm-")
            .tempdir_in(&parent)
            .map_err(|source| DeployError::Directory {
                path: parent,
                source,
            })?;
        Ok(Helm {
            program: program.to_path_buf(),
            cluster,
            home,
        })
    }

    /// Locked while a release of this kubeconfig's is being changed.
    pub fn lock_file(&self) -> PathBuf {
        beside(&self.cluster.kubeconfig).join("helm.lock")
    }

    /// helm, ready to be started for a change: `verb` and its arguments.
    ///
    /// # Errors
    /// [`ClusterError::Denied`] where the cluster may not be changed so.
    pub fn change<Argument: AsRef<str>>(
        &self,
        verb: &str,
        arguments: &[Argument],
    ) -> Result<Command, DeployError> {
        let access = self.cluster.access();
        access.to_release(verb).map_err(ClusterError::from)?;
        let arguments = arguments.iter().map(AsRef::as_ref);
        let all: Vec<&str> = [verb].into_iter().chain(arguments).collect();
        Ok(self.command(&all))
    }

    /// helm, ready to be started; killed when we die or it is dropped.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bound::killed_with_us(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HELM_") {
                command.env_remove(name);
            }
        }
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.home.path());
        }
        command
            .env("KUBECONFIG", &self.cluster.kubeconfig)
            .envs(Proxies::of_this_process().for_child(&[]))
            .args(arguments)
            .args(["--kube-context", &self.cluster.context])
            .args(["--namespace", &self.cluster.namespace])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `helm upgrade --install` of the release, which waits for hooks and for nothing else.
    pub fn upgrade(&self, release: &Release, timeout: Duration) -> Result<Command, DeployError> {
        let timeout = seconds(timeout);
        let upgrade = self.change("upgrade", &["--install", "--timeout", &timeout])?;
        self.of_release(upgrade, release)
    }

    /// The same, of which nothing is kept but what it would make.
    pub fn dry_run(&self, release: &Release) -> Result<Command, DeployError> {
        let dry_run = self.command(&["upgrade", "--install", "--dry-run=server"]);
        self.of_release(dry_run, release)
    }

    fn of_release(&self, mut command: Command, release: &Release) -> Result<Command, DeployError> {
        let overrides = self.write_overrides(&release.overrides)?;
        command.args(["--output", "json"]);
        for file in release.values_files.iter().chain([&overrides]) {
            command.arg("--values").arg(file);
        }
        // What follows is no option, whatever it is called.
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

    /// What helm answers on standard output.
    pub async fn answer(&self, arguments: &[&str]) -> Result<String, DeployError> {
        self.answer_of(self.command(arguments), ANSWER_PATIENCE)
            .await
    }

    pub async fn answer_of(
        &self,
        mut command: Command,
        deadline: Duration,
    ) -> Result<String, DeployError> {
        match tokio::time::timeout(deadline, command.output()).await {
            Ok(output) => self.judged(output),
            Err(_) => Err(DeployError::Helm {
                words: format!("it did not answer within {deadline:?}"),
            }),
        }
    }

    /// Standard output, or what helm has against it.
    pub fn judged(&self, output: std::io::Result<Output>) -> Result<String, DeployError> {
        let output = output.map_err(|error| self.missing(error))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(DeployError::of_helm(&words(&output))),
        }
    }

    pub fn missing(&self, source: std::io::Error) -> DeployError {
        DeployError::NoHelm {
            program: self.program.clone(),
            source,
        }
    }

    /// The manifest of the newest revision; none where there is no release.
    pub async fn manifest(&self, name: &str) -> Result<Option<String>, DeployError> {
        found(self.answer(&["get", "manifest", name]).await)
    }
}

/// That there is no release is an answer too.
pub(super) fn found(answer: Result<String, DeployError>) -> Result<Option<String>, DeployError> {
    match answer {
        Ok(text) => Ok(Some(text)),
        Err(DeployError::Helm { words }) if words.contains("release: not found") => Ok(None),
        Err(error) => Err(error),
    }
}

/// As helm takes a time: whole seconds, one at least.
pub(super) fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs().max(1))
}

fn beside(kubeconfig: &Path) -> PathBuf {
    let parent = kubeconfig.parent();
    let parent = parent.filter(|it| !it.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_path_buf()
}

pub(super) fn installed(text: &str) -> Result<Installed, DeployError> {
    serde_json::from_str(text).map_err(|error| DeployError::Helm {
        words: format!("its answer cannot be read: {error}"),
    })
}

/// helm's error, without the warnings before it.
fn words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    let error = text
        .rfind("Error: ")
        .map(|at| &text[at + "Error: ".len()..]);
    match error.unwrap_or(text) {
        "" => output.status.to_string(),
        words => words.to_owned(),
    }
}
