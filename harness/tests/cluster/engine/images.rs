//! Images on their way to the nodes.

use std::path::PathBuf;

use harness::images::{self, ForNodes, Workshop};

use super::shared::Shared;
use crate::chart::helm::workspace;

#[tokio::test]
async fn an_image_travels_once_and_another_of_its_name_again() {
    let shared = Shared::find().await;
    let cluster = &shared.place().name;
    let known_as = format!("trii-rehearsal/test-{}:v1", std::process::id());
    let load = async |image: &str| {
        let wanted = ForNodes {
            image: image.to_owned(),
            known_as: known_as.clone(),
        };
        let loaded = images::load(&shared.engine, cluster, &[wanted], &|_| ()).await;
        loaded.unwrap()
    };
    let one = shared.place().shell_image.as_deref().unwrap();
    let first = load(one).await;
    assert_eq!(first.brought, [known_as.as_str()]);
    let again = load(one).await;
    assert_eq!(again.there, [known_as.as_str()]);
    assert!(again.brought.is_empty());

    let other = platform(&shared).await;
    let replaced = load(&other).await;
    assert_eq!(replaced.brought, [known_as.as_str()]);
}

/// Which every environment on a cluster has had built.
pub async fn platform(shared: &Shared) -> String {
    let workshop = Workshop {
        recipes: workspace().join("fixtures/images"),
        state_dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        docker_config: None,
    };
    let image = images::at_hand(&shared.engine, &workshop, "platform", &|_| ()).await;
    image.unwrap().to_string()
}
