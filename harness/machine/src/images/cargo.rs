//! Programs of this workspace, as static binaries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::build_folder::BuildFolder;
use super::schema::CargoProgram;
use super::{ImageError, Workshop};

/// All the platform's dependencies, optimised, on two busy cores.
const DEADLINE: Duration = Duration::from_secs(40 * 60);

/// Compiles a program and returns the path of the binary.
///
/// On Linux only: on other systems cargo builds programs that no container runs.
pub(super) async fn build(
    workshop: &Workshop,
    room: &BuildFolder,
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
    // Its own directory: other flags would make cargo compile everything again.
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

/// The GNU target needs no installation, and its static programs resolve names: the C library
/// includes the resolvers for files and DNS since 2.34.
fn command(workspace: &Path, target_dir: &Path, program: &CargoProgram) -> Vec<String> {
    let manifest = workspace.join("Cargo.toml");
    let (package, profile) = (program.package.as_str(), program.profile.as_str());
    [
        "env",
        // With `--target`, they do not apply to build scripts and macros.
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
