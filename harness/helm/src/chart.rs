//! What a chart says of itself. <https://helm.sh/docs/topics/charts/#the-chartyaml-file>

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::DeployError;
use super::command::Program;

/// How long helm may take to read a chart. It usually takes a tenth of a second.
const DEADLINE: Duration = Duration::from_secs(60);

/// The part of a `Chart.yaml` that names the platform.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChartMetadata {
    /// Its name.
    pub name: String,
    /// The version of what it installs.
    pub app_version: Option<String>,
}

impl ChartMetadata {
    /// Reads that of a chart, a folder or a packaged chart, with the program `helm`.
    ///
    /// # Errors
    /// [`DeployError::Refused`] if there is no valid chart; [`DeployError::NoHelm`].
    pub async fn of(helm: &Path, chart: &Path) -> Result<ChartMetadata, DeployError> {
        std::fs::metadata(chart).map_err(|error| DeployError::Refused {
            words: format!("cannot read the chart {}: {error}", chart.display()),
        })?;
        let program = Program::new(helm, &std::env::temp_dir())?;
        let mut show = program.command(&["show", "chart", "--"]);
        show.arg(chart);
        let text = program.output_of(show, DEADLINE).await?;
        serde_saphyr::from_str(&text).map_err(|error| DeployError::Refused {
            words: format!("the Chart.yaml of {}: {error}", chart.display()),
        })
    }
}
