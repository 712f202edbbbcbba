//! Charts of registries, pulled into the home before they are used.

use std::path::Path;

use miette::Diagnostic;
use thiserror::Error;

use crate::config::{Config, ConfigError, PlatformChart};
use base::exit::ExitCode;
use base::home::Home;
use helm::pull::{self, PullError};

/// Why a chart of a registry is not here.
#[derive(Debug, Error, Diagnostic)]
pub enum ChartPullError {
    /// The registry does not have what harness.toml names.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Refused(Box<ConfigError>),
    /// The registry, helm or this machine fails.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pull(PullError),
}

impl ChartPullError {
    /// Returns the exit code of a command that fails with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ChartPullError::Refused(_) => ExitCode::Usage,
            ChartPullError::Pull(error) => error.exit_code(),
        }
    }
}

/// Pulls the charts of the releases that are in registries, with the program `helm`. One that is in
/// `home` is not pulled again.
///
/// # Errors
/// [`ChartPullError`].
pub async fn pull(
    helm: &Path,
    config: &Config,
    home: &Home,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ChartPullError> {
    for release in &config.releases {
        let PlatformChart::Oci(chart) = &release.chart else {
            continue;
        };
        if !chart.file(&home.charts()).is_file() {
            progress(&format!("pulling the chart {chart}"));
        }
        if let Err(error) = pull::pull(helm, chart, &home.charts()).await {
            let refused = |error: &PullError| {
                let help = error.help().map(|help| help.to_string());
                config.refuse(release.place.clone(), error.to_string(), help)
            };
            return Err(match error {
                PullError::NotFound { .. } => ChartPullError::Refused(Box::new(refused(&error))),
                error => ChartPullError::Pull(error),
            });
        }
    }
    Ok(())
}
