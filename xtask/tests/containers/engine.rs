//! Backing services from containers: what the engine has of an environment, and when.

mod mount;
mod socket;

use std::fs;

use bollard::query_parameters::ListContainersOptionsBuilder;
use harness::engine::{Engine, PATIENCE};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::machine::{eventually, processes};
use crate::rig::{E2E, Rig, SECONDS};

async fn engine() -> Engine {
    Engine::find(PATIENCE)
        .await
        .expect("these tests want a container engine; `cargo xtask test` leaves them out without")
}

fn rig() -> Rig {
    Rig::new().change(
        "backing_services = \"binaries\"",
        "backing_services = \"containers\"",
    )
}

/// The names of the environment's containers, those that have ended included.
async fn containers(engine: &Engine, rig: &Rig) -> Vec<String> {
    let all = ListContainersOptionsBuilder::new().all(true).build();
    let listed = engine.client().list_containers(Some(all)).await.unwrap();
    let names = listed.into_iter().flat_map(|container| container.names);
    let mark = format!("/trii-{}-", rig.name);
    names
        .flatten()
        .filter(|name| name.starts_with(&mark))
        .map(|name| name.trim_start_matches('/').to_owned())
        .collect()
}

async fn no_container_is_left(engine: &Engine, rig: &Rig) {
    assert_eq!(containers(engine, rig).await, [] as [String; 0]);
}

#[tokio::test]
async fn containers_are_bound_to_the_loopback_and_tell_no_secret() {
    let (engine, rig) = (engine().await, rig());
    rig.up();
    let traces = rig.traces();
    let names = containers(&engine, &rig).await;
    assert_eq!(names.len(), 2, "{names:?}");
    let secrets = fs::read_to_string(rig.environment_folder().join("secrets.json")).unwrap();
    let secrets: Value = serde_json::from_str(&secrets).unwrap();
    for name in &names {
        let inspected = engine.client().inspect_container(name, None).await.unwrap();
        let network = inspected.network_settings.unwrap();
        let bindings = network.ports.unwrap().into_values().flatten().flatten();
        let hosts: Vec<String> = bindings.filter_map(|binding| binding.host_ip).collect();
        assert_eq!(hosts, ["127.0.0.1"], "{name}");
        let config = inspected.config.unwrap();
        // Its environment has the password, and only that.
        let told = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            inspected.path, inspected.args, config.cmd, config.entrypoint, config.labels
        );
        for secret in secrets.as_object().unwrap().values() {
            assert!(!told.contains(secret.as_str().unwrap()), "{name}: {told}");
        }
    }
    for process in processes() {
        for secret in secrets.as_object().unwrap().values() {
            let secret = secret.as_str().unwrap();
            assert!(!process.command.contains(secret), "{}", process.command);
        }
    }
    rig.run(&["smoke"]).expect_code(0);
    rig.run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
}

#[tokio::test]
async fn containers_of_a_killed_supervisor_are_removed() {
    let engine = engine().await;
    for forgotten in [false, true] {
        let rig = rig();
        rig.up();
        let traces = rig.traces();
        kill_supervisor(&rig);
        assert_eq!(containers(&engine, &rig).await.len(), 2);
        if forgotten {
            // Then their labels tell.
            fs::remove_file(rig.ledger()).unwrap();
        }
        rig.run(&["down", "--all"]).expect_code(0);
        traces.are_gone(&rig);
        no_container_is_left(&engine, &rig).await;
    }
}

fn kill_supervisor(rig: &Rig) {
    rig.supervisor().signal(Signal::SIGKILL);
    eventually("the supervisor is gone", SECONDS, || {
        match rig.find(" supervise") {
            Ok(still) => Err(still.command),
            Err(_) => Ok(()),
        }
    });
}

#[tokio::test]
async fn a_run_cut_short_while_containers_start_leaves_none() {
    let engine = engine().await;
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let rig = rig();
        let mut course = rig.spawn(&E2E);
        // Written before the engine is asked.
        course.finds_in_ledger("\"kind\":\"container\"");
        course.signal(signal);
        let ended = course.ends_within(SECONDS);
        let code = (signal == Signal::SIGINT).then_some(130);
        assert_eq!(ended.status.code(), code, "{}", ended.stderr);
        rig.traces().are_gone(&rig);
        no_container_is_left(&engine, &rig).await;
    }
}

#[tokio::test]
async fn a_container_that_is_killed_is_a_part_lost() {
    let (engine, rig) = (engine().await, rig());
    let mut course = rig.spawn(&E2E);
    course.paused_when_up(|| {
        let gateway = rig.find("serve api-gateway").unwrap();
        gateway.signal(Signal::SIGSTOP);
    });
    course.reaches("verify");
    let traces = rig.traces();
    let names = containers(&engine, &rig).await;
    let postgres = names.iter().find(|name| name.contains("postgres"));
    let killed = engine.client().kill_container(postgres.unwrap(), None);
    killed.await.unwrap();
    course
        .ends_within(SECONDS)
        .expect_code(3)
        .expect_words("postgres ended while the environment was in use")
        .expect_words("its container ended with exit code 137");
    traces.are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
}
