//! A test's registry on 127.0.0.1, for which engines accept plain HTTP.

#![allow(dead_code, reason = "not every test binary uses all of it")]

use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, PushImageOptionsBuilder, RemoveImageOptions,
};
use futures::TryStreamExt;
use machine::engine::Engine;
use machine::tools;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::oci::{MANIFEST, descriptor, digest};

pub const USER: &str = "ada";
pub const PASSWORD: &str = "open:Sesame_1";
/// The password by bcrypt, at its lowest cost.
const HTPASSWD: &str = "ada:$2b$04$1TvUXaOvElOETbTQRKLo7ujRGzU5cEtTCj13.Xlj5PgvDwh0.TNRK\n";

/// From the start until the registry listens.
const UP: Duration = Duration::from_secs(20);

/// A registry that requires a password. It is killed when dropped.
pub struct Registry {
    program: Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
    _folder: TempDir,
}

impl Registry {
    pub async fn start() -> Registry {
        let program =
            tools::on_path("registry").expect("`cargo xtask test --provision` installs it");
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("htpasswd"), HTPASSWD).unwrap();
        let config = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": at("storage")}},
            "http": {"addr": "127.0.0.1:0"},
            "auth": {"htpasswd": {"realm": "a test", "path": at("htpasswd")}},
        });
        // JSON is YAML.
        std::fs::write(at("config.yml"), config.to_string()).unwrap();
        let mut program = Command::new(program)
            .arg("serve")
            .arg(at("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(program.stderr.take().unwrap());
        let address = tokio::time::timeout(UP, listening(log)).await;
        Registry {
            program,
            address: address.expect("the registry listens"),
            _folder: folder,
        }
    }

    /// Pushes an image with one layer of random bytes, and removes its name from the engine.
    /// Returns its id.
    pub async fn push(&self, engine: &Engine, name: &str, mib: usize) -> String {
        let repository = format!("{}/{name}", self.address);
        let image = format!("{repository}:1");
        let client = engine.client();
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(&repository)
            .tag("1")
            .build();
        let layer = bollard::body_full(layer(mib).await.into());
        let made = client.create_image(Some(options), Some(layer), None);
        made.try_collect::<Vec<_>>().await.unwrap();
        let options = PushImageOptionsBuilder::default().tag("1").build();
        let credentials = DockerCredentials {
            username: Some(USER.to_owned()),
            password: Some(PASSWORD.to_owned()),
            ..DockerCredentials::default()
        };
        let pushed = client.push_image(&repository, Some(options), Some(credentials));
        pushed.try_collect::<Vec<_>>().await.unwrap();
        let id = client.inspect_image(&image).await.unwrap().id.unwrap();
        let removed = client.remove_image(&image, None::<RemoveImageOptions>, None);
        removed.await.unwrap();
        id
    }

    /// Pushes an image of several platforms. Returns the digest of its index.
    pub async fn push_for(&self, name: &str, architectures: &[&str]) -> String {
        let mut manifests = Vec::new();
        for architecture in architectures {
            let layer = layer(1).await;
            let config = json!({
                "architecture": architecture,
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
            });
            let config = config.to_string().into_bytes();
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
                "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
            });
            self.put_blob(name, layer).await;
            self.put_blob(name, config).await;
            let manifest = manifest.to_string().into_bytes();
            let mut described = descriptor(MANIFEST, &manifest);
            described["platform"] = json!({"architecture": architecture, "os": "linux"});
            self.put_manifest(name, &digest(&manifest), MANIFEST, manifest)
                .await;
            manifests.push(described);
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let index = index.to_string().into_bytes();
        let digest = digest(&index);
        self.put_manifest(name, "1", INDEX, index).await;
        digest
    }

    /// See "Pushing a blob monolithically" in the distribution specification.
    async fn put_blob(&self, name: &str, blob: Vec<u8>) {
        let client = reqwest::Client::new();
        let uploads = format!("http://{}/v2/{name}/blobs/uploads/", self.address);
        let started = client
            .post(&uploads)
            .basic_auth(USER, Some(PASSWORD))
            .send();
        let started = started.await.unwrap().error_for_status().unwrap();
        let location = started.headers()[LOCATION].to_str().unwrap();
        let url = reqwest::Url::parse_with_params(location, [("digest", digest(&blob))]).unwrap();
        let put = client.put(url).basic_auth(USER, Some(PASSWORD));
        let put = put.body(blob).send().await.unwrap();
        put.error_for_status().unwrap();
    }

    async fn put_manifest(&self, name: &str, reference: &str, kind: &str, manifest: Vec<u8>) {
        let url = format!("http://{}/v2/{name}/manifests/{reference}", self.address);
        let put = reqwest::Client::new().put(url);
        let put = put.basic_auth(USER, Some(PASSWORD));
        let put = put.header(CONTENT_TYPE, kind).body(manifest).send();
        put.await.unwrap().error_for_status().unwrap();
    }

    /// Returns what `docker login` stores.
    pub fn login(&self) -> Value {
        let auth = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
        json!({"auths": {&self.address: {"auth": auth}}})
    }

    pub async fn kill(&mut self) {
        self.program.kill().await.unwrap();
    }
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Returns the address that the registry's log names.
async fn listening(log: BufReader<impl tokio::io::AsyncRead + Unpin + Send + 'static>) -> String {
    let mut lines = log.lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, address)) = line.split_once("listening on ") {
            let address = address.split(['"', ' ', ',']).next().unwrap().to_owned();
            // A full pipe would stop the registry.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return address;
        }
        eprintln!("{line}");
    }
    panic!("the registry ended");
}

async fn layer(mib: usize) -> Vec<u8> {
    let mut content = vec![0; mib << 20];
    rand::fill(&mut content[..]);
    let mut header = tokio_tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut layer = tokio_tar::Builder::new(Vec::new());
    let appended = layer.append_data(&mut header, "content", &content[..]);
    appended.await.unwrap();
    layer.into_inner().await.unwrap()
}
