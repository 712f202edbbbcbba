//! Of which requests a threshold is: k6's tags.

use std::fmt;

use super::error::{Misread, Mistake, misread};
use super::metric::Metric;

/// Of which requests: those that all tags fit; without tags, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<Tag>);

/// What tells requests apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `name`: the endpoint's.
    Name(String),
    /// `method`: the endpoint's name begins with it.
    Method(String),
    /// `expected_response:true`. Times of answers with and without an expected status are
    /// kept together: not measured where there were any without.
    Expected,
}

impl Selector {
    /// Whether requests of this endpoint are among them.
    pub fn selects(&self, endpoint: &str) -> bool {
        self.0.iter().all(|tag| match tag {
            Tag::Name(name) => name == endpoint,
            Tag::Method(method) => endpoint.split(' ').next() == Some(method),
            Tag::Expected => true,
        })
    }

    /// Whether only answers with an expected status are meant.
    pub fn expected_only(&self) -> bool {
        self.0.contains(&Tag::Expected)
    }
}

/// Reads `METRIC` or `METRIC{TAG:VALUE,...}`, as strictly as k6 does: no spaces around the
/// metric, each tag with a value. Values may stand in quotes, and then, unlike k6's, hold commas.
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
    let tags = tags.split(|it| {
        quoted ^= it == '"';
        it == ',' && !quoted
    });
    let tags = tags.map(|tag| read_tag(key, metric, tag));
    Ok((metric, Selector(tags.collect::<Result<_, _>>()?)))
}

fn metric(key: &str, name: &str) -> Result<Metric, Misread> {
    Metric::named(name).map_err(|mistake| misread(key, name, mistake))
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
        _ => Err(misread(
            key,
            tag,
            Mistake::UnknownTag(tag.trim().to_owned()),
        )),
    }
}

/// As k6 writes it; nothing where all requests are meant.
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
