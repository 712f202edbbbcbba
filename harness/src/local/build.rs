//! Builds the platform's binary.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::bring_up::{Context, UpError};
use crate::cargo;
use crate::process::bound::{Program, Reach, describe};
use crate::run::event::Stage;
use crate::wait::{self, Observation};

const NAME: &str = "build";
/// ECMA-48's EL, as cargo's progress bar uses it.
const CLEAR_LINE: &str = "\x1b[K";
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The platform's binary: another version's, or what cargo builds of this checkout as it is
/// released.
pub async fn platform(context: &Context<'_>) -> Result<PathBuf, UpError> {
    if let Some(program) = context.program {
        return Ok(program.to_owned());
    }
    let begun = std::time::Instant::now();
    let [program, arguments @ ..] = command(context.workspace);
    let answer = context.log(NAME).with_extension("json");
    context
        .owned
        .start(&Program {
            name: NAME.into(),
            path: program.into(),
            arguments: arguments.into(),
            // A compiler needs the user's whole environment: proxies, linkers, caches.
            environment: std::env::vars_os()
                .filter(|(name, _)| !cargo::is_of_a_crate(name))
                .collect(),
            user: None,
            log: context.log(NAME),
            stop_signal: Signal::SIGTERM,
            stop_reaches: Reach::Group,
            death_signal: Signal::SIGTERM,
            answer: Some(answer.clone()),
        })
        .await?;
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
    executable(&messages).ok_or_else(|| UpError::Ended {
        part: "cargo build of the platform".into(),
        how: "it named no executable".into(),
        log: answer,
    })
}

/// cargo, and what it is to do.
pub(super) fn command(workspace: &Path) -> [OsString; 8] {
    [
        std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
        "build".into(),
        "--release".into(),
        "--package=platform".into(),
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
            Observation::NotYet(format!("cargo says: {shown}"))
        },
    );
    let status = ended.await.map_err(|wait| UpError::Wait {
        part: NAME.into(),
        log: Some(log.clone()),
        wait,
    });
    context.owned.discard(NAME, Duration::from_secs(5)).await?;
    status
}

/// The last thing cargo said it compiles.
fn compiling(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    // A progress bar goes back to the start of its line, and clears the line for what follows.
    let mut lines = text.split(['\n', '\r']).rev();
    lines.find_map(|line| {
        let line = line.trim_start_matches(CLEAR_LINE).trim();
        line.starts_with("Compiling").then(|| line.to_owned())
    })
}

/// cargo's own word on where the binary is.
pub(super) fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "platform")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_is_read_beside_a_progress_bar() {
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
