//! The user's kubeconfig, which is read once and never written. A copy of one context is pinned, so
//! later changes of the user's context have no effect.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kube::config::{ExecAuthCluster, ExecConfig, Kubeconfig, NamedContext};
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::RemoteError;
use crate::config::remote::same_server;
use kubernetes::ClusterError;

/// A kubeconfig, and how messages name it.
pub(super) struct Read {
    kubeconfig: Kubeconfig,
    pub path: PathBuf,
}

/// One context of it, with its cluster and its user.
#[derive(Debug)]
pub(super) struct Minified {
    kubeconfig: Kubeconfig,
    context: String,
    pub server: String,
}

impl Read {
    /// Reads `given`, or the files that `kubectl` uses: those in KUBECONFIG, merged, or else
    /// `~/.kube/config`. Paths become absolute.
    pub fn from(given: Option<&Path>) -> Result<Read, ClusterError> {
        match given {
            Some(file) => Read::merged(file.into(), &[file.to_path_buf()]),
            None => Read::found(std::env::var_os("KUBECONFIG"), std::env::home_dir()),
        }
    }

    fn found(variable: Option<OsString>, home: Option<PathBuf>) -> Result<Read, ClusterError> {
        let list = variable.unwrap_or_default();
        let named: Vec<PathBuf> = std::env::split_paths(&list)
            .filter(|file| !file.as_os_str().is_empty())
            .collect();
        if named.is_empty() {
            let home = home.filter(|it| !it.as_os_str().is_empty());
            let home = home.ok_or_else(|| ClusterError::Kubeconfig {
                path: "~/.kube/config".into(),
                reason: "there is no home folder: set HOME or KUBECONFIG".into(),
            })?;
            return Read::merged("~/.kube/config".into(), &[home.join(".kube/config")]);
        }
        // As kubectl, skips files that do not exist, unless there is no other.
        let exists = |it: &&PathBuf| it.try_exists().unwrap_or(true);
        let existing: Vec<PathBuf> = named.iter().filter(exists).cloned().collect();
        let files = if existing.is_empty() { named } else { existing };
        Read::merged(list.into(), &files)
    }

    /// The first file with a value wins (kubernetes.io, "Merging kubeconfig files"). `path` names
    /// the files in messages.
    fn merged(path: PathBuf, files: &[PathBuf]) -> Result<Read, ClusterError> {
        let read = files.iter().try_fold(Kubeconfig::default(), |all, file| {
            // kube resolves relative paths only against an absolute one.
            let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            all.merge(Kubeconfig::read_from(file)?)
        });
        match read {
            Ok(kubeconfig) => Ok(Read { kubeconfig, path }),
            Err(error) => Err(ClusterError::Kubeconfig {
                path,
                reason: base::chain(&error),
            }),
        }
    }

    /// Returns only the context, its cluster and its user, as `kubectl config view --minify` does.
    pub fn minified(self, context: &str) -> Result<Minified, ClusterError> {
        let Read {
            kubeconfig: mut all,
            path,
        } = self;
        let lacks = |what: String| ClusterError::Kubeconfig {
            path: path.clone(),
            reason: format!("the context {context:?} {what}"),
        };
        if !all.contexts.iter().any(|it| it.name == context) {
            let known = all.contexts.iter().map(|it| it.name.as_str());
            return Err(ClusterError::no_context(context, &path, known));
        }
        all.contexts.retain(|it| it.name == context);
        // As kubectl, takes the last of several with one name.
        let last = all.contexts.pop().and_then(|it| it.context);
        let selected = last.ok_or_else(|| lacks("is empty".into()))?;
        all.clusters.retain(|it| it.name == selected.cluster);
        let server = all.clusters.pop().and_then(|named| {
            let server = named.cluster.as_ref()?.server.clone()?;
            all.clusters = vec![named];
            Some(server)
        });
        let server = server.ok_or_else(|| {
            lacks(format!(
                "has no server: its cluster is {:?}",
                selected.cluster
            ))
        })?;
        let user = selected.user.clone().filter(|it| !it.is_empty());
        all.auth_infos.retain(|it| Some(&it.name) == user.as_ref());
        all.auth_infos.truncate(1);
        if let (Some(user), []) = (&user, &all.auth_infos[..]) {
            return Err(lacks(format!("has no user: it names {user:?}")));
        }
        let of_user = all.auth_infos.iter().filter_map(|it| it.auth_info.as_ref());
        if let Some(exec) = of_user.filter_map(|it| it.exec.as_ref()).next() {
            find_plugin(exec).map_err(lacks)?;
        }
        let kubeconfig = Kubeconfig {
            api_version: Some("v1".into()),
            kind: Some("Config".into()),
            clusters: all.clusters,
            auth_infos: all.auth_infos,
            contexts: vec![NamedContext {
                name: context.to_owned(),
                context: Some(selected),
                ..NamedContext::default()
            }],
            current_context: Some(context.to_owned()),
            ..Kubeconfig::default()
        };
        Ok(Minified {
            kubeconfig,
            context: context.to_owned(),
            server,
        })
    }
}

/// The operating system's error would not name the program.
fn find_plugin(exec: &ExecConfig) -> Result<(), String> {
    let command = exec.command.as_deref().unwrap_or_default();
    if which::which(command).is_ok() {
        return Ok(());
    }
    let hint = exec.install_hint.as_deref().map(str::trim);
    let hint = hint.filter(|it| !it.is_empty());
    let hint = hint.map(|it| format!(": {it}")).unwrap_or_default();
    Err(format!(
        "logs in with the program {command:?}, which does not exist{hint}"
    ))
}

impl Minified {
    /// Refuses a context that leads to another server.
    pub fn must_lead_to(&self, server: &Url) -> Result<(), RemoteError> {
        let found = self.server.parse::<Url>();
        match found.is_ok_and(|found| same_server(&found, server)) {
            true => Ok(()),
            false => Err(RemoteError::OtherServer {
                context: self.context.clone(),
                found: self.server.clone(),
                server: server.as_str().trim_end_matches('/').to_owned(),
            }),
        }
    }

    /// Returns the kubeconfig with only this context.
    pub fn kubeconfig(&self) -> Kubeconfig {
        self.kubeconfig.clone()
    }

    /// Returns whether both contexts name the same certificate authority.
    pub fn is_of_one_authority_with(&self, other: &Minified) -> bool {
        let own = self.authority();
        own.is_some() && own == other.authority()
    }

    /// In DER.
    fn authority(&self) -> Option<Vec<CertificateDer<'static>>> {
        let cluster = self.kubeconfig.clusters.first()?.cluster.as_ref()?;
        let known = ExecAuthCluster::try_from(cluster).ok()?;
        let pem = known.certificate_authority_data?;
        CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .ok()
    }

    /// Writes it into `folder`, readable only by this user. Returns the file.
    pub fn pin(&self, folder: &Path) -> Result<PathBuf, RemoteError> {
        let path = folder.join("kubeconfig");
        let write = || {
            let text = serde_json::to_vec_pretty(&self.kubeconfig)?;
            // A new file, because an existing one may have another mode.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(&text)
        };
        match write() {
            Ok(()) => Ok(path),
            Err(source) => Err(RemoteError::Pin { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    /// A file of `count` contexts, each with its own cluster and user.
    fn of(dir: &Path, count: usize) -> PathBuf {
        let list = |entry: &dyn Fn(usize) -> String| -> String { (0..count).map(entry).collect() };
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c0\n\
             clusters:\n{}users:\n{}contexts:\n{}",
            list(&|n| format!(
                "- {{name: k{n}, cluster: {{server: 'https://10.0.0.{n}:6443', certificate-authority: ca{n}.pem}}}}\n"
            )),
            list(&|n| format!("- {{name: u{n}, user: {{token: t0ken-{n}-}}}}\n")),
            list(&|n| format!(
                "- {{name: c{n}, context: {{cluster: k{n}, user: u{n}, namespace: ns{n}}}}}\n"
            )),
        );
        let path = dir.join("config");
        fs::write(&path, text).unwrap();
        path
    }

    fn minified(path: &Path, context: &str) -> Result<Minified, ClusterError> {
        Read::from(Some(path))?.minified(context)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_copy_has_one_context_and_the_original_does_not_change(
            (count, wanted) in (1_usize..12).prop_flat_map(|count| (Just(count), 0..count)),
        ) {
            let dir = tempfile::TempDir::new().unwrap();
            let original = of(dir.path(), count);
            let before = fs::read(&original).unwrap();
            let folder = tempfile::TempDir::new().unwrap();
            let copy = minified(&original, &format!("c{wanted}")).unwrap();
            let copy = copy.pin(folder.path()).unwrap();
            prop_assert_eq!(&fs::read(&original).unwrap(), &before);
            let mode = fs::metadata(&copy).unwrap().permissions().mode();
            prop_assert_eq!(mode & 0o777, 0o600);
            let text = fs::read_to_string(&copy).unwrap();
            for other in (0..count).filter(|other| *other != wanted) {
                let token = format!("t0ken-{other}-");
                prop_assert!(!text.contains(&token), "{} is another's", token);
            }
            let copy = Kubeconfig::read_from(&copy).unwrap();
            prop_assert_eq!(copy.contexts.len(), 1);
            prop_assert_eq!(copy.clusters.len(), 1);
            prop_assert_eq!(copy.auth_infos.len(), 1);
            prop_assert_eq!(copy.current_context, Some(format!("c{wanted}")));
            let cluster = copy.clusters[0].cluster.clone().unwrap();
            // The path is valid also in the copy's folder.
            let authority = dir.path().join(format!("ca{wanted}.pem"));
            prop_assert_eq!(cluster.certificate_authority.unwrap(), authority.display().to_string());
        }
    }

    #[test]
    fn a_copy_replaces_an_earlier_one_with_another_mode() {
        let dir = tempfile::TempDir::new().unwrap();
        let original = of(dir.path(), 1);
        let folder = tempfile::TempDir::new().unwrap();
        let open = folder.path().join("kubeconfig");
        fs::write(&open, "open to all").unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        let copy = minified(&original, "c0")
            .unwrap()
            .pin(folder.path())
            .unwrap();
        let mode = fs::metadata(copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_unknown_context_is_refused_with_the_known_ones() {
        let dir = tempfile::TempDir::new().unwrap();
        let error = minified(&of(dir.path(), 1), "c1").unwrap_err();
        assert!(
            matches!(&error, ClusterError::Context { hint, .. } if hint == "known: c0"),
            "{error:?}"
        );
    }

    #[test]
    fn a_context_without_its_user_or_server_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = of(dir.path(), 1);
        let text = fs::read_to_string(&path).unwrap();
        for (from, to, expected) in [
            ("name: u0", "name: u9", "it names \"u0\""),
            ("name: k0", "name: k9", "its cluster is \"k0\""),
        ] {
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let error = minified(&path, "c0").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_context_needs_no_user() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = of(dir.path(), 2);
        let text = fs::read_to_string(&path).unwrap();
        for none in ["", ", user: ''", ", user: null"] {
            fs::write(&path, text.replacen(", user: u0", none, 1)).unwrap();
            let copy = minified(&path, "c0").unwrap().pin(dir.path()).unwrap();
            let copy = Kubeconfig::read_from(copy).unwrap();
            assert!(copy.auth_infos.is_empty(), "{none:?}");
        }
    }

    /// The server of the context `c0`, with this value of KUBECONFIG.
    fn server(variable: &str) -> Result<String, String> {
        let read = Read::found(Some(variable.into()), None);
        let minified = read.and_then(|read| read.minified("c0"));
        minified.map(|it| it.server).map_err(|it| it.to_string())
    }

    #[test]
    fn a_missing_file_is_skipped_and_the_first_file_wins() {
        let dirs = [(); 2].map(|()| tempfile::TempDir::new().unwrap());
        let [first, second] = [0, 1].map(|n| of(dirs[n].path(), 1).display().to_string());
        let text = fs::read_to_string(&second).unwrap();
        fs::write(&second, text.replace("10.0.0.0", "10.9.9.9")).unwrap();
        let missing = dirs[0].path().join("missing").display().to_string();
        let leads_to_first = Ok("https://10.0.0.0:6443".to_owned());
        assert_eq!(
            server(&format!("{missing}:{first}:{second}:")),
            leads_to_first
        );
        assert_eq!(server(&format!(":{first}:{missing}")), leads_to_first);
        let error = server(&missing).unwrap_err();
        assert!(
            error.contains(&missing) && error.contains("No such file"),
            "{error}"
        );
        // Any other error counts.
        let folder = dirs[0].path().display();
        let error = server(&format!("{folder}:{first}")).unwrap_err();
        assert!(error.contains("directory"), "{error}");
        fs::write(&second, "contexts: nonsense").unwrap();
        server(&format!("{first}:{second}")).unwrap_err();
    }

    #[test]
    fn an_empty_variable_means_the_usual_file() {
        let home = tempfile::TempDir::new().unwrap();
        fs::create_dir(home.path().join(".kube")).unwrap();
        of(&home.path().join(".kube"), 1);
        for variable in [None, Some(""), Some(":")] {
            let found = Read::found(variable.map(Into::into), Some(home.path().into()));
            found.unwrap().minified("c0").unwrap();
        }
        let error = Read::found(None, None).err().unwrap().to_string();
        assert!(error.contains("set HOME or KUBECONFIG"), "{error}");
    }

    #[test]
    fn paths_in_a_file_with_a_relative_path_become_absolute() {
        let here = std::env::current_dir().unwrap();
        let dir = tempfile::TempDir::new_in(&here).unwrap();
        let path = of(dir.path(), 1);
        let from_here = path.strip_prefix(&here).unwrap();
        let all = Read::from(Some(from_here)).unwrap().kubeconfig;
        let cluster = all.clusters[0].cluster.as_ref().unwrap();
        let authority = cluster.certificate_authority.as_deref().unwrap();
        assert_eq!(Path::new(authority), dir.path().join("ca0.pem"));
    }

    #[test]
    fn a_missing_plugin_is_named_with_its_hint() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = of(dir.path(), 1);
        let text = fs::read_to_string(&path).unwrap();
        let with = |command: &str| {
            let exec = format!(
                "exec: {{apiVersion: client.authentication.k8s.io/v1, command: {command}, \
                 interactiveMode: Never, installHint: 'brew install kubelogin', \
                 env: [{{name: A, value: b}}]}}"
            );
            fs::write(&path, text.replacen("token: t0ken-0-", &exec, 1)).unwrap();
            minified(&path, "c0")
        };
        let error = with("no-such-plugin").unwrap_err().to_string();
        let expected = "\"no-such-plugin\", which does not exist: brew install kubelogin";
        assert!(error.contains(expected), "{error}");
        // On PATH, or beside the file.
        with("sh").unwrap();
        with("./plugin").unwrap_err();
        fs::write(dir.path().join("plugin"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(dir.path().join("plugin"), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = with("./plugin").unwrap().pin(dir.path()).unwrap();
        let copy = fs::read_to_string(copy).unwrap();
        for value in ["Never", "brew install kubelogin", "\"name\": \"A\""] {
            assert!(copy.contains(value), "{value} is lost: {copy}");
        }
    }

    #[test]
    fn only_the_same_server_is_accepted() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = of(dir.path(), 2);
        let copy = minified(&path, "c1").unwrap();
        let checked = |url: &str| copy.must_lead_to(&url.parse().unwrap());
        checked("https://10.0.0.1:6443").unwrap();
        checked("https://10.0.0.1:6443/").unwrap();
        for other in [
            "https://10.0.0.0:6443",
            "https://10.0.0.1",
            "http://10.0.0.1:6443",
            "https://10.0.0.1:6443/proxy",
        ] {
            let error = checked(other).unwrap_err();
            assert_eq!(error.exit_code(), base::exit::ExitCode::Refused, "{error}");
        }
    }
}
