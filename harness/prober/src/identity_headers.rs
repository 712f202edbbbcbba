//! The response headers that name what answered.

use hyper::HeaderMap;
use hyper::header::HeaderName;
use serde::{Deserialize, Serialize};

use crate::answer::Identity;

/// The response headers that name what answered: `[platform.headers]` of `harness.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityHeaders {
    /// Names the service.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "name")]
    pub service: Option<HeaderName>,
    /// Names its version.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "name")]
    pub version: Option<HeaderName>,
    /// Names the instance: the pod.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "name")]
    pub instance: Option<HeaderName>,
}

impl IdentityHeaders {
    /// Returns the service that these headers of a response name.
    pub fn service<'a>(&self, of: &'a HeaderMap) -> Option<&'a str> {
        text(of, self.service.as_ref()?)
    }

    /// Returns the version that they name.
    pub fn version<'a>(&self, of: &'a HeaderMap) -> Option<&'a str> {
        text(of, self.version.as_ref()?)
    }

    /// Returns the instance that they name.
    pub fn instance<'a>(&self, of: &'a HeaderMap) -> Option<&'a str> {
        text(of, self.instance.as_ref()?)
    }

    /// Returns the identity that they name; none if they name nothing.
    pub fn identity(&self, of: &HeaderMap) -> Option<Identity> {
        let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let identity = Identity {
            service: owned(self.service(of)),
            version: owned(self.version(of)),
            instance: owned(self.instance(of)),
        };
        (identity != Identity::default()).then_some(identity)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A header's name as text.
mod name {
    use hyper::header::HeaderName;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    pub fn serialize<S: Serializer>(name: &Option<HeaderName>, to: S) -> Result<S::Ok, S::Error> {
        name.as_ref().map(HeaderName::as_str).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HeaderName>, D::Error> {
        let name = Option::<String>::deserialize(from)?;
        let name = name.map(|it| it.parse());
        name.transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_headers_identify_what_answered() {
        let headers = IdentityHeaders {
            version: Some(HeaderName::from_static("x-app-version")),
            ..IdentityHeaders::default()
        };
        let mut answer = HeaderMap::new();
        answer.insert("x-app-instance", "pod-1".parse().unwrap());
        assert_eq!(headers.identity(&answer), None);
        answer.insert("x-app-version", "v2".parse().unwrap());
        let identity = headers.identity(&answer).unwrap();
        assert_eq!((&identity.version[..], &identity.instance[..]), ("v2", ""));
        assert_eq!(IdentityHeaders::default().identity(&answer), None);
    }

    #[test]
    fn a_specification_has_them_as_text() {
        let json = r#"{"version":"x-app-version"}"#;
        let headers: IdentityHeaders = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&headers).unwrap(), json);
        let wrong = serde_json::from_str::<IdentityHeaders>(r#"{"version":"x app"}"#);
        assert!(
            wrong
                .unwrap_err()
                .to_string()
                .contains("invalid HTTP header name")
        );
    }
}
