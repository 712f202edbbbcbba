//! The output of the program `prober`: each line is a JSON array that starts with its number.
//!
//! ```text
//! [0,"ready",1764113612000123,["new-connection","pooled"]]
//! [1,"by",0,"market-data-service","v2.1.0","market-data-service-blue-7c9-x2x"]
//! [2,0,5000,310,1890,200,true,0,17,1]
//! [3,1,5000,400,5400,"reset",false,0,3,42]
//! [4,"end",1764113642000123,{"due":2,"dropped":0,"p99":400,…}]
//! ```
//!
//! - *ready*: when it started, in microseconds since the Unix epoch, and the lanes' names.
//! - *by*: an identity, and its number, which answers refer to.
//! - an answer: the lane (its index in the names); when it was due, in microseconds after the
//!   start; the delay of its start; its duration; a status or a word, or a pair of either and a
//!   reason; whether it is good; the number of the identity that answered, or null; the connection,
//!   or 0 without one; the request's position on it. About 60 bytes.
//! - *end*: when it ended, and the prober's [`Lag`].
//!
//! With the line numbers, a reader can read an interrupted log again from the start, and count the
//! missing lines.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::answer::{Answer, ConnectionUse, Identity, RequestOutcome};
use crate::lag::Lag;

/// A line that a prober did not print.
#[derive(Debug, Error, Diagnostic)]
#[error("not a line of a prober: {line}: {why}")]
#[diagnostic(
    code(prober::line),
    help("is the image of the same version as this program?")
)]
pub struct LineError {
    /// The line, or its beginning.
    pub line: String,
    /// The cause.
    pub why: String,
}

/// A line in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Answer(
        u64,
        usize,
        u64,
        u64,
        u64,
        RequestOutcome,
        bool,
        Option<usize>,
        u64,
        u32,
    ),
    By(u64, ByTag, usize, String, String, String),
    Ready(u64, ReadyTag, u64, Vec<Arc<str>>),
    End(u64, EndTag, u64, Lag),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ByTag {
    By,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReadyTag {
    Ready,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EndTag {
    End,
}

/// Prints lines.
pub struct LineWriter<W> {
    out: W,
    next: u64,
    began: u64,
    lanes: BTreeMap<Arc<str>, usize>,
    interned: BTreeMap<Arc<Identity>, usize>,
}

impl<W: Write> LineWriter<W> {
    /// Prints that the prober is ready.
    pub fn ready(out: W, began: u64, lanes: Vec<Arc<str>>) -> io::Result<LineWriter<W>> {
        let indices = lanes.iter().cloned().zip(0..);
        let mut writer = LineWriter {
            out,
            next: 0,
            began,
            lanes: indices.collect(),
            interned: BTreeMap::new(),
        };
        let number = writer.number();
        writer.print(&Line::Ready(number, ReadyTag::Ready, began, lanes))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Prints an answer.
    pub fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        let by = match &answer.by {
            Some(by) => Some(self.interned(by)?),
            None => None,
        };
        let on = answer.on;
        let line = Line::Answer(
            self.number(),
            self.lanes.get(&answer.lane).copied().unwrap_or(usize::MAX),
            answer.intended.saturating_sub(self.began),
            answer.sent_after,
            answer.took,
            answer.outcome.clone(),
            answer.good,
            by,
            on.map_or(0, |on| on.connection),
            on.map_or(0, |on| on.request),
        );
        self.print(&line)
    }

    /// Prints the prober's end.
    pub fn end(&mut self, at: u64, lag: Lag) -> io::Result<()> {
        let number = self.number();
        self.print(&Line::End(number, EndTag::End, at, lag))?;
        self.flush()
    }

    /// Flushes the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn interned(&mut self, by: &Arc<Identity>) -> io::Result<usize> {
        if let Some(interned) = self.interned.get(by) {
            return Ok(*interned);
        }
        let index = self.interned.len();
        self.interned.insert(by.clone(), index);
        let Identity {
            service,
            version,
            instance,
        } = Identity::clone(by);
        let number = self.number();
        self.print(&Line::By(
            number,
            ByTag::By,
            index,
            service,
            version,
            instance,
        ))?;
        Ok(index)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn print(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

/// Reads lines, and ignores those that it has read before.
#[derive(Debug, Default)]
pub struct LineReader {
    next: u64,
    lost: u64,
    began: u64,
    lanes: Vec<Arc<str>>,
    interned: BTreeMap<usize, Arc<Identity>>,
}

/// The content of a line.
#[derive(Debug, PartialEq)]
pub enum ProberMessage {
    /// The prober has started: when, in microseconds since the Unix epoch.
    Ready(u64),
    /// A request has ended.
    Answer(Answer),
    /// The prober has ended: when, and its lag.
    End(u64, Lag),
    /// Nothing new.
    Nothing,
}

impl LineReader {
    /// Returns the number of missing lines so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Reads the next line, or one that was read before.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn read(&mut self, text: &str) -> Result<ProberMessage, LineError> {
        const BEGINNING: usize = 200;
        let wrong = |why: String| LineError {
            line: text.chars().take(BEGINNING).collect(),
            why,
        };
        let line: Line = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let (Line::Answer(number, ..)
        | Line::By(number, ..)
        | Line::Ready(number, ..)
        | Line::End(number, ..)) = line;
        if number < self.next {
            return Ok(ProberMessage::Nothing);
        }
        self.lost += number - self.next;
        self.next = number + 1;
        match line {
            Line::Ready(_, _, began, lanes) => {
                (self.began, self.lanes) = (began, lanes);
                Ok(ProberMessage::Ready(began))
            }
            Line::By(_, _, index, service, version, instance) => {
                let identity = Identity {
                    service,
                    version,
                    instance,
                };
                self.interned.insert(index, Arc::new(identity));
                Ok(ProberMessage::Nothing)
            }
            Line::End(_, _, at, lag) => Ok(ProberMessage::End(at, lag)),
            Line::Answer(
                _,
                lane,
                due,
                sent_after,
                took,
                outcome,
                good,
                by,
                connection,
                request,
            ) => {
                let lane = self.lanes.get(lane).cloned();
                Ok(ProberMessage::Answer(Answer {
                    lane: lane.ok_or_else(|| wrong("unknown lane".into()))?,
                    intended: self.began + due,
                    sent_after,
                    took,
                    outcome,
                    good,
                    // None if the line with its identity is missing.
                    by: by.and_then(|by| self.interned.get(&by).cloned()),
                    on: (connection > 0).then_some(ConnectionUse {
                        connection,
                        request,
                    }),
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outcome: RequestOutcome, instance: Option<&str>) -> Answer {
        Answer {
            lane: "pooled".into(),
            intended: 1_764_113_612_345_678,
            sent_after: 310,
            took: 1_890,
            good: outcome == RequestOutcome::Status(200),
            outcome,
            by: instance.map(|instance| {
                Arc::new(Identity {
                    service: "market-data-service".into(),
                    version: "v2.1.0".into(),
                    instance: instance.into(),
                })
            }),
            on: Some(ConnectionUse {
                connection: 17,
                request: 42,
            }),
        }
    }

    fn all() -> Vec<Answer> {
        let mut unreachable = answer(RequestOutcome::Unreachable("no route".into()), None);
        unreachable.on = None;
        vec![
            answer(RequestOutcome::Status(200), Some("blue-1")),
            answer(RequestOutcome::Status(503), Some("blue-2")),
            answer(
                RequestOutcome::Problem(503, "the database does not answer".into()),
                Some("blue-2"),
            ),
            answer(RequestOutcome::Reset, Some("blue-1")),
            answer(RequestOutcome::Refused, None),
            answer(RequestOutcome::TimedOut, None),
            answer(RequestOutcome::Dropped, None),
            answer(RequestOutcome::Tls("UnknownIssuer".into()), None),
            answer(
                RequestOutcome::Protocol("invalid HTTP version".into()),
                None,
            ),
            unreachable,
        ]
    }

    fn written(answers: &[Answer]) -> String {
        let mut bytes = Vec::new();
        let lanes = vec!["new-connection".into(), "pooled".into()];
        let mut writer = LineWriter::ready(&mut bytes, 1_764_113_612_000_000, lanes).unwrap();
        for answer in answers {
            writer.answer(answer).unwrap();
        }
        writer.end(1_764_113_613_000_000, Lag::default()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn answers(reader: &mut LineReader, text: &str) -> Vec<Answer> {
        let messages = text.lines().map(|line| reader.read(line).unwrap());
        let answers = messages.filter_map(|message| match message {
            ProberMessage::Answer(answer) => Some(answer),
            _ => None,
        });
        answers.collect()
    }

    #[test]
    fn the_lines_are_as_documented() {
        insta::assert_snapshot!(written(&all()));
    }

    #[test]
    fn an_answer_is_short() {
        let line = written(&all()).lines().nth(2).unwrap().to_owned();
        assert!(line.starts_with("[2,1,345678,"), "{line}");
        assert!(line.len() <= 100, "{line}");
    }

    #[test]
    fn a_log_that_is_read_again_from_its_start_yields_each_answer_once() {
        let text = written(&all());
        let (mut reader, half) = (LineReader::default(), text.len() / 2);
        let cut = text[..half].rfind('\n').unwrap();
        let mut read = answers(&mut reader, &text[..cut]);
        read.extend(answers(&mut reader, &text));
        assert_eq!((read, reader.lost()), (all(), 0));
    }

    #[test]
    fn missing_lines_are_counted() {
        let text = written(&all());
        let mut reader = LineReader::default();
        for line in text.lines().filter(|line| !line.starts_with("[5,")) {
            reader.read(line).unwrap();
        }
        assert_eq!(reader.lost(), 1);
    }

    #[test]
    fn other_lines_are_refused() {
        for line in ["", "hello", "[1]", "[0,7,1,1,1,200,true,null,0,0]"] {
            assert!(LineReader::default().read(line).is_err(), "{line}");
        }
    }
}
