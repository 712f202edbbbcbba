//! SCENARIOS 12: two deployers at once.

use base::exit::ExitCode;
use blue_green::naming::record_name;
use blue_green::{BlueGreenError, EventKind, Operation, ReleaseEvent};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams};
use tokio_util::sync::CancellationToken;

use super::setup::Setup;
use super::traffic::Lanes;
use crate::{RunResult, Scenario};

pub async fn run(setup: &Setup<'_>, scenario: &mut Scenario<'_>) -> RunResult {
    let Some((_, version)) = super::start(setup, scenario).await? else {
        return Ok(());
    };
    let Some(traffic) = super::start_traffic(setup, scenario, Lanes::quick()).await? else {
        return Ok(());
    };
    let first = setup.deployer("first", CancellationToken::new());
    let mut second = None;
    let released = first
        .run(deploy(&version), &mut async |event: &ReleaseEvent| {
            scenario.progress(&event.what.to_string());
            if matches!(event.what, EventKind::Locked { .. }) {
                if setup.subject.sabotage {
                    let leases: Api<Lease> = setup.api();
                    let _ = leases
                        .delete(&record_name(setup.service()), &DeleteParams::default())
                        .await;
                }
                let other = setup.deployer("second", CancellationToken::new());
                let mut ignore = async |_: &ReleaseEvent| {};
                let attempt = other.run(deploy("v0.0.0-second"), &mut ignore);
                second = Some(Box::pin(attempt).await);
            }
        })
        .await;
    let _ = traffic.end().await;
    let claim = "the second deployer is refused, and its error names the lock's holder";
    scenario
        .evaluate(claim, async {
            match second {
                Some(Err(error @ BlueGreenError::Lock(_))) => {
                    let message = error.to_string();
                    match message.contains(&first.holder.to_string()) {
                        true => Ok(((), message)),
                        false => setup.fail("the holder's name", message),
                    }
                }
                Some(other) => setup.fail("a refusal", format!("{other:?}")),
                None => setup.fail("a first deployer with the lock", "none"),
            }
        })
        .await?;
    scenario
        .evaluate("the first deployer's release is not affected", async {
            match released {
                Ok(conclusion) if conclusion.exit_code() == ExitCode::Held => {
                    Ok(((), format!("{conclusion:?}")))
                }
                Ok(other) => setup.fail("a release", format!("{other:?}")),
                Err(error) => setup.fail("a release", error),
            }
        })
        .await?;
    Ok(())
}

fn deploy(version: &str) -> Operation<'_> {
    let manual = false;
    Operation::Deploy { version, manual }
}
