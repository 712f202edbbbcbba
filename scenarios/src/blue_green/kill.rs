//! SCENARIOS 13: the deployer is killed at each of its steps in turn.

use std::process::Stdio;
use std::time::Duration;

use blue_green::naming::record_name;
use blue_green::{Colour, EventKind, Operation, ReleaseEvent, ReleaseStep};
use environments::config::PodFault;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams};
use kubernetes::prober::Recording;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::attempt::attempt;
use super::service_watch::ServiceWatch;
use super::setup::Setup;
use super::traffic::{Lanes, Traffic};
use crate::{Mismatch, RunResult, Scenario, Unmet};

/// Not the gate, at which no deployer runs.
const STEPS: [ReleaseStep; 7] = [
    ReleaseStep::BringUp,
    ReleaseStep::Check,
    ReleaseStep::Switch,
    ReleaseStep::Analyse,
    ReleaseStep::Drain,
    ReleaseStep::Retire,
    ReleaseStep::Revert,
];

/// From the deployer's start until it reaches the step.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

pub async fn run(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    if super::start(setup, scenario).await?.is_none() {
        return Ok(());
    }
    for step in STEPS {
        let claim = format!(
            "after a kill at {step} the next run continues, with one live colour throughout"
        );
        // The deployer reverts only if the new version is bad.
        if let (ReleaseStep::Revert, Err(lacks)) = (step, setup.faults()) {
            scenario.skip(&claim, &lacks.seen).await?;
            continue;
        }
        let continued = killed_at(setup, scenario, step).await;
        let checked = scenario.evaluate(&claim, async { continued }).await?;
        if checked.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

async fn killed_at(
    setup: &Setup<'_>,
    scenario: &mut Scenario<'_>,
    step: ReleaseStep,
) -> Result<((), String), Unmet> {
    let status = setup.steady().await?;
    let version = setup.next_version(&status).to_owned();
    let traffic = Traffic::start(setup, Lanes::quick()).await?;
    let watch = ServiceWatch::start(setup);
    let mut deployer = DeployerProcess::start(setup, &version)?;
    scenario.progress(&format!("{version} until {step}"));
    let reached = deployer.until(setup, step, status.colours[1].colour).await;
    deployer.kill().await;
    reached?;
    if setup.subject.sabotage {
        delete_record(setup).await?;
    }
    let mut found = None;
    let attempt = attempt(setup, scenario, &version, &mut async |event| {
        if let EventKind::Found { how, step, .. } = &event.what {
            found = Some(format!("left at {step}, {how}"));
        }
    })
    .await;
    if setup.subject.sabotage {
        let next = setup.deployer(setup.release, CancellationToken::new());
        // Without a record, `abort` only scales the idle colour to 0.
        let _ = next
            .run(Operation::Abort, &mut async |_: &ReleaseEvent| {})
            .await;
    }
    // Planted faults have ended with their pods.
    let steady = setup.steady().await;
    let one_colour = watch.end().await;
    let recordings = traffic.end().await;
    let conclusion = attempt
        .conclusion
        .map_err(|error| setup.mismatch("a next run that continues", error))?;
    steady?;
    let observed = one_colour.map_err(|seen| setup.mismatch("one live colour", seen))?;
    let reads = observed.reads;
    if reads == 0 {
        return Err(Unmet::Inconclusive(
            "the active Service was never read".into(),
        ));
    }
    let answered = answered(setup, step, &recordings?)?;
    let found = found.ok_or_else(|| setup.mismatch("a release that was interrupted", "none"))?;
    let seen = format!("{found}; then {conclusion:?}; one colour in {reads} reads; {answered}");
    Ok(((), seen))
}

/// Deletes the record of the release.
async fn delete_record(setup: &Setup<'_>) -> Result<(), Mismatch> {
    let records: Api<ConfigMap> = setup.api();
    let deleted = records
        .delete(&record_name(setup.service()), &DeleteParams::default())
        .await;
    let deleted = deleted.map(drop);
    deleted.map_err(|error| setup.mismatch("a record that can be deleted", error))
}

/// Checks the answers. Requests may fail only if the version is bad, until it is rolled back.
fn answered(
    setup: &Setup<'_>,
    step: ReleaseStep,
    recordings: &[Recording],
) -> Result<String, Unmet> {
    let answers = || recordings.iter().flat_map(|it| &it.answers);
    let (all, failed) = (answers().count(), answers().filter(|it| !it.good).count());
    let seen = format!("{failed} of {all} requests failed");
    match recordings.iter().find_map(Recording::inconclusive) {
        _ if failed > 0 && step != ReleaseStep::Revert => setup.fail("no request that fails", seen),
        Some(why) => Err(Unmet::Inconclusive(why)),
        None if all == 0 => Err(Unmet::Inconclusive("there were no requests".into())),
        None => Ok(seen),
    }
}

/// A deployer as a child process.
struct DeployerProcess {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
}

impl DeployerProcess {
    fn start(setup: &Setup<'_>, version: &str) -> Result<DeployerProcess, Mismatch> {
        let program = setup.program;
        let mut child = Command::new(&program.path)
            .args([
                "blue-green",
                "deploy",
                "--service",
                setup.service(),
                "--version",
                version,
                "--release",
                setup.release,
            ])
            .args(&program.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| setup.mismatch("a deployer as a process", error))?;
        let stderr = child.stderr.take();
        let stderr = stderr.ok_or_else(|| setup.mismatch("the deployer's stderr", "none"))?;
        Ok(DeployerProcess {
            child,
            lines: BufReader::new(stderr).lines(),
        })
    }

    /// Reads its output until it reaches the step.
    async fn until(
        &mut self,
        setup: &Setup<'_>,
        step: ReleaseStep,
        idle: Colour,
    ) -> Result<(), Mismatch> {
        let mut last = String::new();
        let at = format!("{step} ...");
        let reading = async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                if line.ends_with(&at) {
                    return Ok(());
                }
                if step == ReleaseStep::Revert && line.contains("is behind the active Service") {
                    setup.put_fault_on_all(idle, PodFault::Errors).await?;
                }
                last = line;
            }
            Err(setup.mismatch(&format!("a deployer at {step}"), "it ended before"))
        };
        let reached = timeout(STEP_TIMEOUT, reading).await;
        let reached = reached.unwrap_or_else(|_| {
            let expected = format!("a deployer at {step} within {STEP_TIMEOUT:?}");
            Err(setup.mismatch(&expected, "not yet"))
        });
        reached.map_err(|mismatch| Mismatch {
            seen: format!("{}; its last line: {last}", mismatch.seen),
            ..mismatch
        })
    }

    /// Sends SIGKILL, so that the deployer cannot clean up.
    async fn kill(mut self) {
        // An error means that it has already exited.
        let _ = self.child.kill().await;
    }
}
