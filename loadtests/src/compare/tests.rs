use miette::Diagnostic;
use tempfile::TempDir;

use super::*;
use crate::baseline;
use crate::regression::{ComparisonVerdict, Simulation, simulated_pairs};

/// Short runs. B's endpoint is slower by this factor.
fn pairs(count: u32, slower: f64) -> Vec<(LoadResult, LoadResult)> {
    let simulation = Simulation {
        pairs: count,
        endpoints: 1,
        blocks: 14,
        requests: 80,
        slower,
        ..Simulation::default()
    };
    simulated_pairs(&simulation)
}

/// Writes the runs of A and of B, each to its own folder. Returns the folders of A and B.
fn write_sides(dir: &TempDir, pairs: &[(LoadResult, LoadResult)]) -> [PathBuf; 2] {
    let [a, b] = ["a", "b"].map(|side| dir.path().join(side));
    for (number, (one, other)) in pairs.iter().enumerate() {
        for (side, result) in [(&a, one), (&b, other)] {
            let run = side.join(format!("run-{number}"));
            fs::create_dir_all(&run).unwrap();
            result.write(&run.join("load-steady.json")).unwrap();
            fs::write(run.join("report.json"), "{}").unwrap();
        }
    }
    [a, b]
}

#[test]
fn folders_of_runs_are_pairs() {
    let dir = TempDir::new().unwrap();
    let [a, b] = write_sides(&dir, &pairs(5, 1.3));
    let comparison = compare(&a, &b, &Settings::default()).unwrap();
    assert_eq!(
        comparison.verdict(),
        ComparisonVerdict::Regressed,
        "{comparison}"
    );
    let same = compare(&a, &a, &Settings::default()).unwrap();
    assert!(same.obstacles.is_empty(), "{same}");
    let changes = same.rows.iter().filter_map(|row| row.numbers);
    assert!(
        changes
            .map(|numbers| numbers.change)
            .all(|change| change == 0.0),
        "{same}"
    );
}

#[test]
fn a_run_is_compared_equally_with_several_and_with_a_baseline() {
    let dir = TempDir::new().unwrap();
    let pairs = pairs(6, 1.0);
    let [a, _] = write_sides(&dir, &pairs[..5]);
    let run = dir.path().join("load-steady.json");
    pairs[5].1.write(&run).unwrap();
    let of_runs = compare(&a, &run, &Settings::default()).unwrap();
    assert!(of_runs.obstacles.is_empty(), "{of_runs}");
    let stored = baseline::path(dir.path(), "main");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (a, _) in &pairs[..5] {
        let appended = baseline::append(&stored, a, 2, baseline::KEEP);
        runtime.block_on(appended).unwrap();
    }
    let of_stored = compare(&stored, &run, &Settings::default()).unwrap();
    assert_eq!(of_stored, of_runs);
}

#[test]
fn single_runs_are_no_evidence() {
    let dir = TempDir::new().unwrap();
    let [a, b] = write_sides(&dir, &pairs(1, 1.3));
    let comparison = compare(&a, &b, &Settings::default()).unwrap();
    assert_eq!(comparison.verdict(), ComparisonVerdict::NotComparable);
    assert_eq!(comparison.obstacles, ["there are 1 pairs, 5 are needed"]);
}

#[test]
fn what_is_no_result_is_refused_by_its_name() {
    let dir = TempDir::new().unwrap();
    let [a, b] = write_sides(&dir, &pairs(3, 1.0));
    let whole = fs::read_to_string(a.join("run-0/load-steady.json")).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let error = |a: &Path| {
        let error = compare(a, &b, &Settings::default()).unwrap_err();
        let text = format!("{error}\n  {}", error.help().unwrap());
        text.replace(dir.path().to_str().unwrap(), "DIR")
    };
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let at = whole.find("\"cores-used\": ").unwrap();
    let end = at + whole[at..].find(',').unwrap();
    let nan = format!("{}\"cores-used\": NaN{}", &whole[..at], &whole[end..]);
    let refused = [
        dir.path().join("nowhere.json"),
        empty,
        file("truncated.json", &whole[..whole.len() / 2]),
        file("nan.json", &nan),
        file(
            "old.json",
            &whole.replacen("\"schema\": 1", "\"schema\": 0", 1),
        ),
        file("old-baseline.json", r#"{"schema":1,"runs":[{"schema":0}]}"#),
        file("report.json", r#"{"schema":"trii-rehearsal/report"}"#),
    ]
    .map(|wrong| error(&wrong));
    fs::remove_dir_all(a.join("run-0")).unwrap();
    let uneven = error(&a);
    insta::assert_snapshot!(format!("{}\n{uneven}", refused.join("\n")));
}
