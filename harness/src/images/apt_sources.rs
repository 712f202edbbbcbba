//! The package sources of this machine, so that an image built here asks the
//! same mirrors, through the same proxy, as the machine itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

/// Settings that decide whether a mirror is reached and its lists accepted.
const ACQUIRE: [&str; 4] = [
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

/// The machine's sources for `suite`, its updates and its security archive;
/// none when the machine runs another suite.
pub(super) fn of_this_machine(suite: &str) -> Option<String> {
    sources_in(Path::new("/etc/apt"), suite)
}

fn sources_in(apt: &Path, suite: &str) -> Option<String> {
    let mut files = vec![apt.join("sources.list")];
    let more = fs::read_dir(apt.join("sources.list.d"));
    files.extend(
        more.into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    files.sort();
    let entries: Vec<String> = files
        .iter()
        .flat_map(|file| entries_of(file, suite))
        .collect();
    // Updates alone are no system.
    let has_suite = entries.iter().any(|entry| {
        let mut words = entry.split_whitespace();
        words.any(|word| word == suite)
    });
    has_suite.then(|| entries.concat())
}

/// Both forms of sources.list(5), as lines of the one-line form.
fn entries_of(file: &PathBuf, suite: &str) -> Vec<String> {
    let Ok(text) = fs::read_to_string(file) else {
        return Vec::new();
    };
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("list") => one_line_entries(&text, suite),
        Some("sources") => stanzas(&text, suite),
        _ => Vec::new(),
    }
}

fn is_of(suite: &str, word: &str) -> bool {
    word.strip_prefix(suite)
        .is_some_and(|rest| matches!(rest, "" | "-updates" | "-security"))
}

fn one_line_entries(text: &str, suite: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("deb "))
        .filter(|line| line.split_whitespace().any(|word| is_of(suite, word)))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn stanzas(text: &str, suite: &str) -> Vec<String> {
    let mut entries = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza
                .lines()
                .filter(|line| !line.starts_with('#'))
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(|value| value.split_whitespace().collect::<Vec<_>>())
                .unwrap_or_default()
        };
        let disabled = field("Enabled") == ["no"];
        if disabled || !field("Types").contains(&"deb") {
            continue;
        }
        // A key given as a file is kept; one given in the text has no one-line form.
        let key = match field("Signed-By").as_slice() {
            [file] if file.starts_with('/') => format!("[signed-by={file}] "),
            [] => String::new(),
            _ => continue,
        };
        let components = field("Components").join(" ");
        for uri in field("URIs") {
            for name in field("Suites")
                .into_iter()
                .filter(|name| is_of(suite, name))
            {
                entries.push(format!("deb {key}{uri} {name} {components}\n"));
            }
        }
    }
    entries
}

/// The machine's `Acquire` settings that matter, as apt.conf lines.
pub(super) async fn acquire_options() -> Vec<String> {
    let output = Command::new("apt-config")
        .arg("dump")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(5), output).await;
    let Ok(Ok(output)) = output else {
        return Vec::new();
    };
    settings(&String::from_utf8_lossy(&output.stdout))
}

fn settings(dump: &str) -> Vec<String> {
    dump.lines()
        .filter(|line| {
            let name = line.split_whitespace().next();
            name.is_some_and(|name| ACQUIRE.iter().any(|known| known.eq_ignore_ascii_case(name)))
        })
        .filter(|line| !line.ends_with("\"\";"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn apt(files: &[(&str, &str)]) -> TempDir {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        for (path, text) in files {
            fs::write(dir.path().join(path), text).unwrap();
        }
        dir
    }

    #[test]
    fn both_forms_are_read_and_strangers_left_out() {
        let dir = apt(&[
            (
                "sources.list",
                "# deb http://old bookworm main\ndeb http://mirror/debian bookworm main\n\
                 deb-src http://mirror/debian bookworm main\ndeb http://other stable main\n",
            ),
            (
                "sources.list.d/security.sources",
                "Types: deb\n# a remark\nURIs: http://mirror/security\n\
                 Suites: bookworm-security bookworm-backports\nComponents: main\nSigned-By: /key.gpg\n",
            ),
        ]);
        assert_eq!(
            sources_in(dir.path(), "bookworm").unwrap(),
            "deb http://mirror/debian bookworm main\n\
             deb [signed-by=/key.gpg] http://mirror/security bookworm-security main\n"
        );
    }

    #[test]
    fn a_machine_of_another_suite_has_no_say() {
        let dir = apt(&[("sources.list", "deb http://mirror/ubuntu noble main\n")]);
        assert_eq!(sources_in(dir.path(), "bookworm"), None);
        assert_eq!(sources_in(Path::new("/nowhere"), "bookworm"), None);
    }

    #[test]
    fn updates_without_their_suite_are_not_enough() {
        let dir = apt(&[(
            "sources.list",
            "deb http://m/debian bookworm-updates main\n",
        )]);
        assert_eq!(sources_in(dir.path(), "bookworm"), None);
    }

    #[test]
    fn only_settings_that_matter_are_taken() {
        let dump = "APT::Architecture \"amd64\";\nAcquire::Check-Date \"false\";\n\
                    Acquire::http::Proxy \"\";\nAcquire::https::proxy \"http://p:1\";\n";
        assert_eq!(
            settings(dump),
            [
                "Acquire::Check-Date \"false\";",
                "Acquire::https::proxy \"http://p:1\";"
            ]
        );
    }
}
