//! Where a container engine may be, from environment variables and files. Nothing here connects to
//! an engine.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where the address of an engine comes from.
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
    /// The resource ledger, which records the engine of each resource.
    Ledger,
}

impl Origin {
    /// Returns whether the user chose this engine. If it does not answer, no other one is used.
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
    /// A `DOCKER_HOST` value: `unix:///path`, `tcp://host:port`; empty for a context that does not
    /// exist.
    pub host: String,
    /// Where the address comes from.
    pub origin: Origin,
    /// The TLS settings; none for plain text.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// The TLS settings of an engine, as docker stores them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Has `ca.pem` and, for an engine that requires them, `cert.pem` and `key.pem`.
    pub folder: PathBuf,
    /// Whether to verify the engine's certificate; false for a context with `SkipTLSVerify`.
    pub verify: bool,
}

impl Candidate {
    /// Returns a candidate without TLS.
    pub fn plain(host: impl Into<String>, origin: Origin) -> Candidate {
        Candidate {
            host: host.into(),
            origin,
            tls: None,
        }
    }

    /// Returns the socket's path, if the candidate is a Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.host.strip_prefix("unix://").map(Path::new)
    }
}

/// The environment variables that determine where to look.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    variables: BTreeMap<String, OsString>,
}

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
    /// Returns the variables of this process.
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

    /// Returns the directory of docker's configuration.
    pub(crate) fn docker_config(&self) -> Option<PathBuf> {
        let usual = || Some(self.folder("HOME")?.join(".docker"));
        self.folder("DOCKER_CONFIG").or_else(usual)
    }

    /// Returns every place to look, in order of priority; only one if the user chose it. The first
    /// three have the order of the docker CLI: `DOCKER_HOST`, `DOCKER_CONTEXT`, `currentContext`.
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
            let context = self.context(name, Origin::ChosenContext(name.to_owned()));
            return match context {
                Some(candidate) => Ok(vec![candidate]),
                None => Err(UnknownContext {
                    name: name.to_owned(),
                    looked_in: self.context_file(name),
                }),
            };
        }
        let current = match chosen {
            None => self.current_context(),
            Some(_default) => None,
        };
        let mut found: Vec<Candidate> = Vec::new();
        for candidate in current.into_iter().chain(self.sockets()) {
            if !found.iter().any(|known| known.host == candidate.host) {
                found.push(candidate);
            }
        }
        Ok(found)
    }

    /// Returns the TLS settings of the engine at `host`, from the variables or from any context.
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

    /// Like the docker CLI, this treats any value of DOCKER_TLS_VERIFY as true.
    fn tls_of_variables(&self, host: &str) -> Option<Tls> {
        if !takes_tls(host) {
            return None;
        }
        let uses_tls = self.variable("DOCKER_TLS_VERIFY").is_some() || host.starts_with("https://");
        let folder = self.folder("DOCKER_CERT_PATH");
        let folder = folder
            .or_else(|| self.docker_config())
            .filter(|_| uses_tls)?;
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
        let uses_tls = folder.is_dir() || docker.skip_tls_verify;
        (takes_tls(&docker.host) && uses_tls).then_some(Tls {
            folder,
            verify: !docker.skip_tls_verify,
        })
    }

    /// A context that does not exist is a candidate, too: `docker` itself uses no other.
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
        let context = self.context(&name, origin.clone());
        Some(context.unwrap_or(Candidate::plain("", origin)))
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
        let below = |variable: &str, path: &str| Some(self.folder(variable)?.join(path));
        let under_home = |path: &str| below("HOME", path);
        let under_runtime = |path: &str| below("XDG_RUNTIME_DIR", path);
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

/// The docker CLI's name for the engine of DOCKER_HOST, otherwise of the usual socket.
const DEFAULT: &str = "default";

/// A context: docker's `contexts/meta/*/meta.json`.
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
    /// The context's name.
    pub name: String,
    /// The file that would describe it; none without a home directory.
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

    fn set_config(home: &TempDir, config: &str) {
        let docker = home.path().join(".docker");
        fs::create_dir_all(&docker).unwrap();
        fs::write(docker.join("config.json"), config).unwrap();
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
        set_config(&home, r#"{"currentContext":"colima"}"#);
        let candidates = surroundings(&home, &[]).candidates().unwrap();
        assert_eq!(candidates[0].host, "unix:///elsewhere/docker.sock");
        let origin = Origin::CurrentContext("colima".into());
        assert_eq!(candidates[0].origin, origin);
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
        let sockets = hosts(&surroundings(&home, &[]));
        let chosen = surroundings(&home, &[("DOCKER_CONTEXT", "default")]);
        assert_eq!(hosts(&chosen), sockets);
        // It also overrides the current context.
        write_context(&home.path().join(".docker"), "far", "tcp://far:2375");
        set_config(&home, r#"{"currentContext":"far"}"#);
        assert_eq!(hosts(&chosen), sockets);
    }

    #[test]
    fn a_current_context_that_does_not_exist_is_a_candidate() {
        let home = TempDir::new().unwrap();
        set_config(&home, r#"{"currentContext":"gone"}"#);
        let candidates = surroundings(&home, &[]).candidates().unwrap();
        assert_eq!(candidates[0].origin, Origin::CurrentContext("gone".into()));
        assert_eq!(candidates[1].origin, Origin::SystemSocket);
    }

    #[test]
    fn a_contexts_certificates_are_where_docker_stores_them() {
        let home = TempDir::new().unwrap();
        let docker = home.path().join(".docker");
        write_context(&docker, "far", "tcp://far:2376");
        let context = surroundings(&home, &[("DOCKER_CONTEXT", "far")]);
        let tls = || context.candidates().unwrap().remove(0).tls;
        assert_eq!(tls(), None, "plain text");
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
        // By its address, as the ledger records it. The chosen context does not matter.
        let other = surroundings(&home, &[]);
        assert_eq!(other.tls_of("tcp://far:2376"), expected);
        assert_eq!(other.tls_of("tcp://elsewhere:2376"), None);
    }

    #[test]
    fn docker_tls_verify_and_docker_cert_path_apply_where_tls_is_possible() {
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
    fn a_context_of_the_usual_socket_is_one_candidate() {
        let home = TempDir::new().unwrap();
        let socket = "unix:///var/run/docker.sock";
        write_context(&home.path().join(".docker"), "same", socket);
        set_config(&home, r#"{"currentContext":"same"}"#);
        let hosts = hosts(&surroundings(&home, &[]));
        assert_eq!(hosts.iter().filter(|host| *host == socket).count(), 1);
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
            set_config(&home, &text);
            let candidates = surroundings(&home, &[]).candidates().unwrap();
            prop_assert!(candidates.iter().any(|c| c.origin == Origin::SystemSocket));
        }
    }
}
