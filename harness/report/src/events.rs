//! Reads the record of a run.

use std::io;
use std::path::Path;

use super::ReportError;
use base::run::EVENTS;
use base::run::event::Event;

/// The record of a run.
#[derive(Debug)]
pub(super) struct EventRecord {
    /// The events, in the order they were written.
    pub events: Vec<Event>,
    /// The number, from 1, of a line that was not completely written.
    pub torn_line: Option<usize>,
}

/// Reads the record in `run_folder`.
pub(super) fn read(run_folder: &Path) -> Result<EventRecord, ReportError> {
    let path = run_folder.join(EVENTS);
    let bytes = std::fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReportError::NoRun {
            folder: run_folder.to_owned(),
        },
        _ => ReportError::Unreadable {
            path: path.clone(),
            source,
        },
    })?;
    parse(&bytes).map_err(|(line, source)| ReportError::Malformed { path, line, source })
}

/// Parses a record. An error has the line, counted from 1. The input is bytes: a kill may cut a
/// character in two.
fn parse(bytes: &[u8]) -> Result<EventRecord, (usize, serde_json::Error)> {
    let mut record = EventRecord {
        events: Vec::new(),
        torn_line: None,
    };
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(event) => record.events.push(event),
            // Only the last line can have no newline.
            Err(_) if !line.ends_with(b"\n") => record.torn_line = Some(index + 1),
            Err(source) => return Err((index + 1, source)),
        }
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"{"at":"2026-03-02T09:00:00Z","event":"stage-started","stage":"plan"}"#;

    #[test]
    fn a_record_is_read_with_or_without_its_last_newline() {
        for (record, events) in [
            (format!("{PLAN}\n{PLAN}\n"), 2),
            (format!("{PLAN}\n{PLAN}"), 2),
            (PLAN.to_owned(), 1),
        ] {
            let record = parse(record.as_bytes()).unwrap();
            assert_eq!((record.events.len(), record.torn_line), (events, None));
        }
    }

    #[test]
    fn a_last_line_cut_anywhere_is_torn() {
        let line = PLAN.replace("plan", "pl\u{e4}n");
        for cut in 1..line.len() {
            let bytes = [PLAN.as_bytes(), b"\n", &line.as_bytes()[..cut]].concat();
            let record = parse(&bytes).unwrap();
            assert_eq!((record.events.len(), record.torn_line), (1, Some(2)));
        }
    }

    #[test]
    fn any_other_malformed_line_is_an_error_that_names_it() {
        for record in [
            format!("{PLAN}\nnonsense\n{PLAN}\n"),
            format!("{PLAN}\n\n{PLAN}\n"),
            format!("{PLAN}\n{{}}\n"),
        ] {
            let (line, _) = parse(record.as_bytes()).unwrap_err();
            assert_eq!(line, 2);
        }
    }
}
