//! Images that are loaded into the nodes.

use base::home::Home;
use environments::environment::TEST_HOME;
use machine::images::{self, ForNodes, Supply, Workshop};

use super::shared::Shared;
use crate::chart::helm::workspace;

#[tokio::test]
async fn an_image_is_loaded_once_and_another_one_of_its_name_again() {
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
    let one = at_hand(&shared, "base").await;
    let first = load(&one).await;
    assert_eq!(first.brought, [known_as.as_str()]);
    let again = load(&one).await;
    assert_eq!(again.there, [known_as.as_str()]);
    assert!(again.brought.is_empty());

    let other = at_hand(&shared, "platform").await;
    let replaced = load(&other).await;
    assert_eq!(replaced.brought, [known_as.as_str()]);
}

/// Returns the reference of an image that every environment on a cluster needs.
pub async fn at_hand(shared: &Shared, name: &str) -> String {
    let image = images::present_or_pull(&shared.engine, &workshop(), name, &|_| ()).await;
    image.unwrap().to_string()
}

/// Returns the reference of an image that the engine and every node have then.
pub async fn on_nodes(shared: &Shared, name: &str) -> String {
    let (engine, workshop, cluster) = (&shared.engine, workshop(), &shared.place().name);
    let brought = images::on_nodes(engine, &workshop, cluster, name, Supply::Auto, &|_| ());
    brought.await.unwrap()
}

/// Returns the workshop of the environment's images.
fn workshop() -> Workshop {
    let home = std::env::var(TEST_HOME).unwrap();
    Workshop::of(&workspace(), &Home::new(home))
}
