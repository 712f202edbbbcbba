//! The answers of commands that need no environment, at 80 columns.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue panics")]

#[path = "support/command_line.rs"]
mod command_line;

use std::path::Path;

use command_line::xtask;

/// Stores the record of a sample run below the home of the test's folder.
fn recorded(folder: &Path, sample: &str) {
    let run = folder.join("home/reports").join(sample);
    std::fs::create_dir_all(&run).unwrap();
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../harness/report/src/samples");
    let record = Path::new(samples).join(format!("{sample}.jsonl"));
    std::fs::copy(record, run.join("events.jsonl")).unwrap();
}

#[test]
fn a_report_is_summarised() {
    let folder = tempfile::tempdir().unwrap();
    for sample in ["held", "failed", "inconclusive", "killed", "stress"] {
        recorded(folder.path(), sample);
        let output = xtask(folder.path(), &["report", sample]);
        insta::assert_snapshot!(format!("report-{sample}"), output);
    }
}

#[test]
fn without_an_environment_the_status_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(xtask(folder.path(), &["status"]));
}
