//! Compares harness.toml with what its charts render, before anything is installed.
//!
//! The rules are functions of the rendered objects and the configuration. A rule refuses only what
//! cannot work: what an operator, a Job or somebody else may still make is not judged.

mod builtin;
mod contents;
mod definitions;
mod fields;
mod images;
mod kinds;
mod objects;
mod ports;
pub mod pulls;
mod secrets;
mod services;

use std::collections::BTreeSet;
use std::path::Path;

use miette::Diagnostic;
use thiserror::Error;

use crate::config::{Config, ConfigError};
use base::exit::ExitCode;
use base::run::event::Failure;
pub use contents::{ClusterContents, SecretKeys};
pub use definitions::Kinds;
use helm::render::{TargetApi, render};
use helm::{DeployError, Release};
pub use images::PulledImage;
use objects::Comparison;
pub use objects::RenderedRelease;

/// Why the charts cannot be installed as harness.toml says.
#[derive(Debug, Error, Diagnostic)]
pub enum ChartCheckError {
    /// They do not fit together. Nothing was changed.
    #[error("harness.toml and its charts do not fit together: {}", in_words(.refusals))]
    Refused {
        /// Each with its line, and what was found instead.
        #[related]
        refusals: Vec<ConfigError>,
    },
    /// Nodes cannot pull images of pods. Nothing was changed.
    #[error("the images of the charts cannot be pulled: {}", in_words(.refusals))]
    Images {
        /// Each with the line of its release, and the registry's words.
        #[related]
        refusals: Vec<ConfigError>,
    },
    /// helm cannot be started.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Helm(#[from] DeployError),
}

fn in_words(refusals: &[ConfigError]) -> String {
    match refusals {
        [one] => one.to_string(),
        several => format!("{} faults", several.len()),
    }
}

impl ChartCheckError {
    /// Returns the exit code of a run that fails with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ChartCheckError::Refused { .. } => ExitCode::Usage,
            ChartCheckError::Images { .. } => ExitCode::NoEnvironment,
            ChartCheckError::Helm(error) => error.exit_code(),
        }
    }

    /// Returns the failure for the report.
    pub fn failure(&self) -> Failure {
        let (seen, help) = match self {
            ChartCheckError::Refused { refusals } | ChartCheckError::Images { refusals } => {
                let seen: Vec<String> = refusals.iter().map(ConfigError::to_string).collect();
                let help = refusals.first().and_then(Diagnostic::help);
                (seen.join("; "), help.map(|it| it.to_string()))
            }
            ChartCheckError::Helm(error) => (error.to_string(), None),
        };
        Failure {
            what: "nothing was installed".to_owned(),
            expected: "charts that fit harness.toml".to_owned(),
            seen,
            look_at: "harness.toml, and the charts of its [[releases]]".to_owned(),
            next: help.unwrap_or_else(|| "cargo xtask doctor".to_owned()),
        }
    }
}

/// Where releases will be installed.
pub struct Destination<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// What the cluster has.
    pub contents: &'a ClusterContents,
}

/// What is known of charts that fit the configuration.
#[derive(Clone, Debug, Default)]
pub struct ChartsFit {
    /// What is seen only during the installation.
    pub notes: Vec<String>,
    /// What the nodes pull, on a cluster of ours: `[images]` does not have it.
    pub pulled: Vec<PulledImage>,
}

/// Renders the charts of the releases with the program `helm`, and compares them with the
/// configuration. `releases` are those of the configuration for `version`, in its order.
///
/// # Errors
/// [`ChartCheckError`].
pub async fn check(
    helm: &Path,
    config: &Config,
    version: &str,
    releases: &[Release],
    destination: &Destination<'_>,
) -> Result<ChartsFit, ChartCheckError> {
    let rendered = rendered(helm, config, releases, destination).await?;
    compare(config, version, &rendered, destination)
}

async fn rendered<'a>(
    helm: &Path,
    config: &'a Config,
    releases: &[Release],
    destination: &Destination<'_>,
) -> Result<Vec<RenderedRelease<'a>>, ChartCheckError> {
    let contents = destination.contents;
    let versions = api_versions(&contents.kinds);
    let api = TargetApi {
        kubernetes: &contents.kubernetes,
        versions: &versions,
    };
    let mut all = Vec::new();
    let mut refusals = Vec::new();
    for (release, to_install) in config.releases.iter().zip(releases) {
        match render(helm, to_install, destination.namespace, &api).await {
            Ok(objects) => all.push(RenderedRelease { release, objects }),
            Err(error @ (DeployError::Refused { .. } | DeployError::Helm { .. })) => {
                let message = format!("the chart of the release {:?}: {error}", release.name);
                let help = to_install.template_command();
                let place = release.place.clone();
                refusals.push(config.refuse(place, message, Some(format!("try `{help}`"))));
            }
            Err(error) => return Err(error.into()),
        }
    }
    match refusals.is_empty() {
        true => Ok(all),
        false => Err(ChartCheckError::Refused { refusals }),
    }
}

/// As `.Capabilities.APIVersions` has them.
fn api_versions(kinds: &Kinds) -> BTreeSet<String> {
    let kinds = kinds.iter();
    kinds
        .flat_map(|(version, kind)| [version.clone(), format!("{version}/{kind}")])
        .collect()
}

type Rule = fn(&Comparison<'_>) -> Vec<ConfigError>;

/// Compares what is rendered with the configuration.
///
/// # Errors
/// [`ChartCheckError::Refused`].
pub fn compare(
    config: &Config,
    version: &str,
    releases: &[RenderedRelease<'_>],
    destination: &Destination<'_>,
) -> Result<ChartsFit, ChartCheckError> {
    let comparison = Comparison {
        config,
        version,
        namespace: destination.namespace,
        releases,
        contents: destination.contents,
    };
    let rules: [Rule; 5] = [
        kinds::check,
        services::check,
        ports::check,
        images::check,
        secrets::check,
    ];
    let refusals: Vec<ConfigError> = rules.iter().flat_map(|rule| rule(&comparison)).collect();
    match refusals.is_empty() {
        true => {
            let pulled = images::pulled(&comparison);
            let notes = images::notes(&comparison, &pulled);
            Ok(ChartsFit { notes, pulled })
        }
        false => Err(ChartCheckError::Refused { refusals }),
    }
}

#[cfg(test)]
mod tests;
