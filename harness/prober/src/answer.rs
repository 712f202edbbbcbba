//! The result of one request.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The result of one request. Times are microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The lane's name.
    pub lane: Arc<str>,
    /// When it was due, since the Unix epoch.
    pub intended: u64,
    /// The delay until the prober started it: the prober's own lag.
    pub sent_after: u64,
    /// From when it was due until it ended.
    pub took: u64,
    /// How it ended.
    pub outcome: RequestOutcome,
    /// Whether the lane counts this as good.
    pub good: bool,
    /// The identity that answered. Without an answer, that of the connection's previous answer: on
    /// a connection directly to a pod, it is the pod that the request was sent to.
    pub by: Option<Arc<Identity>>,
    /// The connection that it was sent on; none without a connection.
    pub on: Option<ConnectionUse>,
}

/// A connection, and the position of a request on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionUse {
    /// The connection's number, unique in this prober.
    pub connection: u64,
    /// The request's position on it, from 1.
    pub request: u32,
}

/// What answered, as its [headers](crate::IdentityHeaders) name it; empty where none does.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The service.
    pub service: String,
    /// Its version.
    pub version: String,
    /// The instance: the pod.
    pub instance: String,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "OutcomeJson", into = "OutcomeJson")]
pub enum RequestOutcome {
    /// A complete response.
    Status(u16),
    /// A complete response with a bad status, and the `detail` of its problem document
    /// (RFC 9457).
    Problem(u16, String),
    /// Nothing listens.
    Refused,
    /// The connection ended before the response was complete. Also: the server closed a pooled
    /// connection while the request was being sent.
    Reset,
    /// No complete response in time.
    TimedOut,
    /// No route to the server.
    Unreachable(String),
    /// The TLS handshake failed.
    Tls(String),
    /// The response is not HTTP.
    Protocol(String),
    /// Not sent: the lane had too many requests in flight, or the system had no free port or file.
    /// It is no failure of the server, and makes the result inconclusive.
    Dropped,
}

impl Answer {
    /// Returns when it ended, in microseconds since the Unix epoch.
    pub fn ended(&self) -> u64 {
        self.intended + self.took
    }

    /// Whether it was sent and failed.
    pub fn failed(&self) -> bool {
        !self.good && self.outcome != RequestOutcome::Dropped
    }

    /// Returns the version that answered, with any status.
    pub fn version(&self) -> Option<&str> {
        let answered = self.outcome.status().is_some();
        let version = self.by.as_ref().map(|by| by.version.as_str());
        version.filter(|version| answered && !version.is_empty())
    }
}

impl RequestOutcome {
    /// Returns the status of a complete response.
    pub fn status(&self) -> Option<u16> {
        match self {
            RequestOutcome::Status(status) | RequestOutcome::Problem(status, _) => Some(*status),
            _ => None,
        }
    }
}

impl fmt::Display for RequestOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestOutcome::Status(status) => write!(f, "status {status}"),
            RequestOutcome::Problem(status, detail) => write!(f, "status {status} ({detail})"),
            RequestOutcome::Refused => f.write_str("connection refused"),
            RequestOutcome::Reset => f.write_str("connection reset"),
            RequestOutcome::TimedOut => f.write_str("timed out"),
            RequestOutcome::Unreachable(why) => write!(f, "unreachable: {why}"),
            RequestOutcome::Tls(why) => write!(f, "TLS: {why}"),
            RequestOutcome::Protocol(why) => write!(f, "not HTTP: {why}"),
            RequestOutcome::Dropped => f.write_str("dropped by the prober"),
        }
    }
}

/// The JSON form: a status is a number, other outcomes are words. Both may have a reason.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OutcomeJson {
    Status(u16),
    Problem(u16, String),
    Word(String),
    Because(String, String),
}

impl From<RequestOutcome> for OutcomeJson {
    fn from(outcome: RequestOutcome) -> OutcomeJson {
        let because = |word: &str, why| OutcomeJson::Because(word.to_owned(), why);
        match outcome {
            RequestOutcome::Status(status) => OutcomeJson::Status(status),
            RequestOutcome::Problem(status, detail) => OutcomeJson::Problem(status, detail),
            RequestOutcome::Refused => OutcomeJson::Word("refused".into()),
            RequestOutcome::Reset => OutcomeJson::Word("reset".into()),
            RequestOutcome::TimedOut => OutcomeJson::Word("timed-out".into()),
            RequestOutcome::Dropped => OutcomeJson::Word("dropped".into()),
            RequestOutcome::Unreachable(why) => because("unreachable", why),
            RequestOutcome::Tls(why) => because("tls", why),
            RequestOutcome::Protocol(why) => because("protocol", why),
        }
    }
}

/// An unknown word, from a newer prober, is kept unchanged.
impl From<OutcomeJson> for RequestOutcome {
    fn from(written: OutcomeJson) -> RequestOutcome {
        let (word, why) = match written {
            OutcomeJson::Status(status) => return RequestOutcome::Status(status),
            OutcomeJson::Problem(status, detail) => return RequestOutcome::Problem(status, detail),
            OutcomeJson::Word(word) => (word, String::new()),
            OutcomeJson::Because(word, why) => (word, why),
        };
        match word.as_str() {
            "refused" => RequestOutcome::Refused,
            "reset" => RequestOutcome::Reset,
            "timed-out" => RequestOutcome::TimedOut,
            "dropped" => RequestOutcome::Dropped,
            "unreachable" => RequestOutcome::Unreachable(why),
            "tls" => RequestOutcome::Tls(why),
            "protocol" => RequestOutcome::Protocol(why),
            _ => RequestOutcome::Protocol(format!("{word} {why}")),
        }
    }
}

/// Returns the outcome of a failed connection or TLS handshake.
pub fn of_io(error: &io::Error) -> RequestOutcome {
    if let Some(tls) = cause::<rustls::Error>(error) {
        return RequestOutcome::Tls(tls.to_string());
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => RequestOutcome::Refused,
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => RequestOutcome::Reset,
        ErrorKind::TimedOut => RequestOutcome::TimedOut,
        // This side has no free port or file.
        ErrorKind::AddrNotAvailable => RequestOutcome::Dropped,
        _ if is_out_of_files(error) => RequestOutcome::Dropped,
        _ => RequestOutcome::Unreachable(error.to_string()),
    }
}

/// Returns the outcome of a request that failed on an open connection.
pub fn of_http(error: &hyper::Error) -> RequestOutcome {
    if let Some(io) = cause::<io::Error>(error) {
        return of_io(io);
    }
    let ended = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    match (ended, error.source()) {
        (true, _) => RequestOutcome::Reset,
        (false, Some(source)) => RequestOutcome::Protocol(format!("{error}: {source}")),
        (false, None) => RequestOutcome::Protocol(error.to_string()),
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE))
}

/// Returns the first error of this type in the chain of causes.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // `source` of an io::Error skips the error that it wraps.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}
