//! Programs of this workspace, as static binaries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::room::Room;
use super::schema::CargoProgram;
use super::{ImageError, Workshop};

/// All the platform's dependencies, optimised, on two busy cores.
const DEADLINE: Duration = Duration::from_secs(40 * 60);

/// Compiles it and tells where the binary is.
///
/// On Linux only: elsewhere cargo makes programs that no container runs.
pub(super) async fn build(
    workshop: &Workshop,
    room: &Room,
    image: &str,
    workspace: &Path,
    program: &CargoProgram,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<PathBuf, ImageError> {
    if !cfg!(target_os = "linux") {
        return Err(ImageError::NeedsLinux {
            name: image.to_owned(),
        });
    }
    // A directory of its own: other flags would have everything compiled again.
    let target_dir = workshop.state_dir.join("images/cargo");
    let command = command(workspace, &target_dir, program);
    let failed = |source| ImageError::Compile {
        name: image.to_owned(),
        source,
    };
    room.run(&command, DEADLINE, progress, failed).await?;
    Ok(target_dir
        .join(triple())
        .join(&program.profile)
        .join(&program.package))
}

/// A static program of the GNU target resolves names (its C library has the
/// resolvers for files and DNS built in since 2.34) and needs no other target installed.
fn command(workspace: &Path, target_dir: &Path, program: &CargoProgram) -> Vec<String> {
    let manifest = workspace.join("Cargo.toml");
    let (package, profile) = (program.package.as_str(), program.profile.as_str());
    [
        "env",
        // With `--target` given, they are not for build scripts and macros.
        "RUSTFLAGS=-C target-feature=+crt-static -C strip=symbols",
        // They would be stripped.
        &format!("CARGO_PROFILE_{}_DEBUG=false", profile.to_uppercase()),
        &format!("CARGO_TARGET_DIR={}", target_dir.display()),
        "cargo",
        "build",
        "--profile",
        profile,
        "--locked",
        "--manifest-path",
        &manifest.display().to_string(),
        "--package",
        package,
        "--bin",
        package,
        "--target",
        &triple(),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
