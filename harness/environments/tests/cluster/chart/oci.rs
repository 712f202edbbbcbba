//! Charts of a registry: helm pulls them once.

use std::fs;
use std::path::{Path, PathBuf};

use base::exit::ExitCode;
use base::home::Home;
use environments::charts::{self, ChartPullError};
use environments::config::Config;
use helm::chart::ChartMetadata;
use miette::Diagnostic;

use super::helm::helm;
use crate::chart_registry::ChartRegistry;

const VERSION: &str = "1.2.0";

/// Packages a chart in the folder.
fn packaged(folder: &Path) -> PathBuf {
    let chart = folder.join("shop");
    fs::create_dir_all(chart.join("templates")).unwrap();
    let metadata = format!("apiVersion: v2\nname: shop\nversion: {VERSION}\nappVersion: v7\n");
    fs::write(chart.join("Chart.yaml"), metadata).unwrap();
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\n";
    fs::write(chart.join("templates/shop.yaml"), object).unwrap();
    let (chart, folder) = (chart.display().to_string(), folder.display().to_string());
    let output = helm(&["package", &chart, "--destination", &folder]);
    assert!(output.status.success(), "{output:?}");
    Path::new(&folder).join(format!("shop-{VERSION}.tgz"))
}

/// A platform whose chart is in the registry at this address, in this version.
fn config(address: &str, version: &str) -> Config {
    let text = format!(
        "schema = 1\n\n[targets.kind]\nkind = \"kind\"\nkubernetes = \"1.37\"\nnamespace = \"shop\"\n\n\
         [platform]\nname = \"shop\"\nversion = \"v7\"\nsite_host = \"shop.example\"\n\n\
         [[releases]]\nname = \"shop\"\nchart = \"oci://{address}/charts/shop\"\nversion = \"{version}\"\n"
    );
    Config::parse(Path::new("harness.toml"), &text).unwrap()
}

async fn pull(config: &Config, home: &Home) -> Result<(), ChartPullError> {
    let program = machine::tools::on_path("helm").expect("helm is installed");
    charts::pull(&program, config, home, &|_| ()).await
}

/// The exit code, and the message with its help.
fn described(error: &ChartPullError) -> (ExitCode, String) {
    let help = error.help().map(|help| help.to_string());
    let message = format!("{error}; {}", help.unwrap_or_default());
    (error.exit_code(), message)
}

#[tokio::test]
async fn a_chart_is_pulled_once_and_is_then_a_file_as_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path().join("home"));
    let registry = ChartRegistry::with(&packaged(folder.path()), "shop", VERSION, false).await;
    let config = config(&registry.address, VERSION);
    // Two commands at once.
    let (one, other) = tokio::join!(pull(&config, &home), pull(&config, &home));
    one.unwrap();
    other.unwrap();
    let asked = registry.requests();
    let manifest = format!("/v2/charts/shop/manifests/{VERSION}");
    assert!(asked.iter().any(|it| it.ends_with(&manifest)), "{asked:?}");

    let file = config.releases[0].chart.path(Path::new("/nowhere"), &home);
    let program = machine::tools::on_path("helm").unwrap();
    let metadata = ChartMetadata::of(&program, &file).await.unwrap();
    assert_eq!(metadata.app_version.as_deref(), Some("v7"));
    let beside = fs::read_dir(file.parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 1, "helm's home and a second file are gone");

    pull(&config, &home).await.unwrap();
    assert_eq!(registry.requests(), asked);
    registry.end().await;
    pull(&config, &home).await.unwrap();
}

#[tokio::test]
async fn a_version_that_the_registry_lacks_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path().join("home"));
    let registry = ChartRegistry::with(&packaged(folder.path()), "shop", VERSION, false).await;
    let error = pull(&config(&registry.address, "9.9.9"), &home)
        .await
        .unwrap_err();
    let (code, message) = described(&error);
    assert_eq!(code, ExitCode::Usage, "{message}");
    assert!(message.starts_with("harness.toml:15: oci://"), "{message}");
    assert!(
        message.contains("charts/shop 9.9.9 is not in its registry"),
        "{message}"
    );
}

#[tokio::test]
async fn a_registry_that_wants_a_login_or_is_not_there_is_not_the_users_fault() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path().join("home"));
    let registry = ChartRegistry::with(&packaged(folder.path()), "shop", VERSION, true).await;
    let config = config(&registry.address, VERSION);
    let (code, message) = described(&pull(&config, &home).await.unwrap_err());
    assert_eq!(code, ExitCode::NoEnvironment, "{message}");
    let login = format!("`helm registry login {}`", registry.address);
    assert!(message.contains(&login), "{message}");

    registry.end().await;
    let (code, message) = described(&pull(&config, &home).await.unwrap_err());
    assert_eq!(code, ExitCode::NoEnvironment, "{message}");
    assert!(message.contains("does not answer"), "{message}");
    assert!(message.contains("connection refused"), "{message}");
    assert!(
        message.contains("check that this machine reaches"),
        "{message}"
    );
}
