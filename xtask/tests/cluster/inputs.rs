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

#[test]
fn a_service_that_no_chart_renders_is_named_with_its_line() {
    let rig = Rig::new().change(
        "[services.frontend-app]",
        "[services.frontend-ap]\n\n[services.frontend-app]",
    );
    refused(
        &rig,
        "no release renders a Service called \"frontend-ap\"; their Services: analysis-engine-service, ",
    );
    refused(&rig, "did you mean \"frontend-app\"?");
}

#[test]
fn an_image_that_no_pod_has_is_named() {
    let rig = Rig::new().change(
        "rehearsal/platform:{version}",
        "rehearsal/plattform:{version}",
    );
    refused(
        &rig,
        "no pod of the releases has the image \"trii-rehearsal/plattform:v2.1.0\"; their images: trii-rehearsal/platform:v2.1.0",
    );
}

#[test]
fn a_secret_that_nothing_makes_is_named_with_its_key() {
    let rig = Rig::new().change("[secrets.redis-credentials]", "[secrets.redis]");
    refused(
        &rig,
        "needs the key \"url\" of the Secret \"redis-credentials\", which nothing makes",
    );
}

#[test]
fn values_that_the_chart_rejects_are_shown_with_helms_message() {
    let rig = Rig::new().change("imageTag = \"{version}\"", "imageTag = \"latest\"");
    refused(&rig, "helm rejects the chart or its values: ");
}

#[test]
fn every_fault_is_shown_at_once() {
    let rig = Rig::new()
        .change("tls_secret = \"trii-tls\"", "tls_secret = \"tls\"")
        .change(
            "rehearsal/platform:{version}",
            "rehearsal/plattform:{version}",
        );
    refused(&rig, "2 faults");
    refused(&rig, "ingress/api-gateway needs the Secret \"trii-tls\"");
    refused(&rig, "rehearsal/plattform:v2.1.0");
}
