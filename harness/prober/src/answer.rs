//! What became of one request.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What became of one request. Times are microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The lane's name.
    pub lane: Arc<str>,
    /// When it was due, since the Unix epoch.
    pub intended: u64,
    /// How much later the prober set about it: its own lag.
    pub sent_after: u64,
    /// From when it was due to its end.
    pub took: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether that is what the lane calls good.
    pub good: bool,
    /// Who answered. Of a request without an answer, who had answered before on the same
    /// connection: of one straight to a pod, whom it was sent to.
    pub by: Option<Arc<Identity>>,
    /// What it was sent on; none where no connection came about.
    pub on: Option<On>,
}

/// A connection, and which of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct On {
    /// The connection's number: no other of this prober has it.
    pub connection: u64,
    /// Which of the requests on it, from 1.
    pub request: u32,
}

/// Who answered, by its `x-trii-*` headers; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// `x-trii-service`.
    pub service: String,
    /// `x-trii-version`.
    pub version: String,
    /// `x-trii-instance`: the pod.
    pub instance: String,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum Outcome {
    /// An answer, whole.
    Status(u16),
    /// The same, of a status that is not good, and what it says is wrong: the `detail` of its
    /// problem document (RFC 9457).
    Problem(u16, String),
    /// Nothing listens.
    Refused,
    /// The connection ended before the whole answer was there. On a kept connection also: the
    /// server had closed it, and the request was on its way already.
    Reset,
    /// No whole answer in time.
    TimedOut,
    /// No way there.
    Unreachable(String),
    /// TLS was not agreed upon.
    Tls(String),
    /// What came is not HTTP.
    Protocol(String),
    /// Not sent: the lane was at its bound in flight, or the system gave no port or file. Says
    /// nothing of the server, and makes the result inconclusive.
    Dropped,
}

impl Answer {
    /// When its end came, in microseconds since the Unix epoch.
    pub fn ended(&self) -> u64 {
        self.intended + self.took
    }

    /// Whether it was sent and did not end well.
    pub fn failed(&self) -> bool {
        !self.good && self.outcome != Outcome::Dropped
    }

    /// The version that answered, whatever the status.
    pub fn version(&self) -> Option<&str> {
        let answered = self.outcome.status().is_some();
        let version = self.by.as_ref().map(|by| by.version.as_str());
        version.filter(|version| answered && !version.is_empty())
    }
}

impl Outcome {
    /// Of a whole answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Outcome::Status(status) | Outcome::Problem(status, _) => Some(*status),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Status(status) => write!(f, "status {status}"),
            Outcome::Problem(status, detail) => write!(f, "status {status} ({detail})"),
            Outcome::Refused => f.write_str("connection refused"),
            Outcome::Reset => f.write_str("connection reset"),
            Outcome::TimedOut => f.write_str("timed out"),
            Outcome::Unreachable(why) => write!(f, "unreachable: {why}"),
            Outcome::Tls(why) => write!(f, "TLS: {why}"),
            Outcome::Protocol(why) => write!(f, "not HTTP: {why}"),
            Outcome::Dropped => f.write_str("dropped by the prober"),
        }
    }
}

/// As it is written down: a status as a number, anything else as a word; and its reason.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Status(u16),
    Problem(u16, String),
    Word(String),
    Because(String, String),
}

impl From<Outcome> for Written {
    fn from(outcome: Outcome) -> Written {
        let because = |word: &str, why| Written::Because(word.to_owned(), why);
        match outcome {
            Outcome::Status(status) => Written::Status(status),
            Outcome::Problem(status, detail) => Written::Problem(status, detail),
            Outcome::Refused => Written::Word("refused".into()),
            Outcome::Reset => Written::Word("reset".into()),
            Outcome::TimedOut => Written::Word("timed-out".into()),
            Outcome::Dropped => Written::Word("dropped".into()),
            Outcome::Unreachable(why) => because("unreachable", why),
            Outcome::Tls(why) => because("tls", why),
            Outcome::Protocol(why) => because("protocol", why),
        }
    }
}

/// A word that is not known is told of as it is: a newer prober's.
impl From<Written> for Outcome {
    fn from(written: Written) -> Outcome {
        let (word, why) = match written {
            Written::Status(status) => return Outcome::Status(status),
            Written::Problem(status, detail) => return Outcome::Problem(status, detail),
            Written::Word(word) => (word, String::new()),
            Written::Because(word, why) => (word, why),
        };
        match word.as_str() {
            "refused" => Outcome::Refused,
            "reset" => Outcome::Reset,
            "timed-out" => Outcome::TimedOut,
            "dropped" => Outcome::Dropped,
            "unreachable" => Outcome::Unreachable(why),
            "tls" => Outcome::Tls(why),
            "protocol" => Outcome::Protocol(why),
            _ => Outcome::Protocol(format!("{word} {why}")),
        }
    }
}
