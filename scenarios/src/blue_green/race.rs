//! SCENARIOS 12: two deployers at once.

use harness::blue_green::objects::kept_in;
use harness::blue_green::{Ask, BlueGreenError, Event, Happened};
use harness::exit::ExitCode;
use harness::run::RunFolderError;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams};
use tokio_util::sync::CancellationToken;

use super::ground::{Ground, SERVICE};
use super::load::Lanes;
use crate::Scenario;

pub async fn run(ground: &Ground<'_>, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
    let Some((_, version)) = super::begin(ground, scenario).await? else {
        return Ok(());
    };
    let Some(load) = super::loaded(ground, scenario, Lanes::quick()).await? else {
        return Ok(());
    };
    let first = ground.deployer("first", CancellationToken::new());
    let mut second = None;
    let released = first
        .run(deploy(&version), &mut async |event: &Event| {
            scenario.progress(&event.what.to_string());
            if matches!(event.what, Happened::Locked { .. }) {
                if ground.subject.sabotage {
                    let leases: Api<Lease> = ground.api();
                    let _ = leases
                        .delete(&kept_in(SERVICE), &DeleteParams::default())
                        .await;
                }
                let other = ground.deployer("second", CancellationToken::new());
                let mut nobody = async |_: &Event| {};
                let tried = other.run(deploy("v0.0.0-second"), &mut nobody);
                second = Some(Box::pin(tried).await);
            }
        })
        .await;
    let _ = load.end().await;
    scenario
        .judge(
            "the second deployer is refused, and told who holds the lock",
            async {
                match second {
                    Some(Err(error @ BlueGreenError::Lock(_))) => {
                        let said = error.to_string();
                        match said.contains(&first.holder.to_string()) {
                            true => Ok(((), said)),
                            false => Err(ground.trouble("the holder's name", said).into()),
                        }
                    }
                    Some(other) => Err(ground.trouble("a refusal", format!("{other:?}")).into()),
                    None => Err(ground
                        .trouble("a first deployer with the lock", "none")
                        .into()),
                }
            },
        )
        .await?;
    scenario
        .judge("the first one's release is not touched by it", async {
            match released {
                Ok(concluded) if concluded.exit_code() == ExitCode::Held => {
                    Ok(((), format!("{concluded:?}")))
                }
                Ok(other) => Err(ground.trouble("a release", format!("{other:?}")).into()),
                Err(error) => Err(ground.trouble("a release", error).into()),
            }
        })
        .await?;
    Ok(())
}

fn deploy(version: &str) -> Ask<'_> {
    let manual = false;
    Ask::Deploy { version, manual }
}
