//! Values: which image they make, and that none is dead.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::helm::{Render, chart, every_environment};

fn images(render: Render) -> BTreeMap<String, String> {
    let manifests = render.manifests();
    manifests
        .workloads()
        .map(|workload| {
            let image = workload.container()["image"].as_str().unwrap();
            (workload.service().to_owned(), image.to_owned())
        })
        .collect()
}

#[test]
fn the_registry_and_the_tag_hold_for_every_image() {
    for environment in ["defaults", "staging", "production"] {
        let render = Render::of(environment)
            .set("global.imageRegistry=registry.example:5000/mirror")
            .set("global.imageTag=main-1a2b3c4");
        for (workload, image) in images(render) {
            let repository = match workload.as_str() {
                "migration" => "market-data-service",
                service => service,
            };
            let expected = format!("registry.example:5000/mirror/trii/{repository}:main-1a2b3c4");
            assert_eq!(image, expected, "{environment} {workload}");
        }
    }
}

#[test]
fn without_a_tag_it_is_the_charts_version_and_locally_one_image_is_all() {
    for (workload, image) in images(Render::of("local")) {
        assert_eq!(image, "trii/platform:v2.1.0", "{workload}");
    }
}

#[test]
fn a_services_own_tag_and_repository_win() {
    let render = Render::of("local")
        .set("global.imageTag=v3.0.0")
        .set("services.api-gateway.image.tag=v3.1.0")
        .set("services.api-gateway.image.repository=trii/gateway");
    for (workload, image) in images(render) {
        let expected = match workload.as_str() {
            "api-gateway" => "trii/gateway:v3.1.0",
            _ => "trii/platform:v3.0.0",
        };
        assert_eq!(image, expected, "{workload}");
    }
}

/// So that `global.imageTag`, which is what deployments set, moves all of them.
#[test]
fn no_environment_pins_a_service() {
    for environment in ["local", "staging", "production"] {
        let images = images(Render::of(environment).set("global.imageTag=moved"));
        for (workload, image) in images {
            assert!(image.ends_with(":moved"), "{environment} {workload}");
        }
    }
}

/// What a service says of itself is the tag that it runs by.
#[test]
fn the_tag_is_the_version_that_services_answer_with() {
    for (environment, manifests) in every_environment() {
        for deployment in manifests.of("Deployment") {
            let version = deployment.variable(&manifests, "SERVICE_VERSION").unwrap();
            let image = deployment.container()["image"].as_str().unwrap();
            let (_, tag) = image.rsplit_once(':').unwrap();
            let label = "app.kubernetes.io/version";
            let field = format!("metadata.labels['{label}']");
            assert_eq!(
                version["valueFrom"]["fieldRef"]["fieldPath"], *field,
                "{environment}"
            );
            assert_eq!(deployment.pod_labels()[label], tag);
        }
    }
}

/// A label's value has at most 63 characters, and begins and ends with a letter or digit; a tag
/// may have 128, and begin with `_`. What a service says of its version is the label.
#[test]
fn a_tag_that_no_label_holds_is_refused() {
    let render = |tag: &str| Render::of("local").set(&format!("global.imageTag={tag}"));
    for tag in ["a".repeat(64), "_main".to_owned(), "v1.".to_owned()] {
        let error = render(&tag).text().unwrap_err();
        let words = format!("image tag {tag}: a service knows its version by a label");
        assert!(error.contains(&words), "{error}");
    }
    let longest = format!("v1.2_{}-b", "a".repeat(56));
    for workload in render(&longest).manifests().workloads() {
        assert_eq!(workload.pod_labels()["app.kubernetes.io/version"], longest);
    }
}

/// Values, and what they are rendered to.
struct Situation {
    values: Value,
    rendered: String,
}

/// The defaults, and what it takes beside them for every part of the chart to be made in one.
fn situations(defaults: &Value) -> [Situation; 3] {
    [
        json!({}),
        json!({"enabled": false}),
        json!({"requestsPerSecond": {"enabled": true}}),
    ]
    .map(|autoscaling| {
        let mut values = defaults.clone();
        let service = &mut values["services"]["market-data-service"];
        merge(&mut service["autoscaling"], &autoscaling);
        let rendered = Render::default().values(values.clone()).text().unwrap();
        Situation { values, rendered }
    })
}

/// Each value that can be set, by JSON pointer; an empty list or map is one.
fn leaves(value: &Value, pointer: String, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let key = key.replace('~', "~0").replace('/', "~1");
                leaves(value, format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                leaves(value, format!("{pointer}/{index}"), found);
            }
        }
        _ => found.push(pointer),
    }
}

fn changed(value: &Value) -> Value {
    match value {
        Value::Bool(set) => json!(!set),
        Value::Number(number) => json!(number.as_i64().unwrap() + 1),
        Value::String(text) => json!(format!("{text}x")),
        Value::Array(_) => json!(["x"]),
        Value::Object(_) => json!({"x": "y"}),
        Value::Null => panic!("a null removes a default; values.yaml has none"),
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// Whether a change of the value changes what is rendered, or is objected to by a template.
fn is_read(situations: &[Situation], pointer: &str) -> bool {
    situations.iter().any(|situation| {
        let mut values = situation.values.clone();
        let value = values.pointer_mut(pointer).unwrap();
        *value = changed(value);
        let rendered = Render::default().values(values).unchecked().text();
        rendered.as_ref() != Ok(&situation.rendered)
    })
}

/// A key that nothing reads lets its user believe that it does something.
#[test]
fn every_value_changes_something() {
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let defaults: Value = serde_saphyr::from_str(&text).unwrap();
    let mut pointers = Vec::new();
    leaves(&defaults, String::new(), &mut pointers);
    assert!(pointers.len() > 100);
    let situations = situations(&defaults);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = pointers.len().div_ceil(threads);
    let dead: Vec<&String> = std::thread::scope(|scope| {
        let shares: Vec<_> = pointers
            .chunks(share)
            .map(|pointers| {
                let situations = &situations;
                scope.spawn(move || {
                    let dead = pointers
                        .iter()
                        .filter(|pointer| !is_read(situations, pointer));
                    dead.collect::<Vec<_>>()
                })
            })
            .collect();
        shares
            .into_iter()
            .flat_map(|share| share.join().unwrap())
            .collect()
    });
    assert!(dead.is_empty(), "nothing reads {dead:#?}");
}
