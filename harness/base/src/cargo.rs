//! The environment variables that cargo sets for the programs that it runs.

use std::ffi::{OsStr, OsString};

/// Whether cargo sets the variable for one crate, to build, run or test it. The variables with
/// which a user configures cargo are not among them.
///
/// If another cargo inherits it, crates whose build scripts read it (`cargo::rerun-if-env-changed`)
/// are compiled again, with everything that depends on them.
/// <https://doc.rust-lang.org/cargo/reference/environment-variables.html>
pub fn is_crate_variable(variable: &OsStr) -> bool {
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

/// Returns the names of those variables in this process. A cargo that it starts must not get them.
pub fn crate_variables() -> Vec<OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| is_crate_variable(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_for_a_crate_are_distinguished_from_those_of_a_user() {
        for name in ["CARGO_PKG_NAME", "CARGO_BIN_EXE_xtask", "OUT_DIR"] {
            assert!(is_crate_variable(name.as_ref()), "{name}");
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
            assert!(!is_crate_variable(name.as_ref()), "{name}");
        }
        assert!(
            crate_variables().contains(&"CARGO_PKG_NAME".into()),
            "cargo sets it for a test"
        );
    }
}
