//! What is asked, how often, and by which connections.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::Scheme;
use miette::Diagnostic;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A second of a lane may hold so many requests at most: beyond it one thread cannot send.
const HIGHEST_RATE: f64 = 100_000.0;
/// A day, in seconds: longer is a mistake of units.
const LONGEST: f64 = 86_400.0;

/// What a prober does. Holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// All at the same time, each at its own rate.
    pub lanes: Vec<Lane>,
    /// Nothing is due after this many seconds; what is in flight then is waited for.
    pub seconds: f64,
}

/// One stream of requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// What answers say: one of a kind within a spec.
    pub name: String,
    /// What is asked.
    pub target: Target,
    /// By which connections.
    pub connections: Connections,
    /// Requests a second.
    pub rate: f64,
    /// From when a request was due to the last byte of its answer, in seconds.
    pub timeout_seconds: f64,
    /// A request that is due while so many are in flight is dropped, and counted.
    pub max_in_flight: usize,
    /// The statuses that count as good; none are all below 400.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub good: Vec<u16>,
}

/// Whom to ask, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// With scheme, host (which the `Host` header and TLS say) and path.
    pub url: String,
    /// Host and port to connect to instead of the URL's, like curl's `--connect-to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// The only authority that is trusted (PEM); none trusts those that the machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// By which connections a lane asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Connections {
    /// A new one for each request.
    New,
    /// Kept alive and used in turn; one more is made when all are busy.
    Pooled {
        /// So many are made at first.
        at_least: usize,
    },
}

/// A spec that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{what} {why}")]
#[diagnostic(
    code(prober::spec),
    help("the documentation of `prober::spec::Spec` explains every field")
)]
pub struct SpecError {
    /// Of the spec: a lane and its field.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

impl Target {
    /// What a URL says by itself.
    pub fn of(url: impl Into<String>) -> Target {
        Target {
            url: url.into(),
            connect: None,
            authority: None,
        }
    }
}

impl Lane {
    /// A new connection for each request.
    pub fn new_connection(target: Target, rate: f64) -> Lane {
        Lane::named("new-connection", target, Connections::New, rate, 5.0)
    }

    /// Connections that are kept, `at_least` so many.
    pub fn pooled(target: Target, rate: f64, at_least: usize) -> Lane {
        let connections = Connections::Pooled { at_least };
        Lane::named("pooled", target, connections, rate, 5.0)
    }

    /// Requests that the server takes `seconds` to answer, each on a connection of its own.
    pub fn slow(target: Target, rate: f64, seconds: f64) -> Lane {
        let timeout = seconds + 10.0;
        Lane::named("slow", target, Connections::New, rate, timeout)
    }

    fn named(
        name: &str,
        target: Target,
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
            // All of a server that answers nothing, until the first time out.
            max_in_flight: (rate * timeout_seconds).ceil() as usize + 16,
            good: Vec::new(),
        }
    }

    /// Whether this status is a good answer.
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
}

impl Spec {
    /// For how long requests may still be in flight when nothing is due any more.
    pub fn longest_timeout(&self) -> Duration {
        let timeouts = self.lanes.iter().map(Lane::timeout);
        timeouts.max().unwrap_or_default()
    }

    /// Whether it can be followed.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), SpecError> {
        let wrong = |what: &str, why: String| SpecError {
            what: what.to_owned(),
            why,
        };
        if self.lanes.is_empty() {
            return Err(wrong("lanes", "has none: there is nothing to ask".into()));
        }
        positive(self.seconds, LONGEST).map_err(|why| wrong("seconds", why))?;
        let mut names = BTreeSet::new();
        for lane in &self.lanes {
            if lane.name.is_empty() || !names.insert(&lane.name) {
                let why = format!("is {:?}: lanes need names of their own", lane.name);
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

impl Lane {
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

fn positive(value: f64, highest: f64) -> Result<(), String> {
    match value > 0.0 && value <= highest {
        true => Ok(()),
        false => Err(format!("is {value}: it must be above 0, {highest} at most")),
    }
}

/// A URL, taken apart.
pub struct Parts {
    /// `https`.
    pub tls: bool,
    /// As the `Host` header says it.
    pub authority: String,
    /// Without the port.
    pub host: String,
    /// The scheme's own where the URL names none.
    pub port: u16,
    /// Path and query.
    pub path: Uri,
}

impl Target {
    /// Its URL, taken apart.
    ///
    /// # Errors
    /// What is wrong with the URL, in words.
    pub fn parts(&self) -> Result<Parts, String> {
        let not = |why: &str| format!("is {:?}: {why}", self.url);
        let uri: Uri = self.url.parse().map_err(|_| not("that is no URL"))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(not("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| not("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(not("credentials do not belong into a URL"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Parts {
            tls,
            authority: authority.to_string(),
            host: uri.host().unwrap_or_default().to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: path.parse().map_err(|_| not("its path is none"))?,
        })
    }

    /// Host and port to connect to.
    pub(crate) fn destination(&self, parts: &Parts) -> String {
        let from_url = || format!("{}:{}", parts.host, parts.port);
        self.connect.clone().unwrap_or_else(from_url)
    }
}

/// All certificates of a PEM text: at least one.
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
        let target = Target::of("http://127.0.0.1:1/quotes");
        let mut lane = Lane::new_connection(target, 10.0);
        change(&mut lane);
        Spec {
            lanes: vec![lane],
            seconds: 1.0,
        }
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let wrong: [(Spec, &str); 9] = [
            (spec(|lane| lane.rate = 0.0), "rate"),
            (spec(|lane| lane.rate = f64::NAN), "rate"),
            (spec(|lane| lane.timeout_seconds = -1.0), "timeout_seconds"),
            (spec(|lane| lane.max_in_flight = 0), "max_in_flight"),
            (
                spec(|lane| lane.target.url = "trii.co/x".into()),
                "target.url",
            ),
            (
                spec(|lane| lane.target.url = "ftp://trii.co/".into()),
                "target.url",
            ),
            (
                spec(|lane| lane.target.url = "http://a:b@trii.co/".into()),
                "target.url",
            ),
            (
                spec(|lane| lane.target.connect = Some("trii".into())),
                "target.connect",
            ),
            (
                spec(|lane| lane.target.authority = Some("none".into())),
                "target.authority",
            ),
        ];
        for (spec, field) in wrong {
            let error = spec.check().unwrap_err().to_string();
            let begin = format!("{field} of the lane \"new-connection\" ");
            assert!(error.starts_with(&begin), "{field}: {error}");
        }
        assert_eq!(spec(|_| ()).check(), Ok(()));
    }

    #[test]
    fn lanes_need_to_be_told_apart_and_to_be() {
        let mut twice = spec(|_| ());
        twice.lanes.push(twice.lanes[0].clone());
        assert!(twice.check().is_err());
        twice.lanes.clear();
        assert_eq!(twice.check().unwrap_err().what, "lanes");
    }

    #[test]
    fn it_travels_as_json() {
        let mut sent = spec(|lane| lane.connections = Connections::Pooled { at_least: 4 });
        sent.lanes
            .push(Lane::slow(Target::of("http://a/slow"), 0.5, 20.0));
        let json = serde_json::to_string(&sent).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), sent);
        let odd = json.replace("\"rate\"", "\"rtae\"");
        assert!(serde_json::from_str::<Spec>(&odd).is_err());
    }

    #[test]
    fn a_slow_lane_waits_longer_than_its_answers_take() {
        let lane = Lane::slow(Target::of("http://a/slow?seconds=20"), 1.0, 20.0);
        assert!(lane.timeout() > Duration::from_secs(20));
    }

    #[test]
    fn an_answer_is_good_as_the_lane_says() {
        let mut lane = spec(|_| ()).lanes.remove(0);
        assert!(lane.is_good(200) && lane.is_good(304));
        assert!(!lane.is_good(404) && !lane.is_good(503));
        lane.good = vec![404];
        assert!(lane.is_good(404) && !lane.is_good(200));
    }
}
