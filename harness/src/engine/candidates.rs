//! Where a container engine may be: environment and files in, candidates out.
//! Nothing here talks to an engine.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How the address of an engine was come by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The environment variable `DOCKER_HOST`.
    DockerHost,
    /// The docker context of this name, chosen by `DOCKER_CONTEXT`.
    ChosenContext(String),
    /// The docker context of this name, `currentContext` in docker's `config.json`.
    CurrentContext(String),
    /// The usual place of the Docker Engine's socket.
    SystemSocket,
    /// The socket of a Docker Engine that runs as this user.
    Rootless,
    /// Docker Desktop's socket.
    DockerDesktop,
    /// Colima's socket.
    Colima,
    /// Podman's socket.
    Podman,
    /// The resource ledger, which says where something was made.
    Ledger,
}

impl Origin {
    /// Somebody asked for this engine and no other: when it does not answer,
    /// using another one instead would be a surprise.
    pub fn is_explicit(&self) -> bool {
        matches!(self, Origin::DockerHost | Origin::ChosenContext(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::DockerHost => f.write_str("DOCKER_HOST"),
            Origin::ChosenContext(name) => write!(f, "DOCKER_CONTEXT={name}"),
            Origin::CurrentContext(name) => write!(f, "current docker context `{name}`"),
            Origin::SystemSocket => f.write_str("the usual socket"),
            Origin::Rootless => f.write_str("rootless Docker"),
            Origin::DockerDesktop => f.write_str("Docker Desktop"),
            Origin::Colima => f.write_str("Colima"),
            Origin::Podman => f.write_str("Podman"),
            Origin::Ledger => f.write_str("the resource ledger"),
        }
    }
}

/// A place where an engine may answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// A `DOCKER_HOST` value: `unix:///path`, `tcp://host:port`; empty where a context is named
    /// that is not there.
    pub host: String,
    /// Why this place was looked at.
    pub origin: Origin,
    /// How it is spoken to by TLS; none is in the clear.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// What TLS needs, as docker keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Where `ca.pem` is and, for an engine that asks for them, `cert.pem` and `key.pem`.
    pub folder: PathBuf,
    /// Whether the engine's certificate counts: a context's `SkipTLSVerify` says no.
    pub verify: bool,
}

impl Candidate {
    /// One that is spoken to in the clear.
    pub fn plain(host: impl Into<String>, origin: Origin) -> Candidate {
        Candidate {
            host: host.into(),
            origin,
            tls: None,
        }
    }

    /// The socket's path, when the candidate is a Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.host.strip_prefix("unix://").map(Path::new)
    }
}

/// What decides where to look: taken from the process once, or made by a test.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    variables: BTreeMap<String, OsString>,
}

/// The variables that matter.
const VARIABLES: [&str; 8] = [
    "COLIMA_HOME",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "HOME",
    "XDG_RUNTIME_DIR",
];

impl Surroundings {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        let variables = VARIABLES
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?)))
            .collect();
        Surroundings { variables }
    }

    /// An empty value counts as absent, as it does for the docker CLI.
    fn variable(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(name)?.as_os_str();
        (!value.is_empty()).then_some(value)
    }

    fn text(&self, name: &str) -> Option<String> {
        let value = self.variable(name)?;
        Some(value.to_string_lossy().into_owned())
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(PathBuf::from)
    }

    fn home(&self) -> Option<PathBuf> {
        self.folder("HOME")
    }

    /// Where docker keeps its configuration.
    pub(crate) fn docker_config(&self) -> Option<PathBuf> {
        match self.folder("DOCKER_CONFIG") {
            Some(dir) => Some(dir),
            None => Some(self.home()?.join(".docker")),
        }
    }

    /// Every place to look, the first that answers wins; only one when it was
    /// chosen explicitly. The order of the first three is the docker CLI's
    /// (`DOCKER_HOST`, `DOCKER_CONTEXT`, `currentContext`).
    ///
    /// # Errors
    /// `DOCKER_CONTEXT` names a context that does not exist or has no endpoint.
    pub fn candidates(&self) -> Result<Vec<Candidate>, UnknownContext> {
        if let Some(host) = self.text("DOCKER_HOST") {
            return Ok(vec![Candidate {
                tls: self.tls_of_variables(&host),
                host,
                origin: Origin::DockerHost,
            }]);
        }
        let chosen = self.text("DOCKER_CONTEXT");
        if let Some(name) = chosen.as_deref().filter(|name| *name != DEFAULT) {
            let known = self.context(name, Origin::ChosenContext(name.to_owned()));
            return match known {
                Some(candidate) => Ok(vec![candidate]),
                None => Err(UnknownContext {
                    name: name.to_owned(),
                    looked_in: self.context_file(name),
                }),
            };
        }
        let current = match chosen {
            None => self.current_context(),
            Some(_) => None,
        };
        let mut found: Vec<Candidate> = Vec::new();
        for candidate in current.into_iter().chain(self.sockets()) {
            if !found.iter().any(|known| known.host == candidate.host) {
                found.push(candidate);
            }
        }
        Ok(found)
    }

    /// How the engine at `host` is spoken to by TLS, as the variables or any context has it.
    pub fn tls_of(&self, host: &str) -> Option<Tls> {
        if self.text("DOCKER_HOST").as_deref() == Some(host) {
            return self.tls_of_variables(host);
        }
        let folder = self.docker_config()?.join("contexts/meta");
        let contexts = fs::read_dir(folder).ok()?.flatten();
        contexts
            .filter_map(|entry| meta(&entry.path().join("meta.json")))
            .filter(|meta| meta.endpoints.docker.host == host)
            .find_map(|meta| self.tls_of_context(&meta))
    }

    /// As the docker CLI does: any value of DOCKER_TLS_VERIFY counts.
    fn tls_of_variables(&self, host: &str) -> Option<Tls> {
        if !takes_tls(host) {
            return None;
        }
        let asked = self.variable("DOCKER_TLS_VERIFY").is_some() || host.starts_with("https://");
        let folder = self.folder("DOCKER_CERT_PATH");
        let folder = folder.or_else(|| self.docker_config()).filter(|_| asked)?;
        Some(Tls {
            folder,
            verify: true,
        })
    }

    fn tls_of_context(&self, meta: &Meta) -> Option<Tls> {
        let docker = &meta.endpoints.docker;
        let folder = ["contexts", "tls", &folder_of(&meta.name), "docker"];
        let folder = self
            .docker_config()?
            .join(folder.iter().collect::<PathBuf>());
        let asked = folder.is_dir() || docker.skip_tls_verify;
        (takes_tls(&docker.host) && asked).then_some(Tls {
            folder,
            verify: !docker.skip_tls_verify,
        })
    }

    /// One that is named and not there is a candidate, too: `docker` would insist on it.
    fn current_context(&self) -> Option<Candidate> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            current_context: Option<String>,
        }
        let text = fs::read_to_string(self.docker_config()?.join("config.json")).ok()?;
        let config: Config = serde_json::from_str(&text).ok()?;
        let name = config
            .current_context
            .filter(|n| !n.is_empty() && n != DEFAULT)?;
        let origin = Origin::CurrentContext(name.clone());
        let known = self.context(&name, origin.clone());
        Some(known.unwrap_or(Candidate::plain("", origin)))
    }

    fn context_file(&self, name: &str) -> Option<PathBuf> {
        let file = ["contexts", "meta", &folder_of(name), "meta.json"];
        Some(self.docker_config()?.join(file.iter().collect::<PathBuf>()))
    }

    fn context(&self, name: &str, origin: Origin) -> Option<Candidate> {
        let meta = meta(&self.context_file(name)?)?;
        Some(Candidate {
            tls: self.tls_of_context(&meta),
            host: meta.endpoints.docker.host,
            origin,
        })
    }

    fn sockets(&self) -> Vec<Candidate> {
        let home = self.home();
        let under_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let runtime = self.folder("XDG_RUNTIME_DIR");
        let under_runtime = |path: &str| runtime.as_ref().map(|dir| dir.join(path));
        let usual = |path: &str| Some(PathBuf::from(path));
        let colima = self.folder("COLIMA_HOME").or_else(|| under_home(".colima"));
        [
            (usual("/var/run/docker.sock"), Origin::SystemSocket),
            (under_runtime("docker.sock"), Origin::Rootless),
            (under_home(".docker/run/docker.sock"), Origin::DockerDesktop),
            (
                under_home(".docker/desktop/docker.sock"),
                Origin::DockerDesktop,
            ),
            (
                colima.map(|dir| dir.join("default/docker.sock")),
                Origin::Colima,
            ),
            (usual("/run/podman/podman.sock"), Origin::Podman),
            (under_runtime("podman/podman.sock"), Origin::Podman),
        ]
        .into_iter()
        .filter_map(|(path, origin)| {
            let host = format!("unix://{}", path?.display());
            Some(Candidate::plain(host, origin))
        })
        .collect()
    }
}

/// What the docker CLI's contexts call the engine of DOCKER_HOST, else of the usual socket.
const DEFAULT: &str = "default";

/// A context, as docker's `contexts/meta/*/meta.json` has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    name: String,
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

fn meta(file: &Path) -> Option<Meta> {
    let meta: Meta = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (!meta.endpoints.docker.host.is_empty()).then_some(meta)
}

/// The docker CLI stores a context under the SHA-256 of its name.
fn folder_of(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn takes_tls(host: &str) -> bool {
    ["tcp://", "http://", "https://"]
        .iter()
        .any(|scheme| host.starts_with(scheme))
}

/// `DOCKER_CONTEXT` names a context that cannot be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("DOCKER_CONTEXT={name}: docker knows no such context{}", place(.looked_in))]
#[diagnostic(help("`docker context ls` lists them; unset DOCKER_CONTEXT to use the current one"))]
pub struct UnknownContext {
    /// The name that was asked for.
    pub name: String,
    /// The file that would describe it; none when there is no home directory.
    pub looked_in: Option<PathBuf>,
}

fn place(file: &Option<PathBuf>) -> String {
    file.as_ref()
        .map(|file| format!(" ({} cannot be used)", file.display()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn surroundings(home: &TempDir, variables: &[(&str, &str)]) -> Surroundings {
        let home = ("HOME", home.path().to_str().unwrap());
        Surroundings {
            variables: std::iter::once(&home)
                .chain(variables)
                .map(|(name, value)| (name.to_string(), value.into()))
                .collect(),
        }
    }

    fn write_context(docker_config: &Path, name: &str, host: &str) {
        let folder = docker_config.join("contexts/meta").join(folder_of(name));
        fs::create_dir_all(&folder).unwrap();
        let meta = serde_json::json!({"Name": name, "Endpoints": {"docker": {"Host": host}}});
        fs::write(folder.join("meta.json"), meta.to_string()).unwrap();
    }

    fn hosts(surroundings: &Surroundings) -> Vec<String> {
        let candidates = surroundings.candidates().unwrap();
        candidates.into_iter().map(|c| c.host).collect()
    }

    #[test]
    fn docker_host_is_the_only_candidate() {
        let home = TempDir::new().unwrap();
        let variables = [
            ("DOCKER_HOST", "tcp://10.1.1.1:2375"),
            ("DOCKER_CONTEXT", "x"),
        ];
        let candidates = surroundings(&home, &variables).candidates().unwrap();
        assert_eq!(candidates.len(), 1);
        assert_eq!(candidates[0].host, "tcp://10.1.1.1:2375");
        assert!(candidates[0].origin.is_explicit());
    }

    #[test]
    fn an_empty_docker_host_counts_as_absent() {
        let home = TempDir::new().unwrap();
        assert!(hosts(&surroundings(&home, &[("DOCKER_HOST", "")])).len() > 1);
    }

    #[test]
    fn the_current_context_comes_before_the_sockets() {
        let home = TempDir::new().unwrap();
        let docker = home.path().join(".docker");
        write_context(&docker, "colima", "unix:///elsewhere/docker.sock");
        fs::write(docker.join("config.json"), r#"{"currentContext":"colima"}"#).unwrap();
        let candidates = surroundings(&home, &[]).candidates().unwrap();
        assert_eq!(candidates[0].host, "unix:///elsewhere/docker.sock");
        assert_eq!(
            candidates[0].origin,
            Origin::CurrentContext("colima".into())
        );
        assert_eq!(candidates[1].origin, Origin::SystemSocket);
    }

    #[test]
    fn docker_context_outranks_the_current_one_and_reads_docker_config() {
        let home = TempDir::new().unwrap();
        let config = TempDir::new().unwrap();
        write_context(config.path(), "far", "tcp://far:2375");
        let variables = [
            ("DOCKER_CONFIG", config.path().to_str().unwrap()),
            ("DOCKER_CONTEXT", "far"),
        ];
        assert_eq!(hosts(&surroundings(&home, &variables)), ["tcp://far:2375"]);
    }

    #[test]
    fn an_unknown_docker_context_is_an_error_that_names_it() {
        let home = TempDir::new().unwrap();
        let error = surroundings(&home, &[("DOCKER_CONTEXT", "gone")])
            .candidates()
            .unwrap_err();
        assert!(error.to_string().contains("DOCKER_CONTEXT=gone"), "{error}");
    }

    #[test]
    fn the_context_called_default_means_the_sockets() {
        let home = TempDir::new().unwrap();
        let chosen = surroundings(&home, &[("DOCKER_CONTEXT", "default")]);
        assert_eq!(hosts(&chosen), hosts(&surroundings(&home, &[])));
    }

    #[test]
    fn docker_context_default_passes_over_the_current_one() {
        let home = TempDir::new().unwrap();
        let docker = home.path().join(".docker");
        write_context(&docker, "far", "tcp://far:2375");
        fs::write(docker.join("config.json"), r#"{"currentContext":"far"}"#).unwrap();
        let hosts = hosts(&surroundings(&home, &[("DOCKER_CONTEXT", "default")]));
        assert_eq!(hosts[0], "unix:///var/run/docker.sock");
    }

    #[test]
    fn a_current_context_that_is_gone_is_a_candidate() {
        let home = TempDir::new().unwrap();
        fs::create_dir(home.path().join(".docker")).unwrap();
        let config = home.path().join(".docker/config.json");
        fs::write(config, r#"{"currentContext":"gone"}"#).unwrap();
        let candidates = surroundings(&home, &[]).candidates().unwrap();
        assert_eq!(candidates[0].origin, Origin::CurrentContext("gone".into()));
        assert_eq!(candidates[1].origin, Origin::SystemSocket);
    }

    #[test]
    fn a_contexts_certificates_are_where_docker_keeps_them() {
        let home = TempDir::new().unwrap();
        let docker = home.path().join(".docker");
        write_context(&docker, "far", "tcp://far:2376");
        let context = surroundings(&home, &[("DOCKER_CONTEXT", "far")]);
        let tls = || context.candidates().unwrap().remove(0).tls;
        assert_eq!(tls(), None, "in the clear");
        let folder = docker
            .join("contexts/tls")
            .join(folder_of("far"))
            .join("docker");
        fs::create_dir_all(&folder).unwrap();
        let expected = Some(Tls {
            folder,
            verify: true,
        });
        assert_eq!(tls(), expected);
        // As the ledger knows it, whatever context is chosen now.
        let other = surroundings(&home, &[]);
        assert_eq!(other.tls_of("tcp://far:2376"), expected);
        assert_eq!(other.tls_of("tcp://elsewhere:2376"), None);
    }

    #[test]
    fn docker_tls_verify_and_docker_cert_path_count_where_tls_can_be() {
        let home = TempDir::new().unwrap();
        let tls = |variables: &[(&str, &str)]| {
            let found = surroundings(&home, variables).candidates().unwrap();
            found[0].tls.as_ref().map(|tls| tls.folder.clone())
        };
        let tcp = ("DOCKER_HOST", "tcp://far:2376");
        let verify = ("DOCKER_TLS_VERIFY", "yes");
        let certificates = ("DOCKER_CERT_PATH", "/certs");
        assert_eq!(tls(&[tcp, certificates]), None);
        assert_eq!(tls(&[tcp, certificates, ("DOCKER_TLS_VERIFY", "")]), None);
        assert_eq!(tls(&[tcp, certificates, verify]), Some("/certs".into()));
        assert_eq!(tls(&[tcp, verify]), Some(home.path().join(".docker")));
        let socket = ("DOCKER_HOST", "unix:///s");
        assert_eq!(tls(&[socket, certificates, verify]), None);
    }

    #[test]
    fn a_context_of_the_usual_socket_is_asked_once() {
        let home = TempDir::new().unwrap();
        let docker = home.path().join(".docker");
        write_context(&docker, "same", "unix:///var/run/docker.sock");
        fs::write(docker.join("config.json"), r#"{"currentContext":"same"}"#).unwrap();
        let hosts = hosts(&surroundings(&home, &[]));
        let usual = hosts.iter().filter(|h| *h == "unix:///var/run/docker.sock");
        assert_eq!(usual.count(), 1);
    }

    #[test]
    fn colima_and_podman_follow_their_variables() {
        let home = TempDir::new().unwrap();
        let variables = [("COLIMA_HOME", "/c"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        let hosts = hosts(&surroundings(&home, &variables));
        assert!(hosts.contains(&"unix:///c/default/docker.sock".to_owned()));
        assert!(hosts.contains(&"unix:///run/user/7/podman/podman.sock".to_owned()));
    }

    proptest! {
        #[test]
        fn a_broken_config_never_hides_the_sockets(text in ".{0,200}") {
            let home = TempDir::new().unwrap();
            fs::create_dir_all(home.path().join(".docker")).unwrap();
            fs::write(home.path().join(".docker/config.json"), text).unwrap();
            let candidates = surroundings(&home, &[]).candidates().unwrap();
            prop_assert!(candidates.iter().any(|c| c.origin == Origin::SystemSocket));
        }
    }
}
