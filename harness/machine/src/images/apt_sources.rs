//! The package sources of this machine. An image that is built here uses the same mirrors through
//! the same proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

/// Settings that a mirror may need.
const ACQUIRE: [&str; 4] = [
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

/// Returns the machine's sources for `suite`, its updates and its security archive; none if the
/// machine runs another suite.
pub(super) fn of_this_machine(suite: &str) -> Option<String> {
    sources_in(Path::new("/etc/apt"), suite)
}

fn sources_in(apt: &Path, suite: &str) -> Option<String> {
    let mut files = vec![apt.join("sources.list")];
    let more = fs::read_dir(apt.join("sources.list.d"));
    let more = more.into_iter().flatten().flatten();
    files.extend(more.map(|entry| entry.path()));
    files.sort();
    let entries = files.iter().flat_map(|file| entries_of(file, suite));
    let entries: Vec<String> = entries.collect();
    // Updates alone are not enough.
    let mut words = entries.iter().flat_map(|entry| entry.split_whitespace());
    let has_suite = words.any(|word| word == suite);
    has_suite.then(|| entries.concat())
}

/// Reads both forms of sources.list(5). Returns lines of the one-line form.
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
        // A key that is a file is kept. A key in the text has no one-line form.
        let key = match field("Signed-By").as_slice() {
            [file] if file.starts_with('/') => format!("[signed-by={file}] "),
            [] => String::new(),
            _ => continue,
        };
        let components = field("Components").join(" ");
        for uri in field("URIs") {
            let mut suites = field("Suites");
            suites.retain(|name| is_of(suite, name));
            entries.extend(
                suites
                    .iter()
                    .map(|name| format!("deb {key}{uri} {name} {components}\n")),
            );
        }
    }
    entries
}

/// Returns the machine's values of [`ACQUIRE`], as lines of apt.conf.
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
    fn both_forms_are_read_and_other_suites_left_out() {
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
    fn a_machine_of_another_suite_has_no_sources() {
        let dir = apt(&[("sources.list", "deb http://mirror/ubuntu noble main\n")]);
        assert_eq!(sources_in(dir.path(), "bookworm"), None);
        assert_eq!(sources_in(Path::new("/nowhere"), "bookworm"), None);
        let updates = "deb http://m/debian bookworm-updates main\n";
        let dir = apt(&[("sources.list", updates)]);
        assert_eq!(sources_in(dir.path(), "bookworm"), None, "updates alone");
    }

    #[test]
    fn only_settings_that_a_mirror_may_need_are_returned() {
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
