//! `[secrets]`, and the backing services that they lead to.

use super::key;
use crate::draft::Draft;
use crate::inventory::{FoundKey, FoundSecret, Inventory, SecretUse};

/// The words of a variable, or of a Secret and its key, that tell which secret of the harness is
/// meant. Each row needs a word of each of its lists; the first row wins.
const MEANINGS: [(&str, &[&[&str]]); 4] = [
    ("demo_password", &[&["demo"], &["password"]]),
    ("jwt_secret", &[&["jwt"]]),
    (
        "redis_url",
        &[&["redis", "valkey", "cache"], &["url", "uri", "dsn"]],
    ),
    (
        "database_url",
        &[
            &["database", "db", "postgres", "postgresql", "pg"],
            &["url", "uri", "dsn"],
        ],
    ),
];

/// Writes the backing services whose URLs the Secrets have.
pub(super) fn backing_services(draft: &mut Draft, inventory: &Inventory) {
    for (meaning, backing) in [("database_url", "postgres"), ("redis_url", "redis")] {
        let mut secrets = inventory.secrets.iter();
        let has = |secret: &FoundSecret| {
            let mut keys = secret.keys.iter();
            keys.any(|it| meaning_of(secret, it) == Some(meaning))
        };
        if secrets.any(has) {
            draft.blank();
            draft.comment(&format!("A Secret below has its {{{meaning}}}."));
            draft.table(&format!("[backing_services.{backing}]\n"));
        }
    }
}

/// Whether it is only the certificate of an Ingress.
pub(super) fn is_certificate(secret: &FoundSecret) -> bool {
    secret.uses == [SecretUse::Certificate]
}

/// Writes the Secrets, except `tls_secret`, which `[platform]` has.
pub(super) fn write(draft: &mut Draft, inventory: &Inventory, tls_secret: Option<&str>) {
    for secret in &inventory.secrets {
        if Some(secret.name.as_str()) == tls_secret {
            continue;
        }
        draft.blank();
        draft.comment(&format!(
            "Nothing supplies the Secret {}, which {} {}{}.",
            secret.name,
            secret.read_by.join(", "),
            if secret.read_by.len() == 1 {
                "reads"
            } else {
                "read"
            },
            if secret.optional {
                ", if it is there"
            } else {
                ""
            }
        ));
        match secret.uses.as_slice() {
            [SecretUse::Pull] => draft.comment(
                "It opens an image registry. The harness does not make such Secrets: the nodes of a \
                 kind target have the images of [images], and pull the others without a password.",
            ),
            [SecretUse::Certificate] => draft.add_to_do(&format!(
                "the harness makes one certificate: platform.tls_secret = {}",
                tls_secret.unwrap_or_default()
            )),
            _ => table(draft, secret),
        }
    }
}

fn table(draft: &mut Draft, secret: &FoundSecret) {
    let is_whole = |it: &SecretUse| matches!(it, SecretUse::Environment | SecretUse::Files);
    if let Some(whole) = secret.uses.iter().find(|it| is_whole(it)) {
        let what = match whole {
            SecretUse::Files => "files",
            _ => "environment variables",
        };
        draft.add_to_do(&format!(
            "the keys of the Secret {}, which are {what}",
            secret.name
        ));
    }
    let header = format!("[secrets.{}]\n", key(&secret.name));
    let (known, unknown): (Vec<_>, Vec<_>) = secret
        .keys
        .iter()
        .map(|it| (it, meaning_of(secret, it)))
        .partition(|(_, meaning)| meaning.is_some());
    if !unknown.is_empty() {
        let names = unknown.iter().map(|(it, _)| it.key.as_str());
        let names: Vec<&str> = names.collect();
        draft.add_to_do(&format!(
            "which secret of the harness is {} of the Secret {}? {{database_url}}, {{redis_url}}, \
             {{jwt_secret}} (a random text) or {{demo_password}}",
            names.join(", "),
            secret.name,
        ));
    }
    let known: String = known
        .iter()
        .map(|(it, meaning)| line(it, meaning.unwrap_or_default()))
        .collect();
    match known.is_empty() {
        true => draft.example(&header),
        false => draft.table(&format!("{header}{known}")),
    }
    for (it, _) in unknown {
        draft.example(&line(it, "jwt_secret"));
    }
}

fn line(found: &FoundKey, meaning: &str) -> String {
    let variables = match found.variables.is_empty() {
        true => String::new(),
        false => format!("    # {}", found.variables.join(", ")),
    };
    format!("{} = \"{{{meaning}}}\"{variables}\n", key(&found.key))
}

/// Which secret of the harness a key has, by the name of its variable, or else its own.
fn meaning_of(secret: &FoundSecret, found: &FoundKey) -> Option<&'static str> {
    let own = format!("{}-{}", secret.name, found.key);
    let mut names = found.variables.iter().chain([&own]);
    names.find_map(|it| meaning(it))
}

fn meaning(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).collect();
    let has = |of: &&[&str]| of.iter().any(|word| words.contains(word));
    let found = MEANINGS.iter().find(|(_, needed)| needed.iter().all(has));
    found.map(|(meaning, _)| *meaning)
}
