//! Tests of the workflows of `.github` and of the examples for other pipelines: each command is a script
//! of `.ci`, or a command line of `cargo xtask` that is valid, and each job has its limits.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;

use crate::cli::{Cli, Command, LoadCommand, ScenarioCommand};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: impl AsRef<Path>) -> String {
    let path = workspace().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns each workflow with its text.
fn workflows() -> Vec<(String, String)> {
    let files = fs::read_dir(workspace().join(".github/workflows")).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let workflows: Vec<_> = files
        .map(|file| {
            let text = read(Path::new(".github/workflows").join(&file));
            (file, text)
        })
        .collect();
    assert!(workflows.len() >= 4, "{workflows:?}");
    workflows
}

/// Returns each job of each workflow, with its name.
fn jobs() -> Vec<(String, Value)> {
    let mut jobs = Vec::new();
    for (file, text) in workflows() {
        let workflow: Value = serde_saphyr::from_str(&text).unwrap();
        for (name, job) in workflow["jobs"].as_object().unwrap() {
            jobs.push((format!("{file}: {name}"), job.clone()));
        }
    }
    jobs
}

/// Returns why a command of a pipeline cannot succeed, if it cannot.
fn fault(command: &str) -> Option<String> {
    let command = command.trim();
    let command = command
        .strip_prefix(r#"sudo --preserve-env env "HOME=$HOME" "PATH=$PATH" "#)
        .unwrap_or(command);
    let command = command.strip_suffix(" || test $? -eq 5").unwrap_or(command);
    let words: Vec<&str> = command
        .split_whitespace()
        .map(|word| word.trim_matches('"'))
        .collect();
    match words[..] {
        ["cargo", "xtask", ref arguments @ ..] => fault_of_xtask(arguments),
        [script, ..] if script.starts_with(".ci/") => {
            let is_file = workspace().join(script).is_file();
            (!is_file).then(|| format!("there is no {script}"))
        }
        _ => Some("neither a script of .ci nor a command of cargo xtask".into()),
    }
}

fn fault_of_xtask(arguments: &[&str]) -> Option<String> {
    let words = ["cargo xtask"].iter().chain(arguments);
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => return Some(error.to_string()),
    };
    let (scenarios, profile) = match cli.command {
        Command::E2e(e2e) => (e2e.scenarios, None),
        Command::Scenario(scenario) => match scenario.command {
            ScenarioCommand::Run(run) => (run.names, None),
            ScenarioCommand::List { .. } => (Vec::new(), None),
        },
        Command::Load(load) => match load.command {
            LoadCommand::Run(run) => (Vec::new(), Some(run.profile)),
            LoadCommand::Show(_) | LoadCommand::Compare(_) => (Vec::new(), None),
        },
        Command::Perf(perf) => (Vec::new(), Some(perf.profile)),
        _ => (Vec::new(), None),
    };
    let listed = read("xtask/tests/snapshots/help__scenario-list.snap");
    let is_listed = |name: &String| {
        let of_name = |line: &str| line.split(' ').next() == Some(name);
        listed.lines().any(of_name) || listed.contains(&format!("\n{name}/"))
    };
    if let Some(name) = scenarios.iter().find(|name| !is_listed(name)) {
        return Some(format!("there is no scenario {name}"));
    }
    let profile = profile.filter(|it| !read("harness.toml").contains(&format!("[profiles.{it}]")));
    profile.map(|profile| format!("there is no profile {profile}"))
}

#[test]
fn every_command_of_a_workflow_is_a_script_or_a_valid_command_line() {
    let mut commands = 0;
    for (name, job) in jobs() {
        for step in job["steps"].as_array().into_iter().flatten() {
            let Some(command) = step["run"].as_str() else {
                continue;
            };
            assert_eq!(fault(command), None, "{name}: {command}");
            commands += 1;
        }
    }
    assert!(commands > 20, "only {commands} commands were found");
}

#[test]
fn a_command_that_cannot_succeed_is_found() {
    for command in [
        "cargo build",
        ".ci/nothing",
        "cargo xtask e2e --targt kind",
        "cargo xtask e2e --scenario blue-green/happier",
        "cargo xtask load run soaked",
        "cargo xtask perf --against nightly && true",
        "true || cargo xtask e2e",
    ] {
        assert!(fault(command).is_some(), "{command}");
    }
    assert_eq!(fault("cargo xtask e2e --scenario blue-green"), None);
}

#[test]
fn every_job_has_its_limits() {
    for (file, text) in workflows() {
        let workflow: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{file}");
        assert!(workflow["concurrency"]["group"].is_string(), "{file}");
    }
    for (name, job) in jobs() {
        assert!(job["permissions"].is_object(), "{name}: permissions");
        let is_workflow = job["uses"].is_string();
        let minutes = job["timeout-minutes"].as_u64();
        assert!(is_workflow || minutes.is_some(), "{name}: timeout-minutes");
    }
}

/// A tag can be moved to other code, a commit cannot.
#[test]
fn every_action_is_a_commit_of_github_with_its_version() {
    let caches = ".github/actions/caches/action.yml";
    let mut texts = workflows();
    texts.push((caches.to_owned(), read(caches)));
    let mut pinned = 0;
    for (file, text) in texts {
        for line in text.lines() {
            let Some((_, action)) = line.split_once("uses: ") else {
                continue;
            };
            if action.starts_with("./.github/") {
                assert!(workspace().join(action).exists(), "{file}: {action}");
                continue;
            }
            let (name, pin) = action.split_once('@').expect(action);
            let (commit, version) = pin.split_once(" # v").expect(action);
            let is_commit = commit.len() == 40 && commit.bytes().all(|it| it.is_ascii_hexdigit());
            let is_version = version.split('.').all(|part| part.parse::<u32>().is_ok());
            assert!(is_commit && is_version, "{file}: {action}");
            assert!(name.starts_with("actions/"), "{file}: {action}");
            pinned += 1;
        }
    }
    assert!(pinned > 20, "only {pinned} actions were found");
}

/// In the examples for other pipelines, a command ends where its line or its quotes do, or the next
/// command begins.
#[test]
fn every_command_of_the_examples_is_a_script_or_a_valid_command_line() {
    let text = read("docs/pipelines.md");
    let examples = text.split("```").skip(1).step_by(2);
    let mut commands = 0;
    for line in examples.flat_map(str::lines) {
        for command in line
            .split(['\'', ';', '>', '#', '('])
            .flat_map(|it| it.split("&&"))
        {
            let begin = ["cargo xtask ", ".ci/"].map(|it| command.find(it));
            if let Some(begin) = begin.into_iter().flatten().min() {
                let command = &command[begin..];
                assert_eq!(fault(command), None, "{line}");
                commands += 1;
            }
        }
    }
    assert!(commands > 12, "only {commands} commands were found");
}
