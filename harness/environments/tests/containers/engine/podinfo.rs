//! The chart in `fixtures/podinfo` is podinfo's own, unchanged.

use std::path::{Path, PathBuf};

use machine::tools;
use tokio::process::Command;

use super::workshop;

#[tokio::test]
async fn the_chart_is_that_of_the_module_which_the_image_is_built_from() {
    let published = published_module().await;
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/podinfo");
    for (theirs, copy) in [("charts/podinfo", "chart"), ("LICENSE", "LICENSE")] {
        let mut diff = Command::new("diff");
        diff.args(["--recursive", "--unified"]);
        let diff = diff.arg(published.join(theirs)).arg(ours.join(copy));
        let output = diff.output().await.unwrap();
        let differences = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{differences}");
    }
}

/// Downloads the module of the recipe, and returns its folder.
async fn published_module() -> PathBuf {
    let recipe = workshop().recipes.join("podinfo/image.toml");
    let recipe: toml::Table = std::fs::read_to_string(recipe).unwrap().parse().unwrap();
    let module = &recipe["build"]["go"][0]["module"];
    let [path, version] = ["path", "version"].map(|key| module[key].as_str().unwrap());
    let go = tools::go(&workshop().state_dir.join("tools"), "1.21").await;
    let output = Command::new(go.expect("images are built with Go"))
        .args(["mod", "download", "-json", &format!("{path}@{version}")])
        .output()
        .await
        .unwrap();
    let downloaded: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    PathBuf::from(
        downloaded["Dir"]
            .as_str()
            .unwrap_or_else(|| panic!("{downloaded}")),
    )
}
