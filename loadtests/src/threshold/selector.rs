//! The requests of a threshold: k6's tags.

use std::fmt;

use super::error::{Misread, Mistake, misread};
use super::metric::Metric;

/// Metrics of k6 that a load result does not have.
const NOT_MEASURED: [&str; 12] = [
    "vus",
    "vus_max",
    "iteration_duration",
    "group_duration",
    "data_sent",
    "http_req_blocked",
    "http_req_connecting",
    "http_req_tls_handshaking",
    "http_req_sending",
    "http_req_waiting",
    "http_req_receiving",
    "grpc_req_duration",
];

/// Selects the requests that match all tags; without tags, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<Tag>);

/// A tag of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `name`: the endpoint's name.
    Name(String),
    /// `method`: the endpoint's name starts with it.
    Method(String),
    /// `expected_response:true`. It is not measured if there were answers without an expected
    /// status, as all times are recorded together.
    Expected,
}

impl Selector {
    /// Returns whether it selects requests of this endpoint.
    pub fn selects(&self, endpoint: &str) -> bool {
        self.0.iter().all(|tag| match tag {
            Tag::Name(name) => name == endpoint,
            Tag::Method(method) => endpoint.split(' ').next() == Some(method),
            Tag::Expected => true,
        })
    }

    /// Returns whether it selects only answers with an expected status.
    pub fn expected_only(&self) -> bool {
        self.0.contains(&Tag::Expected)
    }
}

/// Parses `METRIC` or `METRIC{TAG:VALUE,...}`, as strictly as k6: no spaces around the metric, each
/// tag with a value. Values may be in quotes, and may then contain commas, unlike in k6.
pub(super) fn read_key(key: &str) -> Result<(Metric, Selector), Misread> {
    let braces = || misread(key, &key[key.len()..], Mistake::Braces);
    let Some((name, rest)) = key.split_once('{') else {
        if key.contains('}') {
            return Err(braces());
        }
        return Ok((metric(key, key)?, Selector::default()));
    };
    let tags = rest.strip_suffix('}').ok_or_else(braces)?;
    let metric = metric(key, name)?;
    let mut quoted = false;
    let tags = tags.split(|char| {
        quoted ^= char == '"';
        char == ',' && !quoted
    });
    let tags = tags.map(|tag| read_tag(key, metric, tag));
    Ok((metric, Selector(tags.collect::<Result<_, _>>()?)))
}

fn metric(key: &str, name: &str) -> Result<Metric, Misread> {
    let found = Metric::ALL.into_iter().find(|metric| metric.name() == name);
    found.ok_or_else(|| {
        let mistake = match NOT_MEASURED.contains(&name) {
            true => Mistake::NotMeasured(name.to_owned()),
            false => Mistake::UnknownMetric(name.to_owned()),
        };
        misread(key, name, mistake)
    })
}

fn read_tag(key: &str, metric: Metric, tag: &str) -> Result<Tag, Misread> {
    let bare = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    let no_tag = || misread(key, tag, Mistake::Tag(tag.to_owned()));
    let (name, value) = tag.split_once(':').ok_or_else(no_tag)?;
    if value.is_empty() {
        return Err(no_tag());
    }
    match (bare(name).as_str(), bare(value)) {
        ("name", value) => Ok(Tag::Name(value)),
        ("method", value) => Ok(Tag::Method(value)),
        ("expected_response", value) if value == "true" && metric == Metric::Duration => {
            Ok(Tag::Expected)
        }
        _ => {
            let unknown = Mistake::UnknownTag(tag.trim().to_owned());
            Err(misread(key, tag, unknown))
        }
    }
}

/// In k6's form; empty without tags.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let tags: Vec<_> = self.0.iter().map(Tag::to_string).collect();
        write!(f, "{{{}}}", tags.join(","))
    }
}

impl Tag {
    pub(crate) fn key_and_value(&self) -> (&'static str, String) {
        match self {
            Tag::Name(name) => ("name", name.clone()),
            Tag::Method(method) => ("method", method.clone()),
            Tag::Expected => ("expected_response", "true".to_owned()),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = self.key_and_value();
        match value.contains(',') {
            true => write!(f, "{key}:\"{value}\""),
            false => write!(f, "{key}:{value}"),
        }
    }
}
