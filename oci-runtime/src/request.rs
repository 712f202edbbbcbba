//! Which file says what a container's process may do.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file that describes a process.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The file.
    pub file: PathBuf,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A bundle's configuration, of which the process is a part.
    Bundle,
    /// The process itself.
    Process,
}

impl Request {
    /// The process in the file's document.
    pub fn process_in<'a>(&self, document: &'a mut Value) -> &'a mut Value {
        match self.kind {
            Kind::Bundle => &mut document["process"],
            Kind::Process => document,
        }
    }
}

/// What `runc ARGUMENTS` reads about a process; none when it starts none, or is told all
/// on the command line.
pub fn of(arguments: &[OsString]) -> Option<Request> {
    let is = |name: &str| arguments.iter().any(|word| word == name);
    if is("create") || is("run") {
        // runc's own default is the working directory.
        let bundle = option(arguments, "-b", "--bundle").unwrap_or_else(|| ".".into());
        return Some(Request {
            file: Path::new(&bundle).join("config.json"),
            kind: Kind::Bundle,
        });
    }
    if is("exec") {
        return Some(Request {
            file: option(arguments, "-p", "--process")?.into(),
            kind: Kind::Process,
        });
    }
    None
}

/// The value of an option, given as `--name value` or `--name=value`.
fn option(arguments: &[OsString], short: &str, long: &str) -> Option<OsString> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == short || word == long {
            return words.next().cloned();
        }
        let bytes = word.as_encoded_bytes();
        let given = [short, long].into_iter().find_map(|name| {
            let rest = bytes.strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        });
        if let Some(value) = given.and_then(|value| std::str::from_utf8(value).ok()) {
            return Some(OsStr::new(value).to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Option<Request> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        of(&words)
    }

    /// As containerd's shim calls it.
    const GLOBAL: &str =
        "--root /var/run/docker/runtime-runc/moby --log /run/log.json --log-format json";

    #[test]
    fn a_new_container_is_described_by_its_bundle() {
        let request = Request {
            file: "/run/b/config.json".into(),
            kind: Kind::Bundle,
        };
        let line = format!("{GLOBAL} create --bundle /run/b --pid-file /run/b/init.pid abc");
        assert_eq!(asked(&line).as_ref(), Some(&request));
        assert_eq!(asked("run -b /run/b abc").as_ref(), Some(&request));
        assert_eq!(asked("create --bundle=/run/b abc"), Some(request));
    }

    #[test]
    fn another_process_is_described_by_its_file() {
        let request = asked(&format!("{GLOBAL} exec --process /tmp/p123 --detach abc"));
        assert_eq!(request.unwrap().file, Path::new("/tmp/p123"));
        assert_eq!(asked("exec abc ls"), None);
    }

    #[test]
    fn other_requests_are_passed_on() {
        for line in ["state abc", "kill abc 9", "delete --force abc", "--version"] {
            assert_eq!(asked(&format!("{GLOBAL} {line}")), None, "{line}");
        }
    }
}
