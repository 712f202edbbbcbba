//! Renders a chart without a cluster.

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde::Deserialize;
use tempfile::TempDir;
use thiserror::Error;
use tokio::process::Command;

use super::KUBERNETES;
use super::command::{READ_TIMEOUT, error_message, private};
use base::exit::ExitCode;

/// A chart: a folder, or a packaged chart.
pub struct Chart<'a> {
    /// The program `helm`.
    pub helm: &'a Path,
    /// The chart.
    pub path: &'a Path,
}

/// What a chart says of itself. <https://helm.sh/docs/topics/charts/#the-chartyaml-file>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChartMetadata {
    /// Its name.
    pub name: String,
    /// The version of what it installs.
    pub app_version: Option<String>,
}

/// Why a chart is not rendered.
#[derive(Debug, Error, Diagnostic)]
pub enum RenderError {
    /// helm does not exist, or cannot be started.
    #[error("cannot start helm, {}: {source}", program.display())]
    #[diagnostic(help("`cargo xtask doctor --provision` gets it"))]
    NoHelm {
        /// The program.
        program: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// helm's private directory cannot be created.
    #[error("cannot make a folder for helm: {0}")]
    Directory(std::io::Error),
    /// The chart does not exist, or cannot be read.
    #[error("cannot read the chart {}: {source}", path.display())]
    #[diagnostic(help("name a folder with a Chart.yaml, or a chart that `helm package` made"))]
    NoChart {
        /// The chart.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// helm refuses the chart or its values.
    #[error("helm does not render {}: {words}", path.display())]
    #[diagnostic(help("{command}"))]
    Refused {
        /// The chart.
        path: PathBuf,
        /// helm's error, with the file and the line if it knows them.
        words: String,
        /// The command that shows more.
        command: String,
    },
}

impl RenderError {
    /// The exit code of a command that fails with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            RenderError::NoChart { .. } | RenderError::Refused { .. } => ExitCode::Usage,
            RenderError::NoHelm { .. } | RenderError::Directory(_) => ExitCode::NoEnvironment,
        }
    }
}

impl Chart<'_> {
    /// Returns what the chart says of itself.
    ///
    /// # Errors
    /// [`RenderError`].
    pub async fn metadata(&self) -> Result<ChartMetadata, RenderError> {
        std::fs::metadata(self.path).map_err(|source| RenderError::NoChart {
            path: self.path.to_owned(),
            source,
        })?;
        let home = home()?;
        let mut command = private(self.helm, home.path());
        command.args(["show", "chart", "--"]).arg(self.path);
        let text = self.stdout(command, &[]).await?;
        serde_saphyr::from_str(&text).map_err(|error| RenderError::Refused {
            path: self.path.to_owned(),
            words: format!("its Chart.yaml: {error}"),
            command: format!("it needs a name: {}/Chart.yaml", self.path.display()),
        })
    }

    /// Returns the manifests of a release of the chart, with its hooks and the definitions of its
    /// custom resources, without its tests.
    ///
    /// # Errors
    /// [`RenderError`].
    pub async fn render(
        &self,
        release: &str,
        namespace: &str,
        values_files: &[PathBuf],
    ) -> Result<String, RenderError> {
        let home = home()?;
        let mut command = private(self.helm, home.path());
        command
            .args(["template", "--include-crds", "--skip-tests"])
            .args(["--kube-version", KUBERNETES, "--namespace", namespace]);
        for file in values_files {
            command.arg("--values").arg(file);
        }
        // A name that begins with `-` is not an option.
        command.args(["--", release]).arg(self.path);
        self.stdout(command, values_files).await
    }

    /// Runs helm and returns its standard output.
    async fn stdout(
        &self,
        mut command: Command,
        values_files: &[PathBuf],
    ) -> Result<String, RenderError> {
        let refused = |words: String| RenderError::Refused {
            path: self.path.to_owned(),
            words,
            command: self.template_command(values_files),
        };
        let output = match tokio::time::timeout(READ_TIMEOUT, command.output()).await {
            Ok(output) => output.map_err(|source| RenderError::NoHelm {
                program: self.helm.to_owned(),
                source,
            })?,
            Err(_) => return Err(refused(format!("no answer within {READ_TIMEOUT:?}"))),
        };
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(refused(error_message(&output))),
        }
    }

    /// Returns the command that renders the chart by hand, for messages.
    fn template_command(&self, values_files: &[PathBuf]) -> String {
        let files = values_files.iter();
        let files: String = files
            .map(|file| format!(" --values {}", file.display()))
            .collect();
        let chart = self.path.display();
        format!("correct it, and see: helm template {chart}{files} --kube-version {KUBERNETES}")
    }
}

/// helm's private directory.
fn home() -> Result<TempDir, RenderError> {
    TempDir::with_prefix("helm-").map_err(RenderError::Directory)
}
