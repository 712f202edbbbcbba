//! Pulls from a test's registry on 127.0.0.1, for which engines accept plain HTTP. These tests need
//! the registry's program.

#[path = "../../support/registry.rs"]
mod server;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use machine::engine::Engine;
use machine::images::{self, ImageError, ImageReference, Obtained, Supply, Workshop};
use miette::Diagnostic;
use server::{PASSWORD, Registry, USER};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{engine, remove, unique, workshop};

/// A recipe `probe` that is pulled by a reference, and credentials as `docker login` stores them.
struct Pulled {
    folder: TempDir,
    workshop: Workshop,
}

impl Pulled {
    fn by(reference: &str, registry: &str, password: Option<&str>) -> Pulled {
        let folder = TempDir::new().unwrap();
        let probe = folder.path().join("recipes/probe");
        std::fs::create_dir_all(&probe).unwrap();
        let recipe =
            format!("[pull]\nreference = \"{reference}\"\n[build]\ndebian = \"bookworm\"\n");
        std::fs::write(probe.join("image.toml"), recipe).unwrap();
        let auth = |password| BASE64_STANDARD.encode(format!("{USER}:{password}"));
        let auths =
            password.map(|password| serde_json::json!({registry: {"auth": auth(password)}}));
        let config = serde_json::json!({"auths": auths});
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let workshop = Workshop {
            recipes: folder.path().join("recipes"),
            docker_config: Some(folder.path().to_owned()),
            ..workshop()
        };
        Pulled { folder, workshop }
    }

    async fn ensure(
        &self,
        engine: &Engine,
        supply: Supply,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<ImageReference, ImageError> {
        images::ensure(engine, &self.workshop, "probe", supply, progress).await
    }

    async fn pull(&self, engine: &Engine) -> Result<ImageReference, ImageError> {
        self.ensure(engine, Supply::Pull, &|_| ()).await
    }
}

async fn id(engine: &Engine, image: &ImageReference) -> String {
    let inspected = engine.client().inspect_image(&image.to_string()).await;
    inspected.unwrap().id.unwrap()
}

#[tokio::test]
async fn an_image_is_pulled_with_what_docker_login_stored() {
    let engine = engine().await;
    let registry = Registry::start().await;
    let name = unique("probe-login");
    let pushed = registry.push(&engine, &name, 1).await;
    let reference = format!("{}/{name}:1", registry.address);
    for supply in [Supply::Pull, Supply::Auto] {
        let wanted = Pulled::by(&reference, &registry.address, Some(PASSWORD));
        let image = wanted.ensure(&engine, supply, &|_| ()).await.unwrap();
        assert_eq!(image.had, Obtained::Pulled);
        assert_eq!(id(&engine, &image).await, pushed);
        let again = wanted.ensure(&engine, supply, &|_| ()).await.unwrap();
        assert_eq!(again.had, Obtained::Present);
        remove(&engine, &reference).await;
    }
}

#[tokio::test]
async fn a_refusal_of_a_registry_is_reported_with_its_remedy() {
    let engine = engine().await;
    let registry = Registry::start().await;
    let name = unique("probe-refused");
    registry.push(&engine, &name, 1).await;
    let at = &registry.address;
    let there = format!("{at}/{name}:1");
    let login = format!("docker login {at}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    for (reference, password, help) in [
        (&there, Some("wrong-Password_1"), login.as_str()),
        (&there, None, &login),
        (&format!("{at}/{name}:2"), Some(PASSWORD), "no such image"),
        (
            &format!("{closed}/{name}:1"),
            Some(PASSWORD),
            "can be reached",
        ),
    ] {
        let wanted = Pulled::by(reference, at, password);
        let started = Instant::now();
        let error = wanted.pull(&engine).await.unwrap_err();
        println!("after {:?}: {error}", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(10));
        let ImageError::Pull { help: reported, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(reported.contains(help), "{reported}: {error}");
        let shown = format!(
            "{error} {error:?} {:?}",
            error.help().map(|help| help.to_string())
        );
        assert!(shown.contains(reference), "{shown}");
        for secret in ["assword_1", PASSWORD] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_reported_when_they_are_needed() {
    let engine = engine().await;
    let registry = Registry::start().await;
    let name = unique("probe-unread");
    registry.push(&engine, &name, 1).await;
    let reference = format!("{}/{name}:1", registry.address);
    let wanted = Pulled::by(&reference, &registry.address, Some(PASSWORD));
    let helper = r#"{"credsStore": "trii-none"}"#;
    std::fs::write(wanted.folder.path().join("config.json"), helper).unwrap();
    let error = wanted.pull(&engine).await.unwrap_err();
    let message = error.to_string();
    let cause = "docker-credential-trii-none cannot be run";
    assert!(message.contains(cause), "{message}");
}

#[tokio::test]
async fn a_digest_pins_the_image_even_if_its_tag_moves() {
    let engine = engine().await;
    let registry = Registry::start().await;
    let name = unique("probe-digest");
    let at = &registry.address;
    let first = registry.push(&engine, &name, 1).await;
    let tagged = Pulled::by(&format!("{at}/{name}:1"), at, Some(PASSWORD));
    let image = tagged.pull(&engine).await.unwrap();
    let inspected = engine
        .client()
        .inspect_image(&image.to_string())
        .await
        .unwrap();
    let digests = inspected.repo_digests.unwrap();
    let (_, digest) = digests[0].split_once('@').unwrap();
    remove(&engine, &image.to_string()).await;

    let second = registry.push(&engine, &name, 1).await;
    assert_ne!(first, second);
    let moved = tagged.pull(&engine).await.unwrap();
    assert_eq!(id(&engine, &moved).await, second);

    // The engine has another image with this name.
    let pinned = Pulled::by(&format!("{at}/{name}:1@{digest}"), at, Some(PASSWORD));
    let image = pinned.pull(&engine).await.unwrap();
    assert_eq!(image.had, Obtained::Pulled);
    assert_eq!(image.to_string(), moved.to_string());
    assert_eq!(id(&engine, &image).await, first);
    let again = pinned.pull(&engine).await.unwrap();
    assert_eq!(again.had, Obtained::Present);
    remove(&engine, &first).await;
    remove(&engine, &second).await;
}

/// A proxy in front of a registry, which forwards its answers slowly.
struct SlowProxy {
    address: String,
    /// How many connections are open.
    open: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

/// One MiB takes three seconds.
const CHUNK: usize = 32 << 10;
const PAUSE: Duration = Duration::from_millis(100);

impl SlowProxy {
    async fn to(registry: &str) -> SlowProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (count, open) = watch::channel(0);
        let registry = registry.to_owned();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((engine, _)) = listener.accept().await {
                let (registry, count) = (registry.clone(), count.clone());
                connections.spawn(async move {
                    count.send_modify(|open| *open += 1);
                    let _ = forward(engine, &registry).await;
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        SlowProxy {
            address,
            open,
            task,
        }
    }
}

/// Forwards until either side closes.
async fn forward(mut engine: TcpStream, registry: &str) -> std::io::Result<()> {
    let mut registry = TcpStream::connect(registry).await?;
    let (mut from_engine, mut to_engine) = engine.split();
    let (mut from_registry, mut to_registry) = registry.split();
    let answers = async {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = from_registry.read(&mut chunk).await?;
            if length == 0 {
                return Ok(());
            }
            to_engine.write_all(&chunk[..length]).await?;
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        requests = tokio::io::copy(&mut from_engine, &mut to_registry) => requests.map(drop),
        result = answers => result,
    }
}

/// Lines of progress with their times, and a way to wait for one.
struct Progress {
    started: Instant,
    lines: Mutex<Vec<(Duration, String)>>,
    count: watch::Sender<usize>,
}

impl Progress {
    fn new() -> Progress {
        Progress {
            started: Instant::now(),
            lines: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    fn report(&self, line: &str) {
        println!("{:?} {line}", self.started.elapsed());
        let mut lines = self.lines.lock().unwrap();
        lines.push((self.started.elapsed(), line.to_owned()));
        self.count.send_replace(lines.len());
    }

    async fn until(&self, contains: &str) {
        let mut count = self.count.subscribe();
        let reported = count.wait_for(|_| {
            let lines = self.lines.lock().unwrap();
            lines.iter().any(|(_, line)| line.contains(contains))
        });
        reported.await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_pull_reports_its_progress_and_ends_when_it_is_cancelled() {
    let engine = engine().await;
    let registry = Registry::start().await;
    let name = unique("probe-slow");
    registry.push(&engine, &name, 8).await;
    let mut slow = SlowProxy::to(&registry.address).await;
    let reference = format!("{}/{name}:1", slow.address);
    let wanted = Pulled::by(&reference, &slow.address, Some(PASSWORD));
    let progress = Progress::new();
    let report = |line: &str| progress.report(line);
    tokio::select! {
        ended = wanted.ensure(&engine, Supply::Pull, &report) => panic!("too early: {ended:?}"),
        // A Ctrl-C, too, drops the pull.
        () = progress.until("0 of 1 layers, 2.") => {}
    }
    let lines = progress.lines.lock().unwrap().clone();
    let gaps = lines.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let longest = gaps.max().unwrap();
    assert!(longest < Duration::from_millis(5500), "{lines:?}");
    assert!(lines.last().unwrap().1.contains(" of 8.0 MiB"), "{lines:?}");
    let closed = slow.open.wait_for(|open| *open == 0);
    let closed = tokio::time::timeout(Duration::from_secs(5), closed).await;
    closed.expect("the engine stops pulling").unwrap();
    assert!(!images::is_here(&engine, &reference).await.unwrap());
}

#[tokio::test]
async fn a_registry_that_dies_during_a_pull_is_reported() {
    let engine = engine().await;
    let mut registry = Registry::start().await;
    let name = unique("probe-dies");
    registry.push(&engine, &name, 8).await;
    let slow = SlowProxy::to(&registry.address).await;
    let reference = format!("{}/{name}:1", slow.address);
    let wanted = Pulled::by(&reference, &slow.address, Some(PASSWORD));
    let progress = Progress::new();
    let report = |line: &str| progress.report(line);
    let death = async {
        progress.until("0 of 1 layers").await;
        registry.kill().await;
        slow.task.abort();
        progress
            .until("the registry stopped answering, retrying")
            .await;
    };
    // The engine and a unit test decide how long it is retried.
    tokio::select! {
        ended = wanted.ensure(&engine, Supply::Pull, &report) => {
            let error = ended.unwrap_err();
            assert!(matches!(error, ImageError::Pull { .. }), "{error:?}");
        }
        () = death => {}
    }
    assert!(!images::is_here(&engine, &reference).await.unwrap());
}
