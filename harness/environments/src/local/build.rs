//! Builds the platform: by a command of `harness.toml`, or a package by cargo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::process::running;
use crate::bring_up::{Context, UpError};
use crate::config::placeholders::Values;
use base::cargo;
use base::process::{Program, describe};
use base::run::event::Stage;
use base::wait::{self, Observation};

const NAME: &str = "build";
/// ECMA-48's EL, as cargo's progress bar uses it.
const CLEAR_LINE: &str = "\x1b[K";
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Builds the platform, and returns its program: the given one, or cargo's release build of
/// `cargo_package` from this checkout. Without a package there is none.
pub async fn program(context: &Context<'_>) -> Result<Option<PathBuf>, UpError> {
    let local = &context.config.platform.local;
    match (&local.cargo_package, context.program) {
        (Some(_), Some(program)) => Ok(Some(program.to_owned())),
        (Some(package), None) => cargo_build(context, package).await.map(Some),
        (None, _) if local.build.is_empty() => Ok(None),
        (None, _) => by_command(context, &local.build).await.map(|()| None),
    }
}

/// Returns the package's program.
async fn cargo_build(context: &Context<'_>, package: &str) -> Result<PathBuf, UpError> {
    const PART: &str = "cargo build of the platform";
    let [program, arguments @ ..] = command(context.workspace, package);
    let answer = context.log(NAME).with_extension("json");
    let child = Program {
        arguments: arguments.into(),
        answer: Some(answer.clone()),
        ..builder(context, program)
    };
    finished(context, &child, PART, is_compiling).await?;
    let messages =
        std::fs::read_to_string(&answer).map_err(UpError::system("read cargo's messages"))?;
    executable(&messages, package).ok_or_else(|| UpError::Ended {
        part: PART.into(),
        how: format!("it reported no executable of {package}"),
        log: answer,
    })
}

/// Runs a command of `harness.toml` in the repository.
async fn by_command(context: &Context<'_>, command: &[String]) -> Result<(), UpError> {
    let values = Values::from([
        ("version", context.config.platform.version.clone()),
        ("target", context.target_name.to_owned()),
    ]);
    let path = context.path.as_deref();
    let child = builder(context, "");
    let child = running(child, command, context.workspace, &values, path)?;
    finished(context, &child, "the build of the platform", |line| {
        !line.is_empty()
    })
    .await
}

fn builder(context: &Context<'_>, path: impl Into<PathBuf>) -> Program {
    Program {
        // A compiler needs the user's environment: proxies, linkers, caches.
        environment: std::env::vars_os()
            .filter(|(name, _)| !cargo::is_crate_variable(name) && name != "PATH")
            .collect(),
        death_signal: Signal::SIGTERM,
        ..context.child(NAME, path)
    }
}

/// Runs a build to its success. Meanwhile it shows the last line of the log that `is_progress`.
async fn finished(
    context: &Context<'_>,
    child: &Program,
    part: &str,
    is_progress: fn(&str) -> bool,
) -> Result<(), UpError> {
    let begun = Instant::now();
    context.owned.start(child).await?;
    let status = ended_with_progress(context, part, is_progress).await?;
    if !status.success() {
        return Err(UpError::Ended {
            part: part.into(),
            how: describe(status),
            log: context.log(NAME),
        });
    }
    context.step(Stage::Provision, "the platform is built", begun);
    Ok(())
}

/// The cargo command.
pub(super) fn command(workspace: &Path, package: &str) -> [OsString; 8] {
    [
        std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
        "build".into(),
        "--release".into(),
        format!("--package={package}").into(),
        "--locked".into(),
        "--message-format=json-render-diagnostics".into(),
        "--manifest-path".into(),
        workspace.join("Cargo.toml").into(),
    ]
}

async fn ended_with_progress(
    context: &Context<'_>,
    part: &str,
    is_progress: fn(&str) -> bool,
) -> Result<ExitStatus, UpError> {
    let log = context.log(NAME);
    let mut shown = String::new();
    let ended = wait::until(
        format!("{part} ends"),
        context.deadlines.build,
        LOOK_EVERY,
        async || {
            if let Some(status) = context.owned.ended(NAME) {
                return Observation::Ready(status);
            }
            if let Some(line) = last_line(&log, is_progress).filter(|line| *line != shown) {
                context.progress(Stage::Provision, &line);
                shown = line;
            }
            Observation::NotYet(format!("it prints: {shown}"))
        },
    );
    let status = ended.await.map_err(UpError::wait(NAME, Some(log.clone())));
    context.owned.discard(NAME, Duration::from_secs(5)).await?;
    status
}

/// Of cargo's output, the crate that it compiles.
fn is_compiling(line: &str) -> bool {
    line.starts_with("Compiling")
}

/// The last line of a log that is wanted.
fn last_line(log: &Path, is_wanted: fn(&str) -> bool) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    // A progress bar returns to the start of its line, and clears the line.
    let lines = text.split(['\n', '\r']).rev();
    let mut lines = lines.map(|line| line.trim_start_matches(CLEAR_LINE).trim());
    lines.find(|line| is_wanted(line)).map(str::to_owned)
}

/// The program's path, as cargo reports it: of several, the one with the package's name.
pub(super) fn executable(messages: &str, package: &str) -> Option<PathBuf> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let built: Vec<_> = messages
        .filter(|message| message["executable"].is_string())
        .collect();
    let found = match built.as_slice() {
        [only] => only,
        several => several
            .iter()
            .find(|message| message["target"]["name"] == package)?,
    };
    Some(PathBuf::from(found["executable"].as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_the_only_one_or_has_the_packages_name() {
        let library = r#"{"target":{"name":"shop"},"executable":null}"#;
        let of = |name| format!(r#"{{"target":{{"name":"{name}"}},"executable":"/bin/{name}"}}"#);
        let found = |messages: &[&str]| executable(&messages.join("\n"), "shop");
        assert_eq!(found(&[library, "{}", "no JSON"]), None);
        assert_eq!(found(&[library, &of("web")]), Some("/bin/web".into()));
        assert_eq!(found(&[&of("web"), &of("shop")]), Some("/bin/shop".into()));
        assert_eq!(found(&[&of("web"), &of("admin")]), None);
    }

    #[test]
    fn the_compiled_crate_is_found_beside_a_progress_bar() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("build.log");
        assert_eq!(last_line(&log, is_compiling), None);
        let bar = "    Building [=>    ] 1/30: ring(build.rs)";
        let text = format!(
            "   Compiling ring v0.17.14\n{bar}\r\x1b[K   Compiling rustls v0.23.35\n{bar}\r"
        );
        std::fs::write(&log, text).unwrap();
        assert_eq!(
            last_line(&log, is_compiling).as_deref(),
            Some("Compiling rustls v0.23.35")
        );
    }
}
