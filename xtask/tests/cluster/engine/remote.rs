//! A cluster that is there: the one that the tests of this tier share, as if it were
//! staging.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::environment::{ClusterPlace, Environment, EnvironmentFolder};
use harness::home::Home;
use harness::images::{self, Supply, Workshop};
use harness::tiers::ground;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use loadtests::generators::PART;
use loadtests::result::LoadResult;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{engine, tag_platform, untag_platform};
use crate::rig::{E2E, Ended, Rig, SECONDS};

const STAGING: [&str; 2] = ["--target", "staging"];

/// A rig with a target `staging`, and the kubeconfig of a user who has other contexts too.
struct Staging {
    rig: Rig,
    user: tempfile::TempDir,
    place: ClusterPlace,
}

fn shared() -> Environment {
    let variable = |name| {
        std::env::var(name)
            .unwrap_or_else(|_| panic!("run it by `cargo xtask test --tier cluster`: {name}"))
    };
    let home = Home::new(variable(ground::HOME));
    let name = variable(ground::ENVIRONMENT).parse().unwrap();
    EnvironmentFolder::of(&home, &name).read(&name).unwrap()
}

/// The reference of one of our images, which the engine and every node have then.
async fn on_nodes(place: &ClusterPlace, image: &str) -> String {
    let home = Home::new(std::env::var(ground::HOME).unwrap());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (engine, workshop) = (engine().await, Workshop::of(&workspace, &home));
    let brought = images::on_nodes(
        &engine,
        &workshop,
        &place.name,
        image,
        Supply::Auto,
        &|_| (),
    );
    brought.await.unwrap()
}

impl Staging {
    fn new() -> Staging {
        let user = tempfile::tempdir().unwrap();
        let environment = shared();
        let place = environment.cluster.clone().unwrap();
        let text = fs::read_to_string(&place.kubeconfig).unwrap();
        let server = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("server: "))
            .unwrap();
        let theirs = text
            .replacen(
                "clusters:\n",
                "clusters:\n- cluster:\n    server: https://10.9.9.9:6443\n  name: elsewhere\n",
                1,
            )
            .replacen(
                "contexts:\n",
                "contexts:\n- context:\n    cluster: elsewhere\n    user: elsewhere\n  name: elsewhere\n",
                1,
            )
            .replacen(
                "users:\n",
                "users:\n- name: elsewhere\n  user:\n    token: another-clusters\n",
                1,
            );
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
        let config = user.path().join("config");
        let staging = Staging {
            // One file of two is gone, and a proxy is named that leads nowhere.
            rig: Rig::new()
                .change("[platform]\n", &section)
                .variable(
                    "KUBECONFIG",
                    &format!("/nowhere/config:{}", config.display()),
                )
                .variable("HTTPS_PROXY", "http://127.0.0.1:1"),
            user,
            place,
        };
        fs::write(staging.kubeconfig(), theirs).unwrap();
        staging
    }

    /// The same, by a user of the cluster who has these Roles of
    /// `fixtures/k8s-manifests/roles`, and no other right.
    async fn by_a_user_with(self, roles: &[&str]) -> Staging {
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
        let asked = accounts
            .create_token_request(&user, &PostParams::default(), &TokenRequest::default())
            .await;
        let token = asked.unwrap().status.unwrap().token;
        let theirs = fs::read_to_string(&self.place.kubeconfig).unwrap();
        let value = |key: &str| {
            let mut lines = theirs.lines();
            let found = lines.find_map(|line| line.trim().strip_prefix(key));
            found.unwrap().trim()
        };
        let (context, server) = (&self.place.context, value("server:"));
        let authority = value("certificate-authority-data:");
        let kubeconfig = json!({
            "clusters": [{"name": "it", "cluster":
                {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": context, "context": {"cluster": "it", "user": user}}],
        });
        fs::write(self.kubeconfig(), kubeconfig.to_string()).unwrap();
        self
    }

    fn kubeconfig(&self) -> PathBuf {
        self.user.path().join("config")
    }

    fn change(self, that: &str, this: &str) -> Staging {
        Staging {
            rig: self.rig.change(that, this),
            ..self
        }
    }

    fn allow(self, actions: &str) -> Staging {
        self.change("allow = [] # nothing", &format!("allow = [{actions}]"))
    }

    /// Runs a command there, after which the kubeconfig is as it was, and no copy is left.
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
fn a_version_is_deployed_and_proven_where_that_is_allowed() {
    let staging = Staging::new().allow("\"deploy\", \"orders\"");
    staging
        .run(&E2E)
        .expect_code(0)
        .expect_words("v2.1.0 was deployed already")
        .expect_words("ok an order moves cash and position exactly")
        .expect_words("does not allow \"inside\"");
    let shown = staging.run(&["deploy", "--dry-run"]);
    assert_eq!(shown.expect_code(0).stdout.trim(), "nothing changes");
    // An image that no node has: the pods of before go on serving.
    staging
        .run(&["deploy", "--version", "v0.0.0-nowhere"])
        .expect_code(3)
        .expect_words("an image that the nodes have or can pull");
    staging.run(&["smoke"]).expect_code(0);
    // For whoever comes next on this cluster.
    staging.run(&["deploy"]).expect_code(0);
}

#[test]
fn a_colour_is_released_where_that_is_allowed_and_told_of_everywhere() {
    let of = ["--service", "market-data-service"];
    let status = [&["blue-green", "status"][..], &of].concat();
    // No node has that image.
    let deploy = [
        &["blue-green", "deploy", "--version", "v0.0.0-nowhere"][..],
        &of,
    ]
    .concat();
    let staging = Staging::new();
    let before = staging.run(&status);
    assert!(
        before.expect_code(0).stdout.contains("v2.1.0"),
        "{before:?}"
    );
    staging
        .run(&deploy)
        .expect_code(4)
        .expect_words("does not allow it");
    let staging = staging.allow("\"deploy\"");
    let dry = staging.run(&[&deploy[..], &["--dry-run"]].concat());
    assert!(
        dry.expect_code(0).stdout.contains("v0.0.0-nowhere"),
        "{dry:?}"
    );
    staging
        .run(&deploy)
        .expect_code(1)
        .expect_words("taken back before any traffic")
        .expect_words("v0.0.0-nowhere");
    let after = staging.run(&status).expect_code(0).stdout.clone();
    assert!(after.contains("no release is under way"), "{after}");
    assert!(
        after.contains("v0.0.0-nowhere"),
        "it is not in the audit:\n{after}"
    );
    staging.run(&["smoke"]).expect_code(0);
}

/// Made here, by generators in its cluster, and again for a baseline.
#[tokio::test]
async fn it_is_put_under_load_at_no_more_than_its_rate() {
    let staging = Staging::new();
    let image = on_nodes(&staging.place, PART).await;
    let allowed =
        format!("allow = [\"load\", \"inside\"]\nmax_rate = 40\ngenerator_image = {image:?}");
    let staging = staging.change("allow = [] # nothing", &allowed).change(
        "{ rate = 90, seconds = 150 }",
        "{ rate = 90, seconds = 13 }",
    );
    let steady = ["load", "run", "steady"];
    for generators in [&[][..], &["--generators", "2"]] {
        let ended = staging.run(&[&steady[..], generators].concat());
        let folder = staging.rig.run_folder("load").unwrap();
        let result = LoadResult::read(&folder.join("load-steady.json")).unwrap();
        // On a machine that does much else beside it, it must say so.
        let code = match result.generator.bottleneck {
            None => 0,
            Some(_) => 5,
        };
        ended
            .expect_code(code)
            .expect_words("at most 40 requests/s, as the target says");
        let whole = result.whole();
        let counted = (whole.requests, whole.failed, whole.dropped);
        assert_eq!(counted, (520, 0, 0), "{generators:?}");
        assert_eq!(result.fingerprint.target, "staging");
    }
    let baseline = staging.rig.home().join("staging.json");
    let save = ["perf", "--runs", "1", "--save", baseline.to_str().unwrap()];
    let code = staging.run(&save).status.code();
    assert!(matches!(code, Some(0 | 5)), "{code:?}");
    assert_eq!(code == Some(0), baseline.exists());
}

/// By the Roles of docs/remote.md: each lets its word be done, and what none of them gives is
/// refused by the cluster, whatever `allow` says.
#[tokio::test]
async fn each_word_of_allow_takes_its_role_and_no_more() {
    let all = async |roles: &[&str]| {
        let staging = Staging::new();
        let image = on_nodes(&staging.place, "prober").await;
        let allowed = format!(
            "allow = [\"deploy\", \"orders\", \"inside\", \"load\"]\nmax_rate = 20\nprober_image = {image:?}"
        );
        staging
            .change("allow = [] # nothing", &allowed)
            .change("{ rate = 90, seconds = 150 }", "{ rate = 90, seconds = 5 }")
            .by_a_user_with(roles)
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
        .expect_code(1)
        .expect_words("ok an order moves cash and position exactly")
        .expect_words("cannot create resource \"pods\"");
    for refused in [&["deploy"][..], &colour, &load] {
        let ended = reader.run(refused);
        ended.expect_code(3).expect_words("forbidden");
    }

    let inside = all(&["read", "inside"]).await;
    inside.run(&["smoke"]).expect_code(0);
    inside
        .run(&["deploy"])
        .expect_code(3)
        .expect_words("forbidden");

    let deployer = all(&["read", "deploy"]).await;
    deployer.run(&["deploy"]).expect_code(0);
    deployer
        .run(&colour)
        .expect_code(1)
        .expect_words("taken back before any traffic");

    let loader = all(&["read", "load"]).await;
    let code = loader.run(&load).status.code();
    assert!(matches!(code, Some(0 | 5)), "{code:?}");
    loader.run(&colour).expect_code(3).expect_words("forbidden");
}

#[test]
fn load_goes_to_no_site_that_the_cluster_does_not_serve() {
    let staging = Staging::new();
    let site = shared().site_host;
    let staging = staging
        .change("allow = [] # nothing", "allow = [\"load\"]\nmax_rate = 20")
        .change(
            &format!("site_url = \"https://{site}\""),
            "site_url = \"https://real-users.example\"",
        );
    staging
        .run(&["load", "run", "steady"])
        .expect_code(4)
        .expect_words("https://real-users.example")
        .expect_words("is not shown to be served");
}

#[tokio::test]
async fn a_proof_that_is_called_off_writes_nothing_where_deploying_is_not_allowed() {
    let of = ["--service", "market-data-service"];
    let version = format!("colleague-{}", std::process::id());
    let staging = Staging::new();
    let (engine, live) = (engine().await, on_nodes(&staging.place, "platform").await);
    tag_platform(&engine, &live, &version).await;
    let colleague = super::scenarios::shared();
    let deploy = ["blue-green", "deploy", "--manual", "--version", &version];
    colleague
        .run(&[&deploy[..], &of].concat())
        .expect_code(0)
        .expect_words("waits at the gate");
    let status = || {
        let status = [&["blue-green", "status", "--json"][..], &of].concat();
        staging.run(&status).expect_code(0).stdout.clone()
    };
    let before = status();
    for proof in [
        &["smoke"][..],
        &["scenario", "run", "smoke", "blue-green/race"],
    ] {
        let mut proof = staging.rig.spawn(&[proof, &STAGING].concat());
        proof.reaches("verify");
        proof.signal(Signal::SIGINT);
        proof.ends_within(SECONDS).expect_code(130);
        assert_eq!(status(), before);
    }
    colleague
        .run(&[&["blue-green", "abort"][..], &of].concat())
        .expect_code(0);
    untag_platform(&engine, &version).await;
}

#[test]
fn what_nobody_allowed_is_refused_and_the_platform_is_proven_by_reading() {
    let staging = Staging::new();
    staging
        .run(&["deploy"])
        .expect_code(4)
        .expect_words("does not allow it");
    staging
        .run(&E2E)
        .expect_code(0)
        .expect_words("ok a seeded investor can log in")
        .expect_words("skip an order moves cash and position exactly");
}

#[test]
fn production_is_read_and_nothing_else() {
    let staging = Staging::new().change("production = false # for now", "production = true");
    staging
        .run(&["deploy"])
        .expect_code(4)
        .expect_words("staging is production");
    staging
        .run(&["smoke"])
        .expect_code(0)
        .expect_words("skip new ticks become the current quote")
        .expect_words("skip there is a way in");
}

/// One API server has several names; who it is does not change with them.
#[test]
fn a_cluster_that_is_production_by_another_name_is_not_used() {
    let staging = Staging::new();
    let text = fs::read_to_string(staging.kubeconfig()).unwrap();
    let value = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key));
    let server = value("server: https://127.0.0.1:").unwrap();
    let (authority, user) = (
        value("certificate-authority-data: ").unwrap(),
        value("user: kind-").unwrap(),
    );
    let live = format!(
        "clusters:\n- cluster:\n    certificate-authority-data: {authority}\n    \
         server: https://localhost:{server}\n  name: live\n"
    );
    let context =
        format!("contexts:\n- context:\n    cluster: live\n    user: kind-{user}\n  name: live\n");
    let text = text
        .replacen("clusters:\n", &live, 1)
        .replacen("contexts:\n", &context, 1);
    fs::write(staging.kubeconfig(), text).unwrap();
    let live = format!(
        "[targets.live]\nkind = \"remote\"\ncontext = \"live\"\n\
         server = \"https://localhost:{server}\"\nnamespace = \"trii-platform\"\nvalues = []\n\
         site_url = \"https://live.example\"\napi_url = \"https://api.live.example\"\n\
         production = true\nallow = []\n\n[platform]\n"
    );
    let staging = staging.change("[platform]\n", &live);
    for verb in ["smoke", "e2e"] {
        staging
            .run(&[verb])
            .expect_code(4)
            .expect_words("that of the production target live")
            .expect_words("has the UID");
    }
}

/// A release as a helm that was killed leaves it, in Helm's own encoding.
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

/// Whether its helm was killed, or is at work elsewhere, nobody can tell on a cluster of others.
#[tokio::test]
async fn a_release_that_is_pending_is_named_and_left_to_whoever_made_it() {
    let namespace = format!("pending-{}", std::process::id());
    let staging = Staging::new().allow("\"deploy\"");
    // That of the target kind is the same.
    let of_staging = |namespace: &str| {
        format!(
            "namespace = {namespace:?}\nvalues = [\"fixtures/helm/trii-platform/values-local.yaml\", "
        )
    };
    let was = of_staging(&staging.place.namespace);
    let staging = staging.change(&was, &of_staging(&namespace));
    let cluster = staging.place.open_in(&namespace).await.unwrap();
    let made = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}");
    cluster.apply(&made).await.unwrap();
    cluster.apply(&pending(&namespace)).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(cluster.client().clone(), &namespace);
    let all = async || secrets.list(&ListParams::default()).await.unwrap().items;
    let before = all().await;
    staging
        .run(&["deploy"])
        .expect_code(4)
        .expect_words("revision 1 of trii-platform is pending-install since 2026-01-01")
        .expect_words(&format!("--namespace {namespace} uninstall trii-platform"));
    assert_eq!(all().await, before);
    let namespaces: Api<Namespace> = Api::all(cluster.client().clone());
    let deleted = namespaces
        .delete(&namespace, &DeleteParams::default())
        .await;
    deleted.unwrap();
}

#[test]
fn a_context_that_leads_elsewhere_is_refused_and_a_wrong_one_is_bad_usage() {
    let staging = Staging::new().allow("\"deploy\"");
    let context = staging.place.context.clone();
    let wrong = staging.change(&context, &format!("{context}x"));
    wrong
        .run(&["deploy"])
        .expect_code(2)
        .expect_words(&format!("did you mean {context:?}?"));
    let elsewhere = wrong.change(&format!("{context}x"), "elsewhere");
    for verb in ["deploy", "smoke", "e2e"] {
        elsewhere
            .run(&[verb])
            .expect_code(4)
            .expect_words("the context \"elsewhere\" leads to https://10.9.9.9:6443");
    }
}

#[test]
fn a_server_that_does_not_answer_is_told_in_time() {
    let staging = Staging::new();
    let text = fs::read_to_string(staging.kubeconfig()).unwrap();
    // Nobody listens there, and nobody else's credentials are sent.
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
        .expect_code(3)
        .expect_words("the API server does not answer");
}

#[test]
fn what_is_there_is_neither_stood_up_nor_taken_down() {
    let staging = Staging::new();
    for verb in ["up", "down"] {
        staging
            .run(&[verb])
            .expect_code(4)
            .expect_words("is a cluster that is there, and stays");
    }
}
