//! The data of a request, an iteration and a check.

use std::time::Duration;

use jiff::Timestamp;

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestSample<'a> {
    /// The endpoint's name, such as `GET /quotes`.
    pub endpoint: &'a str,
    /// `GET`
    pub method: &'a str,
    /// The scenario in k6: the profile's name.
    pub scenario: &'a str,
    /// When it ended.
    pub ended: Timestamp,
    /// The parts of its time.
    pub timings: Timings,
    /// How it ended.
    pub ending: RequestEnd<'a>,
}

/// The parts of a request's time. A part that was not reached or not needed is zero, such as
/// `connecting` on an open connection, or `tls_handshaking` without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the intended start until sending begins: lag, connecting and the TLS handshake.
    pub blocked: Duration,
    /// The TCP connection.
    pub connecting: Duration,
    /// The TLS handshake.
    pub tls_handshaking: Duration,
    /// Writing the request.
    pub sending: Duration,
    /// From the request's last byte to the response's first.
    pub waiting: Duration,
    /// From the response's first byte to its last.
    pub receiving: Duration,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub enum RequestEnd<'a> {
    /// With a response.
    Answered {
        /// Its status.
        status: u16,
        /// Its HTTP version.
        protocol: Protocol,
        /// Its TLS version, if encrypted.
        tls: Option<TlsVersion>,
    },
    /// Without a response.
    Failed(RequestFailure<'a>),
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

/// The reason why there was no response, as k6 distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFailure<'a> {
    /// The request timed out.
    Timeout,
    /// No such host.
    NoSuchHost,
    /// Nothing listens.
    ConnectionRefused,
    /// The connection was reset before the response was complete.
    Reset,
    /// Any other reason.
    Other(&'a str),
}

impl RequestFailure<'_> {
    /// Returns k6's error code and message.
    pub(super) fn code_and_message(&self) -> (u16, &str) {
        match self {
            RequestFailure::Other(message) => (1000, message),
            RequestFailure::Timeout => (1050, "request timeout"),
            RequestFailure::NoSuchHost => (1101, "lookup: no such host"),
            RequestFailure::ConnectionRefused => (1212, "dial: connection refused"),
            RequestFailure::Reset => (1220, "read: connection reset by peer"),
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
pub struct CheckSample<'a> {
    /// What is checked, such as `a price that is a number`.
    pub name: &'a str,
    /// The profile's name.
    pub scenario: &'a str,
    /// When it was made.
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
