//! A request's path as nginx sees it when it chooses a location: decoded, slashes merged,
//! dot segments resolved (<https://nginx.org/en/docs/http/ngx_http_core_module.html#location>).

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What must be encoded again in a path (RFC 3986, 3.3).
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The path that routes are matched with; `None` where it is no UTF-8 or climbs above
/// the root, which nginx answers with 400.
pub fn normalised(raw: &str) -> Option<String> {
    let decoded = percent_decode_str(raw).decode_utf8().ok()?;
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = decoded.split('/').collect();
    for segment in &segments {
        match *segment {
            "" | "." => {}
            ".." => {
                kept.pop()?;
            }
            segment => kept.push(segment),
        }
    }
    let ends_open = matches!(segments.last(), Some(&("" | "." | "..")));
    let slash = if ends_open && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    Some(format!("/{}{slash}", kept.join("/")))
}

/// A path that may be sent.
pub fn encoded(path: &str) -> String {
    utf8_percent_encode(path, NOT_IN_A_PATH).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read_as_nginx_reads_them() {
        let cases = [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/b/", Some("/a/b/")),
            ("//a///b", Some("/a/b")),
            ("/market%2Ddata/x", Some("/market-data/x")),
            ("/x/../market-data/./y", Some("/market-data/y")),
            ("/x/..", Some("/")),
            ("/..", None),
            ("/%ff", None),
        ];
        for (raw, expected) in cases {
            assert_eq!(normalised(raw).as_deref(), expected, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_the_same_again(path in "(/[^/\\x00]{1,8}){1,4}/?") {
            prop_assume!(!path.split('/').any(|segment| segment == "." || segment == ".."));
            prop_assert_eq!(normalised(&encoded(&path)), Some(path));
        }
    }
}
