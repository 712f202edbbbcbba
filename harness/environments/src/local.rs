//! The local target: the platform as processes and containers of this machine, behind a router.

mod backing;
mod build;
pub mod colours;
mod container;
mod free_port;
mod postgres;
mod prepare;
mod process;
pub(crate) mod readiness;
mod redis;
mod services;

use crate::bring_up::{Context, UpError};
use crate::capability::Capability;
use crate::config::LocalTarget;
use crate::environment::{Environment, EnvironmentName};
use crate::router::{RouteTable, Router};
use base::entry_point::EntryPoint;
use base::run::event::Stage;

/// Brings the platform up. `context.owned` has everything that it creates, also after an error.
pub async fn bring_up(
    context: &Context<'_>,
    target: &LocalTarget,
    name: &EnvironmentName,
) -> Result<Environment, UpError> {
    // A port that is in use is reported before anything starts.
    let listener = Router::bind(target.router_port).await?;
    let (program, images, backing) = context
        .stage(Stage::Provision, async {
            let backing = Box::pin(async {
                let choice = backing::choose(context, target.backing_services).await?;
                backing::start(context, &choice).await
            });
            let built = Box::pin(async {
                let program = build::program(context).await?;
                // The build may make them.
                let images = container::images(context).await?;
                Ok((program, images))
            });
            let ((program, images), backing) = futures::try_join!(built, backing)?;
            Ok((program, images, backing))
        })
        .await?;
    context
        .stage(Stage::Deploy, async {
            let program = program.as_deref();
            let values = process::values(context, program, &backing);
            prepare::prepare(context, &values).await?;
            let services = services::start(context, program, images.as_ref(), &values).await?;
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
            context
                .owned
                .adopt_server(async |grace| router.stop(grace).await);
            let parts = [services.parts, backing.parts].concat();
            let entry = EntryPoint::plain(address);
            let mut up = context.environment(name, entry, &Capability::LOCAL, parts);
            up.ready_urls = services.ready_urls;
            up.releases = services.colours.map(|it| it.place().clone());
            Ok(up)
        })
        .await
}
