//! Links from a report to the logs in the run folder.

use std::path::{Component, Path};

/// Returns the link to a log in the run folder. None for an empty path and for a path out of the
/// folder (absolute, `..`).
///
/// All bytes except RFC 3986's unreserved ones are percent-encoded. With the leading `./`, a name
/// such as `javascript:` is not a scheme.
pub(super) fn inside_run_folder(log: &str) -> Option<String> {
    let path = Path::new(log);
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if log.is_empty() || !inside {
        return None;
    }
    let mut link = String::from("./");
    for byte in log.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                link.push(byte.into());
            }
            _ => link.push_str(&format!("%{byte:02X}")),
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::inside_run_folder;

    #[test]
    fn only_a_log_in_the_run_folder_is_linked_and_never_as_a_scheme() {
        for (log, link) in [
            ("logs/api-gateway.log", Some("./logs/api-gateway.log")),
            ("logs/50% #1?.log", Some("./logs/50%25%20%231%3F.log")),
            ("javascript:alert(1)", Some("./javascript%3Aalert%281%29")),
            ("https://example.com", Some("./https%3A//example.com")),
            ("", None),
            ("/etc/passwd", None),
            ("../other-run/a.log", None),
            ("logs/../../a.log", None),
        ] {
            assert_eq!(inside_run_folder(log).as_deref(), link, "{log}");
        }
    }
}
