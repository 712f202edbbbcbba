use super::*;
use crate::manifests;

const SHOP: &str = include_str!("../tests/shop.yaml");

fn shop() -> Inventory {
    take(&manifests::read(SHOP).unwrap())
}

#[test]
fn the_inventory_is_what_the_objects_show() {
    insta::assert_json_snapshot!(shop());
}

#[test]
fn no_value_of_a_secret_is_kept() {
    let objects = format!("{:?}", manifests::read(SHOP).unwrap());
    assert!(objects.contains("shop-own") && !objects.contains("not-to-be-kept"));
}

#[test]
fn the_readiness_path_counts_only_on_a_port_of_the_service() {
    let ready = |from: &str, to: &str| {
        assert!(SHOP.contains(from), "{from}");
        let found = take(&manifests::read(&SHOP.replacen(from, to, 1)).unwrap());
        let web = found.services.iter().find(|it| it.name == "web").unwrap();
        web.ready_path().map(str::to_owned)
    };
    let probe = "{path: /ready, port: http}";
    assert_eq!(ready(probe, probe).as_deref(), Some("/ready"));
    let by_number = ready(probe, "{path: /ready, port: 8080}");
    assert_eq!(by_number.as_deref(), Some("/ready"));
    assert_eq!(ready(probe, "{path: /ready, port: 9090}"), None);
}

#[test]
fn a_preview_is_not_a_service_of_its_own() {
    let role = |role: &str| format!("{{name: api, labels: {{trii.co/blue-green: {role}}}}}");
    for (of, names) in [("active", 4), ("preview", 3)] {
        let api = "metadata: {name: api}\n    spec: {selector";
        assert!(SHOP.contains(api));
        let text = SHOP.replacen(
            api,
            &format!("metadata: {}\n    spec: {{selector", role(of)),
            1,
        );
        let found = take(&manifests::read(&text).unwrap()).services;
        assert_eq!(found.len(), names, "{of}");
        let api = found.iter().find(|it| it.name == "api");
        assert_eq!(
            api.map(|it| it.blue_green),
            (of == "active").then_some(true)
        );
    }
}

#[test]
fn images_are_named_by_registry_tag_and_digest() {
    for (name, short, tag) in [
        ("web", "web", None),
        ("registry.example:5000/shop/web", "web", None),
        ("registry.example:5000/shop/web:1.4", "web", Some("1.4")),
        ("shop/web:1.4@sha256:01", "web", Some("1.4")),
        ("shop/web@sha256:01", "web", None),
        ("", "", None),
    ] {
        assert_eq!(
            (images::short_name(name), images::tag(name)),
            (short, tag),
            "{name}"
        );
    }
}

#[test]
fn a_malformed_object_is_named() {
    let text = SHOP.replacen("containerPort: 8080", "containerPort: http", 1);
    let error = manifests::read(&text).unwrap_err().to_string();
    let expected = "the Deployment \"web\" of the chart cannot be read: invalid type";
    assert!(error.starts_with(expected), "{error}");
    let error = manifests::read("a: [").unwrap_err().to_string();
    assert!(
        error.starts_with("the manifests of the chart cannot be read"),
        "{error}"
    );
}
