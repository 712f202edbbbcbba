//! Values: the images that they select, and that each is used.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::helm::{Render, chart, for_each, merge};
use super::manifests::Object;

/// Returns the image of each workload.
fn images(render: Render) -> BTreeMap<String, String> {
    let manifests = render.manifests();
    let image = |workload: &Object| workload.container()["image"].as_str().unwrap().to_owned();
    let workloads = manifests.workloads();
    workloads
        .map(|workload| (workload.service().to_owned(), image(workload)))
        .collect()
}

#[test]
fn the_registry_and_the_tag_apply_to_every_image() {
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
fn without_a_tag_the_local_image_has_the_charts_version() {
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

/// Deployments set `global.imageTag`: it must change every image.
#[test]
fn no_environment_pins_a_service() {
    for environment in ["local", "staging", "production"] {
        let images = images(Render::of(environment).set("global.imageTag=moved"));
        for (workload, image) in images {
            assert!(image.ends_with(":moved"), "{environment} {workload}");
        }
    }
}

/// The version that a service reports is its image's tag.
#[test]
fn the_tag_is_the_version_that_services_answer_with() {
    for_each(&["Deployment"], |what, deployment, manifests| {
        let version = deployment.variable(manifests, "SERVICE_VERSION").unwrap();
        let image = deployment.container()["image"].as_str().unwrap();
        let (_, tag) = image.rsplit_once(':').unwrap();
        let label = "app.kubernetes.io/version";
        let field = format!("metadata.labels['{label}']");
        assert_eq!(
            version["valueFrom"]["fieldRef"]["fieldPath"], *field,
            "{what}"
        );
        assert_eq!(deployment.pod_labels()[label], tag, "{what}");
    });
}

/// A label's value has at most 63 characters, and starts and ends with a letter or digit. A tag
/// may have 128, and start with `_`. A service reads its version from the label.
#[test]
fn a_tag_that_cannot_be_a_label_is_refused() {
    let render = |tag: &str| Render::of("local").set(&format!("global.imageTag={tag}"));
    for tag in ["a".repeat(64), "_main".to_owned(), "v1.".to_owned()] {
        let error = render(&tag).text().unwrap_err();
        let message = format!("image tag {tag}: a service knows its version by a label");
        assert!(error.contains(&message), "{error}");
    }
    let longest = format!("v1.2_{}-b", "a".repeat(56));
    for workload in render(&longest).manifests().workloads() {
        assert_eq!(workload.pod_labels()["app.kubernetes.io/version"], longest);
    }
}

/// Values and their rendering.
struct Situation {
    values: Value,
    rendered: String,
}

/// Returns the defaults and variants of them. Each part of the chart is rendered in one.
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

/// Finds the JSON pointer of each value that can be set. An empty list or map is a value.
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

/// Returns whether a change of the value changes the rendering, or a template refuses it.
fn is_read(situations: &[Situation], pointer: &str) -> bool {
    situations.iter().any(|situation| {
        let mut values = situation.values.clone();
        let value = values.pointer_mut(pointer).unwrap();
        *value = changed(value);
        let rendered = Render::default().values(values).unchecked().text();
        rendered.as_ref() != Ok(&situation.rendered)
    })
}

/// A key without an effect misleads its user.
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
                let dead = move |pointer: &&String| !is_read(situations, pointer);
                scope.spawn(move || pointers.iter().filter(dead).collect::<Vec<_>>())
            })
            .collect();
        let dead = shares.into_iter().map(|share| share.join().unwrap());
        dead.flatten().collect()
    });
    assert!(dead.is_empty(), "nothing reads {dead:#?}");
}
