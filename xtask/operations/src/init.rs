//! Writes a first configuration for a chart, or for what runs in a namespace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base::exit::ExitCode;
use environments::config::PlatformChart;
use environments::remote::ReadOnlyCluster;
use helm::chart::ChartMetadata;
use helm::render::{self, TargetApi};
use helm::{KUBERNETES, Release};
use init::{Configuration, Files, InitError, Inventory, Origin, Place, ToDo, of_repository};
use init::{manifests, namespace};
use machine::images;
use serde::Serialize;
use serde_json::json;

use crate::invocation::{Context, interrupts};
use crate::outcome::CommandOutcome;
use crate::problem::Problem;

/// Where the platform is described.
pub enum Source {
    /// A chart.
    Chart(ChartSource),
    /// A running namespace.
    Cluster {
        /// The context of the user's kubeconfig.
        context: String,
        /// The namespace.
        namespace: String,
    },
}

/// A release of a chart.
pub struct ChartSource {
    /// The chart: a folder, a packaged chart, or `oci://HOST/PATH`.
    pub chart: String,
    /// The version of a chart in a registry.
    pub version: Option<String>,
    /// The values files. A later one overrides an earlier one.
    pub values: Vec<PathBuf>,
    /// The release; by default the chart's name.
    pub release: Option<String>,
    /// The namespace; by default the release's name.
    pub namespace: Option<String>,
}

/// What the command did, as one JSON document.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    written: &'a [PathBuf],
    found: &'a Inventory,
    to_do: &'a [ToDo],
}

/// Writes the configuration `output`, by default `PLATFORM.toml` of the working directory.
pub async fn run(
    context: &Context,
    source: &Source,
    output: Option<&Path>,
) -> Result<CommandOutcome, Problem> {
    let mut interrupts = interrupts()?;
    let (origin, inventory) = tokio::select! {
        found = find(context, source) => found?,
        signal = interrupts.next() => return Err(Problem::ended(signal)),
    };
    let default = PathBuf::from(format!("{}.toml", origin.platform));
    let files = Files::beside(output.unwrap_or(&default)).map_err(problem)?;
    let names = files.names(&context.workspace);
    let configuration = init::configuration::write(&origin, &inventory, &names);
    let configuration = configuration.map_err(Problem::usage)?;
    let written = files.write(&configuration).map_err(problem)?;
    let lines = answer(&written, &origin, &inventory, &configuration);
    let outcome = CommandOutcome::of(ExitCode::Held).with_answer(lines);
    outcome.with_document(&Document {
        written: &written,
        found: &inventory,
        to_do: &configuration.to_do,
    })
}

async fn find(context: &Context, source: &Source) -> Result<(Origin, Inventory), Problem> {
    match source {
        Source::Chart(source) => {
            let rendered = of_chart(context, source);
            context
                .output
                .waiting("rendering the chart", rendered)
                .await
        }
        Source::Cluster {
            context: name,
            namespace,
        } => {
            let read = of_namespace(context, name, namespace);
            context.output.waiting("reading the namespace", read).await
        }
    }
}

async fn of_chart(context: &Context, source: &ChartSource) -> Result<(Origin, Inventory), Problem> {
    let helm = context.helm()?;
    let refused = |error| problem(InitError::Render(error));
    let chart = PlatformChart::parse(&source.chart, source.version.as_deref());
    let chart = chart.map_err(Problem::usage)?;
    let file = pulled(context, &helm, &chart).await?;
    let metadata = ChartMetadata::of(&helm, &file).await.map_err(refused)?;
    let release = source.release.clone().unwrap_or(metadata.name);
    let namespace = source.namespace.clone().unwrap_or_else(|| release.clone());
    let to_render = Release {
        name: release.clone(),
        version: String::new(),
        chart: file,
        values_files: source.values.clone(),
        overrides: json!({}),
    };
    let api = TargetApi {
        kubernetes: KUBERNETES,
        versions: &BTreeSet::new(),
    };
    let manifests = render::manifests(&helm, &to_render, &namespace, &api).await;
    let objects = manifests::read(&manifests.map_err(refused)?).map_err(problem)?;
    let of_repository = |path: &PathBuf| of_repository(path, &context.workspace);
    let origin = Origin {
        platform: release.clone(),
        namespace,
        app_version: metadata.app_version,
        place: Place::Chart {
            chart: match &chart {
                PlatformChart::Path(path) => PlatformChart::Path(of_repository(path)),
                PlatformChart::Oci(_) => chart.clone(),
            },
            values: source.values.iter().map(of_repository).collect(),
            release,
        },
        recipes: recipes(context)?,
    };
    let inventory = init::survey(&objects, &origin).map_err(problem)?;
    Ok((origin, inventory))
}

/// Returns the file or folder of the chart, as the working directory names it.
async fn pulled(context: &Context, helm: &Path, chart: &PlatformChart) -> Result<PathBuf, Problem> {
    match chart {
        PlatformChart::Path(path) => Ok(path.clone()),
        PlatformChart::Oci(chart) => {
            let pulled = helm::pull::pull(helm, chart, &context.home()?.charts()).await;
            pulled.map_err(|error| Problem::new(error.exit_code(), error))
        }
    }
}

async fn of_namespace(
    context: &Context,
    name: &str,
    namespace: &str,
) -> Result<(Origin, Inventory), Problem> {
    let refused = |error| problem(InitError::Cluster(error));
    let cluster = ReadOnlyCluster::open(name, namespace).map_err(refused)?;
    let found = namespace::read(&cluster.client, namespace).await;
    let found = found.map_err(refused)?;
    let mut releases = found.releases.iter();
    let platform = match (releases.next(), releases.next()) {
        (Some(release), None) => release.clone(),
        _ => namespace.to_owned(),
    };
    let origin = Origin {
        platform,
        namespace: namespace.to_owned(),
        app_version: None,
        place: Place::Cluster {
            context: name.to_owned(),
            server: cluster.server,
            releases: found.releases,
            no_secrets: found.no_secrets,
        },
        recipes: recipes(context)?,
    };
    let inventory = init::survey(&found.objects, &origin).map_err(problem)?;
    Ok((origin, inventory))
}

fn recipes(context: &Context) -> Result<BTreeSet<String>, Problem> {
    let names = images::main_names(&context.workshop()?).map_err(Problem::usage)?;
    Ok(names.into_iter().collect())
}

fn problem(error: InitError) -> Problem {
    Problem::new(error.exit_code(), error)
}

fn answer(
    written: &[PathBuf],
    origin: &Origin,
    inventory: &Inventory,
    configuration: &Configuration,
) -> Vec<String> {
    let mut lines: Vec<String> = written
        .iter()
        .map(|it| format!("written: {}", it.display()))
        .collect();
    lines.push(format!("found: {}", counts(inventory)));
    let file = written.first().map(|it| it.display().to_string());
    let file = file.unwrap_or_default();
    lines.push(format!(
        "{} things that only you can say:",
        configuration.to_do.len()
    ));
    let to_do = configuration.to_do.iter();
    lines.extend(to_do.map(|it| format!("  {file}:{}: {}", it.line, it.what)));
    let verb = match origin.place {
        Place::Chart { .. } => "e2e",
        Place::Cluster { .. } => "smoke",
    };
    let target = origin.target();
    lines.push(format!(
        "next: cargo xtask {verb} --config {file} --target {target}"
    ));
    lines
}

fn counts(inventory: &Inventory) -> String {
    let secrets = inventory.secrets.len();
    let counts = [
        counted(inventory.services.len(), "Service", "Services"),
        counted(inventory.images.len(), "image", "images"),
        counted(inventory.routes.len(), "route", "routes"),
        format!(
            "{} that nothing supplies",
            counted(secrets, "Secret", "Secrets")
        ),
    ];
    counts.join(", ")
}

fn counted(count: usize, one: &str, several: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {several}"),
    }
}
