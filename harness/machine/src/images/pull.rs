//! Pulls an image, reports the progress, and does not wait long for a registry that does not
//! answer.

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

/// From the request to the first message about the image.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two messages with progress. The engine retries for about as long if a registry stops
/// answering.
const NEXT_TIMEOUT: Duration = Duration::from_secs(60);

const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Pulls an image; the error says why it failed. An image that is pulled by digest also gets the
/// name of its tag. The engine stops pulling when this is dropped.
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
    let messages = client.create_image(Some(options), None, credentials);
    let report = |layers: &Layers| progress(&format!("pulling {wanted}: {layers}"));
    receive(messages, &report).await?;
    if let Some(digest) = &wanted.digest {
        let name = TagImageOptionsBuilder::default()
            .repo(&wanted.repository)
            .tag(&wanted.tag)
            .build();
        let pulled = format!("{}@{digest}", wanted.repository);
        let named = client.tag_image(&pulled, Some(name)).await;
        named.map_err(|error| format!("it was pulled, but cannot be tagged: {error}"))?;
    }
    Ok(())
}

/// Receives the messages of a pull until its end.
async fn receive(
    messages: impl Stream<Item = Result<CreateImageInfo, DockerError>>,
    report: &(impl Fn(&Layers) + Sync),
) -> Result<(), String> {
    let mut messages = std::pin::pin!(messages);
    let mut layers = Layers::default();
    let mut tick = interval_at(Instant::now() + REPORT_EVERY, REPORT_EVERY);
    let mut allowed = FIRST_TIMEOUT;
    let mut deadline = Instant::now() + allowed;
    loop {
        tokio::select! {
            message = messages.next() => match message {
                None => return Ok(()),
                Some(Err(error)) => return Err(message_of(error)),
                Some(Ok(message)) if layers.update(&message) => {
                    allowed = NEXT_TIMEOUT;
                    deadline = Instant::now() + allowed;
                }
                Some(Ok(_)) => {}
            },
            _ = tick.tick() => report(&layers),
            () = sleep_until(deadline) => {
                return Err(format!("no answer within {} s", allowed.as_secs()));
            }
        }
    }
}

/// The engine's own words.
pub(super) fn message_of(error: DockerError) -> String {
    match error {
        DockerError::DockerResponseServerError { message, .. } => message,
        DockerError::DockerStreamError { error } => error,
        other => other.to_string(),
    }
}

/// Why an image cannot be pulled, by the engine's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullFailure {
    /// The registry requires a login, or another one.
    Denied,
    /// The registry does not have the image.
    NotThere,
    /// Anything else, such as a registry that does not answer.
    Other,
}

impl PullFailure {
    pub(super) fn of(why: &str) -> PullFailure {
        const DENIED: [&str; 4] = [
            "unauthorized",
            "no basic auth",
            "denied",
            "incorrect username",
        ];
        const NOT_THERE: [&str; 2] = ["manifest unknown", "not found"];
        let why = why.to_lowercase();
        let has = |phrases: &[&str]| phrases.iter().any(|phrase| why.contains(phrase));
        match () {
            () if has(&DENIED) => PullFailure::Denied,
            () if has(&NOT_THERE) => PullFailure::NotThere,
            () => PullFailure::Other,
        }
    }
}

/// What to do about a failed pull.
pub(super) fn advice(wanted: &PullReference, why: &str) -> String {
    match PullFailure::of(why) {
        PullFailure::Denied => {
            let login = format!("docker login {}", wanted.registry().unwrap_or_default());
            format!("`{}` with an account that may pull it", login.trim_end())
        }
        PullFailure::NotThere => "correct the reference: its registry has no such image".to_owned(),
        PullFailure::Other => {
            let registry = wanted.registry().unwrap_or("the registry");
            format!("check that {registry} can be reached from the engine's machine")
        }
    }
}

/// The progress of a pull.
#[derive(Default)]
struct Layers {
    layers: BTreeMap<String, Layer>,
    retries: bool,
}

/// Sizes in bytes, compressed.
#[derive(Default)]
struct Layer {
    here: i64,
    total: i64,
    done: bool,
}

impl Layers {
    /// Whether the message shows progress; a retry does not.
    fn update(&mut self, message: &CreateImageInfo) -> bool {
        let status = message.status.as_deref().unwrap_or_default();
        self.retries = status.starts_with("Retrying");
        if self.retries {
            return false;
        }
        // The message of the image itself has the tag as its id.
        let of_layer = message
            .id
            .as_ref()
            .filter(|_| !status.starts_with("Pulling from"));
        let Some(id) = of_layer else { return true };
        let layer = self.layers.entry(id.clone()).or_default();
        match (status, &message.progress_detail) {
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
            return f.write_str("waiting for the registry");
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
        match self.retries {
            true => f.write_str("; the registry stopped answering, retrying"),
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

    fn message(id: &str, status: &str, bytes: Option<(i64, i64)>) -> CreateImageInfo {
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

    /// Receives messages, each this many seconds after the previous one, and then nothing.
    async fn received(
        messages: Vec<(u64, CreateImageInfo)>,
    ) -> (Result<(), String>, Vec<String>, Duration) {
        let messages = stream::iter(messages).then(async |(seconds, message)| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(message)
        });
        let reports = Mutex::new(Vec::new());
        let begun = Instant::now();
        let report = |layers: &Layers| reports.lock().unwrap().push(layers.to_string());
        let ended = receive(messages.chain(stream::pending()), &report).await;
        let took = begun.elapsed();
        (ended, reports.into_inner().unwrap(), took)
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_from_a_silent_registry_fails_after_ten_seconds() {
        let (ended, reports, took) = received(Vec::new()).await;
        assert_eq!(ended, Err("no answer within 10 s".to_owned()));
        assert_eq!(reports[0], "waiting for the registry");
        assert_eq!(took.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn the_progress_is_reported_every_five_seconds() {
        let mib = 1 << 20;
        let (_, reports, _) = received(vec![
            (0, message("7", "Pulling from library/redis", None)),
            (0, message("a", "Already exists", None)),
            (0, message("b", "Pulling fs layer", None)),
            (4, message("b", "Downloading", Some((mib, 8 * mib)))),
            (4, message("b", "Downloading", Some((5 * mib, 8 * mib)))),
            (4, message("b", "Download complete", None)),
            (4, message("b", "Extracting", Some((mib, 8 * mib)))),
            (6, message("b", "Pull complete", None)),
            (0, message("", "Digest: sha256:0a", None)),
        ])
        .await;
        let expected = [
            "1 of 2 layers, 1.0 of 8.0 MiB",
            "1 of 2 layers, 5.0 of 8.0 MiB",
            "1 of 2 layers, 8.0 of 8.0 MiB",
            "1 of 2 layers, 8.0 of 8.0 MiB",
            "2 of 2 layers, 8.0 of 8.0 MiB",
        ];
        assert_eq!(reports[..5], expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_from_a_registry_that_stops_fails_after_a_minute() {
        let mut messages = vec![(1, message("a", "Downloading", Some((1, 2))))];
        let retries = (1..200).map(|_| (1, message("a", "Retrying in 5 seconds", None)));
        messages.extend(retries);
        let (ended, reports, took) = received(messages).await;
        assert_eq!(ended, Err("no answer within 60 s".to_owned()));
        assert!(reports[1].ends_with("retrying"), "{}", reports[1]);
        assert_eq!(took.as_secs(), 61);
    }

    #[test]
    fn advice_follows_from_the_error() {
        let wanted = PullReference::parse("127.0.0.1:5000/a:1").unwrap();
        let advice = |why| advice(&wanted, why);
        // The errors of Docker 20.10 and 29.
        for refused in ["no basic auth credentials", "401 Unauthorized"] {
            let login = advice(refused);
            assert!(login.contains("docker login 127.0.0.1:5000"), "{login}");
        }
        assert!(advice("manifest unknown: manifest unknown").contains("no such image"));
        assert!(advice("connection refused").contains("can be reached"));
    }
}
