//! The reports that are opened: of every sample record, and of each kind of failure.

use std::fs;
use std::path::Path;

use base::run::EVENTS;
use report::Report;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The sample records of the crate `report`.
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../harness/report/src/samples");

/// A run folder with its report.
pub struct Rendered {
    pub name: String,
    /// As in `report.json`.
    pub report: Report,
    folder: TempDir,
}

impl Rendered {
    /// Renders the report of a record.
    pub fn of(name: &str, record: &str) -> Rendered {
        Rendered::from(name, |folder| fs::write(folder.join(EVENTS), record))
    }

    /// Renders the report of the record that `write` leaves in a run folder.
    pub fn from(name: &str, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Rendered {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        report::render(folder.path()).unwrap();
        let json = fs::read_to_string(folder.path().join("report.json")).unwrap();
        Rendered {
            name: name.to_owned(),
            report: serde_json::from_str(&json).unwrap(),
            folder,
        }
    }

    pub fn url(&self) -> String {
        format!("file://{}/index.html", self.folder.path().display())
    }

    pub fn bytes(&self) -> u64 {
        let page = self.folder.path().join("index.html");
        fs::metadata(page).unwrap().len()
    }
}

/// Returns the reports of all sample records, in the order of their names.
pub fn samples() -> Vec<Rendered> {
    let files = fs::read_dir(SAMPLES).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let samples = files.iter().map(|file| {
        let name = file.file_stem().unwrap().to_str().unwrap();
        Rendered::of(name, &fs::read_to_string(file).unwrap())
    });
    samples.collect()
}

/// Returns reports of those kinds of failures that no sample record has.
pub fn other_failures() -> Vec<Rendered> {
    let failed = |what: &str, seen: &str| {
        json!({"event": "failed", "failure": {
            "what": what, "expected": "nothing of the kind", "seen": seen,
            "look_at": "harness.toml", "next": "cargo xtask status",
        }})
    };
    let lost = json!({"event": "part-lost", "part": "redis", "how": "signal 9 (SIGKILL)", "log": "logs/redis.log"});
    [
        ("a lost part", 1, lost),
        (
            "refused",
            4,
            failed(
                "the guard rails of the target do not permit this",
                "context \"production\" is not in `allow`",
            ),
        ),
        (
            "cleanup is incomplete",
            6,
            failed(
                "not everything was removed",
                "container trii-default-postgres: the engine does not answer",
            ),
        ),
        (
            "a bad configuration",
            2,
            failed(
                "harness.toml:12 has an unknown key",
                "`tagets`, did you mean `targets`?",
            ),
        ),
    ]
    .map(|(name, code, event)| Rendered::of(name, &ending_in("held", event, code)))
    .into()
}

/// Returns the record of a sample with another event before its last one, and this exit code.
fn ending_in(sample: &str, event: Value, code: u8) -> String {
    let record = fs::read_to_string(format!("{SAMPLES}/{sample}.jsonl")).unwrap();
    let mut lines: Vec<Value> = record
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut last = lines.pop().unwrap();
    let mut event = event;
    event["at"] = last["at"].clone();
    last["exit_code"] = json!(code);
    let lines = lines.into_iter().chain([event, last]);
    lines.map(|line| format!("{line}\n")).collect()
}
