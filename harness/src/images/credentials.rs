//! What `docker login` stored for a registry: in `config.json` itself, or with the helper
//! program that it names (<https://docs.docker.com/reference/cli/docker/login/>).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::reference::PullReference;
use crate::bring_up::containers::with_patience;
use crate::engine::Engine;

/// A keychain may ask its user.
const HELPER_DEADLINE: Duration = Duration::from_secs(30);

/// The user name by which a helper says that the secret is an identity token.
const TOKEN: &str = "<token>";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    // docker takes `null` for none.
    auths: Option<BTreeMap<String, Stored>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored {
    /// `user:password` in base64; empty where a helper keeps them.
    auth: String,
    identitytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    username: String,
    secret: String,
}

/// The credentials to pull `wanted` with. Where it names no registry the engine tells its own,
/// which is the name under which docker keeps the credentials for that.
///
/// # Errors
/// As [`stored`].
pub(super) async fn of_pull(
    engine: &Engine,
    docker_config: Option<&Path>,
    wanted: &PullReference,
) -> Result<Option<DockerCredentials>, String> {
    let registry = match wanted.registry() {
        Some(registry) => registry.to_owned(),
        None => {
            let info = with_patience(engine, engine.client().info()).await?;
            let info = info.map_err(|error| crate::chain(&error))?;
            info.index_server_address.unwrap_or_default()
        }
    };
    stored(docker_config, &registry).await
}

/// The credentials for `registry`; none where nobody logged in to it.
///
/// # Errors
/// In words, why those that there are cannot be read.
async fn stored(
    docker_config: Option<&Path>,
    registry: &str,
) -> Result<Option<DockerCredentials>, String> {
    let Some(file) = docker_config.map(|folder| folder.join("config.json")) else {
        return Ok(None);
    };
    let unreadable = |why: String| format!("{} cannot be read: {why}", file.display());
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let config: Config =
        serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    let own = config
        .cred_helpers
        .as_ref()
        .and_then(|all| all.get(registry));
    let helper = own.or(config.creds_store.as_ref());
    let (username, secret) = match helper.map_or("", String::as_str) {
        "" => match in_file(&config, registry).map_err(unreadable)? {
            Some(stored) => stored,
            None => return Ok(None),
        },
        helper => match from_helper(&format!("docker-credential-{helper}"), registry).await? {
            Some(kept) => kept,
            None => return Ok(None),
        },
    };
    let mut credentials = DockerCredentials {
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    };
    if username == TOKEN {
        credentials.identitytoken = Some(secret);
    } else {
        credentials.username = Some(username);
        credentials.password = Some(secret);
    }
    Ok(Some(credentials))
}

/// User name and password, or [`TOKEN`] and an identity token.
fn in_file(config: &Config, registry: &str) -> Result<Option<(String, String)>, String> {
    let Some(auths) = &config.auths else {
        return Ok(None);
    };
    let exact = auths.get(registry);
    // Older versions of docker wrote a URL.
    let of_host = || {
        let mut auths = auths.iter();
        auths
            .find(|(key, _)| host(key) == registry)
            .map(|(_, it)| it)
    };
    let Some(stored) = exact.or_else(of_host) else {
        return Ok(None);
    };
    if !stored.identitytoken.is_empty() {
        return Ok(Some((TOKEN.to_owned(), stored.identitytoken.clone())));
    }
    if stored.auth.is_empty() {
        return Ok(None);
    }
    let decoded = BASE64_STANDARD.decode(&stored.auth).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_ref().and_then(|text| text.split_once(':'));
    // The value is a secret: it is not shown.
    let (user, password) =
        pair.ok_or_else(|| format!("`auth` of {registry} is not `user:password` in base64"))?;
    Ok(Some((user.to_owned(), password.to_owned())))
}

fn host(key: &str) -> &str {
    let key = key.strip_prefix("https://").unwrap_or(key);
    let key = key.strip_prefix("http://").unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

/// Asks a helper by its `get`
/// (<https://github.com/docker/docker-credential-helpers#development>).
async fn from_helper(program: &str, registry: &str) -> Result<Option<(String, String)>, String> {
    let output = tokio::time::timeout(HELPER_DEADLINE, ask(program, registry)).await;
    let output = output.map_err(|_elapsed| {
        let seconds = HELPER_DEADLINE.as_secs();
        format!("{program} did not answer within {seconds} s")
    })?;
    let output = output.map_err(|error| format!("{program} cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        // What it said is a secret: it is not shown.
        let kept: Kept = serde_json::from_str(&said)
            .map_err(|_| format!("{program} did not answer with credentials"))?;
        return Ok(Some((kept.username, kept.secret)));
    }
    match said.contains("credentials not found") {
        true => Ok(None),
        false => Err(format!("{program} failed: {}", said.trim())),
    }
}

async fn ask(program: &str, registry: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read says in its own words why.
        let _ = stdin.write_all(registry.as_bytes()).await;
    }
    child.wait_with_output().await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    const REGISTRY: &str = "127.0.0.1:5000";

    async fn read(config: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        stored(Some(folder.path()), registry).await
    }

    async fn pair(config: &str, registry: &str) -> Option<(String, String)> {
        let credentials = read(config, registry).await.unwrap()?;
        Some((credentials.username?, credentials.password?))
    }

    fn ada() -> Option<(String, String)> {
        Some(("ada".to_owned(), "pass:word".to_owned()))
    }

    #[tokio::test]
    async fn a_password_in_the_file_is_taken_for_its_registry_alone() {
        // base64 of `ada:pass:word`
        let config = r#"{"auths": {"127.0.0.1:5000": {"auth": "YWRhOnBhc3M6d29yZA=="}}}"#;
        assert_eq!(pair(config, REGISTRY).await, ada());
        assert_eq!(pair(config, "127.0.0.1:5001").await, None);
        let old = config.replace(REGISTRY, "https://127.0.0.1:5000/v2/");
        assert_eq!(pair(&old, REGISTRY).await, ada());
    }

    #[tokio::test]
    async fn who_never_logged_in_has_none() {
        assert!(stored(None, REGISTRY).await.unwrap().is_none());
        let folder = TempDir::new().unwrap();
        let none = stored(Some(folder.path()), REGISTRY).await;
        assert!(none.unwrap().is_none());
        for nothing in ["{}", r#"{"auths": null, "credsStore": ""}"#] {
            assert!(read(nothing, REGISTRY).await.unwrap().is_none());
        }
        let empty = r#"{"auths": {"127.0.0.1:5000": {}}}"#;
        assert!(read(empty, REGISTRY).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_identity_token_is_sent_as_one() {
        let config = r#"{"auths": {"127.0.0.1:5000": {"auth": "YTo=", "identitytoken": "t"}}}"#;
        let credentials = read(config, REGISTRY).await.unwrap().unwrap();
        assert_eq!(credentials.identitytoken.as_deref(), Some("t"));
        assert_eq!(credentials.password, None);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named_without_the_secret() {
        let broken = r#"{"auths": {"127.0.0.1:5000": {"auth": "c2VjcmV0"}}}"#;
        let error = read(broken, REGISTRY).await.map(drop).unwrap_err();
        assert!(error.contains("config.json cannot be read"), "{error}");
        assert!(!error.contains("c2VjcmV0") && !error.contains("secret"));
        let error = read("{", REGISTRY).await.map(drop).unwrap_err();
        assert!(error.contains("config.json cannot be read"), "{error}");
    }

    /// The script as a helper.
    async fn helper(script: &str) -> Result<Option<(String, String)>, String> {
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("docker-credential-x");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        from_helper(&program.display().to_string(), REGISTRY).await
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_the_registry_and_told_of_when_it_fails() {
        let answers = r#"read -r of; test "$1 $of" = "get 127.0.0.1:5000" &&
            echo '{"ServerURL": "x", "Username": "ada", "Secret": "pass:word"}'"#;
        // The last line has no end.
        let answers = answers.replace("; test", " || true; test");
        assert_eq!(helper(&answers).await, Ok(ada()));
        let none = "echo credentials not found in native keychain; exit 1";
        assert_eq!(helper(none).await, Ok(None));
        let failed = helper("echo the keychain is locked; exit 1").await;
        assert!(
            failed
                .unwrap_err()
                .ends_with("failed: the keychain is locked")
        );
        let odd = helper("echo my-secret").await.unwrap_err();
        assert!(odd.ends_with("did not answer with credentials"), "{odd}");
        let missing = from_helper("docker-credential-trii-none", REGISTRY).await;
        let missing = missing.unwrap_err();
        assert!(missing.starts_with("docker-credential-trii-none cannot be run"));
    }
}
