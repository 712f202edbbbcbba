//! The user's kubeconfig, read once and never written: a copy of one context is pinned,
//! so that a context which is switched or edited meanwhile leads nobody elsewhere.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kube::config::{Kubeconfig, NamedContext};
use reqwest::Url;

use super::RemoteError;
use crate::cluster::ClusterError;
use crate::config::remote::same_server;

/// A kubeconfig, and how messages name it.
pub(super) struct Read {
    kubeconfig: Kubeconfig,
    path: PathBuf,
}

/// One context of it, with its cluster and its user.
#[derive(Debug)]
pub(super) struct Minified {
    kubeconfig: Kubeconfig,
    context: String,
    server: String,
}

impl Read {
    /// Reads `given`, or what `kubectl` would: the files that KUBECONFIG names, merged,
    /// else `~/.kube/config`. Paths in it become absolute.
    pub fn from(given: Option<&Path>) -> Result<Read, ClusterError> {
        let path = match (given, std::env::var_os("KUBECONFIG")) {
            (Some(file), _) => file.to_path_buf(),
            (None, Some(files)) if !files.is_empty() => files.into(),
            (None, _) => "~/.kube/config".into(),
        };
        let read = match given {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        match read {
            Ok(kubeconfig) => Ok(Read { kubeconfig, path }),
            Err(error) => Err(ClusterError::Kubeconfig {
                path,
                reason: crate::chain(&error),
            }),
        }
    }

    /// Only the context, its cluster and its user, as `kubectl config view --minify` has it.
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
        // Of two of one name kubectl takes the last.
        let Some(NamedContext {
            context: Some(meant),
            ..
        }) = all.contexts.pop()
        else {
            return Err(lacks("is empty".into()));
        };
        all.clusters.retain(|it| it.name == meant.cluster);
        let server = all.clusters.pop().and_then(|named| {
            let server = named.cluster.as_ref()?.server.clone()?;
            all.clusters = vec![named];
            Some(server)
        });
        let server = server
            .ok_or_else(|| lacks(format!("has no server: its cluster is {:?}", meant.cluster)))?;
        let user = meant.user.clone().unwrap_or_default();
        all.auth_infos.retain(|it| it.name == user);
        let Some(credentials) = all.auth_infos.pop() else {
            return Err(lacks(format!("has no user: it names {user:?}")));
        };
        let kubeconfig = Kubeconfig {
            api_version: Some("v1".into()),
            kind: Some("Config".into()),
            clusters: all.clusters,
            auth_infos: vec![credentials],
            contexts: vec![NamedContext {
                name: context.to_owned(),
                context: Some(meant),
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

impl Minified {
    /// Refuses a context that leads to another server than this.
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

    /// Writes it into `folder`, readable by this user alone.
    pub fn pin(&self, folder: &Path) -> Result<PathBuf, RemoteError> {
        let path = folder.join("kubeconfig");
        let write = || {
            // YAML is a superset of JSON.
            let text = serde_json::to_vec_pretty(&self.kubeconfig)?;
            // It is new, or its mode would be another's choice.
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
        fn a_copy_has_one_context_and_the_original_stays_as_it_was(
            (count, wanted) in (1_usize..12).prop_flat_map(|count| (Just(count), 0..count)),
        ) {
            let dir = tempfile::TempDir::new().unwrap();
            let theirs = of(dir.path(), count);
            let before = fs::read(&theirs).unwrap();
            let ours = tempfile::TempDir::new().unwrap();
            let copy = minified(&theirs, &format!("c{wanted}")).unwrap();
            let copy = copy.pin(ours.path()).unwrap();
            prop_assert_eq!(&fs::read(&theirs).unwrap(), &before);
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
            // Found from where the copy is, too.
            let authority = dir.path().join(format!("ca{wanted}.pem"));
            prop_assert_eq!(cluster.certificate_authority.unwrap(), authority.display().to_string());
        }
    }

    #[test]
    fn a_copy_replaces_the_one_before_whatever_its_mode_was() {
        let dir = tempfile::TempDir::new().unwrap();
        let theirs = of(dir.path(), 1);
        let ours = tempfile::TempDir::new().unwrap();
        let open = ours.path().join("kubeconfig");
        fs::write(&open, "open to all").unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        let copy = minified(&theirs, "c0").unwrap().pin(ours.path()).unwrap();
        let mode = fs::metadata(copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_context_that_is_not_there_brings_up_the_nearest() {
        let dir = tempfile::TempDir::new().unwrap();
        let error = minified(&of(dir.path(), 1), "c1").unwrap_err();
        assert!(
            matches!(&error, ClusterError::Context { hint, .. } if hint == "known: c0"),
            "{error:?}"
        );
    }

    #[test]
    fn a_context_without_user_or_server_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = of(dir.path(), 1);
        let whole = fs::read_to_string(&path).unwrap();
        for (from, to, words) in [
            ("name: u0", "name: u9", "it names \"u0\""),
            ("name: k0", "name: k9", "its cluster is \"k0\""),
        ] {
            fs::write(&path, whole.replacen(from, to, 1)).unwrap();
            let error = minified(&path, "c0").unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn only_the_very_server_will_do() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = of(dir.path(), 2);
        let copy = minified(&path, "c1").unwrap();
        let judged = |url: &str| copy.must_lead_to(&url.parse().unwrap());
        judged("https://10.0.0.1:6443").unwrap();
        judged("https://10.0.0.1:6443/").unwrap();
        for other in [
            "https://10.0.0.0:6443",
            "https://10.0.0.1",
            "http://10.0.0.1:6443",
            "https://10.0.0.1:6443/proxy",
        ] {
            let error = judged(other).unwrap_err();
            assert_eq!(error.exit_code(), crate::exit::ExitCode::Refused, "{error}");
        }
    }
}
