//! An environment: its name, parts, secrets, files, and owner.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use miette::Diagnostic;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::capability::Capability;
use crate::config::{PlatformPostgres, names_environment};
use base::entry_point::EntryPoint;
use base::home::Home;
use base::owner;
use base::process::identity::ProcessIdentity;
use base::run::event::Part;
use base::wait::{self, Observation};
use kubernetes::{Cluster, ClusterError, Permissions};

/// The variable with the harness home of the environment that the project's tests share.
pub const TEST_HOME: &str = "TRII_TEST_HOME";
/// The variable with the name of that environment.
pub const TEST_ENVIRONMENT: &str = "TRII_TEST_ENVIRONMENT";

/// The name of an environment on this machine: an RFC 1123 label of at most 30 characters, which
/// fits into names of containers and clusters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentName(String);

/// A text that cannot name an environment.
#[derive(Debug, Error, Diagnostic)]
#[error(
    "{0:?} cannot name an environment: use 1 to 30 lower-case letters, digits and '-', starting and ending with a letter or digit, e.g. --name mine"
)]
pub struct BadName(String);

impl FromStr for EnvironmentName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        match names_environment(name) {
            true => Ok(EnvironmentName(name.to_owned())),
            false => Err(BadName(name.to_owned())),
        }
    }
}

impl TryFrom<String> for EnvironmentName {
    type Error = BadName;

    fn try_from(name: String) -> Result<Self, BadName> {
        name.parse()
    }
}

impl From<EnvironmentName> for String {
    fn from(name: EnvironmentName) -> String {
        name.0
    }
}

impl std::fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// A release in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPlace {
    /// The name of the kind cluster, or a remote cluster's context.
    pub name: String,
    /// Its own kubeconfig.
    pub kubeconfig: PathBuf,
    /// The context in it.
    pub context: String,
    /// The namespace of the release.
    pub namespace: String,
    /// The addresses of Postgres and Redis, as a CIDR, unless the values files have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing_services: Option<String>,
    /// The permitted changes. Files have only environments that the harness owns.
    #[serde(skip, default = "Permissions::ours")]
    pub permissions: Permissions,
}

impl ClusterPlace {
    /// Opens the cluster.
    ///
    /// # Errors
    /// As [`Cluster::open`].
    pub async fn open(&self) -> Result<Cluster, ClusterError> {
        self.open_in(&self.namespace).await
    }

    /// Opens the cluster with another namespace than the release's.
    ///
    /// # Errors
    /// As [`Cluster::open`].
    pub async fn open_in(&self, namespace: &str) -> Result<Cluster, ClusterError> {
        let permissions = self.permissions.clone();
        Cluster::open(&self.kubeconfig, &self.context, namespace, permissions).await
    }
}

/// Returns a service as a part of a cluster. It is a Service: its Deployment may change.
pub(crate) fn part_in_cluster(service: &str, namespace: &str) -> Part {
    Part {
        name: service.to_owned(),
        runs_as: format!("Service {namespace}/{service}"),
        address: format!("{service}.{namespace}"),
        metrics: None,
        log: None,
    }
}

/// An environment that is up. It contains no secret, so it may be printed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub name: EnvironmentName,
    /// The target it is an instance of.
    pub target: String,
    /// The run that brought it up.
    pub run: String,
    /// The run's folder, which has the logs.
    pub run_folder: PathBuf,
    /// When it was brought up.
    pub since: Timestamp,
    /// The process that owns every part; for a remote target, the process that uses it.
    pub supervisor: ProcessIdentity,
    /// The address for clients.
    pub entry: EntryPoint,
    /// The cluster, unless the platform runs as processes of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterPlace>,
    /// Without a cluster, the substitute for the Kubernetes API that a release of a service uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub releases: Option<ClusterPlace>,
    /// The host of the site.
    pub site_host: String,
    /// The host of the API.
    pub api_host: String,
    /// The version that is deployed.
    pub version: String,
    /// The names of the platform's services.
    #[serde(default)]
    pub services: Vec<String>,
    /// Without a cluster, the URL of each service that answers 2xx while it is ready. A service
    /// without one is ready while it accepts connections.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ready_urls: BTreeMap<String, String>,
    /// Its capabilities.
    pub capabilities: BTreeSet<Capability>,
    /// Its parts.
    pub parts: Vec<Part>,
    /// Parts that ended unexpectedly.
    pub lost: Vec<String>,
    /// Whether it stays without the command that brought it up.
    #[serde(default)]
    pub stays: bool,
}

impl Environment {
    /// Returns the site's URL with its host name.
    pub fn site_url(&self) -> String {
        self.entry.url(&self.site_host)
    }

    /// Returns the API's URL with its host name.
    pub fn api_url(&self) -> String {
        self.entry.url(&self.api_host)
    }

    /// Returns a URL for a browser on this machine. A cluster has none: its ingress requires the
    /// host name.
    pub fn browser_url(&self) -> Option<String> {
        match (&self.cluster, self.entry.address) {
            (None, Some(address)) => Some(format!("http://{address}/")),
            _ => None,
        }
    }

    /// Returns the cluster for releases of services.
    pub fn releases(&self) -> Option<&ClusterPlace> {
        self.cluster.as_ref().or(self.releases.as_ref())
    }

    /// Whether a part is a service, or a pod of one: a pod's name begins with that of its service.
    pub fn is_of_service(&self, part: &str) -> bool {
        self.services.iter().any(|service| {
            let rest = part.strip_prefix(service);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    }

    /// Returns why it lacks the capability; `None` if it has it.
    pub fn lacks(&self, capability: Capability) -> Option<String> {
        match self.capabilities.contains(&capability) {
            true => None,
            false => Some(capability.reason_missing_on(&self.target)),
        }
    }
}

/// An investor of the seed data.
pub const DEMO_INVESTOR: &str = "demo";

/// A symbol of the seed data that has a price.
pub const SEEDED_SYMBOL: &str = "ECOPETROL";

/// The secrets of an environment. They are in a file of mode 0600 while it is up.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// The password of Postgres' user.
    pub postgres_password: String,
    /// Redis' password.
    pub redis_password: String,
    /// The key of the platform's tokens (HS256).
    pub jwt_secret: String,
    /// The seeded investors' password.
    pub demo_password: String,
}

/// The secrets for the logins and the tokens of scenarios.
#[derive(Clone)]
pub struct Credentials {
    /// The key of the platform's tokens (HS256).
    pub jwt_secret: String,
    /// The seeded investors' password.
    pub demo_password: String,
}

impl Secrets {
    /// Returns the secrets for scenarios.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            jwt_secret: self.jwt_secret.clone(),
            demo_password: self.demo_password.clone(),
        }
    }

    /// Returns the libpq connection URI of a Postgres at `address`, a host and a port.
    pub fn database_url(&self, postgres: &PlatformPostgres, address: &str) -> String {
        let (user, password) = (&postgres.user, &self.postgres_password);
        format!(
            "postgres://{user}:{password}@{address}/{}",
            postgres.database
        )
    }

    /// Returns the URI of a Redis at `address`, a host and a port.
    pub fn redis_url(&self, address: &str) -> String {
        format!("redis://:{}@{address}/", self.redis_password)
    }

    /// Generates new secrets with at least 128 bits each.
    pub fn generate() -> Self {
        let secret = || format!("{:032x}", rand::random::<u128>());
        Secrets {
            postgres_password: secret(),
            redis_password: secret(),
            jwt_secret: secret() + &secret(),
            demo_password: secret(),
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(not shown)")
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(not shown)")
    }
}

/// The file with the release that was deployed later.
const RELEASE: &str = "release.json";

/// The release that was deployed after an environment was brought up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CurrentRelease {
    /// The version.
    pub version: String,
    /// The names of the services.
    pub services: Vec<String>,
}

/// The files of one environment, and the lock of its name.
#[derive(Clone, Debug)]
pub struct EnvironmentFolder {
    folder: PathBuf,
    lock: PathBuf,
}

/// The owner of an environment's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvironmentHolder {
    /// The supervisor.
    pub supervisor: ProcessIdentity,
    /// Its run.
    pub run: String,
    /// When it took the name.
    pub since: Timestamp,
    /// How long each part may take to stop.
    pub stop: Duration,
}

/// Why an environment's files cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum EnvironmentError {
    /// The name is in use.
    #[error("environment {name:?} is in use since {since}, by {holder}")]
    #[diagnostic(help(
        "`cargo xtask smoke --name {name}` checks it, `cargo xtask down --name {name}` ends it; for one more beside it choose another --name"
    ))]
    InUse {
        /// The name.
        name: String,
        /// Since when.
        since: String,
        /// The process and the run.
        holder: String,
    },
    /// No environment of this name is up.
    #[error("environment {name:?} is not up")]
    #[diagnostic(help(
        "`cargo xtask up --name {name}` brings it up, `cargo xtask status` lists those that are"
    ))]
    NotUp {
        /// The name.
        name: String,
    },
    /// The last owner is on another host, and may live.
    #[error("it is unknown whether {holder} still has {}", path.display())]
    #[diagnostic(help(
        "end it where it runs; if it has ended, remove {}, or choose another --name",
        path.display()
    ))]
    Undecided {
        /// The last owner and its run.
        holder: String,
        /// The lock.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    #[diagnostic(help("make the folder readable and writable, or choose another with --home"))]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl EnvironmentFolder {
    /// Returns the folder of the environment `name`, which need not exist.
    pub fn of(home: &Home, name: &EnvironmentName) -> Self {
        EnvironmentFolder {
            folder: home.environments().join(&name.0),
            // Outside the folder, because the file must never be removed.
            lock: home.state().join("locks").join(format!("{name}.lock")),
        }
    }

    /// Returns the names that are in use, or have files of a dead owner.
    pub fn all(home: &Home) -> Vec<EnvironmentName> {
        let files = |folder: PathBuf| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok())
        };
        let with_files = files(home.environments()).filter_map(|file| file.parse().ok());
        let in_use = files(home.state().join("locks"))
            .filter_map(|file| file.strip_suffix(".lock")?.parse().ok())
            .filter(|name| EnvironmentFolder::of(home, name).is_held());
        let mut names: Vec<EnvironmentName> = with_files.chain(in_use).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Takes the name for this process, until the returned lock is dropped. Removes the files of a
    /// dead owner. `stop` is how long each part may take to stop.
    pub async fn take(
        &self,
        name: &EnvironmentName,
        run: &str,
        stop: Duration,
    ) -> Result<EnvironmentLock, EnvironmentError> {
        let Some(mut lock) = self.lock().await? else {
            return Err(self.in_use(name));
        };
        let holder = EnvironmentHolder {
            supervisor: ProcessIdentity::own(),
            run: run.to_owned(),
            since: Timestamp::now(),
            stop,
        };
        let json = serde_json::to_string(&holder).unwrap_or_default();
        lock.0
            .write_all(json.as_bytes())
            .map_err(file_error(&self.lock))?;
        self.remove()?;
        fs::create_dir_all(&self.folder).map_err(file_error(&self.folder))?;
        Ok(lock)
    }

    /// Removes the files, unless a living process has the name.
    pub async fn sweep(&self) -> Result<(), EnvironmentError> {
        match self.lock().await? {
            Some(_lock) => self.remove(),
            None => Ok(()),
        }
    }

    /// Takes the lock, unless its holder lives. Waits for processes that have it only to check it,
    /// or to remove a dead owner's files.
    async fn lock(&self) -> Result<Option<EnvironmentLock>, EnvironmentError> {
        const TIMEOUT: Duration = Duration::from_secs(2);
        const TRY_EVERY: Duration = Duration::from_millis(10);
        let folder = self.lock.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(file_error(folder))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&self.lock)
            .map_err(file_error(&self.lock))?;
        let locked = wait::until("the name is free", TIMEOUT, TRY_EVERY, async || match file
            .try_lock()
        {
            Ok(()) => Observation::Ready(Ok(())),
            Err(fs::TryLockError::Error(error)) => Observation::Ready(Err(error)),
            Err(fs::TryLockError::WouldBlock) => match self.holder() {
                Some(holder) if holder.supervisor.is_alive() => {
                    Observation::Failed(format!("{} holds it", holder.supervisor))
                }
                _ => Observation::NotYet("another process checks it".into()),
            },
        });
        match locked.await {
            Ok(Ok(())) => {
                self.check_last_holder()?;
                file.set_len(0).map_err(file_error(&self.lock))?;
                Ok(Some(EnvironmentLock(file)))
            }
            Ok(Err(error)) => Err(file_error(&self.lock)(error)),
            Err(_) => Ok(None),
        }
    }

    /// Returns the refusal of a name in use, with its holder.
    pub fn in_use(&self, name: &EnvironmentName) -> EnvironmentError {
        let (since, holder) = match self.holder() {
            Some(holder) => (
                format!("{:.0}", holder.since),
                format!("{} for run {}", holder.supervisor, holder.run),
            ),
            None => ("just now".into(), "a process that is starting".into()),
        };
        EnvironmentError::InUse {
            name: name.0.clone(),
            since,
            holder,
        }
    }

    /// Returns the last holder of the name, which may be dead.
    pub fn holder(&self) -> Option<EnvironmentHolder> {
        let text = fs::read_to_string(&self.lock).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Checks that the last holder of a free name has certainly ended.
    ///
    /// # Errors
    /// [`EnvironmentError::Undecided`] if it may live on another host.
    pub fn check_last_holder(&self) -> Result<(), EnvironmentError> {
        match self.holder() {
            Some(EnvironmentHolder {
                supervisor, run, ..
            }) if !owner::is_certain(&supervisor, &self.lock) => {
                let host = supervisor.place.as_ref().map(|place| &place.host);
                let host = host.map(|host| format!(" on host {host}"));
                Err(EnvironmentError::Undecided {
                    holder: format!("{supervisor}{} for run {run}", host.unwrap_or_default()),
                    path: self.lock.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Signs the lock as another holder.
    #[cfg(test)]
    pub(crate) fn sign_as(&self, change: impl FnOnce(&mut ProcessIdentity)) {
        let mut holder = self.holder().unwrap();
        change(&mut holder.supervisor);
        fs::write(&self.lock, serde_json::to_vec(&holder).unwrap()).unwrap();
    }

    /// Returns whether a living process has the name.
    pub fn is_held(&self) -> bool {
        File::open(&self.lock)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    /// Writes the environment's record.
    pub fn write(&self, environment: &Environment) -> Result<(), EnvironmentError> {
        self.write_private("environment.json", environment)
    }

    /// Removes the environment's record: it is not up any more.
    pub fn withdraw(&self) {
        // Otherwise the removal of the folder removes it.
        let _ = fs::remove_file(self.folder.join("environment.json"));
    }

    /// Writes the secrets, readable only by this user.
    pub fn write_secrets(&self, secrets: &Secrets) -> Result<(), EnvironmentError> {
        self.write_private("secrets.json", secrets)
    }

    /// Writes a kubeconfig, readable only by this user. Returns the file.
    pub fn write_kubeconfig(&self, json: &serde_json::Value) -> Result<PathBuf, EnvironmentError> {
        self.write_private("kubeconfig", json)?;
        Ok(self.folder.join("kubeconfig"))
    }

    /// Returns the folder, which is removed with the environment.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Returns the file of the secrets, for a person who wants to log in.
    pub fn secrets_path(&self) -> PathBuf {
        self.folder.join("secrets.json")
    }

    /// Reads the record of an environment that is up: its owner lives.
    pub fn read(&self, name: &EnvironmentName) -> Result<Environment, EnvironmentError> {
        let not_up = || EnvironmentError::NotUp {
            name: name.0.clone(),
        };
        if !self.is_held() {
            return Err(not_up());
        }
        let mut environment: Environment =
            self.read_json("environment.json")?.ok_or_else(not_up)?;
        if let Some(CurrentRelease { version, services }) = self.read_json(RELEASE)? {
            environment.version = version;
            environment.services = services;
        }
        Ok(environment)
    }

    /// Records the release, in a file beside the one that the supervisor writes.
    pub fn write_release(&self, release: &CurrentRelease) -> Result<(), EnvironmentError> {
        self.write_private(RELEASE, release)
    }

    /// Reads the secrets of an environment that is up.
    pub fn read_secrets(&self, name: &EnvironmentName) -> Result<Secrets, EnvironmentError> {
        self.read_json("secrets.json")?
            .ok_or_else(|| EnvironmentError::NotUp {
                name: name.0.clone(),
            })
    }

    /// Removes the files. The lock still holds the name.
    pub fn remove(&self) -> Result<(), EnvironmentError> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(file_error(&self.folder)(error))
            }
            _ => Ok(()),
        }
    }

    fn read_json<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, EnvironmentError> {
        let path = self.folder.join(file);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(&path)(error)),
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| file_error(&path)(error.into()))
    }

    /// Atomic: a reader never reads a part of a file.
    fn write_private(&self, file: &str, value: &impl Serialize) -> Result<(), EnvironmentError> {
        let path = self.folder.join(file);
        let fresh = self.folder.join(format!(".{file}.new"));
        let write = || {
            let json = serde_json::to_vec_pretty(value)?;
            let mut out = File::options()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&fresh)?;
            out.write_all(&json)?;
            fs::rename(&fresh, &path)
        };
        write().map_err(file_error(&path))
    }
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> EnvironmentError {
    let path = path.to_owned();
    |source| EnvironmentError::File { path, source }
}

/// The lock of an environment's name. It is released when dropped, or when the process ends.
#[derive(Debug)]
pub struct EnvironmentLock(File);

impl Drop for EnvironmentLock {
    fn drop(&mut self) {
        // An unsigned lock is free. A killed process leaves its signature.
        let _ = self.0.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> (tempfile::TempDir, EnvironmentName, EnvironmentFolder) {
        let home = tempfile::tempdir().unwrap();
        let name: EnvironmentName = name.parse().unwrap();
        let folder = EnvironmentFolder::of(&Home::new(home.path()), &name);
        (home, name, folder)
    }

    #[tokio::test]
    async fn a_name_in_use_is_refused_with_its_holder() {
        let (_home, name, folder) = folder("mine");
        let lock = folder.take(&name, "run-1", Duration::ZERO).await.unwrap();
        let second = folder.take(&name, "run-2", Duration::ZERO).await;
        let second = second.unwrap_err().to_string();
        assert!(second.contains("run-1"), "{second}");
        assert!(second.contains(&std::process::id().to_string()), "{second}");
        drop(lock);
        folder.take(&name, "run-3", Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn a_check_of_the_lock_does_not_prevent_taking_it() {
        let (_home, name, folder) = folder("mine");
        drop(folder.take(&name, "run-1", Duration::ZERO).await.unwrap());
        let check = File::open(&folder.lock).unwrap();
        check.try_lock_shared().unwrap();
        let taking = folder.take(&name, "run-2", Duration::ZERO);
        let checked = async {
            tokio::task::yield_now().await;
            drop(check);
        };
        tokio::join!(taking, checked).0.unwrap();
    }

    #[tokio::test]
    async fn files_without_a_living_owner_are_not_an_environment() {
        let (_home, name, folder) = folder("mine");
        drop(folder.take(&name, "run-1", Duration::ZERO).await.unwrap());
        let file = folder.folder.join("environment.json");
        fs::write(&file, "{").unwrap();
        let error = folder.read(&name).unwrap_err();
        assert!(matches!(error, EnvironmentError::NotUp { .. }));
        let _lock = folder.take(&name, "run-2", Duration::ZERO).await.unwrap();
        assert!(!file.exists(), "the next owner is not up yet");
    }

    #[tokio::test]
    async fn only_files_without_a_living_owner_are_swept() {
        let (_home, name, folder) = folder("mine");
        let lock = folder.take(&name, "run-1", Duration::ZERO).await.unwrap();
        folder.sweep().await.unwrap();
        assert!(folder.folder.exists());
        assert_eq!(folder.holder().unwrap().run, "run-1");
        drop(lock);
        folder.sweep().await.unwrap();
        assert!(!folder.folder.exists());
        assert!(folder.holder().is_none());
    }

    #[tokio::test]
    async fn a_name_of_another_host_is_neither_swept_nor_taken() {
        let (_home, name, folder) = folder("mine");
        let lock = folder.take(&name, "run-1", Duration::ZERO).await.unwrap();
        folder.sign_as(|supervisor| {
            let place = supervisor.place.as_mut().unwrap();
            place.boot = "another".into();
            place.host = "laptop".into();
        });
        // As after a kill: the signature stays.
        let signed = fs::read(&folder.lock).unwrap();
        drop(lock);
        fs::write(&folder.lock, &signed).unwrap();
        for refused in [
            folder.sweep().await.unwrap_err(),
            folder
                .take(&name, "run-2", Duration::ZERO)
                .await
                .unwrap_err(),
        ] {
            assert!(refused.to_string().contains("on host laptop"), "{refused}");
        }
        assert!(folder.folder.exists());
        assert_eq!(fs::read(&folder.lock).unwrap(), signed);
    }

    #[tokio::test]
    async fn secrets_are_readable_only_by_this_user_and_never_printed() {
        use std::os::unix::fs::PermissionsExt;
        let (_home, name, folder) = folder("mine");
        let _lock = folder.take(&name, "run-1", Duration::ZERO).await.unwrap();
        let secrets = Secrets::generate();
        folder.write_secrets(&secrets).unwrap();
        let mode = fs::metadata(folder.secrets_path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{secrets:?}").contains(&secrets.jwt_secret));
    }

    proptest::proptest! {
        #[test]
        fn a_name_is_a_label_or_refused(text in "[a-zA-Z0-9./ -]{0,34}") {
            let label = regex::Regex::new("^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$").unwrap();
            proptest::prop_assert_eq!(text.parse::<EnvironmentName>().is_ok(), label.is_match(&text));
        }
    }
}
