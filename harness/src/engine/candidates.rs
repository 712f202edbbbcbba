//! Where a container engine may be: environment and files in, candidates out.
//! Nothing here talks to an engine.

use std::collections::BTreeMap;
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
    /// A `DOCKER_HOST` value: `unix:///path`, `tcp://host:port`.
    pub host: String,
    /// Why this place was looked at.
    pub origin: Origin,
}

impl Candidate {
    /// The socket's path, when the candidate is a Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.host.strip_prefix("unix://").map(Path::new)
    }
}

/// What decides where to look: taken from the process once, or made by a test.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    variables: BTreeMap<String, String>,
}

/// The variables that matter.
const VARIABLES: [&str; 6] = [
    "COLIMA_HOME",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "HOME",
    "XDG_RUNTIME_DIR",
];

impl Surroundings {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        let variables = VARIABLES
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
            .collect();
        Surroundings { variables }
    }

    /// An empty value counts as absent, as it does for the docker CLI.
    fn variable(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name)?.as_str();
        (!value.is_empty()).then_some(value)
    }

    fn home(&self) -> Option<PathBuf> {
        self.variable("HOME").map(PathBuf::from)
    }

    /// Where docker keeps its configuration.
    pub(crate) fn docker_config(&self) -> Option<PathBuf> {
        match self.variable("DOCKER_CONFIG") {
            Some(dir) => Some(PathBuf::from(dir)),
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
        if let Some(host) = self.variable("DOCKER_HOST") {
            return Ok(vec![Candidate {
                host: host.to_owned(),
                origin: Origin::DockerHost,
            }]);
        }
        if let Some(name) = self.variable("DOCKER_CONTEXT").filter(|n| *n != "default") {
            let host = self.context_host(name).ok_or_else(|| UnknownContext {
                name: name.to_owned(),
                looked_in: self.context_file(name),
            })?;
            let origin = Origin::ChosenContext(name.to_owned());
            return Ok(vec![Candidate { host, origin }]);
        }
        let mut found: Vec<Candidate> = Vec::new();
        for candidate in self.current_context().into_iter().chain(self.sockets()) {
            if !found.iter().any(|known| known.host == candidate.host) {
                found.push(candidate);
            }
        }
        Ok(found)
    }

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
            .filter(|n| !n.is_empty() && n != "default")?;
        Some(Candidate {
            host: self.context_host(&name)?,
            origin: Origin::CurrentContext(name),
        })
    }

    /// The docker CLI stores a context under the SHA-256 of its name.
    fn context_file(&self, name: &str) -> Option<PathBuf> {
        let folder: String = Sha256::digest(name.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let file = ["contexts", "meta", &folder, "meta.json"];
        Some(self.docker_config()?.join(file.iter().collect::<PathBuf>()))
    }

    fn context_host(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.context_file(name)?).ok()?;
        let meta: serde_json::Value = serde_json::from_str(&text).ok()?;
        let host = meta.pointer("/Endpoints/docker/Host")?.as_str()?;
        (!host.is_empty()).then(|| host.to_owned())
    }

    fn sockets(&self) -> Vec<Candidate> {
        let home = self.home();
        let under_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let runtime = self.variable("XDG_RUNTIME_DIR").map(PathBuf::from);
        let under_runtime = |path: &str| runtime.as_ref().map(|dir| dir.join(path));
        let usual = |path: &str| Some(PathBuf::from(path));
        let colima = match self.variable("COLIMA_HOME") {
            Some(dir) => Some(PathBuf::from(dir)),
            None => under_home(".colima"),
        };
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
            Some(Candidate {
                host: format!("unix://{}", path?.display()),
                origin,
            })
        })
        .collect()
    }
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
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        }
    }

    fn write_context(docker_config: &Path, name: &str, host: &str) {
        let folder: String = Sha256::digest(name.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let folder = docker_config.join("contexts/meta").join(folder);
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
