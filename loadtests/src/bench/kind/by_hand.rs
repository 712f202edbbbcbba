//! The commands that a person types for the same cluster, release and backing services, with kind,
//! docker, the node's kubectl and helm; then those that remove everything.
//!
//! They run one after the other, as if typed. They check nothing, and write no report.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use base::process;
use environments::certificates::Certificates;
use environments::environment::Secrets;
use environments::kind::manifests::BackingHosts;
use environments::kind::{cluster, manifests};
use machine::images::{self, ImageReference, Supply, Workshop, redis};
use serde_json::{Value, json};

use super::{COMMAND_TIMEOUT, KindBench, TimedStep};
use crate::bench::BenchPlan;
use crate::bench::error::BenchError;
use crate::bench::scratch::Scratch;
use crate::bench::series::millis_since;

/// The two steps that every cluster with a release needs.
pub const CREATE: &str = "kind create cluster --wait";
pub const HELM: &str = "helm install --wait";

const IMAGES: [&str; 6] = [
    "kind-node",
    "postgres",
    "redis",
    "platform",
    "ingress",
    "metrics-server",
];

/// The prepared files. Nothing is created in the engine yet.
pub struct ByHand<'a> {
    bench: &'a KindBench,
    scratch: &'a Scratch,
    chart: PathBuf,
    release: String,
    values: Vec<PathBuf>,
    /// The name of the cluster, its network, and other resources.
    name: String,
    /// The folder of configuration, manifests and credentials.
    folder: PathBuf,
    images: [ImageReference; 6],
}

impl<'a> ByHand<'a> {
    /// Writes the files that a person would have.
    pub async fn prepare(
        bench: &'a KindBench,
        plan: &BenchPlan,
        scratch: &'a Scratch,
    ) -> Result<ByHand<'a>, BenchError> {
        let folder = scratch.root().join("by-hand");
        std::fs::create_dir_all(&folder).map_err(BenchError::file("create", &folder))?;
        let values = bench.target.values.iter();
        let [release] = &bench.config.releases[..] else {
            return Err(BenchError::prepare("install by hand")("it is one release"));
        };
        let by_hand = ByHand {
            bench,
            scratch,
            chart: release.chart.path(&plan.workspace, &plan.home),
            release: release.name.clone(),
            values: values.map(|file| plan.workspace.join(file)).collect(),
            name: format!("trii-by-hand-{}", std::process::id()),
            images: images_here(bench, plan).await?,
            folder,
        };
        let configuration = cluster::configuration(&bench.engine, &bench.target).await;
        let configuration = configuration.map_err(BenchError::prepare("configure kind"))?;
        by_hand.write("kind.json", &configuration)?;
        by_hand.write_manifests(&plan.workspace)?;
        by_hand.write_credentials()?;
        Ok(by_hand)
    }

    fn write_manifests(&self, workspace: &Path) -> Result<(), BenchError> {
        let [.., ingress, metrics_server] = &self.images;
        let platform = &self.bench.config.platform;
        let manifests = manifests::manifests(workspace, platform, ingress, metrics_server);
        let manifests = manifests.map_err(BenchError::prepare("read the manifests"))?;
        self.write("manifests.yaml", &manifests.join("\n---\n"))
    }

    fn write_credentials(&self) -> Result<(), BenchError> {
        let secrets = Secrets::generate();
        let platform = &self.bench.config.platform;
        let certificates = Certificates::generate(&[&platform.site_host, &platform.api_host])
            .map_err(BenchError::prepare("make a certificate"))?;
        let hosts = ["postgres", "redis"].map(|part| format!("{}-{part}", self.name));
        let hosts = BackingHosts {
            postgres: Some(&hosts[0]),
            redis: Some(&hosts[1]),
        };
        let items = manifests::secrets(&self.bench.config, &secrets, hosts, &certificates);
        let items = items.into_iter().map(|(name, values)| {
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": self.bench.target.namespace},
                "stringData": values,
            })
        });
        let items: Vec<Value> = items.collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.write("secrets.json", &list.to_string())?;
        let postgres = format!(
            "POSTGRES_USER=trii\nPOSTGRES_DB=postgres\nPOSTGRES_INITDB_ARGS=--no-sync\n\
             POSTGRES_PASSWORD={}\n",
            secrets.postgres_password
        );
        self.write("postgres.env", &postgres)?;
        let redis = format!("{}={}\n", redis::PASSWORD_VARIABLE, secrets.redis_password);
        self.write("redis.env", &redis)
    }

    /// Writes a file that only the user can read, as some contain secrets.
    fn write(&self, name: &str, text: &str) -> Result<(), BenchError> {
        let path = self.folder.join(name);
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        let written = options
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(BenchError::file("write", &path))
    }

    /// Runs all commands, one after the other. If a step fails or is cancelled, the ledger of
    /// `scratch` has what is left, and `scratch` tears it down.
    pub async fn run(&self) -> Result<Vec<TimedStep>, BenchError> {
        self.scratch
            .record_by_hand(&self.bench.engine, &self.name)
            .await?;
        let mut steps = Vec::new();
        for (what, commands) in self.commands() {
            let started = Instant::now();
            for command in commands {
                process::run(&command, COMMAND_TIMEOUT, &|_| ()).await?;
            }
            let millis = millis_since(started);
            steps.push(TimedStep { what, millis });
        }
        // The resources no longer exist, but are still in the ledger.
        self.scratch.tear_down().await?;
        Ok(steps)
    }

    fn commands(&self) -> Vec<(&'static str, Vec<Vec<String>>)> {
        vec![
            (CREATE, vec![self.create()]),
            (
                "docker run, Postgres and Redis",
                vec![self.postgres(), self.redis()],
            ),
            ("kind load docker-image", vec![self.load()]),
            (
                "kubectl apply, what the chart lacks",
                vec![self.apply("manifests.yaml"), self.apply("secrets.json")],
            ),
            (HELM, vec![self.helm()]),
            ("deleting it all", self.delete()),
        ]
    }

    fn create(&self) -> Vec<String> {
        let node = self.images[0].to_string();
        let config = self.path("kind.json");
        self.kind(&[
            "create", "cluster", "--name", &self.name, "--image", &node, "--config", &config,
            "--wait", "180s",
        ])
    }

    fn postgres(&self) -> Vec<String> {
        let image = self.images[1].to_string();
        self.container("postgres", &[&image])
    }

    fn redis(&self) -> Vec<String> {
        let image = self.images[2].to_string();
        let command = redis::command();
        let mut words = vec!["--user", redis::USER, &image];
        words.extend(command.iter().map(String::as_str));
        self.container("redis", &words)
    }

    fn container(&self, part: &str, words: &[&str]) -> Vec<String> {
        let name = format!("{}-{part}", self.name);
        let environment = self.path(&format!("{part}.env"));
        let run = ["docker", "run", "--detach", "--name", &name];
        let options = ["--network", &self.name, "--env-file", &environment];
        self.bench.command(&[&run[..], &options, words].concat())
    }

    fn load(&self) -> Vec<String> {
        let images: Vec<String> = self.images[3..].iter().map(|it| it.to_string()).collect();
        let mut words = vec!["load", "docker-image", "--name", &self.name];
        words.extend(images.iter().map(String::as_str));
        self.kind(&words)
    }

    fn apply(&self, file: &str) -> Vec<String> {
        let node = cluster::control_plane(&self.name);
        let script = "exec docker exec --interactive \"$1\" kubectl \
                      --kubeconfig=/etc/kubernetes/admin.conf apply --filename=- < \"$2\"";
        self.bench
            .command(&["sh", "-c", script, "sh", &node, &self.path(file)])
    }

    fn helm(&self) -> Vec<String> {
        let helm = self.bench.helm.display().to_string();
        let chart = self.chart.display().to_string();
        let kubeconfig = self.path("kubeconfig");
        let ImageReference {
            repository, tag, ..
        } = &self.images[3];
        let image = format!("global.imageRepository={repository},global.imageTag={tag}");
        let mut words = vec![helm.as_str(), "install", &self.release, &chart];
        words.extend(["--namespace", &self.bench.target.namespace]);
        words.extend(["--kubeconfig", &kubeconfig, "--set", &image]);
        words.extend(["--wait", "--timeout", "240s"]);
        let values = self.values.iter().map(|file| file.display().to_string());
        let values: Vec<String> = values.collect();
        for file in &values {
            words.extend(["--values", file]);
        }
        self.bench.command(&words)
    }

    fn delete(&self) -> Vec<Vec<String>> {
        let [postgres, redis] = ["postgres", "redis"].map(|part| format!("{}-{part}", self.name));
        let containers = ["docker", "rm", "--force", "--volumes", &postgres, &redis];
        vec![
            self.kind(&["delete", "cluster", "--name", &self.name]),
            self.bench.command(&containers),
            self.bench.command(&["docker", "network", "rm", &self.name]),
        ]
    }

    /// A command of kind with a separate network and kubeconfig, so that the user's do not change.
    fn kind(&self, words: &[&str]) -> Vec<String> {
        let kubeconfig = format!("KUBECONFIG={}", self.path("kubeconfig"));
        let network = format!("KIND_EXPERIMENTAL_DOCKER_NETWORK={}", self.name);
        let kind = self.bench.kind.display().to_string();
        let provider = "KIND_EXPERIMENTAL_PROVIDER=docker";
        let program = ["env", &kubeconfig, &network, provider, &kind];
        self.bench.command(&[&program, words].concat())
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

async fn images_here(
    bench: &KindBench,
    plan: &BenchPlan,
) -> Result<[ImageReference; 6], BenchError> {
    let workshop = Workshop::of(&plan.workspace, &plan.home);
    let names = IMAGES.map(str::to_owned);
    let available =
        images::ensure_all(&bench.engine, &workshop, &names, Supply::Auto, &|_| ()).await?;
    available
        .images
        .try_into()
        .map_err(|images: Vec<ImageReference>| {
            BenchError::prepare("get the images")(format!("{} are available", images.len()))
        })
}
