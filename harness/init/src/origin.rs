//! Where the objects of a platform were found.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use environments::config::{AUTO, PlatformChart, names_environment};

/// Names that a target of another kind has, or that no target may have.
const RESERVED: [&str; 3] = [AUTO, "kind", "local"];

/// Where the objects of a platform were found, and what they do not show.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The name of the platform.
    pub platform: String,
    /// The namespace of its objects.
    pub namespace: String,
    /// The version of what the chart installs, if it has one.
    pub app_version: Option<String>,
    /// A chart, or a running namespace.
    pub place: Place,
    /// The recipes of `fixtures/images`.
    pub recipes: BTreeSet<String>,
}

/// A chart, or a running namespace.
#[derive(Clone, Debug)]
pub enum Place {
    /// A chart.
    Chart {
        /// The chart, relative to the repository or in a registry.
        chart: PlatformChart,
        /// Its values files, relative to the repository.
        values: Vec<PathBuf>,
        /// The release.
        release: String,
    },
    /// A running namespace.
    Cluster {
        /// The context of the user's kubeconfig.
        context: String,
        /// The URL of the API server.
        server: String,
        /// The helm releases of the namespace.
        releases: BTreeSet<String>,
        /// Why the Secrets cannot be listed, if they cannot.
        no_secrets: Option<String>,
    },
}

impl Origin {
    /// Returns the target that can be tried first: the kind cluster for a chart, or else the cluster.
    pub fn target(&self) -> &str {
        match &self.place {
            Place::Chart { .. } => "kind",
            Place::Cluster { context, .. } => match names_environment(context) {
                true if !RESERVED.contains(&context.as_str()) => context,
                _ => "cluster",
            },
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Chart { chart, .. } => write!(f, "the chart {chart}"),
            Place::Cluster { context, .. } => {
                write!(
                    f,
                    "the namespace {} of the context {context}",
                    self.namespace
                )
            }
        }
    }
}
