//! The container engine. It is found once, and every child process gets its address, because
//! testcontainers and kind do not look at docker contexts, Colima or Podman.

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

use crate::tools::SETUP_COMMAND;
use base::proxies::Proxies;
use candidates::Surroundings;
pub use candidates::{Candidate, Origin, Tls, UnknownContext};

/// How long one candidate may take to answer. A running daemon answers within milliseconds. One
/// that is stopped (SIGSTOP) accepts connections and never answers.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// How long a request to the engine may take until the first byte of its response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Podman's name for itself in Docker's API.
const PODMAN: &str = "Podman Engine";

/// An engine that answered.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The `DOCKER_HOST` value that reaches it.
    pub host: String,
    /// Where its address comes from.
    pub origin: Origin,
    /// Its name, e.g. `Docker Engine - Community` or `Podman Engine`.
    pub name: String,
    /// Its own version, e.g. `20.10.24`.
    pub server_version: String,
    /// The negotiated API version, e.g. `1.41`.
    pub api_version: String,
    /// Places of higher priority that did not answer. `docker` itself would use the first.
    pub passed_over: Vec<Look>,
    tls: Option<Tls>,
    client: Docker,
}

impl Engine {
    /// Finds the engine that the environment of this process leads to. It checks all candidates
    /// at the same time, so the search takes at most `timeout`, usually [`TIMEOUT`].
    ///
    /// # Errors
    /// [`NoEngine`] lists each place and what was found there.
    pub async fn find(timeout: Duration) -> Result<Engine, NoEngine> {
        Engine::among(Surroundings::of_this_process().candidates()?, timeout).await
    }

    /// Returns the engine at `host`, which the ledger names.
    ///
    /// # Errors
    /// [`NoEngine`] when it does not answer now.
    pub async fn at(host: &str) -> Result<Engine, NoEngine> {
        let candidate = Candidate {
            host: host.to_owned(),
            origin: Origin::Ledger,
            tls: Surroundings::of_this_process().tls_of(host),
        };
        Engine::among(vec![candidate], TIMEOUT).await
    }

    /// Returns the first of `candidates` that answers.
    ///
    /// # Errors
    /// [`NoEngine`] when none does.
    pub async fn among(candidates: Vec<Candidate>, timeout: Duration) -> Result<Engine, NoEngine> {
        let mut answers: FuturesOrdered<_> = candidates
            .into_iter()
            .map(|candidate| try_candidate(candidate, timeout))
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

    /// Returns whether it is Podman, which does not support everything that a Docker Engine does.
    pub fn is_podman(&self) -> bool {
        self.name == PODMAN
    }

    /// Returns the client, at the negotiated API version.
    pub fn client(&self) -> &Docker {
        &self.client
    }

    /// Returns the variables with which a child process reaches the same engine, without a proxy.
    pub fn export_env(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("DOCKER_HOST", self.host.clone())];
        if let Some(tls) = &self.tls {
            // testcontainers accepts no other value.
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

/// A place where no engine answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The place.
    pub candidate: Candidate,
    /// What was found there.
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

/// Why a place has no usable engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// The socket does not exist.
    NoSuchFile,
    /// The socket exists, but this user may not use it.
    PermissionDenied,
    /// No process listens.
    Refused,
    /// It accepts connections and does not answer.
    NoAnswer {
        /// The timeout, milliseconds.
        millis: u64,
    },
    /// Another error.
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
            Seen::Other(message) => f.write_str(message),
        }
    }
}

impl From<io::Error> for Seen {
    fn from(error: io::Error) -> Seen {
        match error.kind() {
            io::ErrorKind::NotFound => Seen::NoSuchFile,
            io::ErrorKind::PermissionDenied => Seen::PermissionDenied,
            io::ErrorKind::ConnectionRefused => Seen::Refused,
            // The backlog of the Unix socket is full: its owner does not accept connections.
            io::ErrorKind::WouldBlock => Seen::Other("its queue of connections is full".into()),
            _ => Seen::Other(error.to_string()),
        }
    }
}

impl From<bollard::errors::Error> for Seen {
    fn from(error: bollard::errors::Error) -> Seen {
        Seen::Other(error.to_string())
    }
}

/// No engine answered.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum NoEngine {
    /// `DOCKER_HOST` or `DOCKER_CONTEXT` names one that does not answer.
    #[error("the container engine that {} names does not answer: {}: {}",
        .0.candidate.origin, .0.candidate.host, .0.seen)]
    #[diagnostic(
        code(engine::chosen_engine_silent),
        help("start that engine, or unset the variable to look in the usual places")
    )]
    Chosen(Look),
    /// None answers in the usual places.
    #[error("no container engine answers; looked at:\n{}", list(.looks))]
    #[diagnostic(code(engine::none_answers), help("{}", advice(.looks)))]
    Nowhere {
        /// Each place and what was found there.
        looks: Vec<Look>,
    },
    /// `DOCKER_CONTEXT` names no context.
    #[error(transparent)]
    #[diagnostic(transparent)]
    UnknownContext(#[from] UnknownContext),
}

impl NoEngine {
    /// Returns the error on one line. `doctor` lists all the places.
    pub fn in_short(&self) -> String {
        match self {
            NoEngine::Nowhere { looks } => match not_permitted(looks) {
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

/// Returns an engine that this user may not use.
fn not_permitted(looks: &[Look]) -> Option<&Look> {
    looks
        .iter()
        .find(|look| look.seen == Seen::PermissionDenied)
}

/// Returns the next thing to do.
fn advice(looks: &[Look]) -> String {
    let silent = |look: &Look| matches!(look.seen, Seen::NoAnswer { .. });
    if looks.iter().any(silent) {
        "a daemon accepts but does not answer: restart it".to_owned()
    } else if not_permitted(looks).is_some() {
        "add yourself to the socket's group: `sudo usermod -aG docker $USER`, then log in again"
            .to_owned()
    } else if cfg!(target_os = "macos") {
        "start Docker Desktop, or `brew install colima docker && colima start`".to_owned()
    } else {
        format!("`{SETUP_COMMAND}` installs and starts one; or set DOCKER_HOST")
    }
}

async fn try_candidate(candidate: Candidate, timeout: Duration) -> Result<Engine, Look> {
    let answer = tokio::time::timeout(timeout, open(&candidate)).await;
    let seen = match answer {
        Ok(Ok(engine)) => return Ok(engine),
        Ok(Err(seen)) => seen,
        Err(_elapsed) => Seen::NoAnswer {
            millis: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        },
    };
    Err(Look { candidate, seen })
}

async fn open(candidate: &Candidate) -> Result<Engine, Seen> {
    // The client reports all errors of a connection as one. A plain connection distinguishes them.
    if let Some(socket) = candidate.socket() {
        tokio::net::UnixStream::connect(socket).await?;
    }
    let client = connect(candidate)?;
    client.ping().await?;
    let version = client.version().await?;
    let name = name_of(&version);
    let (client, api_version) = match version.api_version {
        // Podman answers requests of any version. It takes a second to report its own, so this
        // does not request it again.
        Some(reported) if name == PODMAN => (client, reported),
        _ => {
            let client = client.negotiate_version().await?;
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

/// Podman reports its machine as the platform. Debian's build of Docker reports an empty one.
fn name_of(version: &SystemVersion) -> String {
    let mut components = version.components.iter().flatten();
    if components.any(|component| component.name == PODMAN) {
        return PODMAN.to_owned();
    }
    match &version.platform {
        Some(platform) if !platform.name.is_empty() => platform.name.clone(),
        _ => "Docker Engine".to_owned(),
    }
}

fn connect(candidate: &Candidate) -> Result<Docker, Seen> {
    base::tls::use_ring();
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
        (Some(other), _) => return Err(Seen::Other(format!("{other}:// is not supported"))),
        (None, _) if host.is_empty() => {
            return Err(Seen::Other("docker knows no such context".to_owned()));
        }
        (None, _) => {
            return Err(Seen::Other("it must begin with unix:// or tcp://".into()));
        }
    };
    Ok(client?)
}

const SSH: &str = "ssh:// is not supported: forward its socket by \
    `ssh -N -L /tmp/docker.sock:/var/run/docker.sock HOST`, and set \
    DOCKER_HOST=unix:///tmp/docker.sock";

/// Returns the files of key, certificate and authority. Only the last must exist: not every engine
/// requires a certificate of its clients.
fn usable(tls: &Tls) -> Result<[PathBuf; 3], Seen> {
    let files = ["key.pem", "cert.pem", "ca.pem"].map(|name| tls.folder.join(name));
    if !tls.verify {
        let message = "its context skips verification (SkipTLSVerify), which is not supported: give \
                       the context its authority, `docker context update --docker host=...,ca=...`";
        return Err(Seen::Other(message.to_owned()));
    }
    match files[2].is_file() {
        true => Ok(files),
        false => Err(Seen::Other(format!(
            "{} does not exist, which has the certificates to trust",
            files[2].display()
        ))),
    }
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
    async fn each_place_is_listed_with_what_was_found_there() {
        let dir = TempDir::new().unwrap();
        let absent = dir.path().join("absent.sock");
        let closed = dir.path().join("closed.sock");
        drop(UnixListener::bind(&closed).unwrap());
        let silent = dir.path().join("silent.sock");
        let _listener = UnixListener::bind(&silent).unwrap();
        let started = Instant::now();
        let looks = looks(vec![
            at(&absent, Origin::SystemSocket),
            at(&closed, Origin::DockerDesktop),
            at(&silent, Origin::Colima),
            at(&silent, Origin::Podman),
        ])
        .await;
        let seen: Vec<&Seen> = looks.iter().map(|look| &look.seen).collect();
        let none = Seen::NoAnswer { millis: 200 };
        assert_eq!(seen, [&Seen::NoSuchFile, &Seen::Refused, &none, &none]);
        assert!(
            started.elapsed() < Duration::from_millis(390),
            "the silent sockets are waited for together, not in turn"
        );
    }

    #[tokio::test]
    async fn a_chosen_engine_that_is_silent_is_named() {
        let chosen = at(std::path::Path::new("/nowhere/x.sock"), Origin::DockerHost);
        let error = Engine::among(vec![chosen], TIMEOUT).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the container engine that DOCKER_HOST names does not answer: \
             unix:///nowhere/x.sock: no such file"
        );
    }

    #[tokio::test]
    async fn an_address_that_is_not_supported_is_reported_with_its_reason() {
        let tls = |verify| {
            Some(Tls {
                folder: "/nowhere".into(),
                verify,
            })
        };
        for (host, tls, message) in [
            ("ssh://u@far", None, "`ssh -N -L"),
            ("other://far", None, "other:// is not supported"),
            ("tcp://far:2376", tls(false), "SkipTLSVerify"),
            (
                "tcp://far:2376",
                tls(true),
                "/nowhere/ca.pem does not exist",
            ),
            ("/var/run/docker.sock", None, "unix:// or tcp://"),
            ("", None, "no such context"),
        ] {
            let candidate = Candidate {
                tls,
                ..Candidate::plain(host, Origin::DockerHost)
            };
            let error = Engine::among(vec![candidate], TIMEOUT).await.unwrap_err();
            assert!(error.to_string().contains(message), "{host}: {error}");
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
    fn an_engine_that_this_user_may_not_use_is_reported() {
        let candidate = at(std::path::Path::new("/s"), Origin::SystemSocket);
        let seen = Seen::PermissionDenied;
        let none = NoEngine::from_looks(vec![Look { candidate, seen }]);
        let short = none.in_short();
        for message in ["not for this user: permission denied", "usermod -aG docker"] {
            assert!(short.contains(message), "{short}");
        }
    }

    /// The versions that Debian's Docker, Docker's own and Podman 4.3 report.
    #[test]
    fn an_engine_has_the_name_that_it_reports() {
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
    fn advice_depends_on_what_was_found() {
        let look = |seen| Look {
            candidate: at(std::path::Path::new("/s"), Origin::SystemSocket),
            seen,
        };
        assert!(advice(&[look(Seen::PermissionDenied)]).contains("group"));
        let silent = Seen::NoAnswer { millis: 2000 };
        assert!(advice(&[look(Seen::NoSuchFile), look(silent)]).contains("restart"));
    }
}
