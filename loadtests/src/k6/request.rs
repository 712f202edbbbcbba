//! What an engine knows of a request, an iteration and a check.

use std::time::Duration;

use jiff::Timestamp;

/// One request that has ended, in an answer or not.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The endpoint's name: `GET /quotes`.
    pub endpoint: &'a str,
    /// `GET`
    pub method: &'a str,
    /// What k6 calls the scenario: the profile's name.
    pub scenario: &'a str,
    /// When it ended.
    pub ended: Timestamp,
    /// What its time went to.
    pub timings: Timings,
    /// How it ended.
    pub ending: Ending<'a>,
}

/// What a request's time went to. A part that was not reached, or not needed, is zero:
/// `connecting` of a kept connection, `tls_handshaking` without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the intended start until sending begins: lag, connecting and the TLS handshake
    /// included.
    pub blocked: Duration,
    /// The TCP connection.
    pub connecting: Duration,
    /// The TLS handshake.
    pub tls_handshaking: Duration,
    /// Writing the request.
    pub sending: Duration,
    /// From the request's last byte to the answer's first.
    pub waiting: Duration,
    /// From the answer's first byte to its last.
    pub receiving: Duration,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// In an answer.
    Answered {
        /// Its status.
        status: u16,
        /// What it came by.
        protocol: Protocol,
        /// What it was encrypted by, if it was.
        tls: Option<TlsVersion>,
    },
    /// In none.
    Failed(Failure<'a>),
}

/// HTTP's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

/// TLS's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

/// Why there was no answer, as far as k6 tells reasons apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<'a> {
    /// The request took longer than it may.
    Timeout,
    /// No such host.
    NoSuchHost,
    /// Nobody took the connection in time.
    ConnectTimeout,
    /// Nothing listens.
    ConnectionRefused,
    /// The connection was reset while the answer was awaited or read.
    Reset,
    /// The connection was closed while the request was written.
    BrokenPipe,
    /// The certificate is of an authority that is not trusted.
    UnknownAuthority,
    /// The certificate is of another host.
    OtherHost,
    /// Anything else, in these words.
    Other(&'a str),
}

impl Failure<'_> {
    /// k6's number, and its words.
    pub(super) fn code_and_words(&self) -> (u16, &str) {
        match self {
            Failure::Other(words) => (1000, words),
            Failure::Timeout => (1050, "request timeout"),
            Failure::NoSuchHost => (1101, "lookup: no such host"),
            Failure::BrokenPipe => (1201, "write: broken pipe"),
            Failure::ConnectTimeout => (1211, "dial: i/o timeout"),
            Failure::ConnectionRefused => (1212, "dial: connection refused"),
            Failure::Reset => (1220, "read: connection reset by peer"),
            Failure::UnknownAuthority => (1310, "x509: unknown authority"),
            Failure::OtherHost => (1311, "x509: certificate doesn't match hostname"),
        }
    }
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2.0",
        }
    }
}

impl TlsVersion {
    pub(super) fn name(self) -> &'static str {
        match self {
            TlsVersion::Tls12 => "tls1.2",
            TlsVersion::Tls13 => "tls1.3",
        }
    }
}

/// One check of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// What is checked: `a price that is a number`.
    pub name: &'a str,
    /// The profile's name.
    pub scenario: &'a str,
    /// When.
    pub at: Timestamp,
    /// Whether it holds.
    pub passed: bool,
}

/// One iteration: an arrival of the open model, a user's journey of the closed one.
#[derive(Clone, Copy, Debug)]
pub struct Iteration<'a> {
    /// The profile's name.
    pub scenario: &'a str,
    /// When it ended.
    pub ended: Timestamp,
    /// How long it took.
    pub lasted: Duration,
}
