//! A kind cluster of two nodes that ends with its value.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::engine::Engine;
use harness::tools;
use tempfile::TempDir;

/// As kubectl has it.
const READY: &str = "--timeout=120s";

pub struct Cluster {
    pub name: String,
    kind: PathBuf,
    engine: (&'static str, String),
    /// The cluster's kubeconfig: nobody else's is touched.
    dir: TempDir,
}

impl Cluster {
    /// Of the image `node`, with `node_port` on 127.0.0.1.
    pub fn create(engine: &Engine, state_dir: &Path, node: &str, node_port: u16) -> Cluster {
        let kind = tools::own_or_on_path(&state_dir.join("tools"), "kind");
        let [(variable, host)] = engine.export_env();
        let cluster = Cluster {
            name: format!("images-{}", std::process::id()),
            kind: kind.expect("`cargo xtask doctor --provision` gets kind"),
            engine: (variable, host.to_owned()),
            dir: TempDir::new().unwrap(),
        };
        let config = cluster.dir.path().join("kind.yaml");
        let text = include_str!("kind.yaml").replace("NODE_PORT", &node_port.to_string());
        std::fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        cluster.kind(&["create", "cluster", "--image", node, "--config", &config]);
        cluster
    }

    /// Every pod, as kubectl names it.
    pub fn pods(&self) -> String {
        self.kubectl(&["get", "pods", "--all-namespaces", "--output=name"], "")
    }

    pub fn wait_for_all_pods(&self) {
        for what in ["nodes", "pods"] {
            let everywhere: &[&str] = match what {
                "pods" => &["--all-namespaces"],
                _ => &[],
            };
            let wait = ["wait", "--for=condition=Ready", READY, "--all", what];
            self.kubectl(&[&wait, everywhere].concat(), "");
        }
    }

    pub fn apply(&self, manifests: &str) {
        self.kubectl(&["apply", "--filename=-"], manifests);
    }

    /// The port of 127.0.0.1 that leads to a port of the first node.
    pub fn port_of(&self, port: u16) -> u16 {
        let node = self.node();
        let published = docker(&["port", &node, &port.to_string()], "");
        let port = published.trim().strip_prefix("127.0.0.1:");
        port.expect("it is published on the loopback interface only")
            .parse()
            .unwrap()
    }

    fn node(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    /// That of the node: it is the cluster's version.
    fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let node = self.node();
        let kubectl = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"];
        docker(
            &[&["exec", "--interactive", &node], &kubectl[..], arguments].concat(),
            input,
        )
    }

    fn kind(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.kind);
        command
            .args(arguments)
            .args(["--name", &self.name])
            .arg("--kubeconfig")
            .arg(self.dir.path().join("kubeconfig"))
            .env(self.engine.0, &self.engine.1);
        said(&command.output().unwrap());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kind(&["delete", "cluster"]);
    }
}

/// The nodes of a cluster, one a line.
pub fn nodes_of(cluster: &str) -> String {
    let label = format!("label=io.x-k8s.kind.cluster={cluster}");
    docker(&["ps", "--all", "--quiet", "--filter", &label], "")
}

fn docker(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    said(&child.wait_with_output().unwrap())
}

/// Standard output of what succeeded.
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}
