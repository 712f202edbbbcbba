//! Configurations for real charts, which helm renders.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base::exit::ExitCode;
use environments::config::{Config, PlatformChart};
use helm::chart::ChartMetadata;
use helm::render::{self, TargetApi};
use helm::{DeployError, KUBERNETES, Release};
use init::configuration::FileNames;
use serde_json::json;

use init::{Configuration, Inventory, Origin, Place, configuration, manifests, survey};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn helm() -> PathBuf {
    machine::tools::on_path("helm").unwrap_or_else(|| {
        panic!("helm is not installed: these tests render charts with it (https://helm.sh)")
    })
}

fn files() -> FileNames {
    FileNames {
        configuration: "new.toml".into(),
        checks: "new-checks.hurl".into(),
        journey: "new-journey.hurl".into(),
    }
}

/// Returns the manifests of a chart with values files of the repository.
async fn rendered(name: &str, chart: &Path, values: &[&str]) -> Result<String, DeployError> {
    let release = Release {
        name: name.to_owned(),
        version: String::new(),
        chart: chart.to_owned(),
        values_files: values.iter().map(|it| workspace().join(it)).collect(),
        overrides: json!({}),
    };
    let api = TargetApi {
        kubernetes: KUBERNETES,
        versions: &BTreeSet::new(),
    };
    render::manifests(&helm(), &release, name, &api).await
}

/// Renders a chart of the repository with values files beside it. Returns what the objects show,
/// and the configuration, which the parser accepts.
async fn of_chart(path: &str, values: &[&str]) -> (Inventory, Configuration) {
    let (helm, folder) = (helm(), workspace().join(path));
    let metadata = ChartMetadata::of(&helm, &folder).await.unwrap();
    let name = metadata.name;
    let rendered = rendered(&name, &folder, values).await.unwrap();
    let origin = Origin {
        platform: name.clone(),
        namespace: name.clone(),
        app_version: metadata.app_version,
        place: Place::Chart {
            chart: PlatformChart::Path(path.into()),
            values: values.iter().map(PathBuf::from).collect(),
            release: name,
        },
        recipes: ["podinfo", "redis", "platform"].map(str::to_owned).into(),
    };
    let inventory = survey(&manifests::read(&rendered).unwrap(), &origin).unwrap();
    let written = configuration::write(&origin, &inventory, &files()).unwrap();
    Config::parse(Path::new("new.toml"), &written.text).unwrap();
    (inventory, written)
}

/// Replaces the host of the registry that podinfo's chart names: no file of this project names one.
fn without_registry(text: &str) -> String {
    let Some((before, _)) = text.split_once("/stefanprodan/") else {
        panic!("no image of podinfo:\n{text}");
    };
    let ends_word = |c: char| c.is_whitespace() || c == '"' || c == '`';
    let host = before.rsplit(ends_word).next().unwrap();
    text.replace(&format!("{host}/"), "REGISTRY/")
}

#[tokio::test]
async fn podinfo_without_values() {
    let (_, written) = of_chart("fixtures/podinfo/chart", &[]).await;
    insta::assert_snapshot!(without_registry(&written.text));
}

#[tokio::test]
async fn podinfo_with_an_ingress_and_its_redis() {
    let values = "fixtures/podinfo/values-backend.yaml";
    let (_, written) = of_chart("fixtures/podinfo/chart", &[values]).await;
    insta::assert_snapshot!(without_registry(&written.text));
}

#[tokio::test]
async fn the_chart_of_the_stand_in() {
    let (inventory, written) = of_chart("fixtures/helm/trii-platform", &[]).await;
    let text = std::fs::read_to_string(workspace().join("harness.toml")).unwrap();
    let shipped = Config::parse(Path::new("harness.toml"), &text).unwrap();
    let mut services: Vec<&str> = inventory
        .services
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    let mut expected: Vec<&str> = shipped.service_names().collect();
    services.sort_unstable();
    expected.sort_unstable();
    assert_eq!(services, expected);
    let config = Config::parse(Path::new("new.toml"), &written.text).unwrap();
    assert_eq!(config.secrets, shipped.secrets);
    let routes = |config: &Config| {
        let mut routes: Vec<String> = config.routes.iter().map(|it| format!("{it:?}")).collect();
        routes.sort_unstable();
        routes
    };
    assert_eq!(routes(&config), routes(&shipped));
    insta::assert_snapshot!(written.text);
}

#[tokio::test]
async fn a_chart_that_does_not_render_is_refused_with_helms_message() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n");
    write(
        "templates/web.yaml",
        "a: 1\nb: {{ required \"say b\" .Values.b }}\n",
    );
    let error = rendered("shop", folder.path(), &[]).await.unwrap_err();
    assert!(matches!(error, DeployError::Refused { .. }));
    let message = error.to_string();
    assert!(message.contains("shop/templates/web.yaml:2"), "{message}");
    assert!(message.contains("say b"), "{message}");

    let nowhere = folder.path().join("nowhere");
    let error = ChartMetadata::of(&helm(), &nowhere).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
}
