//! The API server accepts the chart of every environment.

use std::io::Write;
use std::process::{Command, Stdio};

use environments::kind::cluster::control_plane;

use super::shared::Shared;
use crate::chart::helm::{ENVIRONMENTS, Render};

#[tokio::test]
async fn the_api_server_accepts_the_chart_of_every_environment() {
    let shared = Shared::find().await;
    let place = shared.place();
    let node = control_plane(&place.name);
    shared
        .in_own_namespace("dry-run", async |cluster| {
            for environment in ENVIRONMENTS {
                let manifests = Render::of(environment).text().unwrap();
                let manifests = manifests.replace(
                    "namespace: trii-platform",
                    &format!("namespace: {}", cluster.namespace),
                );
                let output = apply_dry(&node, &cluster.namespace, &manifests);
                let output = output.unwrap_or_else(|error| panic!("{environment}: {error}"));
                assert!(output.contains("deployment.apps/api-gateway"), "{output}");
            }
        })
        .await;
}

/// Applies without changes, by the `kubectl` of the node, which has the cluster's version.
fn apply_dry(node: &str, namespace: &str, manifests: &str) -> Result<String, String> {
    let kubectl = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"];
    let apply = ["apply", "--server-side", "--dry-run=server", "--filename=-"];
    let mut child = Command::new("docker")
        .args(["exec", "--interactive", node])
        .args(kubectl)
        .args(apply)
        .args(["--namespace", namespace])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(manifests.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}
