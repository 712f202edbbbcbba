use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use kube::core::ObjectMeta;
use miette::Diagnostic;
use serde_json::{Value, json};

use super::*;
use base::exit::ExitCode;
use kubernetes::in_memory_api::status;
use kubernetes::mock::MockServer;

fn config(production: bool, allow: &str) -> Config {
    let shipped = include_str!("../../../../harness.toml");
    let staging = format!(
        "[targets.staging]\nkind = \"remote\"\ncontext = \"staging\"\n\
         server = \"https://10.0.0.1:6443\"\nkubeconfig = \"/nowhere/config\"\n\
         namespace = \"trii-platform\"\nvalues = []\n\
         site_url = \"https://staging.trii.co\"\napi_url = \"https://staging-api.trii.co\"\n\
         production = {production}\nallow = [{allow}]\n\n[platform]\n"
    );
    let text = shipped.replacen("[platform]\n", &staging, 1);
    Config::parse(Path::new("harness.toml"), &text).unwrap()
}

fn site<'a>(config: &'a Config, home: &'a Home) -> Site<'a> {
    let Ok((name, crate::config::Target::Remote(target))) = config.target(Some("staging")) else {
        panic!("staging is remote");
    };
    Site {
        name,
        target,
        config,
        workspace: Path::new("/nowhere"),
        home,
    }
}

#[test]
fn an_action_that_is_not_allowed_is_refused() {
    let home = Home::new("/nowhere");
    let config = config(false, "\"orders\"");
    let site = site(&config, &home);
    site.permits(Action::Orders).unwrap();
    let refused = site.permits(Action::Deploy).unwrap_err();
    assert_eq!(refused.exit_code(), ExitCode::Refused);
    assert!(refused.to_string().contains("\"deploy\""), "{refused}");
}

#[test]
fn production_refuses_every_action() {
    let home = Home::new("/nowhere");
    let config = config(true, "");
    let mut target = site(&config, &home).target.clone();
    // Without the validation of the configuration, too.
    target.allow.insert(Action::Deploy);
    let site = Site {
        target: &target,
        ..site(&config, &home)
    };
    for action in [
        Action::Deploy,
        Action::Orders,
        Action::Burst,
        Action::Inside,
        Action::Load,
    ] {
        let refused = site.permits(action).unwrap_err();
        assert!(matches!(refused, RemoteError::Production { .. }));
        assert_eq!(refused.exit_code(), ExitCode::Refused);
    }
}

/// A home, and a kubeconfig in it whose context leads to `server`.
fn with_kubeconfig(server: &str) -> (tempfile::TempDir, Home, PathBuf) {
    let dir = tempfile::TempDir::new().unwrap();
    let text = format!(
        "clusters: [{{name: here, cluster: {{server: '{server}'}}}}]\n\
         users: [{{name: me, user: {{}}}}]\n\
         contexts: [{{name: staging, context: {{cluster: here, user: me}}}}]\n"
    );
    let path = dir.path().join("config");
    std::fs::write(&path, text).unwrap();
    let home = Home::new(dir.path().join("home"));
    (dir, home, path)
}

async fn refusal(context: &str, server: &str) -> (RemoteError, Home, tempfile::TempDir) {
    let (dir, home, kubeconfig) = with_kubeconfig("https://127.0.0.1:1");
    let before = std::fs::read(&kubeconfig).unwrap();
    let config = config(false, "");
    let mut target = site(&config, &home).target.clone();
    target.kubeconfig = Some(kubeconfig.clone());
    target.context = context.to_owned();
    target.server = server.parse().unwrap();
    let site = Site {
        target: &target,
        ..site(&config, &home)
    };
    let error = site.open("run-1", &[]).await.err().unwrap();
    assert_eq!(std::fs::read(&kubeconfig).unwrap(), before);
    (error, home, dir)
}

#[tokio::test]
async fn a_context_with_another_server_is_refused_before_a_request() {
    let (error, home, _dir) = refusal("staging", "https://10.0.0.1:6443").await;
    assert_eq!(error.exit_code(), ExitCode::Refused);
    let message = error.to_string();
    assert!(message.contains("https://127.0.0.1:1"), "{message}");
    assert!(message.contains("https://10.0.0.1:6443"), "{message}");
    assert!(!home.environments().exists(), "nothing was pinned");
}

#[tokio::test]
async fn a_wrong_context_is_bad_usage_and_the_nearest_is_named() {
    let (error, ..) = refusal("stagin", "https://127.0.0.1:1").await;
    assert_eq!(error.exit_code(), ExitCode::Usage);
    let help = error.help().unwrap().to_string();
    assert_eq!(help, "did you mean \"staging\"?");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_no_environment_and_leaves_no_copy() {
    let (error, home, _dir) = refusal("staging", "https://127.0.0.1:1").await;
    assert_eq!(error.exit_code(), ExitCode::NoEnvironment, "{error}");
    assert!(matches!(
        error,
        RemoteError::Cluster(ClusterError::Silent { .. })
    ));
    let remaining = std::fs::read_dir(home.environments()).unwrap().count();
    assert_eq!(remaining, 0);
}

fn forbidden() -> (u16, Value) {
    (403, status(403, "Forbidden", "no"))
}

#[tokio::test]
async fn a_missing_namespace_is_refused_and_an_unreadable_one_is_not() {
    let missing = MockServer::new(|_| (404, status(404, "NotFound", "not found")));
    let error = check_namespace(missing.cluster("x").client(), "trii").await;
    assert!(matches!(error, Err(RemoteError::NoNamespace(name)) if name == "trii"));
    let hidden = MockServer::new(|_| forbidden());
    check_namespace(hidden.cluster("x").client(), "trii")
        .await
        .unwrap();
}

fn secret(values: &[(&str, &str)]) -> Value {
    let bytes = |value: &str| ByteString(value.as_bytes().to_vec());
    let data: BTreeMap<String, ByteString> = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), bytes(value)))
        .collect();
    let secret = Secret {
        metadata: ObjectMeta::default(),
        data: Some(data),
        ..Secret::default()
    };
    serde_json::to_value(secret).unwrap()
}

#[test]
fn only_deployments_of_services_have_the_platforms_version() {
    let services = ["backend-podinfo", "api"];
    for name in ["backend-podinfo", "api", "api-blue", "api-green"] {
        assert!(is_of_services(name, &services), "{name}");
    }
    for name in ["backend-podinfo-redis", "api-preview", "ap", ""] {
        assert!(!is_of_services(name, &services), "{name}");
    }
}

/// As in the shipped harness.toml.
fn secrets() -> SecretTexts {
    let texts = [
        ("secret", "{jwt_secret}"),
        ("demo-password", "{demo_password}"),
    ];
    let texts = texts.map(|(key, text)| (key.to_owned(), text.to_owned()));
    SecretTexts::from([("jwt-credentials".to_owned(), BTreeMap::from(texts))])
}

#[tokio::test]
async fn credentials_are_read_and_an_error_names_the_key_and_no_value() {
    let complete = secret(&[("secret", "k3y"), ("demo-password", "w0rd")]);
    let server = MockServer::new(move |_| (200, complete.clone()));
    let found = credentials(server.cluster("x").client(), "trii", &secrets())
        .await
        .unwrap();
    assert_eq!((&*found.jwt_secret, &*found.demo_password), ("k3y", "w0rd"));
    let request = &server.requests()[0];
    assert_eq!(
        request.path,
        "/api/v1/namespaces/trii/secrets/jwt-credentials"
    );
    assert!(!format!("{found:?}").contains("k3y"));

    let incomplete = secret(&[("secret", "k3y")]);
    let server = MockServer::new(move |_| (200, incomplete.clone()));
    let error = credentials(server.cluster("x").client(), "trii", &secrets()).await;
    let error = error.unwrap_err();
    let next = error.failure("staging").next;
    assert_eq!(
        next,
        "kubectl describe secret jwt-credentials --namespace trii"
    );
    let error = error.to_string();
    assert!(error.contains("\"demo-password\""), "{error}");
    assert!(!error.contains("k3y"), "{error}");

    let server = MockServer::new(|_| forbidden());
    let error = credentials(server.cluster("x").client(), "trii", &secrets()).await;
    let error = error.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NoEnvironment);
    assert!(
        error.to_string().contains("trii/jwt-credentials"),
        "{error}"
    );
}

fn deployment(version: &str) -> Deployment {
    let labels = json!({"metadata": {"labels": {VERSION_LABEL: version}}});
    serde_json::from_value(labels).unwrap()
}

#[test]
fn several_versions_or_none_are_refused() {
    let [old, new] = ["v1", "v2"].map(deployment);
    let same = [new.clone(), new.clone()];
    assert_eq!(one_version(&same, "trii").unwrap(), "v2");
    let none = one_version(&[], "trii").unwrap_err();
    assert!(matches!(none, RemoteError::NotInstalled { .. }));
    let next = none.failure("staging").next;
    assert_eq!(next, "kubectl get deployments --namespace trii");
    let several = one_version(&[new, old], "trii").unwrap_err().to_string();
    assert!(several.ends_with("v1, v2"), "{several}");
}

/// Compares a target with a production target on another server.
async fn compared(same_authority: bool) -> Result<(), RemoteError> {
    let [ours, another] =
        [(); 2].map(|()| crate::certificates::Certificates::generate(&["localhost"]).unwrap());
    let theirs = match same_authority {
        true => &ours.authority_pem,
        false => &another.authority_pem,
    };
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("config");
    std::fs::write(dir.path().join("ours.pem"), &ours.authority_pem).unwrap();
    std::fs::write(dir.path().join("theirs.pem"), theirs).unwrap();
    let text = "clusters:\n\
        - {name: a, cluster: {server: 'https://10.0.0.1:6443', certificate-authority: ours.pem}}\n\
        - {name: b, cluster: {server: 'https://127.0.0.1:1', certificate-authority: theirs.pem}}\n\
        contexts:\n\
        - {name: staging, context: {cluster: a}}\n\
        - {name: live, context: {cluster: b}}\n";
    std::fs::write(&path, text).unwrap();
    let home = Home::new(dir.path());
    let mut config = config(false, "");
    let staging = site(&config, &home).target.clone();
    let mut live = staging.clone();
    (live.production, live.context) = (true, "live".into());
    live.kubeconfig = Some(path.clone());
    let targets = &mut config.targets;
    targets.insert("live".into(), crate::config::Target::Remote(Box::new(live)));
    let copy = kubeconfig::Read::from(Some(&path)).unwrap();
    let copy = copy.minified("staging").unwrap();
    let server = MockServer::new(|_| {
        (
            200,
            json!({"metadata": {"name": "kube-system", "uid": "1"}}),
        )
    });
    let ours = server.cluster("x");
    same_cluster::must_not_be_production(&site(&config, &home), &copy, ours.client(), TIMEOUT).await
}

#[tokio::test]
async fn a_cluster_that_may_be_production_is_refused_unless_its_authority_differs() {
    let refused = compared(true).await.unwrap_err();
    assert_eq!(refused.exit_code(), ExitCode::Refused);
    let message = refused.to_string();
    for expected in [
        "the production target live",
        "the cluster of live cannot be identified",
    ] {
        assert!(message.contains(expected), "{message}");
    }
    compared(false).await.unwrap();
}
