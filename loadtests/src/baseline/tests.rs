use std::fs;

use miette::Diagnostic;
use tempfile::TempDir;

use super::*;
use crate::regression::{ComparisonVerdict, Simulation, simulated_pairs};

/// Short runs: two endpoints, 20 blocks and a warm-up of 2.
fn runs(count: u32) -> Vec<LoadResult> {
    let simulation = Simulation {
        pairs: count,
        endpoints: 2,
        blocks: 22,
        requests: 20,
        ..Simulation::default()
    };
    let numbered = simulated_pairs(&simulation).into_iter().enumerate();
    let runs = numbered.map(|(number, (mut run, _))| {
        run.run = format!("night-{number}");
        run
    });
    runs.collect()
}

fn run() -> LoadResult {
    runs(1).remove(0)
}

fn names(baseline: &Baseline) -> Vec<&str> {
    baseline.runs.iter().map(|run| run.run.as_str()).collect()
}

async fn stored(dir: &TempDir, runs: &[LoadResult]) -> PathBuf {
    let path = path(dir.path(), "nightly");
    for run in runs {
        append(&path, run, 2, KEEP).await.unwrap();
    }
    path
}

/// The error and its help, without the folder's name.
fn report(error: &BaselineError, dir: &TempDir) -> String {
    let help = error.help().unwrap();
    format!("{error}\n  {help}\n").replace(dir.path().to_str().unwrap(), "DIR")
}

#[tokio::test]
async fn appended_runs_are_read_and_compared() {
    let dir = TempDir::new().unwrap();
    let runs = runs(6);
    let path = stored(&dir, &runs[..5]).await;
    let baseline = Baseline::read(&path).unwrap();
    assert_eq!(
        names(&baseline),
        ["night-0", "night-1", "night-2", "night-3", "night-4"]
    );
    let comparison = baseline.compare(&runs[5], &Settings::default());
    assert!(comparison.obstacles.is_empty(), "{comparison}");
    assert_eq!(comparison.rows.len(), 10);
}

#[tokio::test]
async fn a_stored_run_lacks_only_its_warm_up() {
    let dir = TempDir::new().unwrap();
    let run = run();
    let path = stored(&dir, std::slice::from_ref(&run)).await;
    let stored = Baseline::read(&path).unwrap().runs.remove(0);
    assert_eq!(stored.block_millis, 2_000);
    assert_eq!(stored.blocks(), 10);
    for (name, endpoint) in &run.endpoints {
        let mut counted = endpoint.clone();
        counted.blocks.retain(|number, _| *number >= 2);
        assert_eq!(stored.endpoints[name].whole(), counted.whole());
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
    let run = simulated_pairs(&minute).remove(0).0;
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
    assert_eq!(names(&baseline), ["night-2", "night-3"]);
}

#[tokio::test]
async fn only_the_last_version_is_compared() {
    let dir = TempDir::new().unwrap();
    let mut runs = runs(7);
    for run in &mut runs[5..] {
        let versions = &mut run.fingerprint.versions;
        versions.insert("api-gateway".into(), "v2".into());
    }
    let path = stored(&dir, &runs).await;
    let baseline = Baseline::read(&path).unwrap();
    assert_eq!(baseline.latest().len(), 2);
    let comparison = baseline.compare(&runs[0], &Settings::default());
    assert_eq!(comparison.verdict(), ComparisonVerdict::NotComparable);
    assert_eq!(
        comparison.obstacles,
        ["the baseline has 2 runs, 5 are needed"]
    );
}

#[tokio::test]
async fn concurrent_writers_lose_no_run() {
    let dir = TempDir::new().unwrap();
    let path = path(dir.path(), "nightly");
    let runs = runs(6);
    let writers = runs.chunks(2).map(|runs| {
        let (path, runs) = (path.clone(), runs.to_vec());
        tokio::spawn(async move {
            for run in runs {
                append(&path, &run, 2, KEEP).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let baseline = Baseline::read(&path).unwrap();
    let mut names = names(&baseline);
    names.sort_unstable();
    assert_eq!(
        names,
        runs.iter().map(|run| run.run.as_str()).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn what_is_no_baseline_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = stored(&dir, &runs(2)).await;
    let whole = fs::read_to_string(&path).unwrap();
    let missing = Baseline::read(&super::path(dir.path(), "weekly")).unwrap_err();
    let mut messages = report(&missing, &dir);
    let invalid = [
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        whole.replacen("\"schema\":1", "\"schema\":0", 1),
        whole.replacen("\"schema\":1", "\"schema\":2", 1),
        // The schema of a run.
        whole.replacen("\"schema\":1,\"run\":", "\"schema\":0,\"run\":", 1),
        serde_json::to_string(&run()).unwrap(),
        "# Baselines".to_owned(),
        whole.replacen("\"cores-used\":0.5", "\"cores-used\":null", 1),
    ];
    for text in invalid {
        assert_ne!(text, whole);
        fs::write(&path, &text).unwrap();
        let error = Baseline::read(&path).unwrap_err();
        messages += &report(&error, &dir);
        let appended = append(&path, &run(), 2, KEEP).await;
        assert_eq!(appended.unwrap_err().to_string(), error.to_string());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    insta::with_settings!({filters => vec![(r"column \d+", "column N")]}, {
        insta::assert_snapshot!(messages);
    });
}

#[tokio::test]
async fn a_truncated_file_is_detected_at_every_length() {
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
    let changes: [fn(&mut LoadResult); 4] = [
        |run| run.ended = crate::result::Ended::Interrupted,
        |run| run.generator.bottleneck = Some("lag".into()),
        |run| run.fingerprint.target = "staging".into(),
        |run| run.endpoints.clear(),
    ];
    let mut messages = String::new();
    for change in changes {
        let mut run = run();
        change(&mut run);
        let error = append(&path, &run, 2, KEEP).await.unwrap_err();
        messages += &report(&error, &dir);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    insta::assert_snapshot!(messages);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("baselines"), "a file").unwrap();
    let error = append(&path(dir.path(), "nightly"), &run(), 2, KEEP).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("baselines"), "{error}");
}
