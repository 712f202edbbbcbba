//! The versions that answered, by the headers of each answer.

use std::collections::{BTreeMap, BTreeSet};

use hyper::HeaderMap;
use hyper::header::HeaderName;

static SERVICE: HeaderName = HeaderName::from_static("x-trii-service");
static VERSION: HeaderName = HeaderName::from_static("x-trii-version");

/// The most versions. A target with a new version in each answer must not fill the memory.
const AT_MOST: usize = 32;
/// The longest version, or name of a service, in bytes.
const LONGEST: usize = 100;

/// The versions of each service that answered. Beyond a limit they are counted as "others".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeSet<(String, String)>);

impl Versions {
    /// Records the service (`x-trii-service`) and version (`x-trii-version`) of an answer.
    pub fn note(&mut self, headers: &HeaderMap) {
        let header = |name: &HeaderName| headers.get(name)?.to_str().ok();
        if let (Some(service), Some(version)) = (header(&SERVICE), header(&VERSION)) {
            self.answered(service, version);
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
    use super::*;

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
            one.note(&answer("api-gateway", version));
        }
        other.note(&answer("api-gateway", "v2.1.0"));
        other.note(&answer("market-data-service", "v2.1.0"));
        other.note(&HeaderMap::new());
        one.add(&other);
        let versions = one.by_service();
        assert_eq!(versions["api-gateway"], "v2.1.0, v2.2.0");
        assert_eq!(versions["market-data-service"], "v2.1.0");
        assert_eq!(versions.len(), 2);
    }

    #[test]
    fn versions_beyond_the_limit_are_counted_as_others() {
        let mut versions = Versions::default();
        versions.note(&answer("api-gateway", &"v".repeat(LONGEST + 1)));
        for number in 0..100_000 {
            versions.note(&answer("api-gateway", &format!("v{number}")));
        }
        assert_eq!(versions.0.len(), AT_MOST);
        let versions = versions.by_service();
        assert_eq!(
            versions.keys().collect::<Vec<_>>(),
            ["api-gateway", "others"]
        );
    }
}
