//! Merges the results of several generators of one load.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ended, Generator, LoadResult};

impl LoadResult {
    /// Merges the results of generators 0, 1, ... All counts and times equal those of a single
    /// generator. None without results.
    pub fn merge(parts: impl IntoIterator<Item = LoadResult>) -> Option<LoadResult> {
        let named = parts.into_iter().enumerate().map(|(number, mut part)| {
            let bottleneck = &mut part.generator.bottleneck;
            *bottleneck = bottleneck
                .take()
                .map(|why| format!("generator {number}: {why}"));
            part
        });
        named.reduce(LoadResult::and)
    }

    fn and(mut self, other: LoadResult) -> LoadResult {
        self.begun = self.begun.min(other.begun);
        if self.ended == Ended::Whole {
            self.ended = other.ended;
        }
        self.generator.add(other.generator);
        for (service, versions) in other.fingerprint.versions {
            add_versions(&mut self.fingerprint.versions, service, &versions);
        }
        for (name, endpoint) in other.endpoints {
            self.endpoints.entry(name).or_default().add(&endpoint);
        }
        self
    }
}

impl Generator {
    fn add(&mut self, other: Generator) {
        self.cores_used += other.cores_used;
        self.cores += other.cores;
        self.lag.add(&other.lag);
        let reasons = [self.bottleneck.take(), other.bottleneck];
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        self.bottleneck = (!reasons.is_empty()).then(|| reasons.join("; "));
    }
}

fn add_versions(all: &mut BTreeMap<String, String>, service: String, versions: &str) {
    let known = all.entry(service).or_default();
    let each: BTreeSet<&str> = known.split(", ").chain(versions.split(", ")).collect();
    let each: Vec<&str> = each
        .into_iter()
        .filter(|version| !version.is_empty())
        .collect();
    *known = each.join(", ");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Distribution, Endpoint, EngineKind, Fingerprint, SCHEMA};

    fn part(version: &str, bottleneck: Option<&str>) -> LoadResult {
        LoadResult {
            schema: SCHEMA,
            run: "r".into(),
            engine: EngineKind::Open,
            fingerprint: Fingerprint {
                versions: [("gateway".to_owned(), version.to_owned())].into(),
                ..Fingerprint::default()
            },
            begun: "2026-11-26T20:00:00Z".parse().unwrap(),
            block_millis: 1000,
            ended: Ended::Whole,
            generator: Generator {
                cores_used: 0.5,
                cores: 1,
                lag: [10].into_iter().collect(),
                bottleneck: bottleneck.map(str::to_owned),
            },
            endpoints: BTreeMap::new(),
        }
    }

    #[test]
    fn merged_results_keep_the_data_of_all_generators() {
        let mut last = part("v1", None);
        last.ended = Ended::Interrupted;
        last.begun = "2026-11-26T19:59:59Z".parse().unwrap();
        let parts = [part("v1", None), part("v1, v2", Some("late")), last];
        let whole = LoadResult::merge(parts.clone()).unwrap();
        assert_eq!(whole.ended, Ended::Interrupted);
        assert_eq!(whole.begun, parts[2].begun);
        assert_eq!(whole.fingerprint.versions["gateway"], "v1, v2");
        let Generator {
            cores_used,
            cores,
            lag,
            bottleneck,
        } = whole.generator;
        assert_eq!((cores_used, cores, lag.count()), (1.5, 3, 3));
        assert_eq!(bottleneck.as_deref(), Some("generator 1: late"));
        assert_eq!(LoadResult::merge([]), None);
    }

    #[test]
    fn endpoints_add_up_by_their_blocks() {
        let with = |name: &str, block: u32, took: u64| {
            let mut part = part("v1", None);
            let mut endpoint = Endpoint::default();
            let latency: Distribution = [took].into_iter().collect();
            let block = endpoint.blocks.entry(block).or_default();
            block.requests = 1;
            block.latency = latency;
            part.endpoints.insert(name.to_owned(), endpoint);
            part
        };
        let parts = [with("a", 0, 100), with("a", 3, 300), with("b", 0, 200)];
        let whole = LoadResult::merge(parts).unwrap();
        assert_eq!(whole.blocks(), 4);
        assert_eq!(whole.endpoints["a"].whole().requests, 2);
        assert_eq!(whole.whole().latency.quantile(1.0), Some(300));
        assert_eq!(whole.whole().requests, 3);
    }
}
