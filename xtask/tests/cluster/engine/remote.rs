//! An existing cluster: the one that the tests of this tier share stands for staging.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use environments::environment::ClusterPlace;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use loadtests::generators::PART;
use nix::sys::signal::Signal;
use serde_json::json;

use super::scenarios::shared;
use super::{on_nodes, tag_platform, untag_platform};
use crate::machine::engine;
use crate::rig::{E2E, Ended, Rig, SECONDS};

const STAGING: [&str; 2] = ["--target", "staging"];
const SERVICE: [&str; 2] = ["--service", "market-data-service"];

/// A rig with a target `staging`, and the kubeconfig of a user who has other contexts too.
struct Staging {
    rig: Rig,
    user: tempfile::TempDir,
    place: ClusterPlace,
}

/// Returns the value of the first line of a kubeconfig that has this key.
fn value<'a>(kubeconfig: &'a str, key: &str) -> &'a str {
    let mut lines = kubeconfig.lines();
    let found = lines.find_map(|line| line.trim().strip_prefix(key));
    found.unwrap().trim()
}

/// Adds an entry to one of the lists of a kubeconfig: `clusters`, `contexts` or `users`.
fn add(kubeconfig: &str, list: &str, entry: &str) -> String {
    kubeconfig.replacen(&format!("{list}:\n"), &format!("{list}:\n- {entry}\n"), 1)
}

impl Staging {
    fn new() -> Staging {
        let user = tempfile::tempdir().unwrap();
        let environment = shared().typed_environment();
        let place = environment.cluster.clone().unwrap();
        let original = fs::read_to_string(&place.kubeconfig).unwrap();
        let server = value(&original, "server:");
        let cluster = "cluster:\n    server: https://10.9.9.9:6443\n  name: elsewhere";
        let context = "context:\n    cluster: elsewhere\n    user: elsewhere\n  name: elsewhere";
        let user_entry = "name: elsewhere\n  user:\n    token: another-clusters";
        let kubeconfig = add(&original, "clusters", cluster);
        let kubeconfig = add(&kubeconfig, "contexts", context);
        let kubeconfig = add(&kubeconfig, "users", user_entry);
        let cidr = place.backing_services.as_ref().unwrap();
        let values = format!(
            "global: {{imageRepository: trii-rehearsal/platform}}\n\
             networkPolicy: {{database: {{cidrs: [{cidr}]}}, redis: {{cidrs: [{cidr}]}}}}\n"
        );
        let values_file = user.path().join("values.yaml");
        fs::write(&values_file, values).unwrap();
        let section = format!(
            "[targets.staging]\nkind = \"remote\"\ncontext = {:?}\nserver = {server:?}\n\
             namespace = {:?}\nvalues = [\"fixtures/helm/trii-platform/values-local.yaml\", {values_file:?}]\n\
             site_url = \"https://{}\"\napi_url = \"https://{}\"\naddress = \"{}\"\nauthority = {:?}\n\
             production = false # for now\nallow = [] # nothing\n\n[platform]\n",
            place.context,
            place.namespace,
            environment.site_host,
            environment.api_host,
            environment.entry.address.unwrap(),
            environment.entry.authority.as_ref().unwrap(),
        );
        let files = format!("/nowhere/config:{}", user.path().join("config").display());
        let staging = Staging {
            rig: Rig::new()
                .change("[platform]\n", &section)
                // Neither the first file nor the proxy exists.
                .variable("KUBECONFIG", &files)
                .variable("HTTPS_PROXY", "http://127.0.0.1:1"),
            user,
            place,
        };
        fs::write(staging.kubeconfig(), kubeconfig).unwrap();
        staging
    }

    /// The same with a user of the cluster who has these Roles of `fixtures/k8s-manifests/roles`,
    /// and no other right.
    async fn for_user_with(self, roles: &[&str]) -> Staging {
        let cluster = self.place.open_in("default").await.unwrap();
        let user = format!("user-{}-{}", std::process::id(), roles.join("-"));
        let account =
            format!("{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {user}}}}}");
        cluster.apply(&account).await.unwrap();
        for role in roles {
            let file = format!("../fixtures/k8s-manifests/roles/{role}.yaml");
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let text = fs::read_to_string(file).unwrap();
            let namespace = text
                .lines()
                .find_map(|line| line.strip_prefix("  namespace: "))
                .unwrap();
            let binding = format!(
                "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, \
                 metadata: {{name: {user}-{role}, namespace: {namespace}}}, \
                 roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: trii-{role}}}, \
                 subjects: [{{kind: ServiceAccount, name: {user}, namespace: default}}]}}"
            );
            cluster.apply(&text).await.unwrap();
            cluster.apply(&binding).await.unwrap();
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client().clone(), "default");
        let request = TokenRequest::default();
        let parameters = PostParams::default();
        let created = accounts.create_token_request(&user, &parameters, &request);
        let token = created.await.unwrap().status.unwrap().token;
        let original = fs::read_to_string(&self.place.kubeconfig).unwrap();
        let (context, server) = (&self.place.context, value(&original, "server:"));
        let authority = value(&original, "certificate-authority-data:");
        let kubeconfig = json!({
            "clusters": [{"name": "staging", "cluster":
                {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": context, "context": {"cluster": "staging", "user": user}}],
        });
        fs::write(self.kubeconfig(), kubeconfig.to_string()).unwrap();
        self
    }

    fn kubeconfig(&self) -> PathBuf {
        self.user.path().join("config")
    }

    fn change(self, old: &str, new: &str) -> Staging {
        Staging {
            rig: self.rig.change(old, new),
            ..self
        }
    }

    /// Sets `allow` to these actions, and adds other keys.
    fn allow(self, actions: &str, keys: &str) -> Staging {
        self.change(
            "allow = [] # nothing",
            &format!("allow = [{actions}]\n{keys}"),
        )
    }

    /// Runs a command on the target. It must not change the kubeconfig or leave a copy of it.
    fn run(&self, arguments: &[&str]) -> Ended {
        let before = fs::read(self.kubeconfig()).unwrap();
        let ended = self.rig.run(&[arguments, &STAGING].concat());
        assert_eq!(fs::read(self.kubeconfig()).unwrap(), before);
        let copies = fs::read_dir(self.rig.home().join("harness/environments"));
        assert_eq!(copies.map_or(0, Iterator::count), 0, "a copy is left");
        ended
    }
}

#[test]
fn a_version_is_deployed_and_verified_where_that_is_allowed() {
    let staging = Staging::new().allow("\"deploy\", \"orders\"", "");
    staging
        .run(&E2E)
        .expect(0, "v2.1.0 was deployed already")
        .expect_stderr("ok an order moves cash and position exactly")
        .expect_stderr("does not allow \"inside\"");
    let shown = staging.run(&["deploy", "--dry-run"]);
    assert_eq!(shown.expect_code(0).stdout.trim(), "nothing changes");
    let staging = staging.change(
        "[services.frontend-app]",
        "[services.frontend-ap]\n\n[services.frontend-app]",
    );
    staging
        .run(&["deploy", "--dry-run"])
        .expect(2, "no release renders a Service called \"frontend-ap\"");
    let staging = staging.change("[services.frontend-ap]\n\n", "");
    // No node has this image: the previous pods continue to serve.
    staging
        .run(&["deploy", "--version", "v0.0.0-nowhere"])
        .expect(3, "an image that the nodes have or can pull");
    staging.run(&["smoke"]).expect_code(0);
    // Restores the version for the next test.
    staging.run(&["deploy"]).expect_code(0);
}

#[test]
fn a_colour_is_released_where_that_is_allowed_and_shown_everywhere() {
    let status = [&["blue-green", "status"][..], &SERVICE].concat();
    // No node has this image.
    let deploy = ["blue-green", "deploy", "--version", "v0.0.0-nowhere"];
    let deploy = [&deploy[..], &SERVICE].concat();
    let staging = Staging::new();
    let before = staging.run(&status);
    before.expect_code(0);
    assert!(before.stdout.contains("v2.1.0"), "{before:?}");
    staging.run(&deploy).expect(4, "does not allow it");
    let staging = staging.allow("\"deploy\"", "");
    let dry = staging.run(&[&deploy[..], &["--dry-run"]].concat());
    dry.expect_code(0);
    assert!(dry.stdout.contains("v0.0.0-nowhere"), "{dry:?}");
    staging
        .run(&deploy)
        .expect(1, "rolled back before any traffic")
        .expect_stderr("v0.0.0-nowhere");
    let after = staging.run(&status).expect_code(0).stdout.clone();
    assert!(after.contains("no release is in progress"), "{after}");
    assert!(
        after.contains("v0.0.0-nowhere"),
        "not in the audit: {after}"
    );
    staging.run(&["smoke"]).expect_code(0);
}

/// From this machine, from generators in the cluster, and for a baseline.
#[tokio::test]
async fn load_does_not_exceed_the_targets_rate() {
    let staging = Staging::new();
    let image = on_nodes(&staging.place, PART).await;
    let keys = format!("max_rate = 40\ngenerator_image = {image:?}");
    let staging = staging.allow("\"load\", \"inside\"", &keys).change(
        "{ rate = 90, seconds = 150 }",
        "{ rate = 90, seconds = 13 }",
    );
    let steady = ["load", "run", "steady"];
    for generators in [&[][..], &["--generators", "2"]] {
        let ended = staging.run(&[&steady[..], generators].concat());
        let result = staging.rig.load_result("steady");
        // On a busy machine the run must be inconclusive.
        let code = result.generator.bottleneck.as_ref().map_or(0, |_| 5);
        ended.expect(code, "at most 40 requests/s, as the target says");
        let total = result.whole();
        let counted = (total.requests, total.failed, total.dropped);
        assert_eq!(counted, (520, 0, 0), "{generators:?}");
        assert_eq!(result.fingerprint.target, "staging");
    }
    let baseline = staging.rig.home().join("staging.json");
    let save = ["perf", "--runs", "1", "--save", baseline.to_str().unwrap()];
    let code = staging.run(&save).status.code();
    assert!(matches!(code, Some(0 | 5)), "{code:?}");
    assert_eq!(code == Some(0), baseline.exists());
}

/// Each Role of docs/remote.md permits one action of `allow`. The cluster refuses the others, even
/// if `allow` has them.
#[tokio::test]
async fn each_action_of_allow_needs_its_role_and_no_other() {
    let all = async |roles: &[&str]| {
        let staging = Staging::new();
        let image = on_nodes(&staging.place, "prober").await;
        let keys = format!("max_rate = 20\nprober_image = {image:?}");
        staging
            .allow("\"deploy\", \"orders\", \"inside\", \"load\"", &keys)
            .change("{ rate = 90, seconds = 150 }", "{ rate = 90, seconds = 5 }")
            .for_user_with(roles)
            .await
    };
    let status = ["blue-green", "status", "--service", "market-data-service"];
    let colour = [
        &["blue-green", "deploy"],
        &status[2..],
        &["--version", "v0.0.0-nowhere"],
    ]
    .concat();
    let load = ["load", "run", "steady"];

    let reader = all(&["read"]).await;
    reader.run(&status).expect_code(0);
    reader
        .run(&["smoke"])
        .expect(1, "ok an order moves cash and position exactly")
        .expect_stderr("cannot create resource \"pods\"");
    for refused in [&["deploy"][..], &colour, &load] {
        let ended = reader.run(refused);
        ended.expect(3, "forbidden");
    }

    let inside = all(&["read", "inside"]).await;
    inside.run(&["smoke"]).expect_code(0);
    inside.run(&["deploy"]).expect(3, "forbidden");

    let deployer = all(&["read", "deploy"]).await;
    deployer.run(&["deploy"]).expect_code(0);
    deployer
        .run(&colour)
        .expect(1, "rolled back before any traffic");

    let loader = all(&["read", "load"]).await;
    let code = loader.run(&load).status.code();
    assert!(matches!(code, Some(0 | 5)), "{code:?}");
    loader.run(&colour).expect(3, "forbidden");
}

#[test]
fn load_goes_to_no_site_that_the_cluster_does_not_serve() {
    let staging = Staging::new();
    let site = shared().typed_environment().site_host;
    let staging = staging.allow("\"load\"", "max_rate = 20").change(
        &format!("site_url = \"https://{site}\""),
        "site_url = \"https://real-users.example\"",
    );
    staging
        .run(&["load", "run", "steady"])
        .expect(4, "https://real-users.example")
        .expect_stderr("is not shown to be served");
}

#[tokio::test]
async fn a_cancelled_run_writes_nothing_where_deploying_is_not_allowed() {
    let version = format!("colleague-{}", std::process::id());
    let staging = Staging::new();
    let (engine, live) = (engine().await, on_nodes(&staging.place, "platform").await);
    tag_platform(&engine, &live, &version).await;
    let colleague = shared();
    let deploy = ["blue-green", "deploy", "--manual", "--version", &version];
    colleague
        .run(&[&deploy[..], &SERVICE].concat())
        .expect(0, "waits at the gate");
    let status = || {
        let status = [&["blue-green", "status", "--json"][..], &SERVICE].concat();
        staging.run(&status).expect_code(0).stdout.clone()
    };
    let before = status();
    for arguments in [
        &["smoke"][..],
        &["scenario", "run", "smoke", "blue-green/race"],
    ] {
        let mut running = staging.rig.spawn(&[arguments, &STAGING].concat());
        running.reaches("verify");
        running.signal(Signal::SIGINT);
        running.ends_within(SECONDS).expect_code(130);
        assert_eq!(status(), before);
    }
    colleague
        .run(&[&["blue-green", "abort"][..], &SERVICE].concat())
        .expect_code(0);
    untag_platform(&engine, &version).await;
}

#[test]
fn without_allow_changes_are_refused_and_the_platform_is_verified_by_reading() {
    let staging = Staging::new();
    staging.run(&["deploy"]).expect(4, "does not allow it");
    staging
        .run(&E2E)
        .expect(0, "ok a seeded investor can log in")
        .expect_stderr("skip an order moves cash and position exactly");
}

#[test]
fn production_is_only_read() {
    let staging = Staging::new().change("production = false # for now", "production = true");
    staging.run(&["deploy"]).expect(4, "staging is production");
    staging
        .run(&["smoke"])
        .expect(0, "skip new ticks become the current quote")
        .expect_stderr("skip the platform can be reached");
}

/// An API server can have several names.
#[test]
fn a_cluster_that_is_production_under_another_name_is_not_used() {
    let staging = Staging::new();
    let text = fs::read_to_string(staging.kubeconfig()).unwrap();
    let port = value(&text, "server: https://127.0.0.1:");
    let authority = value(&text, "certificate-authority-data:");
    let user = value(&text, "user: kind-");
    let live = format!(
        "cluster:\n    certificate-authority-data: {authority}\n    \
         server: https://localhost:{port}\n  name: live"
    );
    let context = format!("context:\n    cluster: live\n    user: kind-{user}\n  name: live");
    let text = add(&add(&text, "clusters", &live), "contexts", &context);
    fs::write(staging.kubeconfig(), text).unwrap();
    let live = format!(
        "[targets.live]\nkind = \"remote\"\ncontext = \"live\"\n\
         server = \"https://localhost:{port}\"\nnamespace = \"trii-platform\"\nvalues = []\n\
         site_url = \"https://live.example\"\napi_url = \"https://api.live.example\"\n\
         production = true\nallow = []\n\n[platform]\n"
    );
    let staging = staging.change("[platform]\n", &live);
    for verb in ["smoke", "e2e"] {
        staging
            .run(&[verb])
            .expect(4, "that of the production target live")
            .expect_stderr("has the UID");
    }
}

/// Returns the Secret of a release that a killed helm leaves, in Helm's encoding.
fn pending(namespace: &str) -> String {
    let release = json!({
        "name": "trii-platform", "namespace": namespace, "version": 1, "manifest": "",
        "info": {"first_deployed": "2026-01-01T00:00:00Z", "last_deployed": "2026-01-01T00:00:00Z",
            "status": "pending-install"},
        "chart": {"metadata": {"name": "trii-platform", "version": "1.0.0", "apiVersion": "v2"}},
    });
    let encoded = Command::new("sh")
        .args(["-c", "printf %s \"$1\" | gzip | base64 --wrap 0", "sh"])
        .arg(release.to_string())
        .output()
        .unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {"name": "sh.helm.release.v1.trii-platform.v1", "namespace": namespace, "labels":
            {"owner": "helm", "name": "trii-platform", "version": "1", "status": "pending-install"}},
        "stringData": {"release": String::from_utf8(encoded.stdout).unwrap()},
    });
    secret.to_string()
}

/// What the chart needs before it is installed.
const SECRETS: &str = "\
{apiVersion: v1, kind: Secret, metadata: {name: database-credentials}, stringData: {url: x}}
---
{apiVersion: v1, kind: Secret, metadata: {name: redis-credentials}, stringData: {url: x}}
---
{apiVersion: v1, kind: Secret, metadata: {name: jwt-credentials}, stringData: {secret: x, demo-password: x}}
---
{apiVersion: v1, kind: Secret, metadata: {name: trii-tls}, stringData: {tls.crt: x, tls.key: x}}
";

/// On a shared cluster it is unknown whether its helm was killed or runs elsewhere.
#[tokio::test]
async fn a_pending_release_is_named_and_not_changed() {
    let namespace = format!("pending-{}", std::process::id());
    let staging = Staging::new().allow("\"deploy\"", "");
    // The target kind has the same namespace: `values` makes the match unique.
    let of_staging = |namespace: &str| {
        format!(
            "namespace = {namespace:?}\nvalues = [\"fixtures/helm/trii-platform/values-local.yaml\", "
        )
    };
    let was = of_staging(&staging.place.namespace);
    let staging = staging.change(&was, &of_staging(&namespace));
    let cluster = staging.place.open_in(&namespace).await.unwrap();
    let manifest = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}");
    cluster.apply(&manifest).await.unwrap();
    cluster.apply(&pending(&namespace)).await.unwrap();
    cluster.apply(SECRETS).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(cluster.client().clone(), &namespace);
    let objects = async || secrets.list(&ListParams::default()).await.unwrap().items;
    let before = objects().await;
    staging
        .run(&["deploy"])
        .expect(
            4,
            "revision 1 of trii-platform is pending-install since 2026-01-01",
        )
        .expect_stderr(&format!("--namespace {namespace} uninstall trii-platform"));
    assert_eq!(objects().await, before);
    let namespaces: Api<Namespace> = Api::all(cluster.client().clone());
    let deleted = namespaces
        .delete(&namespace, &DeleteParams::default())
        .await;
    deleted.unwrap();
}

#[test]
fn a_context_that_leads_elsewhere_is_refused_and_a_wrong_one_is_bad_usage() {
    let staging = Staging::new().allow("\"deploy\"", "");
    let context = staging.place.context.clone();
    let wrong = staging.change(&context, &format!("{context}x"));
    wrong
        .run(&["deploy"])
        .expect(2, &format!("did you mean {context:?}?"));
    let elsewhere = wrong.change(&format!("{context}x"), "elsewhere");
    for verb in ["deploy", "smoke", "e2e"] {
        elsewhere.run(&[verb]).expect(
            4,
            "the context \"elsewhere\" leads to https://10.9.9.9:6443",
        );
    }
}

#[test]
fn a_server_that_does_not_answer_is_reported_in_time() {
    let staging = Staging::new();
    let text = fs::read_to_string(staging.kubeconfig()).unwrap();
    // No process listens there, so that no other one gets the credentials.
    let silent = text.replace("https://10.9.9.9:6443", "https://127.0.0.1:1");
    fs::write(staging.kubeconfig(), silent).unwrap();
    let server = fs::read_to_string(staging.rig.config()).unwrap();
    let server = server
        .lines()
        .find(|line| line.starts_with("server = "))
        .unwrap();
    let context = format!("context = {:?}", staging.place.context);
    let staging = staging
        .change(server, "server = \"https://127.0.0.1:1\"")
        .change(&context, "context = \"elsewhere\"");
    staging
        .run(&["smoke"])
        .expect(3, "the API server does not answer");
}

#[test]
fn an_existing_cluster_is_neither_brought_up_nor_torn_down() {
    let staging = Staging::new();
    for verb in ["up", "down"] {
        staging
            .run(&[verb])
            .expect(4, "is an existing cluster, which stays");
    }
}
