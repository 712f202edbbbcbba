//! Placeholders: `{port}` in a text of `harness.toml` stands for a value that the harness knows later.

use std::collections::BTreeMap;

/// The value of each placeholder, by its name. Some are secrets.
pub(crate) type Values = BTreeMap<&'static str, String>;

/// The names of all placeholders.
pub(crate) const NAMES: [&str; 11] = [
    "port",
    "metrics_port",
    "program",
    "service",
    "version",
    "instance",
    "target",
    "database_url",
    "redis_url",
    "jwt_secret",
    "demo_password",
];

/// Those with a secret.
pub(crate) const SECRETS: [&str; 4] = ["database_url", "redis_url", "jwt_secret", "demo_password"];

/// Those that differ between services.
pub(crate) const OF_A_SERVICE: [&str; 4] = ["port", "metrics_port", "service", "instance"];

/// Those with a value before anything is started.
pub(crate) const OF_A_BUILD: [&str; 2] = ["version", "target"];

/// Returns the names in braces: lower-case letters and `_`. Other braces are text, such as JSON's.
pub(crate) fn names_in(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, name, after) = first(rest)?;
        rest = after;
        Some(name)
    })
}

/// Replaces each placeholder that has a value.
pub(crate) fn render(text: &str, values: &Values) -> String {
    let (mut rendered, mut rest) = (String::new(), text);
    while let Some((before, name, after)) = first(rest) {
        rendered += before;
        match values.get(name) {
            Some(value) => rendered += value,
            None => rendered += &rest[before.len()..rest.len() - after.len()],
        }
        rest = after;
    }
    rendered + rest
}

/// Returns the text before the first name in braces, the name, and the text after it.
fn first(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices('{').find_map(|(open, _)| {
        let (name, after) = text[open + 1..].split_once('}')?;
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let found = !name.is_empty() && name.chars().all(is_name);
        found.then(|| (&text[..open], name, after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> Values {
        let names = NAMES.into_iter().zip(1..);
        names.map(|(name, it)| (name, it.to_string())).collect()
    }

    #[test]
    fn each_placeholder_becomes_its_value() {
        for (text, rendered) in [
            ("127.0.0.1:{port}", "127.0.0.1:1"),
            ("{port}{metrics_port}", "12"),
            ("{{port}}", "{1}"),
            ("{\"a\": {port}}", "{\"a\": 1}"),
            ("${HOME}/{} {port", "${HOME}/{} {port"),
            ("{prot}", "{prot}"),
            ("", ""),
        ] {
            assert_eq!(render(text, &values()), rendered, "{text}");
        }
    }

    #[test]
    fn a_value_is_not_rendered_again() {
        let values = Values::from([("service", "{port}".to_owned()), ("port", "1".to_owned())]);
        assert_eq!(render("{service}", &values), "{port}");
    }

    #[test]
    fn names_are_found_in_their_order() {
        let names: Vec<&str> = names_in("a{port}{b} {} {C} {metrics_port}{").collect();
        assert_eq!(names, ["port", "b", "metrics_port"]);
    }

    proptest! {
        #[test]
        fn a_rendered_text_has_no_placeholder(
            parts in prop::collection::vec((".{0,8}", prop::sample::select(&NAMES[..])), 0..6),
        ) {
            let texts = parts.iter().map(|(text, name)| format!("{text}{{{name}}}"));
            let rendered = render(&texts.collect::<String>(), &values());
            let left = names_in(&rendered).find(|name| NAMES.contains(name));
            prop_assert_eq!(left, None, "{}", rendered);
        }

        #[test]
        fn a_text_without_braces_is_unchanged(text in "[^{}]*") {
            prop_assert_eq!(render(&text, &values()), text);
        }
    }
}
