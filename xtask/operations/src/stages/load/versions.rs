//! The versions of services whose answers have no header for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blue_green::objects::ServiceObjects;
use blue_green::{VersionSource, VersionSources};
use environments::environment::Environment;
use futures::future::join_all;
use kubernetes::Cluster;
use loadtests::result::Fingerprint;
use tokio::time::timeout;

/// The time for all services.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The versions by service, before and after a load.
#[derive(Default)]
pub struct ServedVersions {
    versions: BTreeMap<String, BTreeSet<String>>,
    /// Why the version of a service is not known.
    pub unknown: BTreeSet<String>,
}

impl ServedVersions {
    /// Adds the versions that services in a cluster serve now. Processes of this machine have no
    /// other source than a header.
    pub async fn add(&mut self, environment: &Environment, sources: &VersionSources) {
        let Some(place) = &environment.cluster else {
            return;
        };
        let names = environment.services.iter().map(|it| (it, sources.of(it)));
        let names = names.filter(|(_, source)| !matches!(source, VersionSource::Header(_)));
        let wanted: Vec<(&String, VersionSource)> = names.collect();
        if wanted.is_empty() {
            return;
        }
        let reading = async {
            let cluster = place.open().await.map_err(|error| error.to_string())?;
            Ok::<_, String>(join_all(wanted.iter().map(|it| read(&cluster, it))).await)
        };
        match timeout(TIMEOUT, reading).await {
            Ok(Ok(read)) => wanted.iter().zip(read).for_each(|((name, _), read)| {
                self.note(name, read);
            }),
            Ok(Err(why)) => drop(self.unknown.insert(why)),
            Err(_) => drop(self.unknown.insert(format!("no answer within {TIMEOUT:?}"))),
        }
    }

    fn note(&mut self, service: &str, read: Result<BTreeSet<String>, String>) {
        match read {
            Ok(served) => {
                let known = self.versions.entry(service.to_owned()).or_default();
                known.extend(served);
            }
            Err(why) => drop(self.unknown.insert(format!("{service}: {why}"))),
        }
    }

    /// Adds the versions to those that answers have named.
    pub fn add_to(self, fingerprint: &mut Fingerprint) {
        let versions = self.versions.into_iter().map(|(service, versions)| {
            let versions = Vec::from_iter(versions).join(", ");
            (service, versions)
        });
        fingerprint.versions.extend(versions);
    }
}

async fn read(
    cluster: &Cluster,
    (service, source): &(&String, VersionSource),
) -> Result<BTreeSet<String>, String> {
    let objects = ServiceObjects { cluster, service };
    source.served(&objects, service).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_and_after_a_load_are_both_recorded() {
        let mut served = ServedVersions::default();
        let read = |version: &str| Ok(BTreeSet::from([version.to_owned()]));
        for (service, version) in [("quotes", "v2"), ("orders", "v1"), ("quotes", "v1")] {
            served.note(service, read(version));
        }
        served.note("page", Err("no ready pod is behind page".to_owned()));
        assert_eq!(
            Vec::from_iter(&served.unknown),
            ["page: no ready pod is behind page"]
        );
        let mut fingerprint = Fingerprint::default();
        fingerprint.versions.insert("gateway".into(), "v3".into());
        served.add_to(&mut fingerprint);
        let versions = [("gateway", "v3"), ("orders", "v1"), ("quotes", "v1, v2")];
        let versions = versions.map(|(service, version)| (service.into(), version.into()));
        assert_eq!(fingerprint.versions, versions.into());
    }
}
