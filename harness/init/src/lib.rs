//! Writes a first `harness.toml` for a chart, or for what runs in a namespace.
//!
//! The objects come from the chart's manifests ([`manifests`]) or from the API server
//! ([`namespace`]). An [`Inventory`] is what they show. A [`Configuration`] is the text, with a
//! comment for what they do not show.

mod checks;
pub mod configuration;
mod draft;
mod error;
mod files;
mod hosts;
pub mod inventory;
pub mod manifests;
pub mod namespace;
pub mod objects;
mod origin;

pub use configuration::Configuration;
pub use draft::ToDo;
pub use error::InitError;
pub use files::{Files, of_repository};
pub use inventory::Inventory;
pub use origin::{Origin, Place};

use objects::PlatformObjects;

/// Returns what the objects show.
///
/// # Errors
/// [`InitError::Nothing`] if no Service selects pods: there would be no service.
pub fn survey(objects: &PlatformObjects, origin: &Origin) -> Result<Inventory, InitError> {
    let inventory = inventory::take(objects);
    if !inventory.services.is_empty() {
        return Ok(inventory);
    }
    let (workloads, services) = (objects.workloads.len(), objects.services.len());
    Err(InitError::Nothing {
        place: origin.to_string(),
        seen: format!("it has {workloads} workloads and {services} Services"),
        help: match origin.place {
            Place::Chart { .. } => "name values files that enable them with --values",
            Place::Cluster { .. } => "name the namespace of the platform with --namespace",
        },
    })
}
