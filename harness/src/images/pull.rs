//! Pulls an image, says how far it is, and does not wait long for a registry that is not
//! there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error as DockerError;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptionsBuilder, TagImageOptionsBuilder};
use futures::{Stream, StreamExt};
use tokio::time::{Instant, interval_at, sleep_until};

use super::reference::PullReference;
use crate::engine::Engine;

/// From the request to the registry's first word.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Between two words that tell of progress, in a pull under way. The engine asks a registry
/// that is gone in the middle again for about as long.
const NEXT_WORD: Duration = Duration::from_secs(60);

const SAID_EVERY: Duration = Duration::from_secs(5);

/// Pulls it whole; the error says in words why not. What is pulled by its digest has the
/// name of its tag afterwards. The engine stops pulling when this is dropped.
pub(super) async fn pull(
    engine: &Engine,
    wanted: &PullReference,
    credentials: Option<DockerCredentials>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), String> {
    let client = engine.client();
    let options = CreateImageOptionsBuilder::default()
        .from_image(&wanted.repository)
        // The engine takes a digest here, too.
        .tag(wanted.digest.as_ref().unwrap_or(&wanted.tag))
        .build();
    let words = client.create_image(Some(options), None, credentials);
    let told = |far: &Layers| progress(&format!("pulling {wanted}: {far}"));
    hear(words, &told).await?;
    if let Some(digest) = &wanted.digest {
        let name = TagImageOptionsBuilder::default()
            .repo(&wanted.repository)
            .tag(&wanted.tag)
            .build();
        let pulled = format!("{}@{digest}", wanted.repository);
        let named = client.tag_image(&pulled, Some(name)).await;
        named.map_err(|error| format!("it was pulled and cannot be named: {error}"))?;
    }
    Ok(())
}

/// Hears a pull to its end.
async fn hear(
    words: impl Stream<Item = Result<CreateImageInfo, DockerError>>,
    told: &(impl Fn(&Layers) + Sync),
) -> Result<(), String> {
    let mut words = std::pin::pin!(words);
    let mut layers = Layers::default();
    let mut tick = interval_at(Instant::now() + SAID_EVERY, SAID_EVERY);
    let mut allowed = FIRST_ANSWER;
    let mut deadline = Instant::now() + allowed;
    loop {
        tokio::select! {
            word = words.next() => match word {
                None => return Ok(()),
                Some(Err(error)) => return Err(in_words(error)),
                Some(Ok(word)) if layers.hear(&word) => {
                    allowed = NEXT_WORD;
                    deadline = Instant::now() + allowed;
                }
                Some(Ok(_)) => {}
            },
            _ = tick.tick() => told(&layers),
            () = sleep_until(deadline) => {
                return Err(format!("no answer within {} s", allowed.as_secs()));
            }
        }
    }
}

fn in_words(error: DockerError) -> String {
    match error {
        DockerError::DockerResponseServerError { message, .. } => message,
        DockerError::DockerStreamError { error } => error,
        other => other.to_string(),
    }
}

/// What to do about a failed pull.
pub(super) fn advice(wanted: &PullReference, why: &str) -> String {
    let why = why.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    let registry = wanted.registry().unwrap_or("the registry");
    let login = wanted.registry().unwrap_or_default();
    if says(&[
        "unauthorized",
        "no basic auth",
        "denied",
        "incorrect username",
    ]) {
        format!(
            "`{}` with an account that may pull it",
            format!("docker login {login}").trim_end()
        )
    } else if says(&["manifest unknown", "not found"]) {
        "name one that is there in its image.toml".to_owned()
    } else {
        format!("see whether {registry} can be reached from the engine's machine")
    }
}

/// How far a pull is.
#[derive(Default)]
struct Layers {
    layers: BTreeMap<String, Layer>,
    asks_again: bool,
}

/// Bytes as they travel, compressed.
#[derive(Default)]
struct Layer {
    here: i64,
    total: i64,
    done: bool,
}

impl Layers {
    /// Whether the word tells of progress, which waiting for a dead registry is not.
    fn hear(&mut self, word: &CreateImageInfo) -> bool {
        let status = word.status.as_deref().unwrap_or_default();
        self.asks_again = status.starts_with("Retrying");
        if self.asks_again {
            return false;
        }
        // The image has a line of its own, by its tag.
        let of_layer = word
            .id
            .as_ref()
            .filter(|_| !status.starts_with("Pulling from"));
        let Some(id) = of_layer else { return true };
        let layer = self.layers.entry(id.clone()).or_default();
        match (status, &word.progress_detail) {
            ("Downloading", Some(bytes)) => {
                layer.here = bytes.current.unwrap_or(layer.here);
                layer.total = bytes.total.unwrap_or(layer.total);
            }
            ("Download complete", _) => layer.here = layer.total,
            ("Pull complete" | "Already exists", _) => {
                layer.here = layer.total;
                layer.done = true;
            }
            _ => {}
        }
        true
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.layers.is_empty() {
            return f.write_str("the registry is asked");
        }
        let all = || self.layers.values();
        let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{} of {} layers, {:.1} of {:.1} MiB",
            all().filter(|layer| layer.done).count(),
            self.layers.len(),
            mib(all().map(|layer| layer.here).sum()),
            mib(all().map(|layer| layer.total).sum()),
        )?;
        match self.asks_again {
            true => f.write_str("; the registry stopped and is asked again"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bollard::models::ProgressDetail;
    use futures::stream;

    use super::*;

    fn word(id: &str, status: &str, bytes: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: (!id.is_empty()).then(|| id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: bytes.map(|(current, total)| ProgressDetail {
                current: Some(current),
                total: Some(total),
            }),
            ..CreateImageInfo::default()
        }
    }

    type Words = Vec<(u64, CreateImageInfo)>;

    /// Hears words, each so many seconds after the one before, and then silence.
    async fn heard(words: Words) -> (Result<(), String>, Vec<String>, Duration) {
        let words = stream::iter(words).then(async |(seconds, word)| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(word)
        });
        let told = Mutex::new(Vec::new());
        let begun = Instant::now();
        let tell = |far: &Layers| told.lock().unwrap().push(far.to_string());
        let ended = hear(words.chain(stream::pending()), &tell).await;
        let took = begun.elapsed();
        (ended, told.into_inner().unwrap(), took)
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_says_nothing_is_given_up_after_ten_seconds() {
        let (ended, told, took) = heard(Vec::new()).await;
        assert_eq!(ended, Err("no answer within 10 s".to_owned()));
        assert_eq!(told[0], "the registry is asked");
        assert_eq!(took.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_every_five_seconds_how_far_it_is() {
        let mib = 1 << 20;
        let (_, told, _) = heard(vec![
            (0, word("7", "Pulling from library/redis", None)),
            (0, word("a", "Already exists", None)),
            (0, word("b", "Pulling fs layer", None)),
            (4, word("b", "Downloading", Some((mib, 8 * mib)))),
            (4, word("b", "Downloading", Some((5 * mib, 8 * mib)))),
            (4, word("b", "Download complete", None)),
            (4, word("b", "Extracting", Some((mib, 8 * mib)))),
            (6, word("b", "Pull complete", None)),
            (0, word("", "Digest: sha256:0a", None)),
        ])
        .await;
        let expected = [
            "1 of 2 layers, 1.0 of 8.0 MiB",
            "1 of 2 layers, 5.0 of 8.0 MiB",
            "1 of 2 layers, 8.0 of 8.0 MiB",
            "1 of 2 layers, 8.0 of 8.0 MiB",
            "2 of 2 layers, 8.0 of 8.0 MiB",
        ];
        assert_eq!(told[..5], expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_dies_in_the_middle_is_given_up_after_a_minute() {
        let mut words = vec![(1, word("a", "Downloading", Some((1, 2))))];
        let again = (1..200).map(|_| (1, word("a", "Retrying in 5 seconds", None)));
        words.extend(again);
        let (ended, told, took) = heard(words).await;
        assert_eq!(ended, Err("no answer within 60 s".to_owned()));
        assert!(told[1].ends_with("is asked again"), "{}", told[1]);
        assert_eq!(took.as_secs(), 61);
    }

    #[test]
    fn what_to_do_follows_from_what_was_said() {
        let wanted = PullReference::parse("127.0.0.1:5000/a:1").unwrap();
        let advice = |why| advice(&wanted, why);
        // As Docker 20.10 and 29 say it.
        for refused in ["no basic auth credentials", "401 Unauthorized"] {
            let login = advice(refused);
            assert!(login.contains("docker login 127.0.0.1:5000"), "{login}");
        }
        assert!(advice("manifest unknown: manifest unknown").contains("image.toml"));
        assert!(advice("connection refused").contains("reached"));
    }
}
