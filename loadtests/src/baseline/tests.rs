use std::fs;

use miette::Diagnostic;
use tempfile::TempDir;

use super::*;
use crate::regression::{Simulation, Verdict, made_up_pairs};

const KEEP_ALL: NonZeroUsize = KEEP;

/// Short runs: two endpoints, 20 blocks and a warm-up of 2.
fn runs(count: u32) -> Vec<LoadResult> {
    let simulation = Simulation {
        pairs: count,
        endpoints: 2,
        blocks: 22,
        requests: 20,
        ..Simulation::default()
    };
    let numbered = made_up_pairs(&simulation).into_iter().enumerate();
    let runs = numbered.map(|(number, (mut run, _))| {
        run.run = format!("night-{number}");
        run
    });
    runs.collect()
}

fn run() -> LoadResult {
    runs(1).remove(0)
}

async fn stored(dir: &TempDir, runs: &[LoadResult]) -> PathBuf {
    let path = path(dir.path(), "nightly");
    for run in runs {
        append(&path, run, 2, KEEP_ALL).await.unwrap();
    }
    path
}

/// The error with its help, the folder's name left out.
fn told(error: &BaselineError, dir: &TempDir) -> String {
    let help = error.help().unwrap();
    format!("{error}\n  {help}\n").replace(dir.path().to_str().unwrap(), "DIR")
}

#[tokio::test]
async fn what_was_appended_is_read_and_compared_with() {
    let dir = TempDir::new().unwrap();
    let runs = runs(6);
    let path = stored(&dir, &runs[..5]).await;
    let baseline = Baseline::read(&path).unwrap();
    let names: Vec<&str> = baseline.runs.iter().map(|run| run.run.as_str()).collect();
    assert_eq!(
        names,
        ["night-0", "night-1", "night-2", "night-3", "night-4"]
    );
    let comparison = baseline.compare(&runs[5], &Settings::default());
    assert!(comparison.obstacles.is_empty(), "{comparison}");
    assert_eq!(comparison.rows.len(), 10);
}

#[tokio::test]
async fn a_run_is_kept_without_its_warm_up_and_loses_nothing_else() {
    let dir = TempDir::new().unwrap();
    let run = run();
    let path = stored(&dir, std::slice::from_ref(&run)).await;
    let kept = Baseline::read(&path).unwrap().runs.remove(0);
    assert_eq!(kept.block_millis, 2_000);
    assert_eq!(kept.blocks(), 10);
    for (name, endpoint) in &run.endpoints {
        let mut counted = endpoint.clone();
        counted.blocks.retain(|number, _| *number >= 2);
        assert_eq!(kept.endpoints[name].whole(), counted.whole());
    }
}

#[tokio::test]
async fn a_file_of_many_runs_stays_small() {
    let dir = TempDir::new().unwrap();
    let minute = Simulation {
        pairs: 1,
        endpoints: 5,
        blocks: 62,
        requests: 200,
        ..Simulation::default()
    };
    let run = made_up_pairs(&minute).remove(0).0;
    let path = stored(&dir, &[run]).await;
    let kilobytes = fs::metadata(path).unwrap().len() / 1_000;
    assert!(kilobytes < 80, "{kilobytes} KB a run");
}

#[tokio::test]
async fn only_the_last_runs_are_kept() {
    let dir = TempDir::new().unwrap();
    let path = path(dir.path(), "nightly");
    for run in runs(4) {
        append(&path, &run, 2, NonZeroUsize::new(2).unwrap())
            .await
            .unwrap();
    }
    let baseline = Baseline::read(&path).unwrap();
    let names: Vec<&str> = baseline.runs.iter().map(|run| run.run.as_str()).collect();
    assert_eq!(names, ["night-2", "night-3"]);
}

#[tokio::test]
async fn only_the_last_version_is_compared_with() {
    let dir = TempDir::new().unwrap();
    let mut runs = runs(7);
    for run in &mut runs[5..] {
        run.fingerprint
            .versions
            .insert("api-gateway".into(), "v2".into());
    }
    let path = stored(&dir, &runs).await;
    let baseline = Baseline::read(&path).unwrap();
    assert_eq!(baseline.latest().len(), 2);
    let comparison = baseline.compare(&runs[0], &Settings::default());
    assert_eq!(comparison.verdict(), Verdict::NotComparable);
    assert_eq!(
        comparison.obstacles,
        ["the baseline has 2 runs, 5 are needed"]
    );
}

#[tokio::test]
async fn two_writers_at_once_lose_nothing() {
    let dir = TempDir::new().unwrap();
    let path = path(dir.path(), "nightly");
    let runs = runs(6);
    let writers = runs.chunks(2).map(|runs| {
        let (path, runs) = (path.clone(), runs.to_vec());
        tokio::spawn(async move {
            for run in runs {
                append(&path, &run, 2, KEEP_ALL).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let baseline = Baseline::read(&path).unwrap();
    let mut names: Vec<&str> = baseline.runs.iter().map(|run| run.run.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "night-0", "night-1", "night-2", "night-3", "night-4", "night-5"
        ]
    );
}

#[tokio::test]
async fn what_is_no_baseline_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = stored(&dir, &runs(2)).await;
    let whole = fs::read_to_string(&path).unwrap();
    let missing = Baseline::read(&super::path(dir.path(), "weekly")).unwrap_err();
    let mut told_all = told(&missing, &dir);
    let spoilt = [
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        whole.replacen("\"schema\":1", "\"schema\":0", 1),
        whole.replacen("\"schema\":1", "\"schema\":2", 1),
        // A run's own.
        whole.replacen("\"schema\":1,\"run\":", "\"schema\":0,\"run\":", 1),
        serde_json::to_string(&run()).unwrap(),
        "# Baselines".to_owned(),
        whole.replacen("\"cores-used\":0.5", "\"cores-used\":null", 1),
    ];
    for text in spoilt {
        assert_ne!(text, whole);
        fs::write(&path, &text).unwrap();
        let error = Baseline::read(&path).unwrap_err();
        told_all += &told(&error, &dir);
        let appended = append(&path, &run(), 2, KEEP_ALL).await;
        assert_eq!(appended.unwrap_err().to_string(), error.to_string());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    insta::with_settings!({filters => vec![(r"column \d+", "column N")]}, {
        insta::assert_snapshot!(told_all);
    });
}

#[tokio::test]
async fn every_cut_is_seen() {
    let dir = TempDir::new().unwrap();
    let path = stored(&dir, &[run()]).await;
    let whole = fs::read_to_string(&path).unwrap();
    let whole = whole.trim_end();
    for end in (0..whole.len()).step_by(1_999).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..end]).unwrap();
        let error = Baseline::read(&path).unwrap_err();
        assert!(
            matches!(error, BaselineError::CutOff { .. }),
            "{end}: {error}"
        );
    }
}

#[tokio::test]
async fn a_run_that_measures_nothing_is_not_stored() {
    let dir = TempDir::new().unwrap();
    let path = stored(&dir, &[run()]).await;
    let whole = fs::read(&path).unwrap();
    let spoil: [fn(&mut LoadResult); 4] = [
        |run| run.ended = crate::result::Ended::Interrupted,
        |run| run.generator.bottleneck = Some("lag".into()),
        |run| run.fingerprint.target = "staging".into(),
        |run| run.endpoints.clear(),
    ];
    let mut told_all = String::new();
    for spoil in spoil {
        let mut run = run();
        spoil(&mut run);
        let error = append(&path, &run, 2, KEEP_ALL).await.unwrap_err();
        told_all += &told(&error, &dir);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    insta::assert_snapshot!(told_all);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("baselines"), "a file").unwrap();
    let error = append(&path(dir.path(), "nightly"), &run(), 2, KEEP_ALL).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("baselines"), "{error}");
}
