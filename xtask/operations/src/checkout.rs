//! The state of the checkout that a run uses: its configuration, its charts, its programs.

use std::path::Path;
use std::time::Duration;

use base::process;
use base::run::event::Happening;

/// The time for Git to look at all files of a checkout.
const DEADLINE: Duration = Duration::from_secs(10);

/// Returns the commit of the workspace, and whether it has other changes; none if it is not a Git
/// checkout, or Git is not here.
pub async fn checkout(workspace: &Path) -> Option<Happening> {
    let argv = ["git", "status", "--porcelain=v2", "--branch"].map(str::to_owned);
    let status = process::output_in(workspace, &argv, DEADLINE).await;
    read(&status.ok()?)
}

/// Reads Git's status: headers begin with `#`, every other line is a change.
fn read(status: &str) -> Option<Happening> {
    let mut lines = status.lines();
    let commit = lines.find_map(|line| line.strip_prefix("# branch.oid "))?;
    Some(Happening::Checkout {
        commit: commit.to_owned(),
        dirty: status.lines().any(|line| !line.starts_with('#')),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_a_new_file_makes_a_checkout_dirty() {
        let clean = "# branch.oid 7161467abc\n# branch.head main\n";
        for (changes, dirty) in [
            ("", false),
            ("1 .M N... 100644 100644 100644 5c 5c README.md\n", true),
            ("? notes.txt\n", true),
        ] {
            let status = format!("{clean}{changes}");
            let commit = "7161467abc".to_owned();
            assert_eq!(read(&status), Some(Happening::Checkout { commit, dirty }));
        }
        assert_eq!(read(""), None);
    }
}
