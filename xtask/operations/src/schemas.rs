//! Tests of the JSON Schemas in `docs/schemas`: they are those of the types, and accept what is
//! written.
//!
//! They describe what this version reads, so they also accept what earlier ones wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base::run::event::Event;
use jsonschema::Validator;
use loadtests::regression::{Comparison, Settings};
use loadtests::result::{
    Block, Ended, Endpoint, EngineKind, Fingerprint, Generator, LoadResult, SCHEMA,
};
use report::Report;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use crate::comparison::ComparisonDocument;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the schema of a type as a document, with a title.
fn published<T: JsonSchema>(title: &str) -> String {
    // Descriptions are those of the code, where brackets make links.
    let mut without_links = RecursiveTransform(|schema: &mut Schema| {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace("[`", "`").replace("`]", "`");
        }
    });
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    without_links.transform(&mut schema);
    schema.insert("title".to_owned(), title.into());
    serde_json::to_string_pretty(&schema).unwrap() + "\n"
}

fn all() -> [(&'static str, String); 4] {
    [
        ("report", published::<Report>("report.json of a run")),
        (
            "events",
            published::<Event>("A line of events.jsonl of a run"),
        ),
        (
            "load-result",
            published::<LoadResult>("load-PROFILE.json of a run"),
        ),
        (
            "comparison",
            published::<ComparisonDocument>("comparison.json of a run, and `load compare --json`"),
        ),
    ]
}

fn path(name: &str) -> PathBuf {
    repository().join(format!("docs/schemas/{name}.schema.json"))
}

#[test]
fn the_published_schemas_are_those_of_the_types() {
    let is_update = std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always");
    for (name, schema) in all() {
        let path = path(name);
        if is_update {
            fs::write(&path, &schema).unwrap();
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == schema,
            "{} is not the schema of the type: write it again with `INSTA_UPDATE=always cargo nextest run --package operations schemas`, and read the diff",
            path.display()
        );
    }
}

/// Returns the validator of a published schema.
fn validator(name: &str) -> Validator {
    let schema: Value = serde_json::from_str(&fs::read_to_string(path(name)).unwrap()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
}

#[track_caller]
fn assert_valid(validator: &Validator, document: &Value) {
    let errors = validator.iter_errors(document);
    let errors: Vec<_> = errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// Checks that a document is refused when the value at `pointer` is another.
#[track_caller]
fn assert_refused(validator: &Validator, document: &Value, pointer: &str, value: Value) {
    let mut wrong = document.clone();
    *wrong.pointer_mut(pointer).unwrap() = value;
    assert!(!validator.is_valid(&wrong), "{pointer}");
}

/// Returns the sample records of the crate `report`, as their lines.
fn records() -> Vec<String> {
    let folder = repository().join("harness/report/src/samples");
    let files = fs::read_dir(folder).unwrap();
    let records: Vec<_> = files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    assert!(records.len() > 5);
    records
}

#[test]
fn every_line_of_a_record_is_an_event_of_the_schema() {
    let validator = validator("events");
    for record in records() {
        // The last line of a killed run's record is not complete.
        let lines = record.lines().map(serde_json::from_str::<Value>);
        for line in lines.flatten() {
            assert_valid(&validator, &line);
            let event: Event = serde_json::from_value(line).unwrap();
            assert_valid(&validator, &json!(event));
        }
    }
    let finished =
        json!({"at": "2026-03-02T09:00:00Z", "event": "run-finished", "exit_code": 0, "millis": 1});
    assert_valid(&validator, &finished);
    for (pointer, wrong) in [
        ("/at", json!("yesterday")),
        ("/event", json!("run-ended")),
        ("/exit_code", json!(7)),
        ("/millis", json!(-1)),
    ] {
        assert_refused(&validator, &finished, pointer, wrong);
    }
}

#[test]
fn the_report_of_every_record_is_one_of_the_schema() {
    let validator = validator("report");
    let mut reports = Vec::new();
    for record in records() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("events.jsonl"), record).unwrap();
        report::render(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join("report.json")).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_valid(&validator, &report);
        reports.push(report);
    }
    for (pointer, wrong) in [
        ("/verdict", json!("fine")),
        ("/millis", json!("20 s")),
        ("/checks/passed", json!(1.5)),
        ("/started_at", json!("today")),
        ("/stages/0/end", json!("over")),
    ] {
        assert_refused(&validator, &reports[0], pointer, wrong);
    }
}

/// A load at 100 requests/s for 16 s, with times around `micros`.
fn result(run: &str, micros: u64) -> LoadResult {
    let block = |number: u32| Block {
        requests: 100,
        arrivals: 100,
        failed: 1,
        dropped: 2,
        received: 4_000,
        latency: (0..100)
            .map(|n| micros + 10 * n + u64::from(number * 7 % 5))
            .collect(),
    };
    let endpoint = Endpoint {
        blocks: (0..16).map(|number| (number, block(number))).collect(),
        service_time: (0..1600).map(|n| micros + n).collect(),
        statuses: BTreeMap::from([(200, 1584), (503, 16)]),
        failures: BTreeMap::from([("status 503".to_owned(), 16)]),
    };
    LoadResult {
        schema: SCHEMA,
        run: run.to_owned(),
        engine: EngineKind::Open,
        fingerprint: Fingerprint {
            target: "kind".into(),
            profile: "steady".into(),
            plan: "100/s for 16 s".into(),
            versions: BTreeMap::from([("api-gateway".into(), "v2.1.0".into())]),
            machine: "a machine".into(),
        },
        begun: "2026-03-02T09:00:00Z".parse().unwrap(),
        block_millis: 1_000,
        ended: Ended::Whole,
        generator: Generator {
            cores_used: 0.125,
            cores: 2,
            lag: [10, 20, 1_000].into_iter().collect(),
            bottleneck: None,
        },
        endpoints: BTreeMap::from([("GET /quotes".to_owned(), endpoint)]),
    }
}

/// Writes a result, and reads it as JSON.
fn written(result: &LoadResult) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("load-steady.json");
    result.write(&path).unwrap();
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_load_result_is_one_of_the_schema() {
    let validator = validator("load-result");
    let whole = written(&result("a", 5_000));
    assert_valid(&validator, &whole);
    let mut aborted = result("b", 5_000);
    aborted.engine = EngineKind::Closed;
    aborted.ended = Ended::Aborted {
        threshold: "http_req_failed: rate<0.01".into(),
    };
    aborted.generator.bottleneck = Some("it used 2.0 of 2 cores".into());
    aborted.endpoints.clear();
    assert_valid(&validator, &written(&aborted));
    for (pointer, wrong) in [
        ("/schema", json!("1")),
        ("/engine", json!("half-open")),
        ("/ended", json!({"aborted": {}})),
        ("/generator/lag", json!([1, 2])),
        ("/endpoints/GET ~1quotes/blocks", json!({"first": {}})),
        ("/endpoints/GET ~1quotes/blocks/0/requests", json!(-1)),
        ("/fingerprint", json!({"extra": 1})),
    ] {
        assert_refused(&validator, &whole, pointer, wrong);
    }
}

#[test]
fn a_comparison_is_one_of_the_schema() {
    let validator = validator("comparison");
    let compared = |pairs: u64| {
        let pairs = (0..pairs).map(|n| {
            let a = result(&format!("a{n}"), 5_000 + n);
            (a, result(&format!("b{n}"), 6_000 + 2 * n))
        });
        let pairs: Vec<_> = pairs.collect();
        let comparison = loadtests::regression::compare_pairs(&pairs, &Settings::default());
        json!(ComparisonDocument::of(&comparison))
    };
    let comparison = compared(5);
    assert_eq!(comparison["verdict"], "regressed", "{comparison:#}");
    assert_valid(&validator, &comparison);
    let not_comparable = compared(1);
    assert_eq!(not_comparable["rows"], json!([]));
    assert_valid(&validator, &not_comparable);
    let _: Comparison = serde_json::from_value(comparison.clone()).unwrap();
    for (pointer, wrong) in [
        ("/verdict", json!("worse")),
        ("/rows/0/metric", json!("p42")),
        ("/rows/0/numbers/a", json!("5 ms")),
        ("/obstacles", Value::Null),
    ] {
        assert_refused(&validator, &comparison, pointer, wrong);
    }
}
