//! Which versions answered, as each answer's headers say.

use std::collections::{BTreeMap, BTreeSet};

use hyper::HeaderMap;
use hyper::header::HeaderName;

static SERVICE: HeaderName = HeaderName::from_static("x-trii-service");
static VERSION: HeaderName = HeaderName::from_static("x-trii-version");

/// A target that says another version in each answer gets no more of this machine's memory
/// than so many.
const AT_MOST: usize = 32;
/// What is longer is no version, nor a service's name.
const LONGEST: usize = 100;

/// Which versions of which service answered: so many at most, the rest go by "others".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeSet<(String, String)>);

impl Versions {
    /// Notes who an answer says it is of (`x-trii-service`), and in which version
    /// (`x-trii-version`).
    pub fn note(&mut self, headers: &HeaderMap) {
        let header = |name: &HeaderName| headers.get(name)?.to_str().ok();
        if let (Some(service), Some(version)) = (header(&SERVICE), header(&VERSION)) {
            self.answered(service, version);
        }
    }

    fn answered(&mut self, service: &str, version: &str) {
        // As good as always it is one of those that are there, and there are few.
        let mut known = self.0.iter();
        if known.any(|(of, it)| of == service && it == version) {
            return;
        }
        let fits = self.0.len() < AT_MOST && service.len().max(version.len()) <= LONGEST;
        let (service, version) = match fits {
            true => (service, version),
            false => ("others", "several"),
        };
        self.0.insert((service.to_owned(), version.to_owned()));
    }

    /// Adds what another one noted.
    pub fn add(&mut self, other: &Versions) {
        for (service, version) in &other.0 {
            self.answered(service, version);
        }
    }

    /// By service: several, where a release was under way, with commas between.
    pub fn by_service(self) -> BTreeMap<String, String> {
        let mut told: BTreeMap<String, String> = BTreeMap::new();
        for (service, version) in self.0 {
            let all = told.entry(service).or_default();
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(&version);
        }
        told
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
    fn the_versions_that_answered_are_told_each_once() {
        let (mut one, mut other) = (Versions::default(), Versions::default());
        for version in ["v2.1.0", "v2.2.0", "v2.1.0"] {
            one.note(&answer("api-gateway", version));
        }
        other.note(&answer("api-gateway", "v2.1.0"));
        other.note(&answer("market-data-service", "v2.1.0"));
        other.note(&HeaderMap::new());
        one.add(&other);
        let told = one.by_service();
        assert_eq!(told["api-gateway"], "v2.1.0, v2.2.0");
        assert_eq!(told["market-data-service"], "v2.1.0");
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn another_version_in_each_answer_is_a_few_and_others() {
        let mut versions = Versions::default();
        versions.note(&answer("api-gateway", &"v".repeat(LONGEST + 1)));
        for number in 0..100_000 {
            versions.note(&answer("api-gateway", &format!("v{number}")));
        }
        assert_eq!(versions.0.len(), AT_MOST);
        let told = versions.by_service();
        assert_eq!(told.keys().collect::<Vec<_>>(), ["api-gateway", "others"]);
    }
}
