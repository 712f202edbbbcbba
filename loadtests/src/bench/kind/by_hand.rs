//! What a person types for the same cluster, release and backing services, with kind,
//! docker, the node's kubectl and helm; then what removes it all.
//!
//! Nothing of it overlaps, as nothing does that is typed. It proves nothing of what came up,
//! and makes no report.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use harness::certificates::Certificates;
use harness::environment::Secrets;
use harness::images::{self, ImageReference, Supply, Workshop, redis};
use harness::kind::release::REPOSITORY;
use harness::kind::{cluster, surroundings};
use harness::release::{CHART, PLATFORM};
use harness::subprocess;
use serde_json::json;

use super::{Bench, LONGEST_COMMAND, Step};
use crate::bench::Plan;
use crate::bench::error::BenchError;
use crate::bench::scratch::Scratch;

/// The two steps that no cluster with a release on it does without.
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

/// Everything prepared; nothing made yet.
pub struct ByHand<'a> {
    bench: &'a Bench,
    scratch: &'a Scratch,
    chart: PathBuf,
    values: Vec<PathBuf>,
    /// Of the cluster, its network, and what else is made.
    name: String,
    /// For what is written beforehand: configuration, manifests, credentials.
    room: PathBuf,
    images: [ImageReference; 6],
}

impl<'a> ByHand<'a> {
    /// Writes what a person would have at hand.
    pub async fn prepare(
        bench: &'a Bench,
        plan: &Plan,
        scratch: &'a Scratch,
    ) -> Result<ByHand<'a>, BenchError> {
        let room = scratch.root().join("by-hand");
        std::fs::create_dir_all(&room).map_err(BenchError::file("make", &room))?;
        let values = bench.target.values.iter();
        let by_hand = ByHand {
            bench,
            scratch,
            chart: plan.workspace.join(CHART),
            values: values.map(|file| plan.workspace.join(file)).collect(),
            name: format!("trii-by-hand-{}", std::process::id()),
            images: images_here(bench, plan).await?,
            room,
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
        let manifests = surroundings::manifests(workspace, ingress, metrics_server);
        let manifests = manifests.map_err(BenchError::prepare("read the manifests"))?;
        self.write("manifests.yaml", &manifests.join("\n---\n"))
    }

    fn write_credentials(&self) -> Result<(), BenchError> {
        let secrets = Secrets::generate();
        let platform = &self.bench.config.platform;
        let certificates = Certificates::generate(&[&platform.site_host, &platform.api_host])
            .map_err(BenchError::prepare("make a certificate"))?;
        let hosts = ["postgres", "redis"].map(|part| format!("{}-{part}", self.name));
        let items = surroundings::secrets(&secrets, &hosts[0], &hosts[1], &certificates);
        let items = items.map(|(name, values)| {
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": self.bench.target.namespace},
                "stringData": values,
            })
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let Secrets {
            postgres_password,
            redis_password,
            ..
        } = &secrets;
        self.write("secrets.json", &list.to_string())?;
        let postgres = format!(
            "POSTGRES_USER=trii\nPOSTGRES_DB=postgres\nPOSTGRES_INITDB_ARGS=--no-sync\n\
             POSTGRES_PASSWORD={postgres_password}\n"
        );
        self.write("postgres.env", &postgres)?;
        let redis = format!("{}={redis_password}\n", redis::PASSWORD_VARIABLE);
        self.write("redis.env", &redis)
    }

    /// Readable by the user alone: some of it is secret.
    fn write(&self, name: &str, text: &str) -> Result<(), BenchError> {
        let path = self.room.join(name);
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        let written = options
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(BenchError::file("write", &path))
    }

    /// Types it all, one after the other. What is left when a step fails, or is called off,
    /// is in the ledger of `scratch`, which takes it down.
    pub async fn run(&self) -> Result<Vec<Step>, BenchError> {
        self.scratch
            .record_by_hand(&self.bench.engine, &self.name)
            .await?;
        let mut steps = Vec::new();
        for (what, commands) in self.commands() {
            let begun = Instant::now();
            for command in commands {
                subprocess::run(&command, LONGEST_COMMAND, &|_| ()).await?;
            }
            let millis = begun.elapsed().as_secs_f64() * 1000.0;
            steps.push(Step { what, millis });
        }
        // Nothing is there any more: what is written down is.
        self.scratch.take_down().await?;
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
        let command = command.iter().map(|word| word.as_ref());
        let words: Vec<&str> = ["--user", redis::USER, &image]
            .into_iter()
            .chain(command)
            .collect();
        self.container("redis", &words)
    }

    fn container(&self, part: &str, words: &[&str]) -> Vec<String> {
        let name = format!("{}-{part}", self.name);
        let environment = self.path(&format!("{part}.env"));
        let run = [
            "docker",
            "run",
            "--detach",
            "--name",
            &name,
            "--network",
            &self.name,
            "--env-file",
            &environment,
        ];
        self.bench.command(&[&run, words].concat())
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
        let image = format!(
            "global.imageRepository={REPOSITORY},global.imageTag={}",
            self.images[3].tag
        );
        let mut words = vec![
            helm.as_str(),
            "install",
            PLATFORM,
            &chart,
            "--namespace",
            &self.bench.target.namespace,
            "--kubeconfig",
            &kubeconfig,
            "--set",
            &image,
            "--wait",
            "--timeout",
            "240s",
        ];
        let values: Vec<String> = self
            .values
            .iter()
            .map(|it| it.display().to_string())
            .collect();
        for file in &values {
            words.extend(["--values", file]);
        }
        self.bench.command(&words)
    }

    fn delete(&self) -> Vec<Vec<String>> {
        let (postgres, redis) = (
            format!("{}-postgres", self.name),
            format!("{}-redis", self.name),
        );
        let containers = ["docker", "rm", "--force", "--volumes", &postgres, &redis];
        vec![
            self.kind(&["delete", "cluster", "--name", &self.name]),
            self.bench.command(&containers),
            self.bench.command(&["docker", "network", "rm", &self.name]),
        ]
    }

    /// On a network of its own, with a kubeconfig of its own: the user's is not touched.
    fn kind(&self, words: &[&str]) -> Vec<String> {
        let kubeconfig = format!("KUBECONFIG={}", self.path("kubeconfig"));
        let network = format!("KIND_EXPERIMENTAL_DOCKER_NETWORK={}", self.name);
        let kind = self.bench.kind.display().to_string();
        let program = [
            "env",
            &kubeconfig,
            &network,
            "KIND_EXPERIMENTAL_PROVIDER=docker",
            &kind,
        ];
        self.bench.command(&[&program, words].concat())
    }

    fn path(&self, name: &str) -> String {
        self.room.join(name).display().to_string()
    }
}

async fn images_here(bench: &Bench, plan: &Plan) -> Result<[ImageReference; 6], BenchError> {
    let workshop = Workshop::of(&plan.workspace, &plan.home);
    let names = IMAGES.map(str::to_owned);
    let had = images::ensure_all(&bench.engine, &workshop, &names, Supply::Auto, &|_| ()).await?;
    had.images.try_into().map_err(|had: Vec<ImageReference>| {
        BenchError::prepare("have the images")(format!("{} were had", had.len()))
    })
}
