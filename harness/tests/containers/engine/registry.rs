//! Pulls that are really made, from a registry of the test's own on 127.0.0.1, where engines
//! take plain HTTP. The registry is a program of its own: what lacks it cannot run these.

#[path = "../../support/registry.rs"]
mod server;

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use harness::engine::Engine;
use harness::images::{self, Had, ImageError, ImageReference, Supply, Workshop};
use miette::Diagnostic;
use server::{PASSWORD, Registry, USER};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{engine, remove, unique, workshop};

/// A recipe `probe` that is pulled by this reference, and credentials as `docker login`
/// stores them.
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

    async fn had(
        &self,
        engine: &Engine,
        supply: Supply,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<ImageReference, ImageError> {
        images::ensure(engine, &self.workshop, "probe", supply, progress).await
    }

    fn config(&self) -> &Path {
        self.folder.path()
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
        let image = wanted.had(&engine, supply, &|_| ()).await.unwrap();
        assert_eq!(image.had, Had::Pulled);
        assert_eq!(id(&engine, &image).await, pushed);
        let again = wanted.had(&engine, supply, &|_| ()).await.unwrap();
        assert_eq!(again.had, Had::Present);
        remove(&engine, &reference).await;
    }
}

#[tokio::test]
async fn why_a_registry_refuses_is_told_with_what_to_do() {
    let engine = engine().await;
    let registry = Registry::start().await;
    let name = unique("probe-refused");
    registry.push(&engine, &name, 1).await;
    let at = &registry.address;
    let there = format!("{at}/{name}:1");
    let login = format!("docker login {at}");
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    for (reference, password, help) in [
        (&there, Some("wrong-Password_1"), login.as_str()),
        (&there, None, &login),
        (&format!("{at}/{name}:2"), Some(PASSWORD), "image.toml"),
        (
            &format!("{gone}/{name}:1"),
            Some(PASSWORD),
            "can be reached",
        ),
    ] {
        let wanted = Pulled::by(reference, at, password);
        let begun = Instant::now();
        let error = wanted
            .had(&engine, Supply::Pull, &|_| ())
            .await
            .unwrap_err();
        println!("after {:?}: {error}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(10));
        let ImageError::Pull { help: told, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(told.contains(help), "{told}: {error}");
        let shown = format!(
            "{error} {error:?} {:?}",
            error.help().map(|it| it.to_string())
        );
        assert!(shown.contains(reference), "{shown}");
        assert!(
            !shown.contains("assword_1") && !shown.contains(PASSWORD),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_told_of_when_they_are_missed() {
    let engine = engine().await;
    let registry = Registry::start().await;
    let name = unique("probe-unread");
    registry.push(&engine, &name, 1).await;
    let reference = format!("{}/{name}:1", registry.address);
    let wanted = Pulled::by(&reference, &registry.address, Some(PASSWORD));
    let helper = r#"{"credsStore": "trii-none"}"#;
    std::fs::write(wanted.config().join("config.json"), helper).unwrap();
    let error = wanted
        .had(&engine, Supply::Pull, &|_| ())
        .await
        .unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("docker-credential-trii-none cannot be run"),
        "{words}"
    );
}

#[tokio::test]
async fn a_digest_pins_the_very_image_whatever_its_tag_becomes() {
    let engine = engine().await;
    let registry = Registry::start().await;
    let name = unique("probe-digest");
    let at = &registry.address;
    let first = registry.push(&engine, &name, 1).await;
    let tagged = Pulled::by(&format!("{at}/{name}:1"), at, Some(PASSWORD));
    let image = tagged.had(&engine, Supply::Pull, &|_| ()).await.unwrap();
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
    let moved = tagged.had(&engine, Supply::Pull, &|_| ()).await.unwrap();
    assert_eq!(id(&engine, &moved).await, second);

    // The engine has another image of that name.
    let pinned = Pulled::by(&format!("{at}/{name}:1@{digest}"), at, Some(PASSWORD));
    let image = pinned.had(&engine, Supply::Pull, &|_| ()).await.unwrap();
    assert_eq!(image.had, Had::Pulled);
    assert_eq!(image.to_string(), moved.to_string());
    assert_eq!(id(&engine, &image).await, first);
    let again = pinned.had(&engine, Supply::Pull, &|_| ()).await.unwrap();
    assert_eq!(again.had, Had::Present);
    remove(&engine, &first).await;
    remove(&engine, &second).await;
}

/// Stands before a registry, and lets its answers through slowly; how many connections are
/// open can be watched.
struct SlowRoad {
    address: String,
    open: watch::Receiver<usize>,
    road: tokio::task::JoinHandle<()>,
}

/// One MiB takes three seconds.
const PIECE: usize = 32 << 10;
const EACH: Duration = Duration::from_millis(100);

impl SlowRoad {
    async fn before(registry: &str) -> SlowRoad {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (count, open) = watch::channel(0);
        let registry = registry.to_owned();
        let road = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((engine, _)) = listener.accept().await {
                let (registry, count) = (registry.clone(), count.clone());
                connections.spawn(async move {
                    count.send_modify(|open| *open += 1);
                    let _ = pass(engine, &registry).await;
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        SlowRoad {
            address,
            open,
            road,
        }
    }
}

/// Until either side ends.
async fn pass(mut engine: TcpStream, registry: &str) -> std::io::Result<()> {
    let mut registry = TcpStream::connect(registry).await?;
    let (mut from_engine, mut to_engine) = engine.split();
    let (mut from_registry, mut to_registry) = registry.split();
    let answers = async {
        let mut piece = vec![0; PIECE];
        loop {
            let length = from_registry.read(&mut piece).await?;
            if length == 0 {
                return Ok(());
            }
            to_engine.write_all(&piece[..length]).await?;
            tokio::time::sleep(EACH).await;
        }
    };
    tokio::select! {
        asked = tokio::io::copy(&mut from_engine, &mut to_registry) => asked.map(drop),
        answered = answers => answered,
    }
}

/// Lines of progress, with when they came, and a way to wait for one.
struct Told {
    begun: Instant,
    lines: Mutex<Vec<(Duration, String)>>,
    count: watch::Sender<usize>,
}

impl Told {
    fn new() -> Told {
        Told {
            begun: Instant::now(),
            lines: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    fn hear(&self, line: &str) {
        println!("{:?} {line}", self.begun.elapsed());
        let mut lines = self.lines.lock().unwrap();
        lines.push((self.begun.elapsed(), line.to_owned()));
        self.count.send_replace(lines.len());
    }

    async fn until(&self, contains: &str) {
        let mut count = self.count.subscribe();
        let there = count.wait_for(|_| {
            let lines = self.lines.lock().unwrap();
            lines.iter().any(|(_, line)| line.contains(contains))
        });
        there.await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_pull_says_how_far_it_is_and_ends_when_it_is_called_off() {
    let engine = engine().await;
    let registry = Registry::start().await;
    let name = unique("probe-slow");
    registry.push(&engine, &name, 8).await;
    let mut slow = SlowRoad::before(&registry.address).await;
    let reference = format!("{}/{name}:1", slow.address);
    let wanted = Pulled::by(&reference, &slow.address, Some(PASSWORD));
    let told = Told::new();
    let hear = |line: &str| told.hear(line);
    tokio::select! {
        ended = wanted.had(&engine, Supply::Pull, &hear) => panic!("too early: {ended:?}"),
        // As a Ctrl-C would: it is dropped.
        () = told.until("0 of 1 layers, 2.") => {}
    }
    let lines = told.lines.lock().unwrap().clone();
    let gaps = lines.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(
        gaps.max().unwrap() < Duration::from_millis(5500),
        "{lines:?}"
    );
    assert!(lines.last().unwrap().1.contains(" of 8.0 MiB"), "{lines:?}");
    let closed = slow.open.wait_for(|open| *open == 0);
    let closed = tokio::time::timeout(Duration::from_secs(5), closed).await;
    closed.expect("the engine stops pulling").unwrap();
    assert!(!images::is_here(&engine, &reference).await.unwrap());
}

#[tokio::test]
async fn a_registry_that_dies_in_the_middle_is_told_of() {
    let engine = engine().await;
    let mut registry = Registry::start().await;
    let name = unique("probe-dies");
    registry.push(&engine, &name, 8).await;
    let slow = SlowRoad::before(&registry.address).await;
    let reference = format!("{}/{name}:1", slow.address);
    let wanted = Pulled::by(&reference, &slow.address, Some(PASSWORD));
    let told = Told::new();
    let hear = |line: &str| told.hear(line);
    let death = async {
        told.until("0 of 1 layers").await;
        registry.kill().await;
        slow.road.abort();
        told.until("the registry stopped and is asked again").await;
    };
    // How long it is asked again is a matter of the engine and of a unit test.
    tokio::select! {
        ended = wanted.had(&engine, Supply::Pull, &hear) => {
            let error = ended.unwrap_err();
            assert!(matches!(error, ImageError::Pull { .. }), "{error:?}");
        }
        () = death => {}
    }
    assert!(!images::is_here(&engine, &reference).await.unwrap());
}
