//! What people read when they ask for help or mistype.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

use assert_cmd::Command;

/// The exit code and all that is said, with the test's own folder written as `[folder]`.
fn xtask(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .env("TRII_HARNESS_HOME", folder.join("home"))
        .env("NO_COLOR", "1")
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    let said = format!(
        "exit code {code}\n{}{}",
        text(output.stdout),
        text(output.stderr)
    );
    said.replace(folder.to_str().unwrap(), "[folder]")
}

#[test]
fn help_teaches() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!("help", xtask(folder.path(), &["--help"]));
    for command in [
        "e2e",
        "up",
        "down",
        "status",
        "smoke",
        "scenario",
        "blue-green",
        "load",
        "perf",
        "doctor",
        "test",
        "images",
        "bench",
        "report",
    ] {
        insta::assert_snapshot!(
            format!("help-{command}"),
            xtask(folder.path(), &[command, "--help"])
        );
    }
    for command in ["list", "run"] {
        insta::assert_snapshot!(
            format!("help-scenario-{command}"),
            xtask(folder.path(), &["scenario", command, "--help"])
        );
    }
    for command in ["deploy", "status", "promote", "pause", "abort"] {
        insta::assert_snapshot!(
            format!("help-blue-green-{command}"),
            xtask(folder.path(), &["blue-green", command, "--help"])
        );
    }
    for command in ["run", "show", "compare"] {
        insta::assert_snapshot!(
            format!("help-load-{command}"),
            xtask(folder.path(), &["load", command, "--help"])
        );
    }
    for command in ["list", "build", "load"] {
        insta::assert_snapshot!(
            format!("help-images-{command}"),
            xtask(folder.path(), &["images", command, "--help"])
        );
    }
}

#[test]
fn every_scenario_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let listed = xtask(folder.path(), &["scenario", "list"]);
    insta::assert_snapshot!("scenario-list", listed);
    let listed = xtask(folder.path(), &["scenario", "list", "--json"]);
    insta::assert_snapshot!("scenario-list-json", listed);
}

#[test]
fn a_scenario_that_is_not_there_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str]); 3] = [
        ("run", &["scenario", "run", "smoke", "smok"]),
        ("e2e", &["e2e", "--scenario", "blue-green/happier"]),
        ("sabotage", &["scenario", "run", "smoke", "--sabotage"]),
    ];
    for (what, arguments) in cases {
        let said = xtask(folder.path(), arguments);
        assert!(said.starts_with("exit code 2"), "{arguments:?}: {said}");
        insta::assert_snapshot!(format!("no-scenario-{what}"), said);
    }
    assert!(!folder.path().join("home").exists());
}

#[test]
fn a_profile_that_cannot_be_run_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let good = include_str!("../../harness.toml");
    let config = good.replacen("p(95)<1000", "p(95)<<1000", 1);
    std::fs::write(folder.path().join("harness.toml"), config).unwrap();
    let cases: [(&str, &[&str]); 4] = [
        ("known", &["load", "run", "smok", "--target", "local"]),
        (
            "for-generators",
            &[
                "load",
                "run",
                "soak",
                "--generators",
                "2",
                "--target",
                "local",
            ],
        ),
        (
            "logged-by-generators",
            &[
                "load",
                "run",
                "steady",
                "--generators",
                "2",
                "--out",
                "json=points.json",
            ],
        ),
        (
            "judged",
            &["load", "run", "soak", "--config", "harness.toml"],
        ),
    ];
    for (what, arguments) in cases {
        let said = xtask(folder.path(), arguments);
        assert!(said.starts_with("exit code 2"), "{arguments:?}: {said}");
        insta::assert_snapshot!(format!("profile-not-{what}"), said);
    }
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
    for wrong in [
        "old.json",
        "truncated.json",
        "nan.json",
        "report.json",
        "empty",
        "nowhere",
    ] {
        let said = xtask(folder.path(), &["load", "compare", wrong, wrong]);
        assert!(said.starts_with("exit code 2"), "{wrong}: {said}");
        let name = wrong.trim_end_matches(".json");
        insta::assert_snapshot!(format!("not-compared-{name}"), said);
    }
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
    for (what, arguments) in cases {
        let said = xtask(folder.path(), &[&local[..], arguments].concat());
        assert!(said.starts_with("exit code 2"), "{arguments:?}: {said}");
        insta::assert_snapshot!(format!("perf-{what}"), said);
    }
    let out_of_the_folder = ["--ab", "v2.1.0", "../../../harness.toml"];
    let said = xtask(folder.path(), &[&local[..], &out_of_the_folder].concat());
    assert!(said.starts_with("exit code 2"), "{said}");
    assert!(!folder.path().join("home").exists());
    let said = xtask(folder.path(), &["perf", "--target", "local", "--calibrate"]);
    insta::assert_snapshot!("perf-of-nothing", said);
}

/// A configuration with a target `staging` that has these keys, too.
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
    for (keys, code, words) in [
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
        let said = xtask(folder.path(), &[&load[..], &there].concat());
        assert!(said.starts_with(&format!("exit code {code}")), "{said}");
        assert!(said.contains(words), "{said}");
    }
    assert!(!folder.path().join("home").exists());
}

#[test]
fn load_on_a_target_that_does_not_allow_it_is_refused_before_that_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    with_staging(folder.path(), "allow = [\"orders\"]");
    let load = ["load", "run", "smoke", "--target", "staging"];
    let said = xtask(
        folder.path(),
        &[&load[..], &["--config", "harness.toml"]].concat(),
    );
    assert!(said.starts_with("exit code 4"), "{said}");
    assert!(
        said.contains("the target staging does not allow it"),
        "{said}"
    );
}

#[test]
fn bad_usage_is_exit_code_2_and_says_what_to_do() {
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
    for (what, arguments) in cases {
        let said = xtask(folder.path(), arguments);
        assert!(said.starts_with("exit code 2"), "{arguments:?}: {said}");
        insta::assert_snapshot!(format!("bad-{what}"), said);
    }
}

#[test]
fn a_broken_configuration_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let good = include_str!("../../harness.toml");
    let broken = good.replace("router_port = 0", "router_prot = 0");
    std::fs::write(folder.path().join("harness.toml"), broken).unwrap();
    let said = xtask(folder.path(), &["e2e", "--config", "harness.toml"]);
    assert!(said.starts_with("exit code 2"), "{said}");
    insta::assert_snapshot!("broken-configuration", said);
    assert!(!folder.path().join("home").exists());
}

#[test]
fn where_nothing_is_up_each_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["status", "smoke", "down"] {
        insta::assert_snapshot!(
            format!("{command}-of-nothing"),
            xtask(folder.path(), &[command])
        );
    }
}
