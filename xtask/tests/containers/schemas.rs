//! What real runs write, read by the published JSON Schemas.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

/// Checks the machine-readable files of a run folder by their schemas.
#[track_caller]
pub fn assert_valid(folder: &Path) {
    let mut documents = vec![("report", read(folder, "report.json"))];
    let events = fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let events = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    documents.extend(events.map(|event| ("events", event)));
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("load-") && name.ends_with(".json") {
            documents.push(("load-result", read(folder, &name)));
        }
        if name == "comparison.json" {
            documents.push(("comparison", read(folder, &name)));
        }
    }
    let mut validators: BTreeMap<&str, Validator> = BTreeMap::new();
    for (schema, document) in documents {
        let validator = validators
            .entry(schema)
            .or_insert_with(|| validator_of(schema));
        let errors = validator.iter_errors(&document);
        let errors: Vec<_> = errors.map(|it| it.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {document}");
    }
}

fn validator_of(schema: &str) -> Validator {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
    let schema = read(&schemas, &format!("{schema}.schema.json"));
    jsonschema::validator_for(&schema).unwrap()
}

fn read(folder: &Path, name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}
