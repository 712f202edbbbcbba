//! The numbers of a run, read by Prometheus' own tool.

use std::fs;
use std::path::Path;

use base::home::Home;
use environments::environment::TEST_HOME;
use machine::images::{self, Supply, Workshop};

use crate::machine::engine;

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong_with_the_numbers_of_any_run() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let home = Home::new(std::env::var(TEST_HOME).unwrap());
    let (engine, workshop) = (engine().await, Workshop::of(&repository, &home));
    let image = images::ensure(&engine, &workshop, "prometheus", Supply::Auto, &|_| ());
    let image = image.await.unwrap().to_string();
    let check = |metrics: String| {
        let container = [
            "run",
            "--rm",
            "--interactive",
            "--network",
            "none",
            "--entrypoint",
            "/promtool",
        ];
        let mut promtool = assert_cmd::Command::new("docker");
        promtool
            .args(container)
            .arg(&image)
            .args(["check", "metrics"]);
        promtool.write_stdin(metrics).assert()
    };
    let samples = fs::read_dir(repository.join("harness/report/src/samples")).unwrap();
    let samples: Vec<_> = samples.map(|it| it.unwrap().path()).collect();
    assert!(samples.len() > 5);
    for sample in samples {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(&sample, folder.path().join("events.jsonl")).unwrap();
        report::render(folder.path()).unwrap();
        let metrics = fs::read_to_string(folder.path().join("metrics.txt")).unwrap();
        check(metrics).success();
    }
    // It does read them.
    check("rehearsal_checks{result=\"passed\"} many\n".to_owned()).failure();
}
