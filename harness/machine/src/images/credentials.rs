//! The credentials that `docker login` stored for a registry: in `config.json`, or by the helper
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
use crate::containers::with_timeout;
use crate::engine::Engine;

/// A keychain may prompt its user.
const HELPER_DEADLINE: Duration = Duration::from_secs(30);

/// The user name that marks the secret of a helper as an identity token.
const TOKEN: &str = "<token>";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    // docker accepts `null`.
    auths: Option<BTreeMap<String, Stored>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored {
    /// `user:password` in base64; empty if a helper has them.
    auth: String,
    identitytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredLogin {
    username: String,
    secret: String,
}

/// Returns the credentials to pull `wanted`. If it names no registry, the engine reports its
/// default, under whose name docker stores the credentials.
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
            let info = with_timeout(engine, engine.client().info()).await?;
            let info = info.map_err(|error| base::chain(&error))?;
            info.index_server_address.unwrap_or_default()
        }
    };
    stored(docker_config, &registry).await
}

/// Returns the credentials for `registry`; none without a login.
///
/// # Errors
/// A message that says why the stored ones cannot be read.
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
    let config: DockerConfig =
        serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    let own = config
        .cred_helpers
        .as_ref()
        .and_then(|all| all.get(registry));
    let helper = own.or(config.creds_store.as_ref());
    let stored = match helper.map_or("", String::as_str) {
        "" => in_file(&config, registry).map_err(unreadable)?,
        helper => from_helper(&format!("docker-credential-{helper}"), registry).await?,
    };
    let Some((username, secret)) = stored else {
        return Ok(None);
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

/// Returns user name and password, or [`TOKEN`] and an identity token.
fn in_file(config: &DockerConfig, registry: &str) -> Result<Option<(String, String)>, String> {
    let Some(auths) = &config.auths else {
        return Ok(None);
    };
    let exact = auths.get(registry);
    // Older versions of docker wrote a URL.
    let of_host = || {
        let mut auths = auths.iter();
        let (_, stored) = auths.find(|(key, _)| host(key) == registry)?;
        Some(stored)
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
    // The message does not show the value: it is a secret.
    let (user, password) =
        pair.ok_or_else(|| format!("`auth` of {registry} is not `user:password` in base64"))?;
    Ok(Some((user.to_owned(), password.to_owned())))
}

fn host(key: &str) -> &str {
    let key = key.strip_prefix("https://").unwrap_or(key);
    let key = key.strip_prefix("http://").unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

/// Runs a helper with `get`
/// (<https://github.com/docker/docker-credential-helpers#development>).
async fn from_helper(program: &str, registry: &str) -> Result<Option<(String, String)>, String> {
    let output = tokio::time::timeout(HELPER_DEADLINE, run_helper(program, registry)).await;
    let output = output.map_err(|_elapsed| {
        let seconds = HELPER_DEADLINE.as_secs();
        format!("{program} did not answer within {seconds} s")
    })?;
    let output = output.map_err(|error| format!("{program} cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        // The message does not show the output: it is a secret.
        let login: StoredLogin = serde_json::from_str(&text)
            .map_err(|_| format!("{program} did not answer with credentials"))?;
        return Ok(Some((login.username, login.secret)));
    }
    match text.contains("credentials not found") {
        true => Ok(None),
        false => Err(format!("{program} failed: {}", text.trim())),
    }
}

async fn run_helper(program: &str, registry: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // If the helper does not read, its own error is reported.
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
    async fn a_password_in_the_file_is_used_for_its_registry_alone() {
        // base64 of `ada:pass:word`
        let config = r#"{"auths": {"127.0.0.1:5000": {"auth": "YWRhOnBhc3M6d29yZA=="}}}"#;
        assert_eq!(pair(config, REGISTRY).await, ada());
        assert_eq!(pair(config, "127.0.0.1:5001").await, None);
        let old = config.replace(REGISTRY, "https://127.0.0.1:5000/v2/");
        assert_eq!(pair(&old, REGISTRY).await, ada());
    }

    #[tokio::test]
    async fn without_a_login_there_are_no_credentials() {
        assert!(stored(None, REGISTRY).await.unwrap().is_none());
        let folder = TempDir::new().unwrap();
        let none = stored(Some(folder.path()), REGISTRY).await;
        assert!(none.unwrap().is_none());
        let empty = r#"{"auths": {"127.0.0.1:5000": {}}}"#;
        for config in ["{}", r#"{"auths": null, "credsStore": ""}"#, empty] {
            assert!(read(config, REGISTRY).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn an_identity_token_is_sent_as_one() {
        let config = r#"{"auths": {"127.0.0.1:5000": {"auth": "YTo=", "identitytoken": "t"}}}"#;
        let credentials = read(config, REGISTRY).await.unwrap().unwrap();
        assert_eq!(credentials.identitytoken.as_deref(), Some("t"));
        assert_eq!(credentials.password, None);
    }

    #[tokio::test]
    async fn an_unreadable_file_is_reported_without_the_secret() {
        let broken = r#"{"auths": {"127.0.0.1:5000": {"auth": "c2VjcmV0"}}}"#;
        let error = read(broken, REGISTRY).await.map(drop).unwrap_err();
        assert!(error.contains("config.json cannot be read"), "{error}");
        assert!(!error.contains("c2VjcmV0") && !error.contains("secret"));
        let error = read("{", REGISTRY).await.map(drop).unwrap_err();
        assert!(error.contains("config.json cannot be read"), "{error}");
    }

    /// Runs a script as a helper.
    async fn helper(script: &str) -> Result<Option<(String, String)>, String> {
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("docker-credential-x");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        from_helper(&program.display().to_string(), REGISTRY).await
    }

    #[tokio::test]
    async fn a_helper_gets_the_registry_and_its_error_is_reported() {
        let answers = r#"read -r of; test "$1 $of" = "get 127.0.0.1:5000" &&
            echo '{"ServerURL": "x", "Username": "ada", "Secret": "pass:word"}'"#;
        // `read` fails without a newline at the end of the input.
        let answers = answers.replace("; test", " || true; test");
        assert_eq!(helper(&answers).await, Ok(ada()));
        let none = "echo credentials not found in native keychain; exit 1";
        assert_eq!(helper(none).await, Ok(None));
        for (script, message) in [
            (
                "echo the keychain is locked; exit 1",
                "failed: the keychain is locked",
            ),
            ("echo my-secret", "did not answer with credentials"),
        ] {
            let error = helper(script).await.unwrap_err();
            assert!(error.ends_with(message), "{error}");
        }
        let missing = from_helper("docker-credential-trii-none", REGISTRY).await;
        let missing = missing.unwrap_err();
        assert!(missing.starts_with("docker-credential-trii-none cannot be run"));
    }
}
