//! The charts fit their harness.toml, as the harness checks before it installs them.

use std::fs;
use std::path::Path;

use base::home::Home;
use environments::chart_check::{self, ChartCheckError, ClusterContents, Destination};
use environments::config::{Config, Target};
use environments::kind::input_check;
use environments::releases::{self, TargetValues};

use super::helm::workspace;

const SHIPPED: &str = "harness.toml";
const PODINFO: &str = "fixtures/podinfo/harness.toml";

/// Checks the file, with some text replaced, for a new kind cluster.
async fn checked(file: &str, changes: &[(&str, &str)]) -> Result<Vec<String>, ChartCheckError> {
    let workspace = workspace();
    let mut text = fs::read_to_string(workspace.join(file)).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{file} has no {from:?}");
        text = text.replace(from, to);
    }
    let config = Config::parse(Path::new(file), &text).unwrap();
    let Target::Kind(target) = &config.targets["kind"] else {
        panic!("it is a kind target");
    };
    let version = &config.platform.version;
    let values = TargetValues::of_kind(target, Some("192.0.2.0/24"));
    let places = (workspace.as_path(), &Home::new("nowhere"));
    let releases = releases::all(&config, &values, places, version);
    let manifests = input_check::objects_of(&config.platform, &workspace).unwrap();
    let destination = Destination {
        namespace: &target.namespace,
        contents: &ClusterContents::of_new(&config, target, &manifests),
    };
    let helm = machine::tools::on_path("helm").expect("helm is installed");
    let fit = chart_check::check(&helm, &config, version, &releases, &destination).await?;
    Ok(fit.notes)
}

/// The message and the help of the only refusal.
async fn refused(file: &str, changes: &[(&str, &str)]) -> String {
    let error = checked(file, changes).await.unwrap_err();
    let ChartCheckError::Refused { refusals } = error else {
        panic!("{error}");
    };
    let [refusal] = &refusals[..] else {
        panic!("{refusals:?}");
    };
    let help = miette::Diagnostic::help(refusal).map(|help| help.to_string());
    format!("{refusal}\nhelp: {}", help.unwrap_or_default())
}

#[tokio::test]
async fn the_shipped_charts_fit() {
    for file in [SHIPPED, PODINFO] {
        assert_eq!(checked(file, &[]).await.unwrap(), [""; 0], "{file}");
    }
}

#[tokio::test]
async fn what_a_chart_does_not_have_is_refused_by_name() {
    let from_chart = "chart = \"fixtures/podinfo/chart\"\nvalues = [\"fixtures/podinfo/values-frontend.yaml\"]\n[releases.set]\n";
    let monitor = format!("{from_chart}serviceMonitor = {{ enabled = true }}\n");
    let messages = [
        refused(PODINFO, &[("frontend-podinfo", "frontend-podinf")]).await,
        refused(PODINFO, &[("redis:podinfo\"", "redis:podinfos\"")]).await,
        refused(PODINFO, &[(from_chart, &monitor)]).await,
        refused(SHIPPED, &[("demo-password = \"{demo_password}\"", "")]).await,
    ];
    insta::assert_snapshot!(messages.join("\n\n"));
}

#[tokio::test]
async fn values_that_the_chart_rejects_are_refused_in_helms_words() {
    let latest = ("imageTag = \"{version}\"", "imageTag = \"latest\"");
    let message = refused(SHIPPED, &[latest]).await;
    assert!(message.contains("image tag latest: "), "{message}");
    assert!(message.contains("helm template "), "{message}");
}

#[tokio::test]
async fn a_chart_for_another_version_of_kubernetes_is_refused_in_helms_words() {
    let folder = tempfile::tempdir().unwrap();
    let chart = "apiVersion: v2\nname: shop\nversion: 1.0.0\nkubeVersion: '>=1.99.0'\n";
    fs::write(folder.path().join("Chart.yaml"), chart).unwrap();
    let to = format!("chart = {:?}", folder.path());
    let message = refused(SHIPPED, &[("chart = \"fixtures/helm/trii-platform\"", &to)]).await;
    assert!(
        message.contains("chart requires kubeVersion: >=1.99.0"),
        "{message}"
    );
    assert!(message.contains("harness.toml:"), "{message}");
}
