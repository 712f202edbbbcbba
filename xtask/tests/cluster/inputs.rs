//! A configuration that names what the repository lacks is refused before anything starts.

use crate::rig::{E2E_ON_KIND, Rig};

fn refused(rig: &Rig, message: &str) {
    rig.run(&E2E_ON_KIND)
        .expect(2, message)
        .expect_stderr("harness.toml");
    assert!(!rig.home().exists(), "nothing was started");
}

#[test]
fn a_values_file_that_is_not_there_is_named() {
    let rig = Rig::new().change("values-local.yaml", "values-lokal.yaml");
    refused(
        &rig,
        "values-lokal.yaml (targets.kind.values): No such file",
    );
}

#[test]
fn a_namespace_that_no_manifest_makes_is_named() {
    let rig = Rig::new().change(
        "namespace = \"trii-platform\"",
        "namespace = \"trii-plattform\"",
    );
    refused(&rig, "namespace \"trii-plattform\" is not in");
}
