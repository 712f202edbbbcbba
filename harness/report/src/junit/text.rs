//! Converts any text to a form that every reader of JUnit accepts. XML 1.0 allows no control
//! characters, not even as references (<https://www.w3.org/TR/xml/#charsets>), and a text may
//! have megabytes.

use std::collections::HashSet;

/// The most characters of a text node.
const TEXT: usize = 16 * 1024;
/// The most characters of a message, which is an attribute.
const MESSAGE: usize = 2 * 1024;
/// The most characters of a name, without its number.
const NAME: usize = 200;

/// Shortens a text, and makes its control characters visible.
pub(super) fn legible(text: &str) -> String {
    shortened(text, TEXT)
}

/// Like [`legible`], for an attribute.
pub(super) fn message(text: &str) -> String {
    shortened(text, MESSAGE)
}

/// Like [`legible`], for a name. Whitespace becomes one space, as readers do in attributes.
pub(super) fn name(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    match words.is_empty() {
        true => "(no name)".into(),
        false => shortened(&words.join(" "), NAME),
    }
}

fn shortened(text: &str, limit: usize) -> String {
    let end = text.char_indices().nth(limit).map(|(end, _)| end);
    let end = end.unwrap_or(text.len());
    let shown: String = text[..end].chars().map(visible).collect();
    match text.len() - end {
        0 => shown,
        more => format!("{shown}… ({more} more bytes)"),
    }
}

/// Escape sequences become harmless text. They are not removed: an incomplete one would remove the
/// text after it.
fn visible(character: char) -> char {
    match character {
        '\n' => '\n',
        '\t' => ' ',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or(' '),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        other => other,
    }
}

/// Unique names.
#[derive(Default)]
pub(super) struct UniqueNames(HashSet<String>);

impl UniqueNames {
    /// Reserves these names.
    pub(super) fn beside(taken: impl IntoIterator<Item = &'static str>) -> Self {
        UniqueNames(taken.into_iter().map(str::to_owned).collect())
    }

    /// Returns `name`, with a number from 2 if it is taken.
    pub(super) fn unique(&mut self, name: &str) -> String {
        let mut free = name.to_owned();
        let mut number = 1;
        while !self.0.insert(free.clone()) {
            number += 1;
            free = format!("{name} ({number})");
        }
        free
    }
}
