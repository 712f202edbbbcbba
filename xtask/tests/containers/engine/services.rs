//! Services of the local target that are containers of the platform's image.

use std::fs;

use nix::sys::signal::Signal;

use super::{is_cut_short, no_container_is_left};
use crate::leftovers::containers;
use crate::machine::{engine, no_command_line_shows};
use crate::rig::{E2E, Rig, SECONDS};

/// Backing services are processes, so that all containers are services.
fn rig(services: &[&str]) -> Rig {
    services.iter().fold(Rig::new(), |rig, service| {
        let table = format!("[services.{service}]");
        let local = format!(
            "[services.{service}.local]\n\
             image = \"trii-rehearsal/platform:{{version}}\"\n\
             args = [\"serve\", \"{{service}}\"]\n\
             ready = \"http://127.0.0.1:{{metrics_port}}/health/ready\"\n\n{table}"
        );
        rig.change(&table, &local)
    })
}

#[tokio::test]
async fn services_in_containers_answer_as_processes_do_and_show_no_secret() {
    let (engine, rig) = (
        engine().await,
        rig(&["portfolio-manager-service", "api-gateway"]),
    );
    rig.up();
    let traces = rig.traces();
    let names = containers(&engine, &rig).await;
    assert_eq!(names.len(), 2, "{names:?}");
    let secrets = rig.secrets();
    for name in &names {
        let inspected = engine.client().inspect_container(name, None).await.unwrap();
        let config = inspected.config.unwrap();
        let shown = format!("{:?} {:?} {:?}", inspected.args, config.cmd, config.labels);
        assert!(!secrets.values().any(|it| shown.contains(it)), "{shown}");
        let environment = config.env.unwrap().join("\n");
        assert!(
            secrets.values().any(|it| environment.contains(it)),
            "{name}"
        );
    }
    no_command_line_shows(secrets.values());
    rig.run(&["smoke"]).expect_code(0);
    let logs = rig.run_folder("up").unwrap().join("logs");
    let log = fs::read_to_string(logs.join("api-gateway.log")).unwrap();
    assert!(!log.is_empty());
    rig.run(&["status"]).expect_code(0);
    rig.run(&["down"]).expect_code(0);
    traces.are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
}

#[tokio::test]
async fn a_killed_container_of_a_service_is_a_failed_check() {
    let (engine, rig) = (engine().await, rig(&["portfolio-manager-service"]));
    let mut running = rig.spawn(&E2E);
    running.hangs_in_verify();
    let traces = rig.traces();
    let names = containers(&engine, &rig).await;
    let [name] = &names[..] else {
        panic!("{names:?}");
    };
    engine.client().kill_container(name, None).await.unwrap();
    running
        .ends_within(SECONDS)
        .expect(
            1,
            "portfolio-manager-service ended while the environment was in use",
        )
        .expect_stderr("its container ended with exit code 137");
    traces.are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
    let lost = rig.events("e2e");
    let lost = lost.iter().find(|event| event["event"] == "part-lost");
    assert_eq!(lost.unwrap()["log"], "logs/portfolio-manager-service.log");
}

#[tokio::test]
async fn containers_of_services_are_removed_after_a_signal_at_any_time() {
    let engine = engine().await;
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        is_cut_short(&engine, &rig(&["api-gateway"]), signal).await;
    }
    let rig = rig(&["api-gateway"]);
    rig.up();
    let traces = rig.traces();
    rig.kill_supervisor();
    assert_eq!(containers(&engine, &rig).await.len(), 1);
    rig.run(&["down", "--all"]).expect_code(0);
    traces.are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
}

#[tokio::test]
async fn a_container_that_exits_immediately_is_not_waited_for() {
    let engine = engine().await;
    let rig = rig(&["api-gateway"]).change(
        "[services.api-gateway.env]",
        "[services.api-gateway.env]\nWORKER_THREADS = \"none\"",
    );
    rig.run(&E2E)
        .expect(
            3,
            "api-gateway listens: gave up: its container ended with exit code",
        )
        .expect_stderr("WORKER_THREADS is not valid");
    rig.traces().are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
}

#[tokio::test]
async fn an_image_that_nothing_has_is_named_with_its_service() {
    let engine = engine().await;
    let absent = "127.0.0.1:1/nothing:1";
    let rig = rig(&["api-gateway"]).change(
        "trii-rehearsal/platform:{version}\"\nargs",
        &format!("{absent}\"\nargs"),
    );
    rig.run(&E2E)
        .expect(3, "api-gateway has no image")
        .expect_stderr(&format!("the engine does not have the image {absent}"));
    rig.traces().are_gone(&rig);
    no_container_is_left(&engine, &rig).await;
}
