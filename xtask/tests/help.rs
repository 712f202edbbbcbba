//! The help, and the messages about wrong usage.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue panics")]

#[path = "support/command_line.rs"]
mod command_line;

use std::path::Path;

use command_line::xtask;

/// Runs `command` with the arguments of each case. Each must end with 2, and its output is the
/// snapshot `PREFIX-CASE`.
fn refuses(folder: &Path, prefix: &str, command: &[&str], cases: &[(&str, &[&str])]) {
    for &(case, arguments) in cases {
        let output = xtask(folder, &[command, arguments].concat());
        assert!(output.starts_with("exit code 2"), "{arguments:?}: {output}");
        insta::assert_snapshot!(format!("{prefix}-{case}"), output);
    }
}

#[test]
fn every_command_has_help() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!("help", xtask(folder.path(), &["--help"]));
    let top = "e2e up down status smoke scenario blue-green load perf init doctor test images bench report";
    for (parent, commands) in [
        ("", top),
        ("scenario", "list run"),
        ("blue-green", "deploy status promote pause abort"),
        ("load", "run show compare"),
        ("images", "list build load"),
    ] {
        for command in commands.split(' ') {
            let path = format!("{parent} {command}");
            let path: Vec<&str> = path.split_whitespace().collect();
            let output = xtask(folder.path(), &[&path[..], &["--help"]].concat());
            insta::assert_snapshot!(format!("help-{}", path.join("-")), output);
        }
    }
}

#[test]
fn every_scenario_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let output = xtask(folder.path(), &["scenario", "list"]);
    insta::assert_snapshot!("scenario-list", output);
    let output = xtask(folder.path(), &["scenario", "list", "--json"]);
    insta::assert_snapshot!("scenario-list-json", output);
}

#[test]
fn a_scenario_that_is_not_there_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str]); 3] = [
        ("run", &["scenario", "run", "smoke", "smok"]),
        ("e2e", &["e2e", "--scenario", "blue-green/happier"]),
        ("sabotage", &["scenario", "run", "smoke", "--sabotage"]),
    ];
    refuses(folder.path(), "no-scenario", &[], &cases);
    assert!(!folder.path().join("home").exists());
}

#[test]
fn a_profile_that_cannot_be_run_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let good = include_str!("../../harness.toml");
    let config = good.replacen("p(95)<1000", "p(95)<<1000", 1);
    std::fs::write(folder.path().join("harness.toml"), config).unwrap();
    let cases: [(&str, &[&str]); 4] = [
        ("known", &["smok", "--target", "local"]),
        (
            "for-generators",
            &["soak", "--generators", "2", "--target", "local"],
        ),
        (
            "logged-by-generators",
            &["steady", "--generators", "2", "--out", "json=points.json"],
        ),
        ("judged", &["soak", "--config", "harness.toml"]),
    ];
    refuses(folder.path(), "profile-not", &["load", "run"], &cases);
    assert!(!folder.path().join("home").exists());
}

#[test]
fn what_cannot_be_compared_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("old.json", r#"{"schema": 0, "run": "a"}"#);
    file("truncated.json", r#"{"schema": 1, "run": "20261125-0"#);
    file(
        "nan.json",
        r#"{"schema": 1, "run": "a", "block-millis": NaN}"#,
    );
    file("report.json", r#"{"schema": "trii-rehearsal/report"}"#);
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let cases: [(&str, &[&str]); 6] = [
        ("old", &["old.json", "old.json"]),
        ("truncated", &["truncated.json", "truncated.json"]),
        ("nan", &["nan.json", "nan.json"]),
        ("report", &["report.json", "report.json"]),
        ("empty", &["empty", "empty"]),
        ("nowhere", &["nowhere", "nowhere"]),
    ];
    refuses(folder.path(), "not-compared", &["load", "compare"], &cases);
}

#[test]
fn runs_that_cannot_be_compared_are_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("old.json", r#"{"schema": 0, "runs": []}"#);
    file("truncated.json", r#"{"schema": 1, "runs": [{"sch"#);
    let local = ["perf", "--target", "local"];
    let cases: [(&str, &[&str]); 9] = [
        ("without-purpose", &[]),
        ("pairs", &["--ab", "v2.0.0", "v2.1.0", "--pairs", "4"]),
        ("purposes", &["--ab", "v2.0.0", "v2.1.0", "--calibrate"]),
        ("one-version", &["--ab", "v2.1.0"]),
        ("same-version", &["--ab", "v2.1.0", "v2.1.0"]),
        ("no-version", &["--ab", "v2.1.0", "v2.0.0"]),
        ("no-baseline", &["--against", "./nowhere.json"]),
        ("old-baseline", &["--against", "old.json"]),
        ("truncated-baseline", &["--against", "truncated.json"]),
    ];
    refuses(folder.path(), "perf", &local, &cases);
    let out_of_the_folder = ["--ab", "v2.1.0", "../../../harness.toml"];
    let output = xtask(folder.path(), &[&local[..], &out_of_the_folder].concat());
    assert!(output.starts_with("exit code 2"), "{output}");
    assert!(!folder.path().join("home").exists());
    let output = xtask(folder.path(), &["perf", "--target", "local", "--calibrate"]);
    insta::assert_snapshot!("perf-of-nothing", output);
}

/// Writes a configuration with a target `staging` that has these keys, too.
fn with_staging(folder: &Path, keys: &str) {
    let staging = "[targets.staging]\nkind = \"remote\"\ncontext = \"staging\"\n\
         server = \"https://10.0.0.1:6443\"\nkubeconfig = \"/nowhere/config\"\n\
         namespace = \"trii-platform\"\nvalues = []\n\
         site_url = \"https://staging.trii.co\"\napi_url = \"https://staging-api.trii.co\"\n\
         production = false\n";
    let good = include_str!("../../harness.toml");
    let config = good.replacen(
        "[platform]\n",
        &format!("{staging}{keys}\n\n[platform]\n"),
        1,
    );
    std::fs::write(folder.join("harness.toml"), config).unwrap();
}

#[test]
fn generators_on_a_target_that_lacks_them_are_refused_before_that_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let load = ["load", "run", "steady", "--generators", "2"];
    let there = ["--target", "staging", "--config", "harness.toml"];
    for (keys, code, message) in [
        (
            "allow = [\"load\"]\nmax_rate = 50",
            4,
            "the target staging does not allow \"inside\"",
        ),
        (
            "allow = [\"load\", \"inside\"]\nmax_rate = 50",
            2,
            "the target staging has no generator_image",
        ),
    ] {
        with_staging(folder.path(), keys);
        let output = xtask(folder.path(), &[&load[..], &there].concat());
        assert!(output.starts_with(&format!("exit code {code}")), "{output}");
        assert!(output.contains(message), "{output}");
    }
    assert!(!folder.path().join("home").exists());
}

#[test]
fn load_on_a_target_that_does_not_allow_it_is_refused_before_that_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    with_staging(folder.path(), "allow = [\"orders\"]");
    let load = ["load", "run", "smoke", "--target", "staging"];
    let output = xtask(
        folder.path(),
        &[&load[..], &["--config", "harness.toml"]].concat(),
    );
    assert!(output.starts_with("exit code 4"), "{output}");
    assert!(
        output.contains("the target staging does not allow it"),
        "{output}"
    );
}

#[test]
fn bad_usage_is_exit_code_2_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str]); 8] = [
        ("command", &["e2ee"]),
        ("flag", &["e2e", "--targt", "local"]),
        ("name", &["e2e", "--name", "Not A Name"]),
        ("target", &["e2e", "--target", "staging"]),
        ("config", &["e2e", "--config", "nowhere.toml"]),
        ("tier", &["test", "--tier", "slow"]),
        ("out", &["load", "run", "smoke", "--out", "csv=points.csv"]),
        ("out-file", &["load", "run", "smoke", "-o", "json"]),
    ];
    refuses(folder.path(), "bad", &[], &cases);
}

#[test]
fn a_broken_configuration_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let good = include_str!("../../harness.toml");
    let broken = good.replace("router_port = 0", "router_prot = 0");
    std::fs::write(folder.path().join("harness.toml"), broken).unwrap();
    let output = xtask(folder.path(), &["e2e", "--config", "harness.toml"]);
    assert!(output.starts_with("exit code 2"), "{output}");
    insta::assert_snapshot!("broken-configuration", output);
    assert!(!folder.path().join("home").exists());
}

#[test]
fn commands_report_that_nothing_is_up() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["status", "smoke", "down"] {
        let output = xtask(folder.path(), &[command]);
        insta::assert_snapshot!(format!("{command}-of-nothing"), output);
    }
}
