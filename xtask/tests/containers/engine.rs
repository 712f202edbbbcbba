//! Backing services from containers: which containers an environment has, and when.

mod mount;
mod services;
mod socket;

use std::fs;

use machine::engine::Engine;
use nix::sys::signal::Signal;

use crate::leftovers::containers;
use crate::machine::{engine, no_command_line_shows};
use crate::rig::{E2E, Rig, SECONDS};

fn rig() -> Rig {
    Rig::new().backing_services("containers")
}

async fn no_container_is_left(engine: &Engine, rig: &Rig) {
    assert_eq!(containers(engine, rig).await, [] as [String; 0]);
}

#[tokio::test]
async fn containers_are_bound_to_the_loopback_and_show_no_secret() {
    let (engine, rig) = (engine().await, rig());
    rig.up();
    let traces = rig.traces();
    let names = containers(&engine, &rig).await;
    assert_eq!(names.len(), 2, "{names:?}");
    let secrets = rig.secrets();
    for name in &names {
        let inspected = engine.client().inspect_container(name, None).await.unwrap();
        let network = inspected.network_settings.unwrap();
        let bindings = network.ports.unwrap().into_values().flatten().flatten();
        let hosts: Vec<String> = bindings.filter_map(|binding| binding.host_ip).collect();
        assert_eq!(hosts, ["127.0.0.1"], "{name}");
        let config = inspected.config.unwrap();
        // Only its environment has the password.
        let shown = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            inspected.path, inspected.args, config.cmd, config.entrypoint, config.labels
        );
        for secret in secrets.values() {
            assert!(!shown.contains(secret), "{name}: {shown}");
        }
    }
    no_command_line_shows(secrets.values());
    rig.run(&["smoke"]).expect_code(0);
    rig.run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
}

#[tokio::test]
async fn containers_of_a_killed_supervisor_are_removed() {
    let engine = engine().await;
    for without_ledger in [false, true] {
        let rig = rig();
        rig.up();
        let traces = rig.traces();
        rig.kill_supervisor();
        assert_eq!(containers(&engine, &rig).await.len(), 2);
        if without_ledger {
            // Their labels identify them.
            fs::remove_file(rig.ledger()).unwrap();
        }
        rig.run(&["down", "--all"]).expect_code(0);
        traces.are_gone(&rig);
        no_container_is_left(&engine, &rig).await;
    }
}

/// Sends `signal` to a run that starts containers. It leaves none.
async fn is_cut_short(engine: &Engine, rig: &Rig, signal: Signal) {
    let mut running = rig.spawn(&E2E);
    // The entry is written before the request to the engine.
    running.records_in_ledger("\"kind\":\"container\"");
    running.signal(signal);
    let ended = running.ends_within(SECONDS);
    let code = (signal == Signal::SIGINT).then_some(130);
    assert_eq!(ended.status.code(), code, "{}", ended.stderr);
    rig.traces().are_gone(rig);
    no_container_is_left(engine, rig).await;
}

#[tokio::test]
async fn a_run_cut_short_while_containers_start_leaves_none() {
    let engine = engine().await;
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        is_cut_short(&engine, &rig(), signal).await;
    }
}

#[tokio::test]
async fn a_killed_container_is_a_lost_part() {
    let (engine, rig) = (engine().await, rig());
    let mut running = rig.spawn(&E2E);
    running.hangs_in_verify();
    let traces = rig.traces();
    let names = containers(&engine, &rig).await;
    let postgres = names.iter().find(|name| name.contains("postgres"));
    let killed = engine.client().kill_container(postgres.unwrap(), None);
    killed.await.unwrap();
    running
        .ends_within(SECONDS)
        .expect(3, "postgres ended while the environment was in use")
        .expect_stderr("its container ended with exit code 137");
    traces.are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
}
