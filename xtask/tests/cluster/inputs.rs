//! What the configuration asks for and the repository does not have is refused before
//! anything is begun.

use crate::rig::{E2E_ON_KIND, Rig};

fn refused(rig: &Rig, words: &str) {
    rig.run(&E2E_ON_KIND)
        .expect_code(2)
        .expect_words(words)
        .expect_words("harness.toml");
    assert!(!rig.home().exists(), "nothing was begun");
}

#[test]
fn a_values_file_that_is_not_there_is_named() {
    let rig = Rig::new().change("values-local.yaml", "values-lokal.yaml");
    refused(&rig, "values-lokal.yaml: No such file");
}

#[test]
fn a_namespace_that_nobody_makes_is_named_and_so_are_those_there_are() {
    let rig = Rig::new().change(
        "namespace = \"trii-platform\"",
        "namespace = \"trii-plattform\"",
    );
    refused(&rig, "namespace \"trii-plattform\" is not in");
}
