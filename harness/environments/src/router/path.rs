//! The normal form of a request's path, for the match with routes and for services.

/// Returns the normal form of a path (RFC 3986, 6.2.2). Decodes characters that need no encoding,
/// encodes the others with capital digits, merges slashes, and resolves dot segments; the root's
/// parent is the root. An encoded slash is a character of its segment. `None` for a malformed
/// encoding, or a path that does not begin with a slash.
pub fn normalised(raw: &str) -> Option<String> {
    let decoded = unreserved_decoded(raw.strip_prefix('/')?)?;
    let segments: Vec<&str> = decoded.split('/').collect();
    let mut resolved: Vec<&str> = Vec::new();
    for segment in &segments {
        match *segment {
            "" | "." => {}
            ".." => drop(resolved.pop()),
            segment => resolved.push(segment),
        }
    }
    if matches!(segments.last(), Some(&("" | "." | ".."))) && !resolved.is_empty() {
        resolved.push("");
    }
    Some(format!("/{}", resolved.join("/")))
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
    fn paths_are_normalised_as_by_the_ingress() {
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
        fn the_normal_form_of_a_normal_form_is_the_same(raw in "/([a-z./%~é-]|%[0-9a-fA-F]{2}){0,16}") {
            if let Some(path) = normalised(&raw) {
                prop_assert_eq!(normalised(&path), Some(path.clone()), "{}", raw);
            }
        }
    }
}
