//! What anybody answered, as every reader of JUnit takes it: XML 1.0 has no control characters,
//! not even as references (<https://www.w3.org/TR/xml/#charsets>), and an answer may be
//! megabytes.

use std::collections::HashSet;

/// The most characters of a text of its own.
const TEXT: usize = 16 * 1024;
/// The most characters of a message, an attribute.
const MESSAGE: usize = 2 * 1024;
/// The most characters of a name before its number.
const NAME: usize = 200;

/// A text whose control characters can be seen, and which ends.
pub(super) fn legible(text: &str) -> String {
    shortened(text, TEXT)
}

/// The same, for an attribute.
pub(super) fn message(text: &str) -> String {
    shortened(text, MESSAGE)
}

/// The same, as a name: an attribute's line break is read as a space, and so are several.
pub(super) fn name(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    match words.is_empty() {
        true => "(no name)".into(),
        false => shortened(&words.join(" "), NAME),
    }
}

fn shortened(text: &str, limit: usize) -> String {
    let end = text.char_indices().nth(limit).map(|(end, _)| end);
    let kept = &text[..end.unwrap_or(text.len())];
    let shown: String = kept.chars().map(visible).collect();
    match text.len() - kept.len() {
        0 => shown,
        left => format!("{shown}… ({left} more bytes)"),
    }
}

/// Escape sequences stay harmless text: removed, an unfinished one takes along what follows it.
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

/// Names of which no two are the same.
#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// None of these is given to another.
    pub(super) fn beside(taken: impl IntoIterator<Item = &'static str>) -> Self {
        Names(taken.into_iter().map(str::to_owned).collect())
    }

    /// `name`, numbered from 2 where it is taken.
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
