//! Builds the platform's program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::bring_up::{Context, UpError};
use base::cargo;
use base::process::{Program, describe};
use base::run::event::Stage;
use base::wait::{self, Observation};

const NAME: &str = "build";
/// ECMA-48's EL, as cargo's progress bar uses it.
const CLEAR_LINE: &str = "\x1b[K";
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Returns the platform's program: the given one, or cargo's release build of `cargo_package` from
/// this checkout. Without a package there is none.
pub async fn program(context: &Context<'_>) -> Result<Option<PathBuf>, UpError> {
    let Some(package) = &context.config.platform.local.cargo_package else {
        return Ok(None);
    };
    if let Some(program) = context.program {
        return Ok(Some(program.to_owned()));
    }
    let begun = std::time::Instant::now();
    let [program, arguments @ ..] = command(context.workspace, package);
    let answer = context.log(NAME).with_extension("json");
    let child = Program {
        arguments: arguments.into(),
        // A compiler needs the user's environment: proxies, linkers, caches.
        environment: std::env::vars_os()
            .filter(|(name, _)| !cargo::is_crate_variable(name))
            .collect(),
        death_signal: Signal::SIGTERM,
        answer: Some(answer.clone()),
        ..context.child(NAME, program)
    };
    context.owned.start(&child).await?;
    let status = ended_with_progress(context).await?;
    let log = context.log(NAME);
    if !status.success() {
        return Err(UpError::Ended {
            part: "cargo build of the platform".into(),
            how: describe(status),
            log,
        });
    }
    context.step(Stage::Provision, "the platform is built", begun);
    let messages =
        std::fs::read_to_string(&answer).map_err(UpError::system("read cargo's messages"))?;
    let program = executable(&messages, package).ok_or_else(|| UpError::Ended {
        part: "cargo build of the platform".into(),
        how: format!("it reported no executable of {package}"),
        log: answer,
    })?;
    Ok(Some(program))
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

async fn ended_with_progress(context: &Context<'_>) -> Result<std::process::ExitStatus, UpError> {
    let log = context.log(NAME);
    let mut shown = String::new();
    let ended = wait::until(
        "cargo builds the platform",
        context.deadlines.build,
        LOOK_EVERY,
        async || {
            if let Some(status) = context.owned.ended(NAME) {
                return Observation::Ready(status);
            }
            if let Some(line) = compiling(&log).filter(|line| *line != shown) {
                context.progress(Stage::Provision, &line);
                shown = line;
            }
            Observation::NotYet(format!("cargo prints: {shown}"))
        },
    );
    let status = ended.await.map_err(UpError::wait(NAME, Some(log.clone())));
    context.owned.discard(NAME, Duration::from_secs(5)).await?;
    status
}

/// The crate that cargo compiles now.
fn compiling(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    // A progress bar returns to the start of its line, and clears the line.
    let mut lines = text.split(['\n', '\r']).rev();
    lines.find_map(|line| {
        let line = line.trim_start_matches(CLEAR_LINE).trim();
        line.starts_with("Compiling").then(|| line.to_owned())
    })
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
        assert_eq!(compiling(&log), None);
        let bar = "    Building [=>    ] 1/30: ring(build.rs)";
        let text = format!(
            "   Compiling ring v0.17.14\n{bar}\r\x1b[K   Compiling rustls v0.23.35\n{bar}\r"
        );
        std::fs::write(&log, text).unwrap();
        assert_eq!(
            compiling(&log).as_deref(),
            Some("Compiling rustls v0.23.35")
        );
    }
}
