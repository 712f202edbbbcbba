//! The Secrets that pods or Ingresses read, and that nothing supplies.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use serde::Serialize;

use crate::objects::PlatformObjects;

/// A Secret that nothing supplies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FoundSecret {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub uses: Vec<SecretUse>,
    /// The keys that are read by name.
    pub keys: Vec<FoundKey>,
    /// What reads it: `Deployment web`.
    pub read_by: Vec<String>,
    /// Whether nothing needs it: pods start without it.
    pub optional: bool,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundKey {
    /// The key.
    pub key: String,
    /// The environment variables that have its value.
    pub variables: Vec<String>,
}

/// What a Secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretUse {
    /// Keys of it are read by name.
    Keys,
    /// All keys of it are environment variables.
    Environment,
    /// All keys of it are files.
    Files,
    /// It opens an image registry.
    Pull,
    /// It is the certificate of an Ingress.
    Certificate,
}

/// One place that reads a Secret.
struct Read<'a> {
    secret: &'a str,
    purpose: SecretUse,
    /// Each with its environment variable, if it has one.
    keys: Vec<(&'a str, Option<&'a str>)>,
    optional: bool,
}

pub(super) fn find(objects: &PlatformObjects) -> Vec<FoundSecret> {
    let mut found = BTreeMap::new();
    for workload in &objects.workloads {
        let reader = format!("{} {}", workload.kind, workload.name);
        for read in workload.template.spec.iter().flat_map(of_pod) {
            add(&mut found, &reader, &read);
        }
    }
    for ingress in &objects.ingresses {
        let reader = format!(
            "Ingress {}",
            ingress.metadata.name.as_deref().unwrap_or_default()
        );
        let entries = ingress.spec.iter().flat_map(|it| it.tls.iter().flatten());
        for secret in entries.filter_map(|it| it.secret_name.as_deref()) {
            let read = Read::whole(secret, SecretUse::Certificate, None);
            add(&mut found, &reader, &read);
        }
    }
    found.retain(|name, _| !objects.own_secrets.contains(name));
    found.into_values().collect()
}

fn add(found: &mut BTreeMap<String, FoundSecret>, reader: &str, read: &Read<'_>) {
    let new = || FoundSecret {
        name: read.secret.to_owned(),
        optional: true,
        ..FoundSecret::default()
    };
    let secret = found.entry(read.secret.to_owned()).or_insert_with(new);
    secret.optional &= read.optional;
    push_new(&mut secret.uses, read.purpose);
    push_new(&mut secret.read_by, reader.to_owned());
    for (key, variable) in &read.keys {
        let at = secret.keys.iter().position(|it| it.key == *key);
        let at = at.unwrap_or_else(|| {
            secret.keys.push(FoundKey {
                key: (*key).to_owned(),
                variables: Vec::new(),
            });
            secret.keys.len() - 1
        });
        if let Some(variable) = variable {
            push_new(&mut secret.keys[at].variables, (*variable).to_owned());
        }
    }
}

fn push_new<T: PartialEq>(all: &mut Vec<T>, one: T) {
    if !all.contains(&one) {
        all.push(one);
    }
}

fn of_pod(pod: &PodSpec) -> Vec<Read<'_>> {
    let containers = pod.init_containers.iter().flatten().chain(&pod.containers);
    let of_containers = containers.flat_map(of_container);
    let of_volumes = pod.volumes.iter().flatten().flat_map(of_volume);
    let pulls = pod.image_pull_secrets.iter().flatten();
    let pulls = pulls.map(|it| Read::whole(&it.name, SecretUse::Pull, Some(true)));
    of_containers.chain(of_volumes).chain(pulls).collect()
}

fn of_container(container: &Container) -> Vec<Read<'_>> {
    let variables = container.env.iter().flatten().filter_map(|variable| {
        let selector = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
        let key = (selector.key.as_str(), Some(variable.name.as_str()));
        Some(Read::keys(&selector.name, vec![key], selector.optional))
    });
    let whole = container.env_from.iter().flatten().filter_map(|source| {
        let secret = source.secret_ref.as_ref()?;
        Some(Read::whole(
            &secret.name,
            SecretUse::Environment,
            secret.optional,
        ))
    });
    variables.chain(whole).collect()
}

fn of_volume(volume: &Volume) -> Vec<Read<'_>> {
    let whole = volume.secret.iter().filter_map(|it| {
        let (name, keys) = (it.secret_name.as_deref()?, it.items.as_deref());
        Some((name, keys.unwrap_or_default(), it.optional))
    });
    let sources = volume
        .projected
        .iter()
        .flat_map(|it| it.sources.iter().flatten());
    let projected = sources.filter_map(|it| {
        let secret = it.secret.as_ref()?;
        let keys = secret.items.as_deref().unwrap_or_default();
        Some((secret.name.as_str(), keys, secret.optional))
    });
    let reads = whole.chain(projected).map(|(name, items, optional)| {
        let keys: Vec<_> = items.iter().map(|it| (it.key.as_str(), None)).collect();
        match keys.is_empty() {
            true => Read::whole(name, SecretUse::Files, optional),
            false => Read::keys(name, keys, optional),
        }
    });
    reads.collect()
}

impl<'a> Read<'a> {
    fn whole(secret: &'a str, purpose: SecretUse, optional: Option<bool>) -> Read<'a> {
        Read {
            secret,
            purpose,
            keys: Vec::new(),
            optional: optional.unwrap_or(false),
        }
    }

    fn keys(
        secret: &'a str,
        keys: Vec<(&'a str, Option<&'a str>)>,
        optional: Option<bool>,
    ) -> Read<'a> {
        Read {
            keys,
            ..Read::whole(secret, SecretUse::Keys, optional)
        }
    }
}
