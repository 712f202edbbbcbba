//! SCENARIOS 13: the deployer is killed, at each of its steps in turn.

use std::process::Stdio;
use std::time::Duration;

use harness::blue_green::objects::kept_in;
use harness::blue_green::{Ask, Colour, Event, Happened, Step};
use harness::prober::Recording;
use harness::run::RunFolderError;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::attempt::attempt;
use super::ground::{Done, Ground, SERVICE};
use super::load::{Lanes, Load};
use super::watch::Watch;
use crate::{Scenario, Unmet};

/// The gate is no step of a deployer's that goes on by itself.
const STEPS: [Step; 7] = [
    Step::BringUp,
    Step::Check,
    Step::Switch,
    Step::Analyse,
    Step::Drain,
    Step::Retire,
    Step::Revert,
];

/// From its start until it is at the step.
const TO_THE_STEP: Duration = Duration::from_secs(120);

pub async fn run(ground: &Ground<'_>, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
    if super::begin(ground, scenario).await?.is_none() {
        return Ok(());
    }
    for step in STEPS {
        let claim = format!(
            "killed at {step}, it is followed by the next, with one live colour throughout"
        );
        let followed = killed_at(ground, scenario, step).await;
        let held = scenario.judge(&claim, async { followed }).await?;
        if held.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

async fn killed_at(
    ground: &Ground<'_>,
    scenario: &mut Scenario<'_>,
    step: Step,
) -> Result<((), String), Unmet> {
    let status = ground.at_rest().await?;
    let version = ground.next_version(&status).to_owned();
    let load = Load::begin(ground, Lanes::quick()).await?;
    let watch = Watch::begin(ground);
    let mut deployer = Killed::start(ground, &version)?;
    scenario.progress(&format!("{version} until {step}"));
    let reached = deployer.until(ground, step, status.colours[1].colour).await;
    deployer.kill().await;
    reached?;
    if ground.subject.sabotage {
        forget(ground).await?;
    }
    let mut found = None;
    let tried = attempt(ground, scenario, &version, &mut async |event| {
        if let Happened::Found { how, step, .. } = &event.what {
            found = Some(format!("left at {step}, {how}"));
        }
    })
    .await;
    if ground.subject.sabotage {
        let next = ground.deployer(ground.release, CancellationToken::new());
        // There is nothing that tells of a release: it only takes the idle colour to 0.
        let _ = next.run(Ask::Abort, &mut async |_: &Event| {}).await;
    }
    // What was done to the pods of a release that was to fail has ended with them.
    let rest = ground.at_rest().await;
    let one_colour = watch.end().await;
    let recordings = load.end().await;
    let concluded = tried
        .concluded
        .map_err(|error| ground.trouble("a next run that follows", error))?;
    rest?;
    let seen = one_colour.map_err(|seen| ground.trouble("one live colour", seen))?;
    if seen.looks == 0 {
        return Err(Unmet::Inconclusive("nobody saw the active Service".into()));
    }
    let answered = answered(ground, step, &recordings?)?;
    let found = found.ok_or_else(|| ground.trouble("a release that was left", "none"))?;
    Ok((
        (),
        format!(
            "{found}; then {concluded:?}; one colour in {} looks; {answered}",
            seen.looks
        ),
    ))
}

/// Nothing in the cluster tells of the release any more.
async fn forget(ground: &Ground<'_>) -> Done {
    let records: Api<ConfigMap> = ground.api();
    let at_once = DeleteParams::default();
    let deleted = records.delete(&kept_in(SERVICE), &at_once).await;
    let deleted = deleted.map(drop);
    deleted.map_err(|error| ground.trouble("a record that can be deleted", error))
}

/// What users had of it: no request fails, but those that a bad version answers until it is
/// taken back.
fn answered(ground: &Ground<'_>, step: Step, recordings: &[Recording]) -> Result<String, Unmet> {
    let answers = || recordings.iter().flat_map(|it| &it.answers);
    let (all, failed) = (answers().count(), answers().filter(|it| !it.good).count());
    let seen = format!("{failed} of {all} requests failed");
    match recordings.iter().find_map(Recording::inconclusive) {
        _ if failed > 0 && step != Step::Revert => {
            Err(ground.trouble("no request that fails", seen).into())
        }
        Some(why) => Err(Unmet::Inconclusive(why)),
        None if all == 0 => Err(Unmet::Inconclusive("nobody asked".into())),
        None => Ok(seen),
    }
}

/// A deployer in a process of its own.
struct Killed {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
}

impl Killed {
    fn start(ground: &Ground<'_>, version: &str) -> Done<Killed> {
        let program = ground.program;
        let mut child = Command::new(&program.path)
            .args([
                "blue-green",
                "deploy",
                "--service",
                SERVICE,
                "--version",
                version,
                "--release",
                ground.release,
            ])
            .args(&program.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| ground.trouble("a deployer as a process", error))?;
        let told = child.stderr.take();
        let told = told.ok_or_else(|| ground.trouble("what the deployer tells", "nothing"))?;
        Ok(Killed {
            child,
            lines: BufReader::new(told).lines(),
        })
    }

    /// Reads what it tells until it is at the step.
    async fn until(&mut self, ground: &Ground<'_>, step: Step, idle: Colour) -> Done {
        let mut last = String::new();
        let at = format!("{step} ...");
        let reading = async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                if line.ends_with(&at) {
                    return Ok(());
                }
                // To be taken back, it has to be bad.
                if step == Step::Revert && line.contains("is behind the active Service") {
                    let bad = json!({"error_share": 1.0});
                    ground.put_faults_on_all(idle, &bad).await?;
                }
                last = line;
            }
            Err(ground.trouble(&format!("a deployer at {step}"), "it ended before"))
        };
        let reached = timeout(TO_THE_STEP, reading).await;
        let reached = reached.unwrap_or_else(|_| {
            Err(ground.trouble(
                &format!("a deployer at {step} within {TO_THE_STEP:?}"),
                "not yet",
            ))
        });
        reached.map_err(|mismatch| crate::Mismatch {
            seen: format!("{}; it told last: {last}", mismatch.seen),
            ..mismatch
        })
    }

    /// SIGKILL: nothing of it is left to clean up.
    async fn kill(mut self) {
        // It has ended by itself where this fails.
        let _ = self.child.kill().await;
    }
}
