use miette::Diagnostic;
use tempfile::TempDir;

use super::*;
use crate::baseline;
use crate::regression::{Simulation, Verdict, made_up_pairs};

/// Short runs, B's endpoint so much slower.
fn pairs(count: u32, slower: f64) -> Vec<(LoadResult, LoadResult)> {
    let simulation = Simulation {
        pairs: count,
        endpoints: 1,
        blocks: 14,
        requests: 80,
        slower,
        ..Simulation::default()
    };
    made_up_pairs(&simulation)
}

/// The folders of so many runs of A and of B, each in one of its own.
fn kept(dir: &TempDir, pairs: &[(LoadResult, LoadResult)]) -> [PathBuf; 2] {
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

/// What is said and advised, the folder's name left out.
fn told(error: &NotCompared, dir: &TempDir) -> String {
    let help = error.help().unwrap();
    format!("{error}\n  {help}").replace(dir.path().to_str().unwrap(), "DIR")
}

#[test]
fn folders_of_runs_are_pairs() {
    let dir = TempDir::new().unwrap();
    let [a, b] = kept(&dir, &pairs(5, 1.3));
    let comparison = compare(&a, &b, &Settings::default()).unwrap();
    assert_eq!(comparison.verdict(), Verdict::Regressed, "{comparison}");
    let same = compare(&a, &a, &Settings::default()).unwrap();
    assert!(same.obstacles.is_empty(), "{same}");
    let changes = same.rows.iter().filter_map(|row| row.numbers);
    assert!(changes.map(|it| it.change).all(|it| it == 0.0), "{same}");
}

#[test]
fn one_run_is_held_against_several_and_against_a_baseline_alike() {
    let dir = TempDir::new().unwrap();
    let pairs = pairs(6, 1.0);
    let [a, _] = kept(&dir, &pairs[..5]);
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
    let [a, b] = kept(&dir, &pairs(1, 1.3));
    let comparison = compare(&a, &b, &Settings::default()).unwrap();
    assert_eq!(comparison.verdict(), Verdict::NotComparable);
    assert_eq!(comparison.obstacles, ["there are 1 pairs, 5 are needed"]);
}

#[test]
fn what_is_no_result_is_refused_by_its_name() {
    let dir = TempDir::new().unwrap();
    let [a, b] = kept(&dir, &pairs(3, 1.0));
    let whole = fs::read_to_string(a.join("run-0/load-steady.json")).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
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
    .map(|wrong| {
        told(
            &compare(&wrong, &b, &Settings::default()).unwrap_err(),
            &dir,
        )
    });
    fs::remove_dir_all(a.join("run-0")).unwrap();
    let uneven = told(&compare(&a, &b, &Settings::default()).unwrap_err(), &dir);
    insta::assert_snapshot!(format!("{}\n{uneven}", refused.join("\n")));
}
