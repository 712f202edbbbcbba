//! The text of harness.toml in messages.

/// Masks the values of `[secrets]`, which somebody may have written there. Placeholders stay. Each
/// byte becomes one `*`, so that places in the text still hold. The text may not be valid TOML.
pub(super) fn without_secrets(text: &str) -> String {
    let mut is_in_secrets = false;
    text.split_inclusive('\n')
        .map(|line| {
            let key = line.trim_start().trim_start_matches('[').trim_start();
            let is_of_secrets = key.starts_with("secrets");
            if line.trim_start().starts_with('[') {
                is_in_secrets = is_of_secrets;
                return line.to_owned();
            }
            match is_in_secrets || is_of_secrets {
                true => masked(line),
                false => line.to_owned(),
            }
        })
        .collect()
}

/// Masks what follows the `=`, or all of a line without one: it continues a value.
fn masked(line: &str) -> String {
    let value = line.find('=').map_or(0, |at| at + 1);
    let (key, value) = line.split_at(value);
    let mut in_braces = false;
    let mut text = key.to_owned();
    for character in value.chars() {
        in_braces = in_braces && character != '}' || character == '{';
        match in_braces || character.is_whitespace() || "\"'{}[],#".contains(character) {
            true => text.push(character),
            false => text.extend(std::iter::repeat_n('*', character.len_utf8())),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_a_secret_is_masked_in_place() {
        let text = "[secrets.jwt]\nkey = \"häx=1\"\nurl = \"{database_url}\"\nlong = \"\"\"\nabc\n\"\"\"\n\n[platform]\nname = \"TRII\"\n";
        let masked = without_secrets(text);
        assert_eq!(masked.len(), text.len());
        assert_eq!(
            masked,
            "[secrets.jwt]\nkey = \"******\"\nurl = \"{database_url}\"\nlong = \"\"\"\n***\n\"\"\"\n\n[platform]\nname = \"TRII\"\n"
        );
        let dotted = without_secrets("secrets.jwt.key = 'x'\n[load]\nx = 1");
        assert_eq!(dotted, "secrets.jwt.key = '*'\n[load]\nx = 1");
    }
}
