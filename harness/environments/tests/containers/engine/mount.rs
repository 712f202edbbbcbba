//! Provisioning of a dockerd, in the namespaces of one test: the machine's settings and engine do
//! not change, and every process ends with the test.

#[path = "../../support/namespaces.rs"]
mod namespaces;

use std::fs;
use std::path::Path;

use machine::engine::{Engine, TIMEOUT};
use machine::provision::{self, Need, Places, ProvisionError, ProvisionPlan, Stopped};
use miette::Diagnostic;
use tempfile::TempDir;

/// `/usr/local/lib` is empty, and a capability is missing.
const ON_A_REDUCED_MACHINE: [&str; 3] = [
    "sh",
    "-c",
    r#"mount -t tmpfs tmpfs /usr/local/lib
exec setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource "$0" "$@""#,
];

const NEEDS: [Need; 2] = [Need::Runtime, Need::Engine];

/// Runs a test of this module on such a machine, with these settings for dockerd. Returns its
/// folder.
#[track_caller]
fn run_alone(test: &str, settings: &str) -> TempDir {
    let room = TempDir::new().unwrap();
    let data = room.path().join("data").display().to_string();
    let before = room.path().join("before.json");
    fs::write(&before, settings.replace("DATA", &data)).unwrap();
    let name = format!("engine::mount::{test}");
    namespaces::run_alone(&name, room.path(), &ON_A_REDUCED_MACHINE);
    room
}

/// Copies the settings to the place from which dockerd reads them.
fn places(room: &Path) -> Places {
    let docker = Path::new("/etc/docker");
    let _ = fs::remove_dir_all(docker);
    fs::create_dir(docker).unwrap();
    fs::copy(room.join("before.json"), docker.join("daemon.json")).unwrap();
    Places {
        tools_dir: room.join("tools"),
        state_dir: room.join("state"),
    }
}

#[tokio::test]
async fn a_dockerd_is_started_with_its_owners_settings_and_stopped() {
    if let Some(room) = namespaces::room() {
        return dockerd_starts_and_stops(places(&room)).await;
    }
    let settings = r#"{"data-root": "DATA", "log-driver": "local"}"#;
    let name = "a_dockerd_is_started_with_its_owners_settings_and_stopped";
    let room = run_alone(name, settings);
    let folder = room.path().join("etc/docker");
    let copy = fs::read(folder.join("daemon.json.before-trii-rehearsal")).unwrap();
    assert_eq!(copy, fs::read(room.path().join("before.json")).unwrap());
}

async fn dockerd_starts_and_stops(places: Places) {
    let plan = ProvisionPlan::for_needs(&NEEDS, places.clone()).await;
    println!("{}", plan.describe());
    plan.apply(|step| println!("{step:?}")).await.unwrap();
    let engine = Engine::find(TIMEOUT).await.unwrap();
    let info = engine.client().info().await.unwrap();
    assert_eq!(info.default_runtime.as_deref(), Some("trii-rehearsal"));
    assert_eq!(info.logging_driver.as_deref(), Some("local"));
    let again = ProvisionPlan::for_needs(&NEEDS, places.clone()).await;
    assert!(again.is_empty(), "{}", again.describe());
    let stopped = provision::stop_engine(&places.state_dir).await.unwrap();
    assert_eq!(stopped, Stopped::Ended);
    assert!(Engine::find(TIMEOUT).await.is_err());
}

#[tokio::test]
async fn settings_that_cannot_be_read_stop_provisioning_and_stay() {
    if let Some(room) = namespaces::room() {
        return provisioning_is_refused(places(&room)).await;
    }
    let settings = "{\n  \"log-driver\": \"local\",\n}\n";
    let name = "settings_that_cannot_be_read_stop_provisioning_and_stay";
    let room = run_alone(name, settings);
    let folder = room.path().join("etc/docker");
    let now = fs::read_to_string(folder.join("daemon.json")).unwrap();
    assert_eq!(now, settings);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no other file");
}

async fn provisioning_is_refused(places: Places) {
    let plan = ProvisionPlan::for_needs(&NEEDS, places).await;
    let refused = plan.apply(|step| println!("{step:?}")).await.unwrap_err();
    let ProvisionError::ByHand { what, .. } = &refused else {
        panic!("{refused:?}");
    };
    let place = "/etc/docker/daemon.json:3:1: dockerd's settings are no JSON";
    assert!(what.starts_with(place), "{what}");
    let help = refused.help().unwrap().to_string();
    assert!(help.contains("fix that line"), "{help}");
    assert!(Engine::find(TIMEOUT).await.is_err());
}
