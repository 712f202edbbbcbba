//! Tests on a container engine.

mod mount;
mod podinfo;
mod registry;

use std::collections::HashMap;
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base::home::Home;
use base::ledger::{Ledger, LedgerEntry, Resource};
use base::process::identity::ProcessIdentity;
use bollard::models::{NetworkCreateRequest, PortBinding};
use bollard::query_parameters::RemoveImageOptionsBuilder;
use environments::sweep;
use jiff::Timestamp;
use machine::engine::{Candidate, Engine, Origin, TIMEOUT};
use machine::images::{self, ImageError, Obtained, Supply, Workshop};
use machine::provision::{self, Need, Places, ProvisionPlan, Stopped};
use machine::tools;
use tempfile::TempDir;
use testcontainers::core::{ContainerRequest, IntoContainerPort};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

/// From the start until a database answers.
const READY: Duration = Duration::from_secs(60);

const PASSWORD: &str = "right-Password_1";

async fn engine() -> Engine {
    let engine = Engine::find(TIMEOUT).await;
    engine.unwrap_or_else(|error| panic!("these tests need a container engine: {error}"))
}

/// The project's recipes, with a state directory that all tests share, as the runs of one checkout
/// do: the tests need its locks.
fn workshop() -> Workshop {
    Workshop {
        recipes: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/images"),
        state_dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("images"),
        docker_config: None,
    }
}

async fn built(engine: &Engine, name: &str) -> GenericImage {
    let image = images::ensure(engine, &workshop(), name, Supply::Build, &|_| ())
        .await
        .unwrap();
    GenericImage::new(image.repository, image.tag)
}

/// Publishes `port` on the loopback interface only, at a port that the engine chooses.
fn on_loopback(
    request: ContainerRequest<GenericImage>,
    port: u16,
) -> ContainerRequest<GenericImage> {
    let anywhere = PortBinding {
        host_ip: Some("127.0.0.1".to_owned()),
        host_port: Some("0".to_owned()),
    };
    let bindings = HashMap::from([(format!("{port}/tcp"), Some(vec![anywhere]))]);
    request.with_host_config_modifier(move |host| {
        host.publish_all_ports = Some(false);
        host.port_bindings = Some(bindings.clone());
    })
}

async fn port_of(container: &ContainerAsync<GenericImage>, port: u16) -> u16 {
    container.get_host_port_ipv4(port.tcp()).await.unwrap()
}

/// Stops a container, which must exit within seconds and with code 0.
async fn stops_fast(engine: &Engine, container: ContainerAsync<GenericImage>) {
    let started = Instant::now();
    container.stop().await.unwrap();
    let took = started.elapsed();
    let inspected = engine.client().inspect_container(container.id(), None);
    let code = inspected.await.unwrap().state.unwrap().exit_code.unwrap();
    container.rm().await.unwrap();
    println!("stopped after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(code, 0);
}

async fn psql(port: u16, password: &str, query: &str) -> Output {
    let psql = tools::on_path("psql").expect("psql comes with Debian's postgresql");
    let query = Command::new(psql)
        .args([
            "--no-psqlrc",
            "--no-password",
            "--tuples-only",
            "--no-align",
        ])
        .args(["--command", query])
        .env("PGPASSWORD", password)
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", port.to_string())
        .env("PGUSER", "trii")
        .env("PGDATABASE", "orders")
        .env("PGCONNECT_TIMEOUT", "5")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(20), query).await;
    output.expect("psql ends").unwrap()
}

/// Sends these lines in Redis's inline protocol, and returns the answer.
async fn redis(port: u16, lines: &str) -> std::io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(format!("{lines}QUIT\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(5), exchange).await?
}

#[tokio::test]
async fn the_version_is_negotiated() {
    let engine = engine().await;
    let version = engine.client().version().await.unwrap();
    let latest = version.api_version.unwrap();
    let number =
        |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    assert!(number(&engine.api_version) <= number(&latest), "{engine}");
    assert_eq!(engine.export_env()[0], ("DOCKER_HOST", engine.host.clone()));
}

#[tokio::test]
async fn a_dead_candidate_is_passed_over_and_remembered() {
    let live = engine().await;
    let old = Origin::CurrentContext("old".to_owned());
    let dead = Candidate::plain("unix:///nowhere/docker.sock", old);
    let candidate = Candidate::plain(live.host.clone(), Origin::SystemSocket);
    let found = Engine::among(vec![dead.clone(), candidate], TIMEOUT)
        .await
        .unwrap();
    assert_eq!(found.host, live.host);
    assert_eq!(found.passed_over[0].candidate, dead);
    let shown = found.to_string();
    let message =
        "`docker` itself would ask unix:///nowhere/docker.sock (current docker context `old`)";
    assert!(shown.contains(message), "{shown}");
}

fn places(folder: &TempDir) -> Places {
    Places {
        tools_dir: folder.path().to_owned(),
        state_dir: folder.path().to_owned(),
    }
}

#[tokio::test]
async fn nothing_is_planned_for_an_engine_that_answers() {
    let _engine = engine().await;
    let state = TempDir::new().unwrap();
    let plan = ProvisionPlan::for_needs(&[Need::Engine], places(&state)).await;
    assert!(plan.is_empty(), "{}", plan.describe());
    plan.apply(|step| panic!("did something: {step:?}"))
        .await
        .unwrap();
    let stopped = provision::stop_engine(state.path()).await.unwrap();
    assert_eq!(stopped, Stopped::NotRunning);
}

#[tokio::test]
#[ignore = "installs packages: needs a Debian that may be changed, such as a container of the base image"]
async fn a_bare_debian_gets_the_programs_and_no_daemon() {
    let state = TempDir::new().unwrap();
    let needs = [
        Need::PostgresBinaries,
        Need::RedisBinaries,
        Need::ImageBuilder,
    ];
    let plan = ProvisionPlan::for_needs(&needs, places(&state)).await;
    println!("{}", plan.describe());
    assert!(!plan.is_empty(), "this machine is not bare");
    let started = Instant::now();
    plan.apply(|_| ()).await.unwrap();
    println!("installed after {:?}", started.elapsed());
    let again = ProvisionPlan::for_needs(&needs, places(&state)).await;
    assert!(again.is_empty(), "{}", again.describe());

    for daemon in ["postgres", "redis-server"] {
        let running = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let name = std::fs::read_to_string(entry.path().join("comm"));
            name.is_ok_and(|name| name.trim() == daemon)
        });
        assert!(!running, "{daemon} was left running");
    }
}

#[tokio::test]
#[ignore = "downloads a tool"]
async fn nextest_is_installed_once() {
    let dir = TempDir::new().unwrap();
    let plan = ProvisionPlan::for_needs(&[Need::Nextest], places(&dir)).await;
    assert!(!plan.is_empty(), "PATH has one already");
    plan.apply(|step| println!("{step:?}")).await.unwrap();
    let program = tools::nextest(dir.path()).unwrap();
    let version = tools::version_line(&program, &["nextest", "--version"]).await;
    assert!(version.unwrap().contains("0.9.148"));
    let again = ProvisionPlan::for_needs(&[Need::Nextest], places(&dir)).await;
    assert!(again.is_empty(), "{}", again.describe());
}

#[tokio::test]
async fn postgres_answers_its_password_only_and_stops_fast() {
    let engine = engine().await;
    let image = built(&engine, "postgres").await;
    let request = image
        .with_env_var("POSTGRES_USER", "trii")
        .with_env_var("POSTGRES_PASSWORD", PASSWORD)
        .with_env_var("POSTGRES_DB", "orders")
        .with_env_var("POSTGRES_INITDB_ARGS", "--no-sync")
        .with_label("trii.rehearsal.test", "containers");
    let started = Instant::now();
    let container = on_loopback(request, 5432).start().await.unwrap();
    let port = port_of(&container, 5432).await;
    let query = "select current_user || ' ' || current_database()";
    let answer = loop {
        let output = psql(port, PASSWORD, query).await;
        if output.status.success() {
            break String::from_utf8(output.stdout).unwrap();
        }
        assert!(
            started.elapsed() < READY,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    println!("postgres: ready after {:?}", started.elapsed());
    assert_eq!(answer.trim(), "trii orders");

    let refused = psql(port, "wrong", query).await;
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        message.contains("password authentication failed"),
        "{message}"
    );

    // An open session does not delay a fast shutdown.
    let idle = tokio::spawn(async move { psql(port, PASSWORD, "select pg_sleep(60)").await });
    wait_for_session(port).await;
    stops_fast(&engine, container).await;
    assert!(!idle.await.unwrap().status.success());
}

async fn wait_for_session(port: u16) {
    let query = "select count(*) from pg_stat_activity where query like 'select pg_sleep%'";
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let output = psql(port, PASSWORD, query).await;
        if String::from_utf8_lossy(&output.stdout).trim() == "1" {
            return;
        }
        assert!(Instant::now() < deadline, "the session is not listed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn redis_answers_its_password_only_and_stops_fast() {
    let engine = engine().await;
    let image = built(&engine, "redis").await;
    let request = image
        .with_env_var(images::redis::PASSWORD_VARIABLE, PASSWORD)
        .with_cmd(images::redis::command())
        .with_user(images::redis::USER)
        .with_label("trii.rehearsal.test", "containers");
    let started = Instant::now();
    let container = on_loopback(request, 6379).start().await.unwrap();
    let port = port_of(&container, 6379).await;
    let right = format!("AUTH {PASSWORD}\r\nPING\r\nSET k v\r\n");
    let answer = loop {
        match redis(port, &right).await {
            Ok(answer) if !answer.is_empty() => break answer,
            other => assert!(started.elapsed() < READY, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("redis: ready after {:?}", started.elapsed());
    assert_eq!(answer, "+OK\r\n+PONG\r\n+OK\r\n+OK\r\n");
    let wrong = redis(port, "AUTH wrong\r\nGET k\r\n").await.unwrap();
    assert!(wrong.starts_with("-WRONGPASS"), "{wrong}");
    assert!(wrong.contains("-NOAUTH"), "{wrong}");

    let top = engine.client().top_processes(container.id(), None);
    let processes = format!("{:?}", top.await.unwrap().processes);
    assert!(processes.contains("redis-server"), "{processes}");
    assert!(!processes.contains(PASSWORD), "{processes}");

    stops_fast(&engine, container).await;
}

/// The chart runs every service as nobody, without capabilities, on a read-only root.
#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "its image is built on Linux only")]
async fn the_platform_runs_as_nobody_and_writes_nothing() {
    let engine = engine().await;
    let image = built(&engine, "platform").await;
    let request = image
        .with_exposed_port(9090.tcp())
        .with_env_var("LISTEN_ADDRESS", "0.0.0.0:8000")
        .with_env_var("DRAIN_SECONDS", "0")
        .with_cmd(["serve", "frontend-app"])
        .with_readonly_rootfs(true)
        .with_cap_drop("ALL")
        .with_security_opt("no-new-privileges")
        .with_label("trii.rehearsal.test", "containers");
    let started = Instant::now();
    let container = on_loopback(request, 9090).start().await.unwrap();
    let url = format!(
        "http://127.0.0.1:{}/health/ready",
        port_of(&container, 9090).await
    );
    base::tls::use_ring();
    let answer = loop {
        // Ignores the proxies of the environment.
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        match client.get(&url).send().await {
            Ok(answer) => break answer,
            Err(error) => assert!(started.elapsed() < READY, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("platform: ready after {:?}", started.elapsed());
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-trii-service"], "frontend-app");

    let inspected = engine.client().inspect_container(container.id(), None);
    let user = inspected.await.unwrap().config.unwrap().user.unwrap();
    // A number: the kubelet cannot check that a name is not root's.
    let number: u32 = user.split(':').next().unwrap().parse().unwrap();
    assert_ne!(number, 0);
    let top = engine.client().top_processes(container.id(), None);
    let processes = format!("{:?}", top.await.unwrap().processes.unwrap());
    assert!(processes.contains(&number.to_string()), "{processes}");

    stops_fast(&engine, container).await;
}

/// Returns a recipe for one test, built from the project's base.
fn recipe(name: &str, run: &str) -> (TempDir, Workshop) {
    // `.invalid` never resolves (RFC 6761).
    recipe_pulled_from("trii-rehearsal.invalid", name, run)
}

fn recipe_pulled_from(registry: &str, name: &str, run: &str) -> (TempDir, Workshop) {
    let dir = TempDir::new().unwrap();
    let ours = workshop();
    let [folder, base] = [name, "base"].map(|folder| dir.path().join(folder));
    for folder in [&folder, &base] {
        std::fs::create_dir(folder).unwrap();
    }
    let dockerfile = format!("ARG BASE\nFROM ${{BASE}}\nRUN {run}\n");
    std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    let recipe = format!("[pull]\nreference = \"{registry}/none:1\"\n[build]\nfrom = \"base\"\n");
    std::fs::write(folder.join("image.toml"), recipe).unwrap();
    let [from, to] = [&ours.recipes.join("base"), &base].map(|folder| folder.join("image.toml"));
    std::fs::copy(from, to).unwrap();
    let recipes = dir.path().to_owned();
    (dir, Workshop { recipes, ..ours })
}

fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

async fn remove(engine: &Engine, image: &str) {
    let force = RemoveImageOptionsBuilder::default().force(true).build();
    let removed = engine.client().remove_image(image, Some(force), None);
    removed.await.unwrap();
}

#[tokio::test]
async fn one_image_requested_twice_is_built_once() {
    let engine = engine().await;
    let name = unique("probe-twice");
    let (_dir, workshop) = recipe(&name, &format!("echo {name} > /probe"));
    let ensure = || images::ensure(&engine, &workshop, &name, Supply::Build, &|_| ());
    let (one, two) = tokio::join!(ensure(), ensure());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.to_string(), two.to_string());
    let built = [&one, &two].map(|image| matches!(image.had, Obtained::Built { .. }));
    assert_eq!(
        built.iter().filter(|built| **built).count(),
        1,
        "{one:?} {two:?}"
    );

    let labels = engine
        .client()
        .inspect_image(&one.to_string())
        .await
        .unwrap();
    let labels = labels.config.unwrap().labels.unwrap();
    assert_eq!(labels[images::LABEL.0], images::LABEL.1);
    assert_eq!(ensure().await.unwrap().had, Obtained::Present);
    remove(&engine, &one.to_string()).await;
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_built_and_the_cause_is_reported() {
    let engine = engine().await;
    let name = unique("probe-auto");
    let (_dir, workshop) = recipe(&name, &format!("echo {name} > /probe"));
    let lines = Mutex::new(Vec::new());
    let progress = |line: &str| lines.lock().unwrap().push(line.to_owned());
    let pulled = images::ensure(&engine, &workshop, &name, Supply::Pull, &progress).await;
    assert!(matches!(pulled, Err(ImageError::Pull { .. })), "{pulled:?}");
    let image = images::ensure(&engine, &workshop, &name, Supply::Auto, &progress)
        .await
        .unwrap();
    let Obtained::Built {
        instead_of_pull: Some(cause),
    } = &image.had
    else {
        panic!("{image:?}");
    };
    assert!(cause.contains("trii-rehearsal.invalid/none:1"), "{cause}");
    let lines = lines.into_inner().unwrap();
    let reported = lines
        .iter()
        .any(|line| line.ends_with("building it instead"));
    assert!(reported, "{lines:?}");
    remove(&engine, &image.to_string()).await;
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up() {
    let engine = engine().await;
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = mute.local_addr().unwrap().to_string();
    let name = unique("probe-mute");
    let (_dir, workshop) = recipe_pulled_from(&registry, &name, "true");
    let started = Instant::now();
    let error = images::ensure(&engine, &workshop, &name, Supply::Pull, &|_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Pull { .. }), "{error}");
    println!("pull: given up after {:?}: {error}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn the_error_of_a_failed_build_has_its_last_lines() {
    let engine = engine().await;
    let name = unique("probe-fails");
    let (_dir, workshop) = recipe(&name, "echo the last line && false");
    let error = images::ensure(&engine, &workshop, &name, Supply::Build, &|_| ())
        .await
        .unwrap_err();
    let ImageError::Build { last_lines, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(last_lines.contains("the last line"), "{error}");
}

/// Writes a ledger in which a dead owner requested this resource from the engine.
fn requested(home: &Home, resource: &Resource, ago: Duration) {
    let entry = LedgerEntry {
        id: "requested".into(),
        at: Timestamp::now() - ago,
        environment: "gone".into(),
        owner: ProcessIdentity::not_started(std::process::id()),
        resource: resource.clone(),
    };
    let mut line = serde_json::to_value(entry).unwrap();
    line["act"] = "made".into();
    let ledger = home.ledger();
    std::fs::create_dir_all(ledger.parent().unwrap()).unwrap();
    std::fs::write(ledger, format!("{line}\n")).unwrap();
}

#[tokio::test]
async fn a_resource_that_an_engine_makes_after_its_owner_died_is_removed() {
    let engine = engine().await;
    let folder = TempDir::new().unwrap();
    let home = Home::new(folder.path());
    let name = format!("trii-late-{:08x}", rand::random::<u32>());
    let network = Resource::Network {
        name: name.clone(),
        engine: engine.host.clone(),
    };
    requested(&home, &network, Duration::ZERO);
    let made = async {
        // By then, the sweep has listed the networks once.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let request = NetworkCreateRequest {
            name: name.clone(),
            ..NetworkCreateRequest::default()
        };
        engine.client().create_network(request).await.unwrap();
    };
    let (left, ()) = tokio::join!(sweep::dead_owners(&home), made);
    assert!(left.is_nothing(), "{left:?}");
    let removed = engine.client().remove_network(&name).await;
    removed.expect_err("it is removed already");
    let open = Ledger::at(home.ledger()).open().await.unwrap();
    assert_eq!(open.entries, []);
}

#[tokio::test]
async fn a_resource_that_was_requested_long_ago_is_not_waited_for() {
    let engine = engine().await;
    let folder = TempDir::new().unwrap();
    let home = Home::new(folder.path());
    let container = Resource::Container {
        name: "trii-never-made".into(),
        engine: engine.host.clone(),
    };
    requested(&home, &container, Duration::from_secs(60));
    let swept = tokio::time::timeout(Duration::from_secs(5), sweep::dead_owners(&home));
    let left = swept.await.unwrap();
    assert!(left.is_nothing(), "{left:?}");
    let open = Ledger::at(home.ledger()).open().await.unwrap();
    assert_eq!(open.entries, []);
}
