use std::collections::BTreeSet;
use std::path::Path;

use environments::config::Config;

use super::*;
use crate::{InitError, manifests, survey};

fn origin(place: Place) -> Origin {
    Origin {
        platform: "shop".into(),
        namespace: "shop".into(),
        app_version: Some("1.4.0".into()),
        place,
        recipes: ["redis", "prober"].map(str::to_owned).into(),
    }
}

fn chart() -> Origin {
    origin(Place::Chart {
        chart: PlatformChart::Path("charts/shop".into()),
        values: vec!["charts/shop/values-test.yaml".into()],
        release: "shop".into(),
    })
}

fn cluster(releases: &[&str], no_secrets: Option<&str>) -> Origin {
    origin(Place::Cluster {
        context: "admin@shop".into(),
        server: "https://10.0.0.1:6443".into(),
        releases: releases.iter().map(|it| (*it).to_owned()).collect(),
        no_secrets: no_secrets.map(str::to_owned),
    })
}

fn files() -> FileNames {
    FileNames {
        configuration: "shop.toml".into(),
        checks: "shop-checks.hurl".into(),
        journey: "shop-journey.hurl".into(),
    }
}

/// Writes the configuration, and parses it and the files that it names.
fn written(origin: &Origin, objects: &str) -> Configuration {
    let inventory = survey(&manifests::read(objects).unwrap(), origin).unwrap();
    let written = write(origin, &inventory, &files()).unwrap();
    let config = Config::parse(Path::new("shop.toml"), &written.text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let texts = [
        ("shop-checks.hurl", &written.checks, &["site", "api"][..]),
        ("shop-journey.hurl", &written.journey, &["api"]),
    ];
    for (name, text, known) in texts {
        let Some(text) = text else { continue };
        std::fs::write(folder.path().join(name), text).unwrap();
        let known: BTreeSet<String> = known.iter().map(|it| (*it).to_owned()).collect();
        let read = config.read_hurl(folder.path(), Path::new(name), &(0..0), &known);
        assert!(!read.unwrap().entries().is_empty());
    }
    let lines: Vec<&str> = written.text.lines().collect();
    for to_do in &written.to_do {
        let line = lines[to_do.line - 1];
        assert!(line.starts_with("# TO DO: "), "{to_do:?}: {line}");
    }
    assert_eq!(
        written.text.matches("# TO DO: ").count(),
        written.to_do.len()
    );
    written
}

fn shown(written: &Configuration) -> String {
    let none = "(none)\n".to_owned();
    let checks = written.checks.as_ref().unwrap_or(&none);
    let journey = written.journey.as_ref().unwrap_or(&none);
    format!(
        "{}\n--- checks\n{checks}\n--- journey\n{journey}",
        written.text
    )
}

const SHOP: &str = include_str!("../tests/shop.yaml");

const BARE: &str = "
apiVersion: v1
kind: Service
metadata: {name: redis}
spec: {selector: {app: a}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: a, image: a}]}
";

#[test]
fn a_chart_becomes_a_configuration() {
    insta::assert_snapshot!(shown(&written(&chart(), SHOP)));
}

#[test]
fn a_namespace_becomes_a_configuration() {
    let origin = cluster(&["shop"], None);
    insta::assert_snapshot!(shown(&written(&origin, SHOP)));
}

#[test]
fn a_chart_without_an_ingress_has_neither_checks_nor_load() {
    let written = written(&chart(), BARE);
    assert_eq!((&written.checks, &written.journey), (&None, &None));
    insta::assert_snapshot!(shown(&written));
}

#[test]
fn what_the_cluster_does_not_say_is_to_do() {
    let what = |origin: &Origin| {
        let to_do = written(origin, BARE).to_do.into_iter();
        to_do.map(|it| it.what).collect::<Vec<_>>().join("\n")
    };
    let unknown = what(&cluster(&[], Some("secrets is forbidden")));
    assert!(unknown.contains("no object is annotated"), "{unknown}");
    assert!(
        unknown.contains("did not list them: secrets is forbidden"),
        "{unknown}"
    );
    let several = what(&cluster(&["a", "b"], None));
    assert!(several.contains("order of the releases"), "{several}");
}

#[test]
fn a_name_that_no_configuration_can_have_is_refused_with_its_line() {
    let mut origin = chart();
    origin.namespace = "Shop".into();
    let inventory = survey(&manifests::read(SHOP).unwrap(), &origin).unwrap();
    let error = write(&origin, &inventory, &files())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"Shop\" cannot name a namespace"),
        "{error}"
    );
    assert!(error.starts_with("shop.toml:"), "{error}");
}

#[test]
fn a_place_without_services_is_refused_with_what_it_has() {
    let no_service = SHOP.replace("kind: Service\n", "kind: ConfigMap\n");
    let objects = manifests::read(&no_service).unwrap();
    let error = survey(&objects, &chart()).unwrap_err();
    assert!(matches!(error, InitError::Nothing { .. }));
    let expected =
        "the chart charts/shop has no Service that selects pods: it has 4 workloads and 0 Services";
    assert_eq!(error.to_string(), expected);
}
