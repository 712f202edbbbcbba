//! The container engine: found once, then named to every child process, since
//! neither testcontainers nor kind looks at docker contexts, Colima or Podman.

pub mod candidates;
pub mod machine;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::SystemVersion;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::provision::SETUP_COMMAND;
use crate::proxies::Proxies;
use candidates::Surroundings;
pub use candidates::{Candidate, Origin, Tls, UnknownContext};

/// How long one candidate may take to answer. A daemon that is there answers
/// within milliseconds; one that is stopped (SIGSTOP) accepts and never does.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How long any single request to a found engine may take until its first byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// What Podman calls itself where it speaks Docker's API.
const PODMAN: &str = "Podman Engine";

/// An engine that answered.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The `DOCKER_HOST` value that reaches it.
    pub host: String,
    /// How its address was come by.
    pub origin: Origin,
    /// What it calls itself, e.g. `Docker Engine - Community` or `Podman Engine`.
    pub name: String,
    /// Its own version, e.g. `20.10.24`.
    pub server_version: String,
    /// The API version that was agreed on, e.g. `1.41`.
    pub api_version: String,
    /// Places with a better claim that did not answer; the first is where `docker` would ask.
    pub passed_over: Vec<Look>,
    tls: Option<Tls>,
    client: Docker,
}

impl Engine {
    /// Finds the engine of this process's surroundings. All candidates are asked
    /// at once, so that the whole search takes at most `patience`
    /// ([`PATIENCE`] unless there is a reason).
    ///
    /// # Errors
    /// [`NoEngine`] lists each place and what was seen there.
    pub async fn find(patience: Duration) -> Result<Engine, NoEngine> {
        Engine::among(Surroundings::of_this_process().candidates()?, patience).await
    }

    /// The engine that was at `host` when something was made there.
    ///
    /// # Errors
    /// [`NoEngine`] when it does not answer now.
    pub async fn at(host: &str) -> Result<Engine, NoEngine> {
        let candidate = Candidate {
            host: host.to_owned(),
            origin: Origin::Ledger,
            tls: Surroundings::of_this_process().tls_of(host),
        };
        Engine::among(vec![candidate], PATIENCE).await
    }

    /// The first of `candidates` that answers.
    ///
    /// # Errors
    /// [`NoEngine`] when none does.
    pub async fn among(candidates: Vec<Candidate>, patience: Duration) -> Result<Engine, NoEngine> {
        let mut answers: FuturesOrdered<_> = candidates
            .into_iter()
            .map(|candidate| ask(candidate, patience))
            .collect();
        let mut looks = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(engine) => {
                    return Ok(Engine {
                        passed_over: looks,
                        ..engine
                    });
                }
                Err(look) => looks.push(look),
            }
        }
        Err(NoEngine::from_looks(looks))
    }

    /// Whether it is Podman, which is not all that a Docker Engine is.
    pub fn is_podman(&self) -> bool {
        self.name == PODMAN
    }

    /// The client to speak to it with, at the negotiated API version.
    pub fn client(&self) -> &Docker {
        &self.client
    }

    /// What a child process needs in its environment to reach the same engine, and in the
    /// same way: directly.
    pub fn export_env(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("DOCKER_HOST", self.host.clone())];
        if let Some(tls) = &self.tls {
            // testcontainers knows no other value.
            variables.push(("DOCKER_TLS_VERIFY", "1".to_owned()));
            let folder = tls.folder.display().to_string();
            variables.push(("DOCKER_CERT_PATH", folder));
        }
        let url: Option<Url> = self.host.parse().ok();
        if let Some(host) = url.as_ref().and_then(Url::host_str) {
            let proxies = Proxies::of_this_process().for_child(&[host]);
            variables.extend(proxies.into_iter().filter(|(name, _)| *name == "NO_PROXY"));
        }
        variables
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} (API {}) at {}, from {}",
            self.name, self.server_version, self.api_version, self.host, self.origin
        )?;
        match self.passed_over.first() {
            Some(look) => write!(f, "; `docker` itself would ask {look}"),
            None => Ok(()),
        }
    }
}

/// A place that was looked at in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Where.
    pub candidate: Candidate,
    /// What was there.
    pub seen: Seen,
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Look { candidate, seen } = self;
        match candidate.host.as_str() {
            "" => write!(f, "{}: {seen}", candidate.origin),
            host => write!(f, "{host} ({}): {seen}", candidate.origin),
        }
    }
}

/// What was seen where an engine might have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// The socket does not exist.
    NoSuchFile,
    /// The socket exists, for others.
    PermissionDenied,
    /// Nobody listens.
    Refused,
    /// It accepts and says nothing.
    NoAnswer {
        /// How long was waited, milliseconds.
        millis: u64,
    },
    /// Something else, in its own words.
    Other(String),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::NoSuchFile => f.write_str("no such file"),
            Seen::PermissionDenied => f.write_str("permission denied"),
            Seen::Refused => f.write_str("connection refused"),
            Seen::NoAnswer { millis } => {
                write!(f, "no answer within {} s", *millis as f64 / 1000.0)
            }
            Seen::Other(words) => f.write_str(words),
        }
    }
}

impl From<io::Error> for Seen {
    fn from(error: io::Error) -> Seen {
        match error.kind() {
            io::ErrorKind::NotFound => Seen::NoSuchFile,
            io::ErrorKind::PermissionDenied => Seen::PermissionDenied,
            io::ErrorKind::ConnectionRefused => Seen::Refused,
            // A Unix socket whose backlog is full: its owner accepts no more.
            io::ErrorKind::WouldBlock => Seen::Other("its queue of connections is full".into()),
            _ => Seen::Other(error.to_string()),
        }
    }
}

/// No engine answered.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum NoEngine {
    /// `DOCKER_HOST` or `DOCKER_CONTEXT` asks for one that does not answer.
    #[error("the container engine that {} asks for does not answer: {}: {}",
        .0.candidate.origin, .0.candidate.host, .0.seen)]
    #[diagnostic(
        code(engine::chosen_engine_silent),
        help("start that engine, or unset the variable to look in the usual places")
    )]
    Chosen(Look),
    /// Nothing in the usual places.
    #[error("no container engine answers; looked at:\n{}", list(.looks))]
    #[diagnostic(code(engine::none_answers), help("{}", advice(.looks)))]
    Nowhere {
        /// Each place and what was seen there.
        looks: Vec<Look>,
    },
    /// `DOCKER_CONTEXT` names no context.
    #[error(transparent)]
    #[diagnostic(transparent)]
    UnknownContext(#[from] UnknownContext),
}

impl NoEngine {
    /// On one line, for a note: where all was looked, `doctor` says.
    pub fn in_short(&self) -> String {
        match self {
            NoEngine::Nowhere { looks } => match closed(looks) {
                Some(closed) => format!(
                    "the container engine at {} is not for this user: {}; {}",
                    closed.candidate.host,
                    closed.seen,
                    advice(looks)
                ),
                None => format!(
                    "no container engine answers in any of the {} usual places (`cargo xtask doctor` lists them)",
                    looks.len()
                ),
            },
            other => other.to_string(),
        }
    }

    fn from_looks(mut looks: Vec<Look>) -> NoEngine {
        match looks.as_slice() {
            [only] if only.candidate.origin.is_explicit() => NoEngine::Chosen(looks.remove(0)),
            _ => NoEngine::Nowhere { looks },
        }
    }
}

fn list(looks: &[Look]) -> String {
    let lines: Vec<String> = looks.iter().map(|look| format!("  {look}")).collect();
    lines.join("\n")
}

/// An engine that is there, for others.
fn closed(looks: &[Look]) -> Option<&Look> {
    looks
        .iter()
        .find(|look| look.seen == Seen::PermissionDenied)
}

/// The one thing to do next, by the most telling of what was seen.
fn advice(looks: &[Look]) -> String {
    let saw = |wanted: fn(&Seen) -> bool| looks.iter().any(|look| wanted(&look.seen));
    if saw(|seen| matches!(seen, Seen::NoAnswer { .. })) {
        "a daemon accepts but does not answer: restart it".to_owned()
    } else if saw(|seen| *seen == Seen::PermissionDenied) {
        "add yourself to the socket's group: `sudo usermod -aG docker $USER`, then log in again"
            .to_owned()
    } else if cfg!(target_os = "macos") {
        "start Docker Desktop, or `brew install colima docker && colima start`".to_owned()
    } else {
        format!("`{SETUP_COMMAND}` installs and starts one; or set DOCKER_HOST")
    }
}

async fn ask(candidate: Candidate, patience: Duration) -> Result<Engine, Look> {
    let answer = tokio::time::timeout(patience, converse(&candidate)).await;
    let seen = match answer {
        Ok(Ok(engine)) => return Ok(engine),
        Ok(Err(seen)) => seen,
        Err(_elapsed) => Seen::NoAnswer {
            millis: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        },
    };
    Err(Look { candidate, seen })
}

async fn converse(candidate: &Candidate) -> Result<Engine, Seen> {
    // The plain connection tells apart what the client reports as one error.
    if let Some(socket) = candidate.socket() {
        tokio::net::UnixStream::connect(socket).await?;
    }
    let client = connect(candidate)?;
    client.ping().await.map_err(in_words)?;
    let version = client.version().await.map_err(in_words)?;
    let name = name_of(&version);
    let (client, api_version) = match version.api_version {
        // Asked once: it takes a second to tell. It answers requests of any version.
        Some(theirs) if name == PODMAN => (client, theirs),
        _ => {
            let client = client.negotiate_version().await.map_err(in_words)?;
            let agreed = client.client_version().to_string();
            (client, agreed)
        }
    };
    Ok(Engine {
        host: candidate.host.clone(),
        origin: candidate.origin.clone(),
        name,
        server_version: version.version.unwrap_or_else(|| "unknown".to_owned()),
        api_version,
        passed_over: Vec::new(),
        tls: candidate.tls.clone(),
        client,
    })
}

/// Podman's platform is its machine's; Debian's build of Docker leaves it empty.
fn name_of(version: &SystemVersion) -> String {
    let mut components = version.components.iter().flatten();
    let platform = version
        .platform
        .as_ref()
        .map(|platform| platform.name.as_str());
    match platform {
        _ if components.any(|component| component.name == PODMAN) => PODMAN,
        Some("") | None => "Docker Engine",
        Some(name) => name,
    }
    .to_owned()
}

fn connect(candidate: &Candidate) -> Result<Docker, Seen> {
    crate::tls::use_ring();
    let (host, timeout) = (&candidate.host, REQUEST_TIMEOUT.as_secs());
    let scheme = host.split_once("://").map(|(scheme, _)| scheme);
    let client = match (scheme, &candidate.tls) {
        (Some("unix"), _) => Docker::connect_with_unix(host, timeout, API_DEFAULT_VERSION),
        (Some("tcp" | "http" | "https"), Some(tls)) => {
            let [key, certificate, authority] = usable(tls)?;
            Docker::connect_with_ssl(
                host,
                &key,
                &certificate,
                &authority,
                timeout,
                API_DEFAULT_VERSION,
            )
        }
        (Some("tcp" | "http"), None) => {
            Docker::connect_with_http(host, timeout, API_DEFAULT_VERSION)
        }
        (Some("ssh"), _) => return Err(Seen::Other(SSH.to_owned())),
        (Some(other), _) => return Err(Seen::Other(format!("{other}:// is not spoken"))),
        (None, _) if host.is_empty() => {
            return Err(Seen::Other("docker knows no such context".to_owned()));
        }
        (None, _) => {
            return Err(Seen::Other(
                "unix:// or tcp:// must go before it".to_owned(),
            ));
        }
    };
    client.map_err(in_words)
}

/// What to do about an engine that docker reaches so.
const SSH: &str = "ssh:// is not spoken: forward its socket by \
    `ssh -N -L /tmp/docker.sock:/var/run/docker.sock HOST`, and set \
    DOCKER_HOST=unix:///tmp/docker.sock";

/// The files of key, certificate and authority. Without the first two an engine may do, which
/// is its to say.
fn usable(tls: &Tls) -> Result<[PathBuf; 3], Seen> {
    let files = ["key.pem", "cert.pem", "ca.pem"].map(|name| tls.folder.join(name));
    if !tls.verify {
        let words = "its context skips verification (SkipTLSVerify), which is not done here: \
                     give the context its authority, `docker context update --docker host=...,ca=...`";
        return Err(Seen::Other(words.to_owned()));
    }
    match files[2].is_file() {
        true => Ok(files),
        false => Err(Seen::Other(format!(
            "{} is not there, which says whose certificate to trust",
            files[2].display()
        ))),
    }
}

fn in_words(error: bollard::errors::Error) -> Seen {
    Seen::Other(error.to_string())
}

#[cfg(test)]
mod tls_tests;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tempfile::TempDir;
    use tokio::net::UnixListener;

    use super::*;

    fn at(path: &std::path::Path, origin: Origin) -> Candidate {
        Candidate::plain(format!("unix://{}", path.display()), origin)
    }

    async fn looks(candidates: Vec<Candidate>) -> Vec<Look> {
        match Engine::among(candidates, Duration::from_millis(200)).await {
            Err(NoEngine::Nowhere { looks }) => looks,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn each_place_is_listed_with_what_was_seen_there() {
        let dir = TempDir::new().unwrap();
        let absent = dir.path().join("absent.sock");
        let orphan = dir.path().join("orphan.sock");
        drop(UnixListener::bind(&orphan).unwrap());
        let mute = dir.path().join("mute.sock");
        let _listener = UnixListener::bind(&mute).unwrap();
        let started = Instant::now();
        let looks = looks(vec![
            at(&absent, Origin::SystemSocket),
            at(&orphan, Origin::DockerDesktop),
            at(&mute, Origin::Colima),
            at(&mute, Origin::Podman),
        ])
        .await;
        let seen: Vec<&Seen> = looks.iter().map(|look| &look.seen).collect();
        let silent = Seen::NoAnswer { millis: 200 };
        assert_eq!(seen, [&Seen::NoSuchFile, &Seen::Refused, &silent, &silent]);
        assert!(
            started.elapsed() < Duration::from_millis(390),
            "mute sockets are waited for together, not in turn"
        );
    }

    #[tokio::test]
    async fn a_chosen_engine_that_is_silent_is_named() {
        let chosen = at(std::path::Path::new("/nowhere/x.sock"), Origin::DockerHost);
        let error = Engine::among(vec![chosen], PATIENCE).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the container engine that DOCKER_HOST asks for does not answer: \
             unix:///nowhere/x.sock: no such file"
        );
    }

    #[tokio::test]
    async fn an_unknown_scheme_is_reported_in_words() {
        let chosen = Candidate::plain("carrier-pigeon://coop", Origin::DockerHost);
        let error = Engine::among(vec![chosen], PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains("carrier-pigeon"), "{error}");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_reached_so_is_told_apart() {
        let tls = |verify| {
            Some(Tls {
                folder: "/nowhere".into(),
                verify,
            })
        };
        for (host, tls, words) in [
            ("ssh://u@far", None, "`ssh -N -L"),
            ("tcp://far:2376", tls(false), "SkipTLSVerify"),
            ("tcp://far:2376", tls(true), "/nowhere/ca.pem is not there"),
            ("/var/run/docker.sock", None, "unix:// or tcp://"),
            ("", None, "no such context"),
        ] {
            let candidate = Candidate {
                tls,
                ..Candidate::plain(host, Origin::DockerHost)
            };
            let error = Engine::among(vec![candidate], PATIENCE).await.unwrap_err();
            assert!(error.to_string().contains(words), "{host}: {error}");
        }
    }

    #[test]
    fn the_list_is_one_line_a_place() {
        let look = |path: &str, origin, seen| Look {
            candidate: at(std::path::Path::new(path), origin),
            seen,
        };
        let none = NoEngine::from_looks(vec![
            look(
                "/var/run/docker.sock",
                Origin::SystemSocket,
                Seen::PermissionDenied,
            ),
            look(
                "/home/u/.colima/default/docker.sock",
                Origin::Colima,
                Seen::NoAnswer { millis: 2000 },
            ),
        ]);
        insta::assert_snapshot!(none.to_string());
    }

    #[test]
    fn an_engine_for_others_is_not_called_none() {
        let candidate = at(std::path::Path::new("/s"), Origin::SystemSocket);
        let seen = Seen::PermissionDenied;
        let none = NoEngine::from_looks(vec![Look { candidate, seen }]);
        let short = none.in_short();
        assert!(
            short.contains("not for this user: permission denied"),
            "{short}"
        );
        assert!(short.contains("usermod -aG docker"), "{short}");
    }

    /// As each of them says it: Debian's Docker, Docker's own, and Podman 4.3.
    #[test]
    fn an_engine_is_called_by_its_own_name() {
        for (version, name) in [
            (r#"{"Platform": {"Name": ""}}"#, "Docker Engine"),
            (
                r#"{"Platform": {"Name": "Docker Engine - Community"},
                    "Components": [{"Name": "Engine", "Version": "29.0.0"}]}"#,
                "Docker Engine - Community",
            ),
            (
                r#"{"Platform": {"Name": "linux/amd64/debian-12"},
                    "Components": [{"Name": "Podman Engine", "Version": "4.3.1"}]}"#,
                "Podman Engine",
            ),
        ] {
            assert_eq!(name_of(&serde_json::from_str(version).unwrap()), name);
        }
    }

    #[test]
    fn advice_follows_what_was_seen() {
        let look = |seen| Look {
            candidate: at(std::path::Path::new("/s"), Origin::SystemSocket),
            seen,
        };
        assert!(advice(&[look(Seen::PermissionDenied)]).contains("group"));
        let silent = Seen::NoAnswer { millis: 2000 };
        assert!(advice(&[look(Seen::NoSuchFile), look(silent)]).contains("restart"));
    }
}
