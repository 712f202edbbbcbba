use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use base::exit::ExitCode;
use base::wait::{self, Observation};
use kubernetes::mock::MockServer;
use kubernetes::workload_problem::Cause;
use kubernetes::{Action, Permissions};

const DEADLINE: Duration = Duration::from_secs(60);

/// A helm that is a shell script. `history` and `upgrade` are its commands for these arguments. It
/// appends its arguments to the file `arguments`.
struct Script {
    dir: TempDir,
}

impl Script {
    fn new(history: &str, upgrade: &str) -> Script {
        let dir = TempDir::new().unwrap();
        let text = format!(
            "#!/bin/sh\ncd {dir} && echo \"$@\" >> arguments\n\
             absent() {{ echo 'Error: release: not found' >&2; exit 1; }}\n\
             case $1 in history) {history} ;; get) absent ;; upgrade) {upgrade} ;; esac\n",
            dir = dir.path().display()
        );
        std::fs::write(dir.path().join("text"), text).unwrap();
        // By another process: a file that this process, or a fork of it, has open for writing
        // cannot be run ("Text file busy").
        let installed = Command::new("install")
            .args(["-m", "755", "text", "helm"])
            .current_dir(dir.path())
            .status();
        assert!(installed.unwrap().success());
        Script { dir }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Configures the cluster for this helm.
    fn at(&self, mut cluster: Cluster) -> Cluster {
        cluster.kubeconfig = self.path("kubeconfig");
        cluster.context = "kind-trii".to_owned();
        cluster
    }

    /// Deploys, and also returns the lines of progress.
    async fn deploy(
        &self,
        server: &MockServer,
        release: &Release,
    ) -> (Result<Deployed, DeployError>, Vec<String>) {
        self.deploy_to(&self.at(server.cluster("trii-platform")), release)
            .await
    }

    async fn deploy_to(
        &self,
        cluster: &Cluster,
        release: &Release,
    ) -> (Result<Deployed, DeployError>, Vec<String>) {
        let lines = Mutex::new(Vec::new());
        let progress = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let deployed = deploy(cluster, &self.path("helm"), release, DEADLINE, &progress).await;
        (deployed, lines.into_inner().unwrap())
    }
}

fn release() -> Release {
    Release {
        name: "trii-platform".to_owned(),
        version: "main-1a2b3c4".to_owned(),
        chart: Path::new("chart").to_path_buf(),
        values_files: vec![Path::new("values-local.yaml").to_path_buf()],
        overrides: json!({"global": {"imageTag": "main-1a2b3c4"}, "token": "hunter2"}),
    }
}

/// helm's annotation.
fn of_release() -> Value {
    json!({"meta.helm.sh/release-name": "trii-platform"})
}

fn list(items: Vec<Value>) -> (u16, Value) {
    (
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
    )
}

/// A cluster where every Deployment is complete.
fn complete() -> MockServer {
    MockServer::new(|request| match request.path.ends_with("deployments") {
        true => list(vec![json!({
            "metadata": {"name": "api-gateway", "uid": "d", "generation": 1, "annotations": of_release()},
            "spec": {"replicas": 1, "selector": {}, "template": {}},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
                "readyReplicas": 1, "availableReplicas": 1},
        })]),
        false => list(Vec::new()),
    })
}

/// A cluster with one service, which is released blue-green. Green is live. `lease` answers each
/// read of the lock.
fn blue_green(lease: impl Fn() -> (u16, Value) + Send + Sync + 'static) -> MockServer {
    MockServer::new(move |request| match request.path.rsplit('/').next() {
        Some("leases") => (201, request.body.clone()),
        Some("api-gateway-blue-green") if request.method == "GET" => lease(),
        Some("api-gateway-blue-green") => (200, request.body.clone()),
        Some("deployments") => list(vec![json!({
            "metadata": {"name": "api-gateway-green", "uid": "d", "generation": 1, "annotations": of_release()},
            "spec": {"replicas": 1, "selector": {}, "template": {"spec":
                {"containers": [{"name": "api-gateway", "image": "trii/api-gateway:v2.0.0"}]}}},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
                "readyReplicas": 1, "availableReplicas": 1},
        })]),
        Some("services") => list(vec![json!({
            "metadata": {"name": "api-gateway", "annotations": of_release()},
            "spec": {"selector": {"trii.co/track": "green"}},
        })]),
        _ => list(Vec::new()),
    })
}

/// The answer for a lock that nobody holds.
fn no_lease() -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "code": 404, "message": "not found", "reason": "NotFound"});
    (404, status)
}

/// A cluster whose hook's pod has no image, once the file `started` exists.
fn without_image(started: std::path::PathBuf) -> MockServer {
    MockServer::new(
        move |request| match request.path.rsplit('/').next().unwrap() {
            "jobs" if started.exists() => list(vec![
                json!({"metadata": {"name": "migration", "uid": "j", "annotations": {"helm.sh/hook": "pre-upgrade"}}}),
            ]),
            "pods" if started.exists() => list(vec![json!({
                "metadata": {"name": "migration-x", "ownerReferences":
                    [{"apiVersion": "batch/v1", "kind": "Job", "name": "migration", "uid": "j"}]},
                "status": {"phase": "Pending", "containerStatuses": [{"name": "migration", "image": "a:b",
                    "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting":
                    {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"a:b\""}}}]},
            })]),
            _ => list(Vec::new()),
        },
    )
}

const ANSWER: &str = r#"cat <<'END'
{"name":"trii-platform","version":3,"manifest":"kind: Service\nmetadata: {name: a}\n",
"config":{"global":{"imageTag":"main-1a2b3c4"}},"chart":{"metadata":{"appVersion":"2.1.0"}}}
END
"#;

/// Waits until a condition about the process of helm is true.
async fn until(what: &str, is_true: impl Fn() -> bool) {
    let pause = Duration::from_millis(20);
    let met = wait::until(what, DEADLINE, pause, async || match is_true() {
        true => Observation::Ready(()),
        false => Observation::NotYet("not yet".to_owned()),
    });
    met.await.unwrap();
}

#[tokio::test]
async fn nothing_is_applied_while_a_deployer_releases_a_service() {
    let renewals = AtomicU32::new(0);
    let lease = move || {
        let renewed = format!(
            "2026-11-25T10:00:{:02}.000000Z",
            renewals.fetch_add(1, SeqCst)
        );
        let lease = json!({
            "metadata": {"name": "api-gateway-blue-green", "uid": "l", "resourceVersion": renewed},
            "spec": {"holderIdentity": "ana@laptop, pid 1, run x", "leaseDurationSeconds": 30,
                "acquireTime": "2026-11-25T10:00:00.000000Z", "renewTime": renewed},
        });
        (200, lease)
    };
    let helm = Script::new("absent", ANSWER);
    let (deployed, _) = helm.deploy(&blue_green(lease), &release()).await;
    let error = deployed.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Refused);
    let expected = "api-gateway is being released by ana@laptop, pid 1, run x";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(!helm.read("arguments").contains("upgrade"));
}

#[tokio::test]
async fn a_live_colour_keeps_its_version_and_is_reported() {
    let keep = "cat helm-*/overrides.json > values;";
    let helm = Script::new("absent", &format!("{keep} {ANSWER}"));
    let (deployed, _) = helm.deploy(&blue_green(no_lease), &release()).await;
    let left = deployed.unwrap().left;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].to_string(), "api-gateway v2.0.0 (green is live)");
    let values: Value = serde_json::from_str(&helm.read("values")).unwrap();
    assert_eq!(values["global"]["imageTag"], "main-1a2b3c4");
    assert_eq!(values["services"]["api-gateway"]["image"]["tag"], "v2.0.0");
}

#[tokio::test]
async fn a_release_is_deployed_and_its_values_stay_private() {
    let keep = "ls -l helm-*/overrides.json > mode; cat helm-*/overrides.json > values;";
    let helm = Script::new("absent", &format!("{keep} {ANSWER}"));
    let (deployed, lines) = helm.deploy(&complete(), &release()).await;
    let expected = Deployed {
        release: "trii-platform".to_owned(),
        revision: 3,
        version: "main-1a2b3c4".to_owned(),
        reconfigured: Vec::new(),
        changed: true,
        left: Vec::new(),
    };
    assert_eq!(deployed.unwrap(), expected);
    assert_eq!(
        lines,
        [
            "helm installs trii-platform",
            "helm has applied revision 3 of trii-platform",
            "api-gateway 1/1 ready"
        ]
    );
    assert!(helm.read("mode").starts_with("-rw------- "));
    assert!(helm.read("values").contains("hunter2"));
    let arguments = helm.read("arguments");
    assert!(!arguments.contains("hunter2"), "{arguments}");
    assert!(!arguments.contains("--wait"), "{arguments}");
    let cluster = "--kube-context kind-trii --namespace trii-platform";
    assert!(arguments.contains(cluster), "{arguments}");
    let entries = std::fs::read_dir(helm.dir.path()).unwrap();
    let folders = entries.filter(|it| it.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 0);
}

#[tokio::test]
async fn a_hook_that_will_never_start_terminates_helm() {
    let upgrade = "trap 'touch terminated; kill $!; exit 1' TERM; touch started; sleep 60 & wait";
    let helm = Script::new("absent", upgrade);
    let server = without_image(helm.path("started"));
    let (deployed, _) = helm.deploy(&server, &release()).await;
    let error = deployed.unwrap_err();
    let DeployError::Problem { problem, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(problem.cause, Cause::Image);
    assert!(helm.path("terminated").exists());
    assert_eq!(error.exit_code(), ExitCode::NoEnvironment);
    let failure = error.failure(&helm.at(server.cluster("trii-platform")), &release());
    let seen = &failure.seen;
    assert!(seen.contains("Back-off pulling image"), "{failure:?}");
    let next = &failure.next;
    assert!(next.ends_with("describe pod/migration-x"), "{failure:?}");
}

#[tokio::test]
async fn the_error_of_helm_is_reported() {
    let upgrade =
        "echo 'WARNING: x' >&2; echo 'Error: UPGRADE FAILED: no matches for kind' >&2; exit 1";
    let helm = Script::new("absent", upgrade);
    let (deployed, _) = helm.deploy(&complete(), &release()).await;
    assert_eq!(
        deployed.unwrap_err().to_string(),
        "helm failed: UPGRADE FAILED: no matches for kind"
    );
}

#[tokio::test]
async fn a_failure_names_the_release_and_a_command_that_shows_more() {
    let refused = DeployError::Refused { words: "x".into() };
    let failure = refused.failure(&complete().cluster("trii-platform"), &release());
    assert_eq!(failure.what, "the release trii-platform does not run");
    assert_eq!(failure.look_at, "chart");
    let next = "helm template chart --values values-local.yaml --kube-version 1.37";
    assert_eq!(failure.next, next);
}

fn pending(updated: jiff::Timestamp) -> String {
    format!(
        "echo '[{{\"revision\":4,\"status\":\"deployed\",\"updated\":\"{updated}\"}},\
         {{\"revision\":5,\"status\":\"pending-upgrade\",\"updated\":\"{updated}\"}}]'"
    )
}

#[tokio::test]
async fn a_release_that_was_left_pending_is_rolled_back_first() {
    let helm = Script::new(&pending(jiff::Timestamp::now()), ANSWER);
    let (deployed, lines) = helm.deploy(&complete(), &release()).await;
    deployed.unwrap();
    assert!(lines[0].contains("rolling back to revision 4"), "{lines:?}");
    let arguments = helm.read("arguments");
    let rollback = arguments.find("rollback trii-platform 4").unwrap();
    assert!(rollback < arguments.find("upgrade --install").unwrap());
}

#[tokio::test]
async fn a_rollback_that_would_move_a_live_colour_is_skipped() {
    let refused = "echo \"Error: services a is forbidden: ValidatingAdmissionPolicy \
         'trii-blue-green-services' with binding 'trii-blue-green-services' denied request\" >&2; exit 1";
    let upgrade = format!("{ANSWER} ;; rollback) {refused}");
    let helm = Script::new(&pending(jiff::Timestamp::now()), &upgrade);
    let (deployed, lines) = helm.deploy(&complete(), &release()).await;
    deployed.unwrap();
    assert!(lines[1].contains("moved a live colour"), "{lines:?}");

    let upgrade = format!("{ANSWER} ;; rollback) echo 'Error: no space' >&2; exit 1");
    let helm = Script::new(&pending(jiff::Timestamp::now()), &upgrade);
    let (deployed, _) = helm.deploy(&complete(), &release()).await;
    assert!(deployed.unwrap_err().to_string().contains("no space"));
}

fn staging(helm: &Script, actions: &[Action]) -> Cluster {
    let permissions =
        Permissions::granted("staging", "trii-platform", None, actions.iter().copied());
    helm.at(complete().cluster_with("trii-platform", permissions))
}

/// However old it is: another process may still be deploying it.
#[tokio::test]
async fn a_pending_release_that_others_may_deploy_is_reported_and_not_changed() {
    let now = jiff::Timestamp::now();
    let first =
        format!("echo '[{{\"revision\":1,\"status\":\"pending-install\",\"updated\":\"{now}\"}}]'");
    let hours_ago = pending(now - Duration::from_secs(12 * 3600));
    for (history, command) in [
        (pending(now), "rollback trii-platform 4"),
        (hours_ago, "rollback trii-platform 4"),
        (first, "uninstall trii-platform"),
    ] {
        let helm = Script::new(&history, ANSWER);
        let shared = staging(&helm, &[Action::Deploy]);
        let (deployed, _) = helm.deploy_to(&shared, &release()).await;
        let error = deployed.unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Refused, "{error}");
        let repair = format!("helm --kube-context kind-trii --namespace trii-platform {command}");
        assert!(
            error.failure(&shared, &release()).next.contains(&repair),
            "{error:?}"
        );
        let arguments = helm.read("arguments");
        assert!(arguments.starts_with("history "), "{arguments}");
        assert_eq!(arguments.lines().count(), 1, "{arguments}");
    }
}

#[tokio::test]
async fn without_permission_helm_only_reads() {
    let helm = Script::new("absent", ANSWER);
    let read_only = staging(&helm, &[Action::Inside]);
    let (deployed, _) = helm.deploy_to(&read_only, &release()).await;
    let error = deployed.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Refused, "{error}");
    let arguments = helm.read("arguments");
    assert!(!arguments.contains("upgrade"), "{arguments}");
    // A dry run is permitted.
    let difference = difference(&read_only, &helm.path("helm"), &release()).await;
    difference.unwrap();
    assert!(helm.read("arguments").contains("--dry-run=server"));
}

#[tokio::test]
async fn a_helm_that_does_not_exist_is_reported() {
    let server = complete();
    let dir = TempDir::new().unwrap();
    let mut cluster = server.cluster("trii");
    cluster.kubeconfig = dir.path().join("kubeconfig");
    let (helm, release) = (Path::new("/no/helm"), release());
    let deployed = deploy(&cluster, helm, &release, DEADLINE, &|_| ()).await;
    let error = deployed.unwrap_err();
    assert!(matches!(error, DeployError::NoHelm { .. }), "{error}");
    assert!(error.to_string().contains("/no/helm"), "{error}");
}

#[tokio::test]
async fn dropping_a_deployment_kills_helm_and_releases_its_lock() {
    let upgrade = "echo $$ > pid.new && mv pid.new pid; exec sleep 60";
    let helm = Script::new("absent", upgrade);
    let (server, release) = (complete(), release());
    tokio::select! {
        (deployed, _) = helm.deploy(&server, &release) => panic!("{deployed:?}"),
        () = until("helm runs", || helm.path("pid").exists()) => {}
    }
    let pid = Pid::from_raw(helm.read("pid").trim().parse().unwrap());
    until("helm has exited", || kill(pid, None).is_err()).await;
    let cluster = helm.at(server.cluster("trii-platform"));
    let next = Helm::new(&helm.path("helm"), &cluster).unwrap();
    take_lock(&next, DEADLINE, &|_| ()).await.unwrap();
}
