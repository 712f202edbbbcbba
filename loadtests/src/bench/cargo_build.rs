//! Builds programs of this workspace.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use base::process;
use serde_json::Value;

use super::error::BenchError;

/// The timeout of a build, which may be a cold build of the whole platform.
const BUILD_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Cargo's profile for released programs.
pub const RELEASE: &str = "release";
/// Cargo's profile for load generators.
pub const GENERATOR: &str = "generator";

/// Builds `target` (options that select it) with `profile`, and returns the executable `name`.
pub async fn build(
    workspace: &Path,
    profile: &str,
    target: &[&str],
    name: &'static str,
) -> Result<PathBuf, BenchError> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = workspace.join("Cargo.toml").display().to_string();
    let common = [
        cargo.as_str(),
        "build",
        "--profile",
        profile,
        "--locked",
        "--message-format=json-render-diagnostics",
        "--manifest-path",
        manifest.as_str(),
    ];
    let argv: Vec<String> = [&common, target]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let built = Mutex::new(None);
    let listen = |line: &str| {
        if let (Some(path), Ok(mut built)) = (executable(line, name), built.lock()) {
            *built = Some(path);
        }
    };
    process::run(&argv, BUILD_TIMEOUT, &listen).await?;
    let built = built.into_inner().ok().flatten();
    built.ok_or_else(|| BenchError::NoExecutable {
        name,
        command: format!("cargo build --profile {profile} {}", target.join(" ")),
    })
}

fn executable(line: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["target"]["name"] != name {
        return None;
    }
    Some(message["executable"].as_str()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_read_from_cargos_message() {
        let built =
            r#"{"reason":"compiler-artifact","target":{"name":"hello"},"executable":"/t/hello"}"#;
        assert_eq!(executable(built, "hello"), Some("/t/hello".into()));
        assert_eq!(executable(built, "prober"), None);
        // A library of the same name as its program.
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"prober"},"executable":null}"#;
        assert_eq!(executable(library, "prober"), None);
        assert_eq!(executable("   Compiling platform", "hello"), None);
    }
}
