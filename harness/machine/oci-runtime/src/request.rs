//! Finds the file that has the capabilities of a container's process.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file that describes a process.
#[derive(Debug, PartialEq, Eq)]
pub struct ProcessRequest {
    /// The file.
    pub file: PathBuf,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// The configuration of a bundle, with the process as a part.
    Bundle,
    /// The process itself.
    Process,
}

impl ProcessRequest {
    /// Returns the process in the file's document.
    pub fn process_in<'a>(&self, document: &'a mut Value) -> &'a mut Value {
        match self.kind {
            Kind::Bundle => &mut document["process"],
            Kind::Process => document,
        }
    }
}

/// Returns the file that `runc ARGUMENTS` reads about a process; none if it starts no process, or
/// if the process is on the command line.
pub fn of(arguments: &[OsString]) -> Option<ProcessRequest> {
    let is = |name: &str| arguments.iter().any(|word| word == name);
    if is("create") || is("run") {
        // runc's own default is the working directory.
        let bundle = option(arguments, "-b", "--bundle").unwrap_or_else(|| ".".into());
        return Some(ProcessRequest {
            file: Path::new(&bundle).join("config.json"),
            kind: Kind::Bundle,
        });
    }
    if is("exec") {
        return Some(ProcessRequest {
            file: option(arguments, "-p", "--process")?.into(),
            kind: Kind::Process,
        });
    }
    None
}

/// Returns the value of an option: `--name value` or `--name=value`.
fn option(arguments: &[OsString], short: &str, long: &str) -> Option<OsString> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == short || word == long {
            return words.next().cloned();
        }
        let bytes = word.as_encoded_bytes();
        let assigned = [short, long].into_iter().find_map(|name| {
            let rest = bytes.strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        });
        if let Some(value) = assigned.and_then(|value| std::str::from_utf8(value).ok()) {
            return Some(OsStr::new(value).to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<ProcessRequest> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        of(&words)
    }

    /// The options that containerd's shim passes.
    const GLOBAL: &str =
        "--root /var/run/docker/runtime-runc/moby --log /run/log.json --log-format json";

    #[test]
    fn a_new_container_is_described_by_its_bundle() {
        let request = ProcessRequest {
            file: "/run/b/config.json".into(),
            kind: Kind::Bundle,
        };
        let line = format!("{GLOBAL} create --bundle /run/b --pid-file /run/b/init.pid abc");
        assert_eq!(parsed(&line).as_ref(), Some(&request));
        assert_eq!(parsed("run -b /run/b abc").as_ref(), Some(&request));
        assert_eq!(parsed("create --bundle=/run/b abc"), Some(request));
    }

    #[test]
    fn another_process_is_described_by_its_file() {
        let request = parsed(&format!("{GLOBAL} exec --process /tmp/p123 --detach abc"));
        assert_eq!(request.unwrap().file, Path::new("/tmp/p123"));
        assert_eq!(parsed("exec abc ls"), None);
    }

    #[test]
    fn other_requests_are_passed_on() {
        for line in ["state abc", "kill abc 9", "delete --force abc", "--version"] {
            assert_eq!(parsed(&format!("{GLOBAL} {line}")), None, "{line}");
        }
    }
}
