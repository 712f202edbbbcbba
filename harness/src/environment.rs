//! An environment that is up: its name, its parts, its secrets, and who holds it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use miette::Diagnostic;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::capability::Capability;
use crate::cluster::{Access, Cluster, ClusterError};
use crate::config::names_environment;
use crate::entry::Entry;
use crate::home::Home;
use crate::owner;
use crate::process::identity::ProcessIdentity;
use crate::run::event::Part;
use crate::wait::{self, Observation};

/// What tells environments on one machine apart: an RFC 1123 label of at most 30
/// characters, so that it fits into names of containers and clusters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentName(String);

/// A name that cannot be one.
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
    /// The cluster's name, as `kind` knows it; its context's where it is a remote one.
    pub name: String,
    /// A kubeconfig of its own.
    pub kubeconfig: PathBuf,
    /// The context in it.
    pub context: String,
    /// Where the release is installed.
    pub namespace: String,
    /// Where Postgres and Redis are, as a CIDR; none where the values files say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing_services: Option<String>,
    /// What may be changed of it. Only environments of ours are kept in files.
    #[serde(skip, default = "Access::ours")]
    pub access: Access,
}

impl ClusterPlace {
    /// The cluster.
    ///
    /// # Errors
    /// As [`Cluster::open`].
    pub async fn open(&self) -> Result<Cluster, ClusterError> {
        self.open_in(&self.namespace).await
    }

    /// The cluster, for work in another namespace than the release's.
    ///
    /// # Errors
    /// As [`Cluster::open`].
    pub async fn open_in(&self, namespace: &str) -> Result<Cluster, ClusterError> {
        let access = self.access.clone();
        Cluster::open(&self.kubeconfig, &self.context, namespace, access).await
    }
}

/// An environment that is up. Holds no secret: it may be printed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub name: EnvironmentName,
    /// The target it is an instance of.
    pub target: String,
    /// The run that stood it up; its logs are in that run's folder.
    pub run: String,
    /// That run's folder.
    pub run_folder: PathBuf,
    /// Since when.
    pub since: Timestamp,
    /// The process that owns every part of it; of a remote one, that looks at it.
    pub supervisor: ProcessIdentity,
    /// Where clients come in.
    pub entry: Entry,
    /// The cluster it is on, unless it is processes of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterPlace>,
    /// Where it is no cluster, and yet a service of it can be released: what answers a
    /// release's part of the Kubernetes API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub releases: Option<ClusterPlace>,
    /// The host of the site.
    pub site_host: String,
    /// The host of the API.
    pub api_host: String,
    /// What `x-trii-version` says.
    pub version: String,
    /// What can be done with it.
    pub capabilities: BTreeSet<Capability>,
    /// What it is made of.
    pub parts: Vec<Part>,
    /// Parts that ended although nobody asked them to.
    pub lost: Vec<String>,
    /// Whether it lives on without the command that brought it up.
    #[serde(default)]
    pub stays: bool,
}

impl Environment {
    /// The site's URL by its real host name.
    pub fn site_url(&self) -> String {
        self.entry.url(&self.site_host)
    }

    /// The API's URL by its real host name.
    pub fn api_url(&self) -> String {
        self.entry.url(&self.api_host)
    }

    /// The URL a browser on this machine can open: a cluster's ingress wants the real
    /// host name.
    pub fn browser_url(&self) -> Option<String> {
        match (&self.cluster, self.entry.address) {
            (None, Some(address)) => Some(format!("http://{address}/")),
            _ => None,
        }
    }

    /// Where its services are released.
    pub fn releases(&self) -> Option<&ClusterPlace> {
        self.cluster.as_ref().or(self.releases.as_ref())
    }

    /// Why it cannot do this, unless it can.
    pub fn lacks(&self, capability: Capability) -> Option<String> {
        match self.capabilities.contains(&capability) {
            true => None,
            false => Some(capability.lacking_on(&self.target)),
        }
    }
}

/// An investor of the seed data.
pub const DEMO_INVESTOR: &str = "demo";

/// A symbol of the seed data that has a price.
pub const SEEDED_SYMBOL: &str = "ECOPETROL";

/// Generated for each run; kept in a file of mode 0600 while the environment is up.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// Postgres' password for the user `trii`.
    pub postgres_password: String,
    /// Redis' password.
    pub redis_password: String,
    /// The key of the platform's tokens (HS256).
    pub jwt_secret: String,
    /// The seeded investors' password.
    pub demo_password: String,
}

/// What scenarios log in and sign tokens with.
#[derive(Clone)]
pub struct Credentials {
    /// The key of the platform's tokens (HS256).
    pub jwt_secret: String,
    /// The seeded investors' password.
    pub demo_password: String,
}

impl Credentials {
    /// The Secret that has them in a cluster.
    pub const SECRET: &str = "jwt-credentials";
    /// Its key for `jwt_secret`.
    pub const JWT_SECRET: &str = "secret";
    /// Its key for `demo_password`.
    pub const DEMO_PASSWORD: &str = "demo-password";
}

impl Secrets {
    /// Those of them that scenarios need.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            jwt_secret: self.jwt_secret.clone(),
            demo_password: self.demo_password.clone(),
        }
    }

    /// Fresh ones, 128 bits each.
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

/// The version that was deployed last, where that was later.
const DEPLOYED: &str = "deployed.json";

/// The files of one environment, and the lock that says it is in use.
#[derive(Clone, Debug)]
pub struct EnvironmentFolder {
    folder: PathBuf,
    lock: PathBuf,
}

/// Who holds an environment's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// The supervisor.
    pub supervisor: ProcessIdentity,
    /// Its run.
    pub run: String,
    /// Since when.
    pub since: Timestamp,
    /// How long each of its parts may take to end once it is asked to.
    pub stop: Duration,
}

/// An environment's files cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum EnvironmentError {
    /// Somebody else has the name.
    #[error("environment {name:?} is in use since {since}, by {holder}")]
    #[diagnostic(help(
        "`cargo xtask smoke --name {name}` checks it, `cargo xtask down --name {name}` ends it; for one more beside it choose another --name"
    ))]
    InUse {
        /// The name.
        name: String,
        /// Since when.
        since: String,
        /// By which process, for which run.
        holder: String,
    },
    /// Nothing of this name is up.
    #[error("environment {name:?} is not up")]
    #[diagnostic(help(
        "`cargo xtask up --name {name}` brings it up, `cargo xtask status` lists those that are"
    ))]
    NotUp {
        /// The name.
        name: String,
    },
    /// Nobody holds the name here; whoever took it last may still have it elsewhere.
    #[error("it cannot be told whether {holder} still has {}", path.display())]
    #[diagnostic(help(
        "end it where it runs; if it has ended, remove {}, or choose another --name",
        path.display()
    ))]
    NotJudged {
        /// Who signed the lock last, and for which run.
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
        /// The system's word.
        source: std::io::Error,
    },
}

impl EnvironmentFolder {
    /// The files of the environment `name`, which need not exist.
    pub fn of(home: &Home, name: &EnvironmentName) -> Self {
        EnvironmentFolder {
            folder: home.environments().join(&name.0),
            // Outside the folder and never removed: a lock on a removed file locks nothing.
            lock: home.state().join("locks").join(format!("{name}.lock")),
        }
    }

    /// The names that are taken, or have files of a dead owner.
    pub fn all(home: &Home) -> Vec<EnvironmentName> {
        let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        let with_files = entries(home.environments())
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let taken = entries(home.state().join("locks"))
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".lock")?
                    .parse()
                    .ok()
            })
            .filter(|name| EnvironmentFolder::of(home, name).is_held());
        let mut names: Vec<EnvironmentName> = with_files.chain(taken).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Takes the name for this process, until the returned lock is dropped. `stop` is how
    /// long each part may take to end. Files of a dead owner are removed.
    pub async fn take(
        &self,
        name: &EnvironmentName,
        run: &str,
        stop: Duration,
    ) -> Result<Lock, EnvironmentError> {
        let Some(mut lock) = self.lock().await? else {
            return Err(self.in_use(name));
        };
        let holder = Holder {
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

    /// Removes the files, unless somebody living has the name.
    pub async fn sweep(&self) -> Result<(), EnvironmentError> {
        match self.lock().await? {
            Some(_lock) => self.remove(),
            None => Ok(()),
        }
    }

    /// The lock, unless its holder lives. Others have it for an instant, to see whether it
    /// is held or to remove a dead owner's files: they are waited for.
    async fn lock(&self) -> Result<Option<Lock>, EnvironmentError> {
        const AN_INSTANT: Duration = Duration::from_secs(2);
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
        let locked = wait::until(
            "the name is free",
            AN_INSTANT,
            TRY_EVERY,
            async || match file.try_lock() {
                Ok(()) => Observation::Ready(Ok(())),
                Err(fs::TryLockError::Error(error)) => Observation::Ready(Err(error)),
                Err(fs::TryLockError::WouldBlock) => match self.holder() {
                    Some(holder) if holder.supervisor.is_alive() => {
                        Observation::Hopeless(format!("{} holds it", holder.supervisor))
                    }
                    _ => Observation::NotYet("somebody looks at it".into()),
                },
            },
        );
        match locked.await {
            Ok(Ok(())) => {
                self.judge_last_holder()?;
                file.set_len(0).map_err(file_error(&self.lock))?;
                Ok(Some(Lock(file)))
            }
            Ok(Err(error)) => Err(file_error(&self.lock)(error)),
            Err(_) => Ok(None),
        }
    }

    /// The refusal of a name that is held, naming its holder.
    pub fn in_use(&self, name: &EnvironmentName) -> EnvironmentError {
        let (since, holder) = match self.holder() {
            Some(Holder {
                supervisor,
                run,
                since,
                ..
            }) => (format!("{since:.0}"), format!("{supervisor} for run {run}")),
            None => ("just now".into(), "a process that is starting".into()),
        };
        EnvironmentError::InUse {
            name: name.0.clone(),
            since,
            holder,
        }
    }

    /// Who took the name last; it may be dead.
    pub fn holder(&self) -> Option<Holder> {
        let mut text = String::new();
        File::open(&self.lock)
            .ok()?
            .read_to_string(&mut text)
            .ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Of a name that is free here: whether whoever signed it last is gone for certain.
    ///
    /// # Errors
    /// [`EnvironmentError::NotJudged`] where it may have it on another host.
    pub fn judge_last_holder(&self) -> Result<(), EnvironmentError> {
        match self.holder() {
            Some(Holder {
                supervisor, run, ..
            }) if !owner::is_certain(&supervisor, &self.lock) => {
                let host = supervisor.place.as_ref().map(|place| &place.host);
                let host = host.map(|host| format!(" on host {host}"));
                Err(EnvironmentError::NotJudged {
                    holder: format!("{supervisor}{} for run {run}", host.unwrap_or_default()),
                    path: self.lock.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Signs the lock as if another held it.
    #[cfg(test)]
    pub(crate) fn sign_as(&self, change: impl FnOnce(&mut ProcessIdentity)) {
        let mut holder = self.holder().unwrap();
        change(&mut holder.supervisor);
        fs::write(&self.lock, serde_json::to_vec(&holder).unwrap()).unwrap();
    }

    /// Whether a living process has the name.
    pub fn is_held(&self) -> bool {
        File::open(&self.lock)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    /// Writes down what the environment is made of.
    pub fn write(&self, environment: &Environment) -> Result<(), EnvironmentError> {
        self.write_private("environment.json", environment)
    }

    /// From now on it is not up any more.
    pub fn withdraw(&self) {
        // It goes with the folder at the latest.
        let _ = fs::remove_file(self.folder.join("environment.json"));
    }

    /// Keeps the secrets, readable by this user alone.
    pub fn write_secrets(&self, secrets: &Secrets) -> Result<(), EnvironmentError> {
        self.write_private("secrets.json", secrets)
    }

    /// Keeps the kubeconfig of what is no cluster, readable by this user alone.
    pub fn write_kubeconfig(&self, json: &serde_json::Value) -> Result<PathBuf, EnvironmentError> {
        self.write_private("kubeconfig", json)?;
        Ok(self.folder.join("kubeconfig"))
    }

    /// The folder itself, for what goes with the environment.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Where the secrets are, for a person who wants to log in.
    pub fn secrets_path(&self) -> PathBuf {
        self.folder.join("secrets.json")
    }

    /// The environment, if it is up: written down, and its owner alive.
    pub fn read(&self, name: &EnvironmentName) -> Result<Environment, EnvironmentError> {
        let not_up = || EnvironmentError::NotUp {
            name: name.0.clone(),
        };
        if !self.is_held() {
            return Err(not_up());
        }
        let mut environment: Environment =
            self.read_json("environment.json")?.ok_or_else(not_up)?;
        if let Some(version) = self.read_json(DEPLOYED)? {
            environment.version = version;
        }
        Ok(environment)
    }

    /// Writes down that another version is deployed now. Beside the environment's own
    /// file, which its supervisor writes.
    pub fn write_version(&self, version: &str) -> Result<(), EnvironmentError> {
        self.write_private(DEPLOYED, &version)
    }

    /// The secrets of an environment that is up.
    pub fn read_secrets(&self, name: &EnvironmentName) -> Result<Secrets, EnvironmentError> {
        self.read_json("secrets.json")?
            .ok_or_else(|| EnvironmentError::NotUp {
                name: name.0.clone(),
            })
    }

    /// Removes the files; the name is free once the lock is dropped too.
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

    /// Whole or not at all: a reader never sees half a file.
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

/// An environment's name, taken; free again when dropped, or when the process dies.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A name that is free says nobody's; of a killed process it says a dead one's.
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
    async fn a_name_is_taken_once_and_the_second_is_told_by_whom() {
        let (_home, name, folder) = folder("mine");
        let lock = folder.take(&name, "run-1", Duration::ZERO).await.unwrap();
        let second = folder
            .take(&name, "run-2", Duration::ZERO)
            .await
            .unwrap_err()
            .to_string();
        assert!(second.contains("run-1"), "{second}");
        assert!(second.contains(&std::process::id().to_string()), "{second}");
        drop(lock);
        folder.take(&name, "run-3", Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn a_look_at_the_lock_does_not_get_in_the_way() {
        let (_home, name, folder) = folder("mine");
        drop(folder.take(&name, "run-1", Duration::ZERO).await.unwrap());
        let look = File::open(&folder.lock).unwrap();
        look.try_lock_shared().unwrap();
        let taking = folder.take(&name, "run-2", Duration::ZERO);
        let looked = async {
            tokio::task::yield_now().await;
            drop(look);
        };
        tokio::join!(taking, looked).0.unwrap();
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
    async fn only_what_nobody_living_holds_is_swept() {
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
    async fn a_name_that_another_host_signed_is_neither_swept_nor_taken() {
        let (_home, name, folder) = folder("mine");
        let lock = folder.take(&name, "run-1", Duration::ZERO).await.unwrap();
        folder.sign_as(|supervisor| {
            let place = supervisor.place.as_mut().unwrap();
            place.boot = "another".into();
            place.host = "laptop".into();
        });
        // As its death would: the signature stays.
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
    async fn secrets_are_for_this_user_alone_and_never_shown() {
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
