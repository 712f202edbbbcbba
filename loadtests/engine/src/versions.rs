//! The versions that answered, as the headers of each answer name them.

use std::collections::{BTreeMap, BTreeSet};

use hyper::HeaderMap;
use prober::IdentityHeaders;

/// The most versions. A target with a new version in each answer must not fill the memory.
const AT_MOST: usize = 32;
/// The longest version, or name of a service, in bytes.
const LONGEST: usize = 100;

/// The versions of each service that answered. Beyond a limit they are counted as "others".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeSet<(String, String)>);

impl Versions {
    /// Records the service and the version of an answer, if its headers name the version. Answers
    /// that do not name their service are those of one.
    pub fn note(&mut self, names: &IdentityHeaders, headers: &HeaderMap) {
        if let Some(version) = names.version(headers) {
            self.answered(names.service(headers).unwrap_or("platform"), version);
        }
    }

    fn answered(&mut self, service: &str, version: &str) {
        // Almost every answer has a known version: it is not copied.
        let mut known = self.0.iter();
        if known.any(|(name, value)| name == service && value == version) {
            return;
        }
        let fits = self.0.len() < AT_MOST && service.len().max(version.len()) <= LONGEST;
        let (service, version) = match fits {
            true => (service, version),
            false => ("others", "several"),
        };
        self.0.insert((service.to_owned(), version.to_owned()));
    }

    /// Adds the versions of another one.
    pub fn add(&mut self, other: &Versions) {
        for (service, version) in &other.0 {
            self.answered(service, version);
        }
    }

    /// Returns the versions of each service, separated by commas.
    pub fn by_service(self) -> BTreeMap<String, String> {
        let mut versions: BTreeMap<String, String> = BTreeMap::new();
        for (service, version) in self.0 {
            let all = versions.entry(service).or_default();
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(&version);
        }
        versions
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn names() -> IdentityHeaders {
        IdentityHeaders {
            service: Some(HeaderName::from_static("x-trii-service")),
            version: Some(HeaderName::from_static("x-trii-version")),
            instance: None,
        }
    }

    fn answer(service: &str, version: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-trii-service", service.parse().unwrap());
        headers.insert("x-trii-version", version.parse().unwrap());
        headers
    }

    #[test]
    fn each_version_that_answered_is_listed_once() {
        let (mut one, mut other) = (Versions::default(), Versions::default());
        for version in ["v2.1.0", "v2.2.0", "v2.1.0"] {
            one.note(&names(), &answer("api-gateway", version));
        }
        other.note(&names(), &answer("api-gateway", "v2.1.0"));
        other.note(&names(), &answer("market-data-service", "v2.1.0"));
        other.note(&names(), &HeaderMap::new());
        one.add(&other);
        let versions = one.by_service();
        assert_eq!(versions["api-gateway"], "v2.1.0, v2.2.0");
        assert_eq!(versions["market-data-service"], "v2.1.0");
        assert_eq!(versions.len(), 2);
    }

    #[test]
    fn an_answer_without_a_service_is_of_the_platform() {
        let mut versions = Versions::default();
        let names = IdentityHeaders {
            service: None,
            ..names()
        };
        versions.note(&names, &answer("api-gateway", "v2"));
        versions.note(&IdentityHeaders::default(), &answer("api-gateway", "v3"));
        assert_eq!(
            versions.by_service(),
            [("platform".into(), "v2".into())].into()
        );
    }

    #[test]
    fn versions_beyond_the_limit_are_counted_as_others() {
        let mut versions = Versions::default();
        versions.note(&names(), &answer("api-gateway", &"v".repeat(LONGEST + 1)));
        for number in 0..100_000 {
            versions.note(&names(), &answer("api-gateway", &format!("v{number}")));
        }
        assert_eq!(versions.0.len(), AT_MOST);
        let versions = versions.by_service();
        assert_eq!(
            versions.keys().collect::<Vec<_>>(),
            ["api-gateway", "others"]
        );
    }
}
