//! A request's path as the ingress takes it: what routes are matched with, and what services are
//! asked for.

/// The path in its normal form (RFC 3986, 6.2.2): characters that need no encoding are decoded,
/// the others encoded with capital digits; slashes are merged, and dot segments resolved, the
/// root's parent being the root. An encoded slash is a character of its segment. None where an
/// encoding is malformed, or it does not begin with a slash.
pub fn normalised(raw: &str) -> Option<String> {
    let decoded = unreserved_decoded(raw.strip_prefix('/')?)?;
    let segments: Vec<&str> = decoded.split('/').collect();
    let mut kept: Vec<&str> = Vec::new();
    for segment in &segments {
        match *segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
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

fn unreserved_decoded(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut decoded = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|it| it.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        match byte {
            // RFC 3986, 2.3.
            b'-' | b'.' | b'_' | b'~' => decoded.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => decoded.push(byte.into()),
            byte => decoded.push_str(&format!("%{byte:02X}")),
        }
        decoded.push_str(rest);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read_as_the_ingress_reads_them() {
        let cases = [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/b/", Some("/a/b/")),
            ("//a///b", Some("/a/b")),
            ("/market%2Ddata/x", Some("/market-data/x")),
            ("/x/../market-data/./y", Some("/market-data/y")),
            ("/x/%2e%2E/y", Some("/y")),
            ("/x/..", Some("/")),
            ("/../x", Some("/x")),
            ("/a%2fb", Some("/a%2Fb")),
            ("/a%20b%c3%b1", Some("/a%20b%C3%B1")),
            ("/%ff", Some("/%FF")),
            ("/%zz", None),
            ("/%+1", None),
            ("/%4", None),
            ("*", None),
            ("", None),
        ];
        for (raw, expected) in cases {
            assert_eq!(normalised(raw).as_deref(), expected, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own(raw in "/([a-z./%~é-]|%[0-9a-fA-F]{2}){0,16}") {
            if let Some(path) = normalised(&raw) {
                prop_assert_eq!(normalised(&path), Some(path.clone()), "{}", raw);
            }
        }
    }
}
