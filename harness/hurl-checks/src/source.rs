//! The text of a file, and positions in it.

use std::path::Path;

use hurl_core::ast::SourceInfo;
use hurl_core::reader::Pos;
use miette::NamedSource;

use crate::error::{HurlFileError, Refusal};

pub(crate) struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl Source<'_> {
    /// Returns a line as it is written, without the spaces around it.
    pub(crate) fn line(&self, line: usize) -> &str {
        let lines = &mut self.text.lines();
        lines.nth(line.saturating_sub(1)).unwrap_or_default().trim()
    }

    /// Names the file and the line of a refusal.
    pub(crate) fn error(&self, refusal: Refusal) -> HurlFileError {
        let SourceInfo { start, end } = refusal.at;
        let from = self.offset(start);
        // To the end of the first line at most.
        let line_end = self.text[from..]
            .find(['\r', '\n'])
            .map_or(self.text.len(), |at| from + at);
        let to = self.offset(end).clamp(from, line_end);
        HurlFileError {
            path: self.path.to_owned(),
            line: start.line,
            message: refusal.message,
            help: refusal.help,
            text: NamedSource::new(self.path.display().to_string(), self.text.to_owned()),
            span: (from, to - from).into(),
        }
    }

    /// Returns a position's offset in bytes. hurl_core counts characters, and no combining ones.
    fn offset(&self, at: Pos) -> usize {
        let mut lines = self.text.split_inclusive('\n');
        let before: usize = lines
            .by_ref()
            .take(at.line.saturating_sub(1))
            .map(str::len)
            .sum();
        let line = lines.next().unwrap_or_default();
        let counted = |(_, character): &(usize, char)| !('\u{301}'..'\u{36f}').contains(character);
        let mut characters = line.char_indices().filter(counted);
        let column = characters.nth(at.column.saturating_sub(1));
        before + column.map_or(line.len(), |(offset, _)| offset)
    }
}
