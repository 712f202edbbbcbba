//! dockerd's settings file. New settings are merged into it.
//!
//! dockerd does not start if a setting is both in its file and on its command line
//! (docs.docker.com, "dockerd", daemon configuration file). So a setting on the command line is not
//! written to the file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// dockerd's default settings file.
const FILE: &str = "/etc/docker/daemon.json";

const PID_FILE: &str = "/var/run/docker.pid";

/// Replaces the file atomically, and keeps a copy of the old one beside it.
const WRITE: &str = include_str!("write_settings.sh");

/// The file and its content.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DaemonSettings {
    file: PathBuf,
    /// The exact content; none if there is no file.
    text: Option<String>,
    values: Map<String, Value>,
    /// The flag of a runtime on the command line of the running dockerd.
    flag: Option<String>,
}

/// Why the file is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub(crate) enum NotOurs {
    #[error("cannot read dockerd's settings in {}: {why}", file.display())]
    #[diagnostic(help("run this as a user who may read it; nothing was changed"))]
    Unreadable { file: PathBuf, why: String },
    #[error("{}:{line}:{column}: dockerd's settings are no JSON: {why}", file.display())]
    #[diagnostic(help(
        "fix that line (dockerd does not start with it either) or move the file away; nothing was changed"
    ))]
    NotJson {
        file: PathBuf,
        line: usize,
        column: usize,
        why: String,
    },
    #[error("{}: {key} is {theirs}, but must be an object", file.display())]
    #[diagnostic(help(
        "fix it (dockerd does not start with it either) or move the file away; nothing was changed"
    ))]
    NotAnObject {
        file: PathBuf,
        key: String,
        theirs: String,
    },
    #[error("{place} sets {key} to {theirs}, which is not replaced automatically")]
    #[diagnostic(help(
        "if privileged containers may use ours instead, set {key} to {ours} there, and reload dockerd"
    ))]
    Conflict {
        place: String,
        key: String,
        theirs: String,
        ours: String,
    },
}

/// A runtime for `runtimes` and `default-runtime`.
pub(super) struct Runtime<'a> {
    pub name: &'a str,
    pub program: &'a str,
}

impl DaemonSettings {
    /// Reads the settings of the dockerd that runs here, or that would be started.
    pub fn read() -> Result<DaemonSettings, NotOurs> {
        let flags = Flags::of(&command_line(Path::new(PID_FILE)));
        DaemonSettings::of(&flags.file, flags.runtime)
    }

    fn of(file: &Path, flag: Option<String>) -> Result<DaemonSettings, NotOurs> {
        let text = match fs::read(file) {
            Ok(bytes) => Some(in_utf8(file, bytes)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(NotOurs::Unreadable {
                    file: file.to_owned(),
                    why: error.to_string(),
                });
            }
        };
        Ok(DaemonSettings {
            values: parsed(file, text.as_deref().unwrap_or_default())?,
            file: file.to_owned(),
            text,
            flag,
        })
    }

    /// Returns the settings without a file.
    #[cfg(test)]
    pub fn none() -> DaemonSettings {
        DaemonSettings {
            file: FILE.into(),
            text: None,
            values: Map::new(),
            flag: None,
        }
    }

    /// Returns whether `runtime` is the default one.
    pub fn has_as_default(&self, runtime: &str) -> bool {
        self.values.get("default-runtime") == Some(&json!(runtime))
    }

    /// Returns the command that writes the settings with `runtime` as default; all others stay.
    pub fn register(&self, runtime: &Runtime) -> Result<Vec<String>, NotOurs> {
        let merged = Value::Object(self.merged(runtime)?);
        let file = self.file.display().to_string();
        let before = self.text.clone().unwrap_or_default();
        let after = format!("{merged:#}");
        let command = ["sh", "-c", WRITE, "write-settings", &file, &before, &after];
        Ok(command.map(str::to_owned).to_vec())
    }

    fn merged(&self, runtime: &Runtime) -> Result<Map<String, Value>, NotOurs> {
        if let Some(flag) = &self.flag {
            return Err(NotOurs::Conflict {
                place: "the command line of dockerd".to_owned(),
                key: "its runtimes".to_owned(),
                theirs: flag.clone(),
                ours: format!(
                    "--add-runtime={0}={1} --default-runtime={0}",
                    runtime.name, runtime.program
                ),
            });
        }
        let mut values = self.values.clone();
        let runtimes = values.entry("runtimes").or_insert_with(|| json!({}));
        let Value::Object(runtimes) = runtimes else {
            return Err(NotOurs::NotAnObject {
                file: self.file.clone(),
                key: "runtimes".to_owned(),
                theirs: runtimes.to_string(),
            });
        };
        let key = format!("runtimes.{}", runtime.name);
        let program = json!({"path": runtime.program});
        self.put(runtimes, runtime.name, &key, program)?;
        let key = "default-runtime";
        self.put(&mut values, key, key, json!(runtime.name))?;
        Ok(values)
    }

    /// Sets a value, unless another one is set.
    fn put(
        &self,
        into: &mut Map<String, Value>,
        name: &str,
        key: &str,
        ours: Value,
    ) -> Result<(), NotOurs> {
        match into.get(name) {
            Some(theirs) if *theirs != ours => Err(NotOurs::Conflict {
                place: self.file.display().to_string(),
                key: key.to_owned(),
                theirs: theirs.to_string(),
                ours: ours.to_string(),
            }),
            _ => {
                into.insert(name.to_owned(), ours);
                Ok(())
            }
        }
    }
}

fn in_utf8(file: &Path, bytes: Vec<u8>) -> Result<String, NotOurs> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let mut lines = valid.split(|byte| *byte == b'\n');
        NotOurs::NotJson {
            file: file.to_owned(),
            line: lines.clone().count(),
            column: lines.next_back().map_or(0, <[u8]>::len) + 1,
            why: "a byte that is not UTF-8".to_owned(),
        }
    })
}

/// Like dockerd, this accepts an empty file and ignores a byte order mark.
fn parsed(file: &Path, text: &str) -> Result<Map<String, Value>, NotOurs> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(other) => Err(NotOurs::NotAnObject {
            file: file.to_owned(),
            key: "the content".to_owned(),
            theirs: other.to_string(),
        }),
        Err(error) => Err(NotOurs::NotJson {
            file: file.to_owned(),
            line: error.line(),
            column: error.column(),
            why: without_position(&error),
        }),
    }
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.find(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// The flags on a dockerd's command line.
#[derive(Debug, PartialEq, Eq)]
struct Flags {
    file: PathBuf,
    runtime: Option<String>,
}

impl Flags {
    fn of(command_line: &[String]) -> Flags {
        let value = |flag: &str| {
            let mut words = command_line.iter();
            let assigned = words.find_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
            assigned.map(str::to_owned).or_else(|| {
                let mut words = command_line.iter().skip_while(|word| *word != flag);
                words.nth(1).cloned()
            })
        };
        let runtime = ["--default-runtime", "--add-runtime"]
            .iter()
            .find_map(|flag| value(flag).map(|value| format!("{flag}={value}")));
        Flags {
            file: value("--config-file").map_or_else(|| FILE.into(), PathBuf::from),
            runtime,
        }
    }
}

/// Returns the command line of the dockerd that wrote this file; empty if none runs.
fn command_line(pid_file: &Path) -> Vec<String> {
    let pid = fs::read_to_string(pid_file).unwrap_or_default();
    let words = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    let words: Vec<String> = words
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    // Another process may have this process id now.
    let is_dockerd = words.first().is_some_and(|word| word.ends_with("dockerd"));
    words.into_iter().filter(|_| is_dockerd).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::process::{Command, Output};

    use tempfile::TempDir;

    use super::*;

    const OURS: Runtime = Runtime {
        name: "ours",
        program: "/opt/ours",
    };

    fn folder_with(text: &str) -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("daemon.json");
        fs::write(&file, text).unwrap();
        (folder, file)
    }

    fn register(file: &Path) -> Result<Value, NotOurs> {
        let output = run(&DaemonSettings::of(file, None)?.register(&OURS)?);
        assert!(output.status.success(), "{output:?}");
        Ok(serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap())
    }

    fn run(command: &[String]) -> Output {
        let output = Command::new(&command[0]).args(&command[1..]).output();
        output.unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<String> = names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn settings_are_merged_and_the_old_ones_kept() {
        let before =
            r#"{"log-driver": "local", "runtimes": {"nvidia": {"path": "/n", "runtimeArgs": []}}}"#;
        let (folder, file) = folder_with(before);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let after = register(&file).unwrap();
        assert_eq!(
            after,
            json!({
                "log-driver": "local",
                "default-runtime": "ours",
                "runtimes": {"nvidia": {"path": "/n", "runtimeArgs": []}, "ours": {"path": "/opt/ours"}},
            })
        );
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("daemon.json.before-trii-rehearsal"), before);
        // The second time changes nothing and keeps the first copy.
        assert_eq!(register(&file).unwrap(), after);
        assert_eq!(read("daemon.json.before-trii-rehearsal.~1~"), before);
        assert_eq!(names(folder.path()).len(), 3, "no temporary file remains");
    }

    #[test]
    fn a_file_that_cannot_be_parsed_is_reported_and_not_changed() {
        for (text, message) in [
            (
                "{\n  \"debug\": true,\n}\n",
                ":3:1: dockerd's settings are no JSON",
            ),
            ("[]", "the content is []"),
            (r#"{"runtimes": 3}"#, "runtimes is 3"),
        ] {
            let (folder, file) = folder_with(text);
            let error = register(&file).unwrap_err();
            let file_name = file.display().to_string();
            assert!(error.to_string().starts_with(&file_name), "{error}");
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
            assert_eq!(names(folder.path()), ["daemon.json"]);
        }
        let folder = TempDir::new().unwrap();
        let error = DaemonSettings::of(folder.path(), None).unwrap_err();
        assert!(matches!(error, NotOurs::Unreadable { .. }), "{error}");
        let latin = folder.path().join("latin");
        fs::write(&latin, b"{\n\"a\": \"\xe9\"}").unwrap();
        let error = DaemonSettings::of(&latin, None).unwrap_err().to_string();
        assert!(error.contains("latin:2:7: "), "{error}");
    }

    #[test]
    fn settings_of_the_user_are_not_replaced() {
        for (text, key) in [
            (r#"{"default-runtime": "nvidia"}"#, "default-runtime"),
            (r#"{"runtimes": {"ours": {"path": "/b"}}}"#, "runtimes.ours"),
        ] {
            let (_folder, file) = folder_with(text);
            let error = register(&file).unwrap_err().to_string();
            assert!(error.contains(&format!("sets {key} to ")), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        let (_folder, file) = folder_with("{}");
        let flag = "--default-runtime=kata";
        let settings = DaemonSettings::of(&file, Some(flag.to_owned())).unwrap();
        let error = settings.register(&OURS).unwrap_err().to_string();
        assert!(error.contains(flag), "{error}");
    }

    #[test]
    fn an_empty_file_a_byte_order_mark_and_no_file_are_accepted() {
        for text in ["", " \n", "\u{feff}{}"] {
            let (_folder, file) = folder_with(text);
            assert_eq!(register(&file).unwrap()["default-runtime"], "ours");
        }
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("docker/daemon.json");
        register(&file).unwrap();
        assert_eq!(names(file.parent().unwrap()), ["daemon.json"]);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o644);
    }

    #[test]
    fn a_link_stays_a_link() {
        let (folder, file) = folder_with(r#"{"debug": true}"#);
        let link = folder.path().join("link.json");
        symlink(&file, &link).unwrap();
        register(&link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&file).unwrap().contains("\"ours\""));
    }

    #[test]
    fn a_file_that_changed_since_it_was_read_is_not_replaced() {
        let (folder, file) = folder_with("{}");
        let command = DaemonSettings::of(&file, None).unwrap().register(&OURS);
        fs::write(&file, r#"{"debug": true}"#).unwrap();
        let output = run(&command.unwrap());
        assert!(!output.status.success());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("has changed since it was read"), "{errors}");
        assert_eq!(fs::read_to_string(&file).unwrap(), r#"{"debug": true}"#);
        assert_eq!(names(folder.path()), ["daemon.json"]);
    }

    #[test]
    fn flags_are_read_in_both_forms() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let flags = |line| Flags::of(&words(line));
        assert_eq!(flags("dockerd -H fd://").file, Path::new(FILE));
        assert_eq!(flags("dockerd --config-file=/a").file, Path::new("/a"));
        assert_eq!(flags("dockerd --config-file /a").file, Path::new("/a"));
        let runtime = flags("dockerd --add-runtime kata=/k").runtime;
        assert_eq!(runtime.as_deref(), Some("--add-runtime=kata=/k"));
    }
}
