//! What cargo leaves in the environment of the programs that it runs.

use std::ffi::{OsStr, OsString};

/// Whether cargo sets the variable for one crate: to build it, or to run or test what it built.
///
/// Handed on to another cargo, it has crates compiled again whose build scripts ask for it
/// (`cargo::rerun-if-env-changed`), and all that stands on them. What a user configures cargo
/// by is not among them.
/// <https://doc.rust-lang.org/cargo/reference/environment-variables.html>
pub fn is_of_a_crate(variable: &OsStr) -> bool {
    const NAMES: [&str; 4] = [
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
    ];
    const PREFIXES: [&str; 5] = [
        "CARGO_BIN_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
    ];
    let name = variable.to_string_lossy();
    NAMES.contains(&&*name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Those variables, as this process has them: what a cargo that it starts must not see.
pub fn of_this_crate() -> Vec<OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| is_of_a_crate(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_for_a_crate_is_told_from_what_a_user_sets() {
        for name in ["CARGO_PKG_NAME", "CARGO_BIN_EXE_xtask", "OUT_DIR"] {
            assert!(is_of_a_crate(name.as_ref()), "{name}");
        }
        for name in [
            "CARGO",
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_JOBS",
            "CARGO_PROFILE_RELEASE_DEBUG",
            "CARGO_TERM_PROGRESS_WHEN",
            "CARGO_REGISTRIES_MIRROR_TOKEN",
            "RUSTFLAGS",
        ] {
            assert!(!is_of_a_crate(name.as_ref()), "{name}");
        }
        assert!(
            of_this_crate().contains(&"CARGO_PKG_NAME".into()),
            "cargo sets it for a test"
        );
    }
}
