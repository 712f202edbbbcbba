//! The specification of a prober: targets, rates, connections.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::Scheme;
use miette::Diagnostic;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::identity_headers::IdentityHeaders;

/// The highest rate of a lane, in requests a second: one thread cannot send more.
const HIGHEST_RATE: f64 = 100_000.0;
/// A day, in seconds. More is probably a wrong unit.
const LONGEST: f64 = 86_400.0;

/// The specification of a prober. It contains no secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The lanes. They run concurrently, each at its own rate.
    pub lanes: Vec<Lane>,
    /// The time in which requests are due. After it, the prober waits for those in flight.
    pub seconds: f64,
    /// The headers that name what answered.
    #[serde(default)]
    pub headers: IdentityHeaders,
}

/// One stream of requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// Its name, unique in a spec. Answers have it.
    pub name: String,
    /// The target of its requests.
    pub target: ProbeTarget,
    /// The connections of its requests.
    pub connections: Connections,
    /// Requests a second.
    pub rate: f64,
    /// The longest time from when a request is due to the last byte of its response, in seconds.
    pub timeout_seconds: f64,
    /// A request that is due while this many are in flight is dropped, and counted.
    pub max_in_flight: usize,
    /// The good statuses; if empty, all below 400.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub good: Vec<u16>,
}

/// The target of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeTarget {
    /// With scheme, host (for the `Host` header and TLS) and path.
    pub url: String,
    /// Host and port to connect to instead of the URL's, like curl's `--connect-to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// The only trusted certificate authority (PEM); if none, those of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// The connections of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Connections {
    /// A new one for each request.
    New,
    /// Kept alive and used in turn. If all are busy, another one is opened.
    Pooled {
        /// The number that is opened at first.
        at_least: usize,
    },
}

/// An invalid spec.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{what} {why}")]
#[diagnostic(
    code(prober::spec),
    help("the documentation of `prober::spec::Spec` explains every field")
)]
pub struct SpecError {
    /// The field and its lane.
    pub what: String,
    /// The problem.
    pub why: String,
}

/// A prober cannot start.
#[derive(Debug, Error, Diagnostic)]
pub enum ProberError {
    /// The specification is invalid.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Spec(#[from] SpecError),
    /// A target's name does not resolve.
    #[error("{destination} does not resolve: {why}")]
    #[diagnostic(
        code(prober::resolve),
        help("is it the name of a Service, with its namespace, and can this side resolve it?")
    )]
    Resolve {
        /// Host and port.
        destination: String,
        /// The resolver's message.
        why: String,
    },
    /// No request to a target is possible.
    #[error("no requests to {url} are possible: {why}")]
    #[diagnostic(
        code(prober::target),
        help("name the authority of its certificate, or use a host name that its certificate has")
    )]
    Tls {
        /// The target.
        url: String,
        /// The cause.
        why: String,
    },
    /// The system cannot start a thread.
    #[error("cannot start the prober's thread: {0}")]
    #[diagnostic(code(prober::thread))]
    Thread(#[from] io::Error),
}

impl Lane {
    /// A lane with a new connection for each request.
    pub fn new_connection(target: ProbeTarget, rate: f64) -> Lane {
        Lane::named("new-connection", target, Connections::New, rate, 5.0)
    }

    /// A lane with pooled connections, at least this many.
    pub fn pooled(target: ProbeTarget, rate: f64, at_least: usize) -> Lane {
        let connections = Connections::Pooled { at_least };
        Lane::named("pooled", target, connections, rate, 5.0)
    }

    /// A lane of requests that the server answers after `seconds`, with new connections.
    pub fn slow(target: ProbeTarget, rate: f64, seconds: f64) -> Lane {
        let timeout = seconds + 10.0;
        Lane::named("slow", target, Connections::New, rate, timeout)
    }

    fn named(
        name: &str,
        target: ProbeTarget,
        connections: Connections,
        rate: f64,
        timeout_seconds: f64,
    ) -> Lane {
        Lane {
            name: name.to_owned(),
            target,
            connections,
            rate,
            timeout_seconds,
            // All requests until the first times out, if the server never answers.
            max_in_flight: (rate * timeout_seconds).ceil() as usize + 16,
            good: Vec::new(),
        }
    }

    /// Whether this status counts as good.
    pub fn is_good(&self, status: u16) -> bool {
        match self.good.is_empty() {
            true => status < 400,
            false => self.good.contains(&status),
        }
    }

    /// See `timeout_seconds`.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_seconds)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        positive(self.rate, HIGHEST_RATE).map_err(|why| ("rate", why))?;
        positive(self.timeout_seconds, LONGEST).map_err(|why| ("timeout_seconds", why))?;
        if self.max_in_flight == 0 {
            return Err((
                "max_in_flight",
                "is 0: nothing could ever be sent".to_owned(),
            ));
        }
        self.target.parts().map_err(|why| ("target.url", why))?;
        if let Some(Err(error)) = self.target.authority.as_deref().map(certificates) {
            return Err(("target.authority", error));
        }
        let to = self.target.connect.as_deref();
        match to.map(|to| to.rsplit_once(':').map(|(_, port)| port.parse::<u16>())) {
            None | Some(Some(Ok(_))) => Ok(()),
            Some(_) => Err((
                "target.connect",
                format!("is {to:?}, and not host:port, as in 127.0.0.1:8443"),
            )),
        }
    }
}

impl Spec {
    /// Returns how long requests may be in flight after the last one was due.
    pub fn longest_timeout(&self) -> Duration {
        let timeouts = self.lanes.iter().map(Lane::timeout);
        timeouts.max().unwrap_or_default()
    }

    /// Validates the specification.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn check(&self) -> Result<(), SpecError> {
        let wrong = |what: &str, why: String| SpecError {
            what: what.to_owned(),
            why,
        };
        if self.lanes.is_empty() {
            return Err(wrong("lanes", "has none: there is nothing to send".into()));
        }
        positive(self.seconds, LONGEST).map_err(|why| wrong("seconds", why))?;
        let mut names = BTreeSet::new();
        for lane in &self.lanes {
            if lane.name.is_empty() || !names.insert(&lane.name) {
                let why = format!("is {:?}: lanes need unique names", lane.name);
                return Err(wrong("a lane's name", why));
            }
            lane.check().map_err(|(field, why)| {
                let what = format!("{field} of the lane {:?}", lane.name);
                SpecError { what, why }
            })?;
        }
        Ok(())
    }
}

fn positive(value: f64, highest: f64) -> Result<(), String> {
    match value > 0.0 && value <= highest {
        true => Ok(()),
        false => Err(format!("is {value}: it must be above 0, {highest} at most")),
    }
}

/// The parts of a URL.
pub struct UrlParts {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// The value of the `Host` header.
    pub authority: String,
    /// The host, without the port.
    pub host: String,
    /// The port: the scheme's default if the URL has none.
    pub port: u16,
    /// Path and query.
    pub path: Uri,
}

impl ProbeTarget {
    /// A target with only a URL.
    pub fn of(url: impl Into<String>) -> ProbeTarget {
        ProbeTarget {
            url: url.into(),
            connect: None,
            authority: None,
        }
    }

    /// Returns the parts of its URL.
    ///
    /// # Errors
    /// The problem with the URL.
    pub fn parts(&self) -> Result<UrlParts, String> {
        let wrong = |why: &str| format!("is {:?}: {why}", self.url);
        let uri: Uri = self.url.parse().map_err(|_| wrong("not a URL"))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a URL must not contain credentials"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(UrlParts {
            tls,
            authority: authority.to_string(),
            host: uri.host().unwrap_or_default().to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: path.parse().map_err(|_| wrong("its path is invalid"))?,
        })
    }

    /// Returns the host and port to connect to.
    pub(crate) fn destination(&self, parts: &UrlParts) -> String {
        let from_url = || format!("{}:{}", parts.host, parts.port);
        self.connect.clone().unwrap_or_else(from_url)
    }
}

/// Returns all certificates in a PEM text, at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(none) if none.is_empty() => Err("has no certificate in it (PEM)".into()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("is no PEM: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut Lane)) -> Spec {
        let target = ProbeTarget::of("http://127.0.0.1:1/quotes");
        let mut lane = Lane::new_connection(target, 10.0);
        change(&mut lane);
        Spec {
            lanes: vec![lane],
            seconds: 1.0,
            headers: IdentityHeaders::default(),
        }
    }

    #[test]
    fn the_invalid_field_is_named() {
        type Change = fn(&mut Lane);
        let wrong: [(&str, Change); 9] = [
            ("rate", |lane| lane.rate = 0.0),
            ("rate", |lane| lane.rate = f64::NAN),
            ("timeout_seconds", |lane| lane.timeout_seconds = -1.0),
            ("max_in_flight", |lane| lane.max_in_flight = 0),
            ("target.url", |lane| lane.target.url = "trii.co/x".into()),
            ("target.url", |lane| {
                lane.target.url = "ftp://trii.co/".into()
            }),
            ("target.url", |lane| {
                lane.target.url = "http://a:b@trii.co/".into()
            }),
            ("target.connect", |lane| {
                lane.target.connect = Some("trii".into())
            }),
            ("target.authority", |lane| {
                lane.target.authority = Some("none".into())
            }),
        ];
        for (field, change) in wrong {
            let error = spec(change).check().unwrap_err().to_string();
            let begin = format!("{field} of the lane \"new-connection\" ");
            assert!(error.starts_with(&begin), "{field}: {error}");
        }
        assert_eq!(spec(|_| ()).check(), Ok(()));
    }

    #[test]
    fn lanes_need_unique_names() {
        let mut twice = spec(|_| ());
        twice.lanes.push(twice.lanes[0].clone());
        assert!(twice.check().is_err());
        twice.lanes.clear();
        assert_eq!(twice.check().unwrap_err().what, "lanes");
    }

    #[test]
    fn it_is_the_same_after_json_and_unknown_fields_are_refused() {
        let mut spec = spec(|lane| lane.connections = Connections::Pooled { at_least: 4 });
        let slow = Lane::slow(ProbeTarget::of("http://a/slow"), 0.5, 20.0);
        spec.lanes.push(slow);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec);
        let unknown = json.replace("\"rate\"", "\"rtae\"");
        assert!(serde_json::from_str::<Spec>(&unknown).is_err());
    }

    #[test]
    fn a_slow_lane_waits_longer_than_its_answers_take() {
        let lane = Lane::slow(ProbeTarget::of("http://a/slow?seconds=20"), 1.0, 20.0);
        assert!(lane.timeout() > Duration::from_secs(20));
    }

    #[test]
    fn the_lane_determines_the_good_statuses() {
        let mut lane = spec(|_| ()).lanes.remove(0);
        assert!(lane.is_good(200) && lane.is_good(304));
        assert!(!lane.is_good(404) && !lane.is_good(503));
        lane.good = vec![404];
        assert!(lane.is_good(404) && !lane.is_good(200));
    }
}
