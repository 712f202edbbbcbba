//! Links from a report to the logs beside it.

use std::path::{Component, Path};

/// The link to a log, where it lies inside the run folder.
///
/// `None` for whatever leads out of it (absolute paths, `..`) or is no path. Every
/// byte but RFC 3986's unreserved ones is percent-encoded, and the `./` keeps a name
/// such as `javascript:` from being read as a scheme.
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
    fn a_log_in_the_run_folder_is_linked() {
        assert_eq!(
            inside_run_folder("logs/api-gateway.log").as_deref(),
            Some("./logs/api-gateway.log")
        );
        assert_eq!(
            inside_run_folder("logs/50% #1?.log").as_deref(),
            Some("./logs/50%25%20%231%3F.log")
        );
    }

    #[test]
    fn nothing_else_is() {
        for log in ["", "/etc/passwd", "../other-run/a.log", "logs/../../a.log"] {
            assert_eq!(inside_run_folder(log), None, "{log}");
        }
    }

    #[test]
    fn a_scheme_is_only_a_strange_name() {
        for log in ["javascript:alert(1)", "https://example.com"] {
            let link = inside_run_folder(log).unwrap();
            assert!(link.starts_with("./") && !link.contains(':'), "{link}");
        }
    }
}
