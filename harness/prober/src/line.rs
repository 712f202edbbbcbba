//! What the program `prober` prints: a JSON array a line, each with its number first.
//!
//! ```text
//! [0,"ready",1764113612000123,["new-connection","pooled"]]
//! [1,"by",0,"market-data-service","v2.1.0","market-data-service-blue-7c9-x2x"]
//! [2,0,5000,310,1890,200,true,0,17,1]
//! [3,1,5000,400,5400,"reset",false,0,3,42]
//! [4,"end",1764113642000123,{"due":2,"dropped":0,"p99":400,…}]
//! ```
//!
//! - *ready*: when it began, in microseconds since the Unix epoch, and the lanes' names.
//! - *by*: who answers, from now on known by its number.
//! - an answer: the lane (its place among the names); when it was due, in microseconds after
//!   the beginning; how much later it was set about; how long it took; a status, or a word (either
//!   with a reason: a pair); whether that is good; who answered, or null; the connection, or 0 where
//!   none came about; which of the requests on it. About 60 bytes.
//! - *end*: when, and the prober's [`Lag`].
//!
//! The numbers let whoever follows a log that broke off read it again from the start, and know
//! how much of it is missing.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::answer::{Answer, Identity, On, Outcome};
use crate::lag::Lag;

/// A line is not a prober's.
#[derive(Debug, Error, Diagnostic)]
#[error("no line of a prober's: {line}: {why}")]
#[diagnostic(
    code(prober::line),
    help("is the image of the same version as this program?")
)]
pub struct LineError {
    /// The line, or its beginning.
    pub line: String,
    /// What is wrong with it.
    pub why: String,
}

/// A line, behind its number.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Answer(
        u64,
        usize,
        u64,
        u64,
        u64,
        Outcome,
        bool,
        Option<usize>,
        u64,
        u32,
    ),
    By(u64, By, usize, String, String, String),
    Ready(u64, Ready, u64, Vec<Arc<str>>),
    End(u64, End, u64, Lag),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    By,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ready {
    Ready,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    End,
}

/// Prints lines.
pub struct Writer<W> {
    out: W,
    next: u64,
    began: u64,
    lanes: BTreeMap<Arc<str>, usize>,
    known: BTreeMap<Arc<Identity>, usize>,
}

impl<W: Write> Writer<W> {
    /// Says that it is ready.
    pub fn ready(out: W, began: u64, lanes: Vec<Arc<str>>) -> io::Result<Writer<W>> {
        let places = lanes.iter().cloned().zip(0..);
        let mut writer = Writer {
            out,
            next: 0,
            began,
            lanes: places.collect(),
            known: BTreeMap::new(),
        };
        let number = writer.number();
        writer.print(&Line::Ready(number, Ready::Ready, began, lanes))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Tells of one answer.
    pub fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        let by = match &answer.by {
            Some(by) => Some(self.known(by)?),
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

    /// Says how it went.
    pub fn end(&mut self, at: u64, lag: Lag) -> io::Result<()> {
        let number = self.number();
        self.print(&Line::End(number, End::End, at, lag))?;
        self.flush()
    }

    /// Sends what was printed on its way.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn known(&mut self, by: &Arc<Identity>) -> io::Result<usize> {
        if let Some(known) = self.known.get(by) {
            return Ok(*known);
        }
        let place = self.known.len();
        self.known.insert(by.clone(), place);
        let Identity {
            service,
            version,
            instance,
        } = Identity::clone(by);
        let number = self.number();
        self.print(&Line::By(number, By::By, place, service, version, instance))?;
        Ok(place)
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

/// Reads lines, each once, whatever is read twice.
#[derive(Debug, Default)]
pub struct Reader {
    next: u64,
    lost: u64,
    began: u64,
    lanes: Vec<Arc<str>>,
    known: BTreeMap<usize, Arc<Identity>>,
}

/// What a line says.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// The prober has begun: when, in microseconds since the Unix epoch.
    Ready(u64),
    /// A request has ended.
    Answer(Answer),
    /// The prober has: when, and how it kept up.
    End(u64, Lag),
    /// Nothing new.
    Nothing,
}

impl Reader {
    /// Lines that were never read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Reads the next line, or one again.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn read(&mut self, text: &str) -> Result<Said, LineError> {
        const ENOUGH: usize = 200;
        let wrong = |why: String| LineError {
            line: text.chars().take(ENOUGH).collect(),
            why,
        };
        let line: Line = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let (Line::Answer(number, ..)
        | Line::By(number, ..)
        | Line::Ready(number, ..)
        | Line::End(number, ..)) = line;
        if number < self.next {
            return Ok(Said::Nothing);
        }
        self.lost += number - self.next;
        self.next = number + 1;
        match line {
            Line::Ready(_, _, began, lanes) => {
                (self.began, self.lanes) = (began, lanes);
                Ok(Said::Ready(began))
            }
            Line::By(_, _, place, service, version, instance) => {
                let identity = Identity {
                    service,
                    version,
                    instance,
                };
                self.known.insert(place, Arc::new(identity));
                Ok(Said::Nothing)
            }
            Line::End(_, _, at, lag) => Ok(Said::End(at, lag)),
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
                Ok(Said::Answer(Answer {
                    lane: lane.ok_or_else(|| wrong("it names no lane".into()))?,
                    intended: self.began + due,
                    sent_after,
                    took,
                    outcome,
                    good,
                    // Whose line was lost is not known.
                    by: by.and_then(|by| self.known.get(&by).cloned()),
                    on: (connection > 0).then_some(On {
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

    fn answer(outcome: Outcome, instance: Option<&str>) -> Answer {
        Answer {
            lane: "pooled".into(),
            intended: 1_764_113_612_345_678,
            sent_after: 310,
            took: 1_890,
            good: outcome == Outcome::Status(200),
            outcome,
            by: instance.map(|instance| {
                Arc::new(Identity {
                    service: "market-data-service".into(),
                    version: "v2.1.0".into(),
                    instance: instance.into(),
                })
            }),
            on: Some(On {
                connection: 17,
                request: 42,
            }),
        }
    }

    fn all() -> Vec<Answer> {
        let mut nowhere = answer(Outcome::Unreachable("no route".into()), None);
        nowhere.on = None;
        vec![
            answer(Outcome::Status(200), Some("blue-1")),
            answer(Outcome::Status(503), Some("blue-2")),
            answer(
                Outcome::Problem(503, "the database does not answer".into()),
                Some("blue-2"),
            ),
            answer(Outcome::Reset, Some("blue-1")),
            answer(Outcome::Refused, None),
            answer(Outcome::TimedOut, None),
            answer(Outcome::Dropped, None),
            answer(Outcome::Tls("UnknownIssuer".into()), None),
            answer(Outcome::Protocol("invalid HTTP version".into()), None),
            nowhere,
        ]
    }

    fn written(answers: &[Answer]) -> String {
        let mut bytes = Vec::new();
        let lanes = vec!["new-connection".into(), "pooled".into()];
        let mut writer = Writer::ready(&mut bytes, 1_764_113_612_000_000, lanes).unwrap();
        for answer in answers {
            writer.answer(answer).unwrap();
        }
        writer.end(1_764_113_613_000_000, Lag::default()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn answers(reader: &mut Reader, text: &str) -> Vec<Answer> {
        let said = text.lines().map(|line| reader.read(line).unwrap());
        let answers = said.filter_map(|said| match said {
            Said::Answer(answer) => Some(answer),
            _ => None,
        });
        answers.collect()
    }

    #[test]
    fn the_lines_are_as_documented() {
        insta::assert_snapshot!(written(&all()));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut reader = Reader::default();
        assert_eq!(answers(&mut reader, &written(&all())), all());
        assert_eq!(reader.lost(), 0);
    }

    #[test]
    fn an_answer_is_short() {
        let line = written(&all()).lines().nth(2).unwrap().to_owned();
        assert!(line.starts_with("[2,1,345678,"), "{line}");
        assert!(line.len() <= 100, "{line}");
    }

    #[test]
    fn a_log_read_again_from_its_start_says_nothing_twice() {
        let text = written(&all());
        let (mut reader, half) = (Reader::default(), text.len() / 2);
        let cut = text[..half].rfind('\n').unwrap();
        let mut read = answers(&mut reader, &text[..cut]);
        read.extend(answers(&mut reader, &text));
        assert_eq!((read, reader.lost()), (all(), 0));
    }

    #[test]
    fn what_is_missing_is_counted() {
        let text = written(&all());
        let gone = text.lines().filter(|line| !line.starts_with("[5,"));
        let mut reader = Reader::default();
        gone.for_each(|line| drop(reader.read(line).unwrap()));
        assert_eq!(reader.lost(), 1);
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for line in ["", "hello", "[1]", "[0,7,1,1,1,200,true,null,0,0]"] {
            assert!(Reader::default().read(line).is_err(), "{line}");
        }
    }
}
