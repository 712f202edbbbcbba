//! The local target: the platform as processes of this machine, behind a small router.

mod backing;
mod build;
pub mod colours;
mod postgres;
mod redis;
mod services;

use crate::bring_up::{Context, UpError};
use crate::capability::Capability;
use crate::config::LocalTarget;
use crate::entry::Entry;
use crate::environment::{Environment, EnvironmentName};
use crate::router::{RouteTable, Router};
use crate::run::event::Stage;

/// Brings the platform up. Whatever was made is in `context.owned`, also after an error.
pub async fn bring_up(
    context: &Context<'_>,
    target: &LocalTarget,
    name: &EnvironmentName,
) -> Result<Environment, UpError> {
    // First, so that a taken port is known before anything is started.
    let listener = Router::bind(target.router_port).await?;
    let (platform, backing) = context
        .stage(Stage::Provision, async {
            let backing = async {
                let choice = backing::choose(context, target.backing_services).await?;
                backing::start(context, &choice).await
            };
            futures::try_join!(build::platform(context), backing)
        })
        .await?;
    context
        .stage(Stage::Deploy, async {
            services::migrate(context, &platform, &backing).await?;
            let services = services::start(context, &platform, &backing).await?;
            let table = RouteTable::new(&context.config.routes).map_err(|error| {
                UpError::system("compile the routes")(std::io::Error::other(error))
            })?;
            let router = Router::serve(
                listener,
                &context.config.platform,
                table,
                services.upstreams,
            )
            .map_err(UpError::system("start the router"))?;
            let address = router.address();
            context.owned.adopt_router(router);
            let parts = [services.parts, backing.parts.into()].concat();
            let entry = Entry::plain(address);
            let up = context.environment(name, entry, &Capability::LOCAL, parts);
            let releases = Some(services.colours.place().clone());
            Ok(Environment { releases, ..up })
        })
        .await
}
