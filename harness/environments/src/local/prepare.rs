//! The command that runs before the services, such as a migration of the database.

use std::time::Instant;

use super::process;
use crate::bring_up::{Context, UpError};
use crate::config::placeholders::Values;
use base::run::event::Stage;

const NAME: &str = "prepare";

/// Runs `prepare` of `harness.toml`, if it is there, to its end.
pub async fn prepare(context: &Context<'_>, values: &Values) -> Result<(), UpError> {
    if context.config.platform.local.prepare.is_empty() {
        return Ok(());
    }
    let begun = Instant::now();
    let child = process::prepare(context, NAME, values)?;
    context.owned.start(&child).await?;
    // One half is for Postgres, the other for the schema.
    let deadline = context.deadlines.backing_services * 2;
    context.finished(NAME, deadline).await?;
    context.step(Stage::Deploy, "the platform is prepared", begun);
    Ok(())
}
