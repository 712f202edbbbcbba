//! The scripts of `.ci` that only a pipeline on GitHub runs, with stand-ins for what they call there; and
//! what a run leaves there.

#![cfg(target_os = "linux")] // as the runners of the workflows: the scripts need GNU's programs
#![expect(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder with programs that stand in for the real ones, and their log.
struct Stage(TempDir);

impl Stage {
    fn new() -> Self {
        Stage(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Adds a program that appends its arguments to `log`, and then does what `script` says.
    fn program(&self, name: &str, script: &str) {
        let text = format!(
            "#!/bin/sh\necho {name} \"$@\" >>'{}'\n{script}\n",
            self.path("log").display()
        );
        self.write(&format!("bin/{name}"), &text);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path("bin").join(name), executable).unwrap();
    }

    /// Runs a script of `.ci` in the folder. Returns its exit code and its output.
    fn run(&self, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
        let path = std::env::var("PATH").unwrap();
        let output = Command::new(workspace().join(".ci").join(script))
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env_remove("GITHUB_STEP_SUMMARY")
            .envs(variables.iter().copied())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    }
}

/// Every script is run: by this file, or as `.ci/run` and what it calls.
#[test]
fn no_script_is_left_out() {
    let of_run =
        |name: &str| name == "run" || read_script("run").contains(&format!(".ci/{name}\n"));
    let tests = include_str!("pipelines.rs");
    for script in fs::read_dir(workspace().join(".ci")).unwrap() {
        let name = script.unwrap().file_name().into_string().unwrap();
        let is_tested =
            tests.contains(&format!("(\"{name}\"")) || tests.contains(&format!("\".ci/{name}\""));
        assert!(of_run(&name) || is_tested, ".ci/{name} is run by nothing");
    }
}

fn read_script(name: &str) -> String {
    fs::read_to_string(workspace().join(".ci").join(name)).unwrap()
}

#[test]
fn images_are_saved_if_there_are_any_and_loaded_if_there_is_a_file() {
    let stage = Stage::new();
    stage.program(
        "docker",
        "[ \"$1\" = image ] && printf 'a:1\\nb:2\\n'; exit 0",
    );
    assert_eq!(
        stage.run("images", &["load", "images.tar"], &[]),
        (0, String::new())
    );
    assert_eq!(stage.read("log"), "");
    stage.write("images.tar", "");
    assert_eq!(stage.run("images", &["load", "images.tar"], &[]).0, 0);
    assert_eq!(stage.run("images", &["save", "images.tar"], &[]).0, 0);
    let log = stage.read("log");
    assert!(log.starts_with("docker load --input images.tar\n"), "{log}");
    assert!(
        log.ends_with("docker save --output images.tar a:1 b:2\n"),
        "{log}"
    );
    assert_eq!(stage.run("images", &["keep", "images.tar"], &[]).0, 2);
}

#[test]
fn what_a_pull_request_leaves_to_the_night_is_listed() {
    let stage = Stage::new();
    let summary = stage.path("summary.md");
    let variable = ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap());
    let (code, output) = stage.run("left-to-the-night", &[], &[variable]);
    assert_eq!((code, &output), (0, &stage.read("summary.md")));
    for command in [
        ".ci/run",
        "cargo xtask e2e --target kind --provision",
        "cargo xtask load run soak --name soak",
    ] {
        assert!(output.contains(&format!("\n- `{command}`\n")), "{output}");
    }
    assert!(
        !output.contains("--scenario") && !output.contains("||"),
        "{output}"
    );
}

#[test]
fn an_issue_has_the_failed_jobs_and_the_runs_that_did_not_hold() {
    let stage = Stage::new();
    stage.program(
        "gh",
        "for last; do :; done
        case \"$1 $2\" in
        'run view') echo '- [soak](URL)' ;;
        'issue list') printf '%s' \"$OPEN\" ;;
        'issue create' | 'issue comment') cp \"$last\" body.md ;;
        esac",
    );
    stage.write("reports/a/1/summary.md", "# ✅ held: `e2e`\n");
    stage.write(
        "reports/b/2/summary.md",
        "# ❌ failed: `load run soak`\nwhy\n",
    );
    stage.write(
        "reports/b/3/summary.md",
        &format!("# ⚠️ inconclusive\n{}\n", "é".repeat(40_000)),
    );
    let variables = [("GITHUB_SHA", "1a2b"), ("GITHUB_RUN_ID", "7"), ("OPEN", "")];
    let (code, output) = stage.run("issue", &["reports"], &variables);
    assert_eq!(code, 0, "{output}");
    assert!(
        stage
            .read("log")
            .contains("\ngh issue create --label nightly --title The night of 2")
    );
    let body = fs::read(stage.path("body.md")).unwrap();
    assert_eq!(body.len(), 60_000);
    let body = String::from_utf8_lossy(&body);
    let expected =
        "Failed at 1a2b:\n\n- [soak](URL)\n\n# ❌ failed: `load run soak`\nwhy\n\n# ⚠️ inc";
    assert!(body.starts_with(expected), "{}", &body[..200]);
    let variables = [
        ("GITHUB_SHA", "1a2b"),
        ("GITHUB_RUN_ID", "7"),
        ("OPEN", "12"),
    ];
    assert_eq!(stage.run("issue", &["reports"], &variables).0, 0);
    assert!(
        stage
            .read("log")
            .contains("\ngh issue comment 12 --body-file ")
    );
}

#[test]
fn a_kubeconfig_is_for_this_user_alone() {
    let stage = Stage::new();
    let folder = stage.0.path().to_str().unwrap();
    let names = stage.path("names");
    let of = |content| {
        let variables = [
            ("KUBECONFIG_CONTENT", content),
            ("RUNNER_TEMP", folder),
            ("GITHUB_ENV", names.to_str().unwrap()),
        ];
        stage.run("kubeconfig", &[], &variables)
    };
    let (code, output) = of("");
    assert!(code != 0 && output.contains("add the secret"), "{output}");
    assert!(!stage.path("kubeconfig").exists());
    assert_eq!(of("apiVersion: v1\nkind: Config"), (0, String::new()));
    assert_eq!(stage.read("kubeconfig"), "apiVersion: v1\nkind: Config\n");
    let mode = fs::metadata(stage.path("kubeconfig"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        stage.read("names"),
        format!("KUBECONFIG={folder}/kubeconfig\n")
    );
}

#[test]
fn each_service_gets_its_image_and_the_password_is_no_argument() {
    let stage = Stage::new();
    stage.program("cargo", "echo trii-rehearsal/platform:1a2b");
    let password = stage.path("password");
    stage.program(
        "docker",
        &format!("[ \"$1\" != login ] || cat >'{}'", password.display()),
    );
    let variables = [
        ("REGISTRY", "registry.example"),
        ("REGISTRY_USER", "ci"),
        ("REGISTRY_PASSWORD", "s3cret"),
    ];
    let (code, output) = stage.run("push", &["v2.2.0"], &variables);
    assert_eq!(code, 0, "{output}");
    assert_eq!(stage.read("password"), "s3cret\n");
    let log = stage.read("log");
    assert!(
        !log.contains("s3cret") && !output.contains("s3cret"),
        "{log}"
    );
    let tag = "docker tag trii-rehearsal/platform:1a2b registry.example/trii/market-data-service:v2.2.0\n";
    assert!(log.contains(tag), "{log}");
    assert_eq!(
        log.matches("docker push --quiet registry.example/trii/")
            .count(),
        6,
        "{log}"
    );
    assert!(log.ends_with("docker logout registry.example\n"), "{log}");
}

#[test]
fn a_version_is_committed_and_pushed_beside_what_others_have_pushed() {
    let stage = Stage::new();
    let git = |folder: &str, arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example", "-C"]);
        let output = git
            .arg(stage.path(folder))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let values = "global:\n  environment: production\n  imageTag: \"\"\n";
    stage.write("first/values.yaml", values);
    git("first", &["init", "--quiet", "--initial-branch", "main"]);
    git("first", &["add", "."]);
    git("first", &["commit", "--quiet", "--message", "one"]);
    git(".", &["clone", "--quiet", "--bare", "first", "remote"]);
    git(".", &["clone", "--quiet", "remote", "ours"]);
    git("first", &["pull", "--quiet", "../remote", "main"]);
    stage.write("first/other", "");
    git("first", &["add", "."]);
    git("first", &["commit", "--quiet", "--message", "two"]);
    git("first", &["push", "--quiet", "../remote", "main"]);
    let promote = |file: &str| {
        let script = workspace().join(".ci/promote");
        let mut command = Command::new(script);
        command
            .args([file, "main-1a2b"])
            .current_dir(stage.path("ours"));
        // As on a runner, nobody has said who commits.
        command
            .env("HOME", stage.0.path())
            .env("GIT_CONFIG_NOSYSTEM", "1");
        command.output().unwrap()
    };
    let output = promote("values.yaml");
    assert!(output.status.success(), "{output:?}");
    let pushed = git("remote", &["show", "main:values.yaml"]);
    assert_eq!(pushed, values.replace("\"\"", "\"main-1a2b\""));
    git("remote", &["show", "main:other"]);
    let commits = || git("remote", &["rev-list", "--count", "main"]);
    assert_eq!(commits(), "3\n");
    let again = promote("values.yaml");
    assert!(again.status.success(), "{again:?}");
    assert_eq!(commits(), "3\n");
    assert_eq!(promote("other").status.code(), Some(2));
    // The file of the workflow has the key that is written.
    let values = "fixtures/helm/trii-platform/values-production.yaml";
    let values = fs::read_to_string(workspace().join(values)).unwrap();
    assert_eq!(values.matches("\n  imageTag: ").count(), 1);
}

#[test]
fn a_site_is_awaited_until_it_answers_in_the_version() {
    let stage = Stage::new();
    stage.program("curl", "printf main-1a2b");
    let site = "https://site.example";
    let (code, output) = stage.run("await-version", &[site, "main-1a2b", "0"], &[]);
    assert_eq!(
        (code, output.as_str()),
        (0, "https://site.example answers in main-1a2b\n")
    );
    let (code, output) = stage.run("await-version", &[site, "main-3c4d", "0"], &[]);
    assert_eq!(code, 1);
    assert!(
        output.contains("does not answer in main-3c4d after 0 s; last seen: main-1a2b"),
        "{output}"
    );
}

#[test]
fn only_what_each_checkout_compiles_is_trimmed() {
    let stage = Stage::new();
    stage.program("cargo", "");
    assert_eq!(stage.run("trim", &[], &[]), (0, String::new()));
    let log = "cargo clean --workspace --quiet\ncargo clean --workspace --quiet --release\n";
    assert_eq!(stage.read("log"), log);
}

#[test]
fn a_run_in_github_actions_annotates_its_failures_and_adds_its_summary_to_the_jobs() {
    let stage = Stage::new();
    let run = |variables: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["e2e", "--target", "kind"])
            .env("TRII_HARNESS_HOME", stage.path("home"))
            .env("DOCKER_HOST", "unix:///nowhere")
            .env_remove("GITHUB_ACTIONS")
            .env_remove("GITHUB_STEP_SUMMARY")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let elsewhere = run(&[]);
    assert!(!elsewhere.contains("::error"), "{elsewhere}");
    let file = stage.path("summary");
    let variables = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_STEP_SUMMARY", file.to_str().unwrap()),
    ];
    for number in 1..=2 {
        let output = run(&variables);
        let annotation =
            "\n::error title=the run failed::this machine cannot bring up the target%0Aexpected: ";
        assert_eq!(output.matches(annotation).count(), 1, "{output}");
        let summary = stage.read("summary");
        assert_eq!(
            summary.matches("# ❌ No environment").count(),
            number,
            "{summary}"
        );
    }
}

#[test]
fn the_targets_of_the_documentation_are_accepted_and_production_gets_no_load() {
    let stage = Stage::new();
    let read = |file: &str| fs::read_to_string(workspace().join(file)).unwrap();
    let page = read("docs/pipelines.md");
    let targets = page.split("```toml\n").nth(1).unwrap();
    let targets = targets.split("```").next().unwrap();
    stage.write(
        "harness.toml",
        &format!("{}\n{targets}", read("harness.toml")),
    );
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(arguments)
            .args(["--config", "harness.toml"])
            .env("TRII_HARNESS_HOME", stage.path("home"))
            .env("KUBECONFIG", stage.path("nowhere"))
            .current_dir(stage.0.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    };
    for target in ["staging", "production"] {
        let (code, output) = run(&["smoke", "--target", target]);
        let not_used = format!("The target {target} is not used.");
        assert!(code == 2 && output.contains(&not_used), "{output}");
    }
    let (code, output) = run(&["perf", "--target", "production", "--save", "x"]);
    assert_eq!(code, 4, "{output}");
}
