use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::cluster::Access;
use crate::cluster::mock::Server;
use crate::cluster::trouble::Cause;
use crate::config::remote::Action;
use crate::exit::ExitCode;

const DEADLINE: Duration = Duration::from_secs(60);

/// A helm that is a shell script: `history` and `upgrade` are what it does for these.
/// It notes its arguments in `asked`.
struct Script {
    dir: TempDir,
}

impl Script {
    fn new(history: &str, upgrade: &str) -> Script {
        let dir = TempDir::new().unwrap();
        let text = format!(
            "#!/bin/sh\ncd {dir} && echo \"$@\" >> asked\n\
             absent() {{ echo 'Error: release: not found' >&2; exit 1; }}\n\
             case $1 in history) {history} ;; get) absent ;; upgrade) {upgrade} ;; esac\n",
            dir = dir.path().display()
        );
        std::fs::write(dir.path().join("text"), text).unwrap();
        // By another process: a file that this one has open for writing, or a fork of it
        // has, cannot be run ("Text file busy").
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

    /// The cluster, as this helm is told of it.
    fn at(&self, mut cluster: Cluster) -> Cluster {
        cluster.kubeconfig = self.path("kubeconfig");
        cluster.context = "kind-trii".to_owned();
        cluster
    }

    /// Deploys, and gives the lines of progress as well.
    async fn deploy(
        &self,
        server: &Server,
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
        chart: Path::new("chart").to_path_buf(),
        values_files: vec![Path::new("values-local.yaml").to_path_buf()],
        overrides: json!({"global": {"imageTag": "main-1a2b3c4"}, "token": "hunter2"}),
    }
}

fn list(items: Vec<Value>) -> (u16, Value) {
    (
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
    )
}

/// A cluster where every Deployment is complete.
fn complete() -> Server {
    Server::new(|request| match request.path.ends_with("deployments") {
        true => list(vec![json!({
            "metadata": {"name": "api-gateway", "uid": "d", "generation": 1},
            "spec": {"replicas": 1, "selector": {}, "template": {}},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
                "readyReplicas": 1, "availableReplicas": 1},
        })]),
        false => list(Vec::new()),
    })
}

/// A cluster where the one service is released blue-green, and green is live. `lease` says
/// what the lock is found to be, each time.
fn blue_green(lease: impl Fn() -> (u16, Value) + Send + Sync + 'static) -> Server {
    Server::new(move |request| match request.path.rsplit('/').next() {
        Some("leases") => (201, request.body.clone()),
        Some("api-gateway-blue-green") if request.method == "GET" => lease(),
        Some("api-gateway-blue-green") => (200, request.body.clone()),
        Some("deployments") => list(vec![json!({
            "metadata": {"name": "api-gateway-green", "uid": "d", "generation": 1},
            "spec": {"replicas": 1, "selector": {}, "template": {"spec":
                {"containers": [{"name": "api-gateway", "image": "trii/api-gateway:v2.0.0"}]}}},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
                "readyReplicas": 1, "availableReplicas": 1},
        })]),
        Some("services") => list(vec![json!({
            "metadata": {"name": "api-gateway"},
            "spec": {"selector": {"trii.co/track": "green"}},
        })]),
        _ => list(Vec::new()),
    })
}

/// A lock that nobody has taken.
fn no_lease() -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "code": 404, "message": "not found", "reason": "NotFound"});
    (404, status)
}

/// A cluster whose hook's pod has no image, once `started` is there.
fn without_image(started: std::path::PathBuf) -> Server {
    Server::new(move |request| {
        let kind = request.path.rsplit('/').next().unwrap();
        match kind {
            "jobs" if started.exists() => {
                list(vec![json!({"metadata": {"name": "migration", "uid": "j"}})])
            }
            "pods" if started.exists() => list(vec![json!({
                "metadata": {"name": "migration-x", "ownerReferences":
                    [{"apiVersion": "batch/v1", "kind": "Job", "name": "migration", "uid": "j"}]},
                "status": {"phase": "Pending", "containerStatuses": [{"name": "migration", "image": "a:b",
                    "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting":
                    {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"a:b\""}}}]},
            })]),
            _ => list(Vec::new()),
        }
    })
}

const ANSWER: &str = r#"cat <<'END'
{"name":"trii-platform","version":3,"manifest":"kind: Service\nmetadata: {name: a}\n",
"config":{"global":{"imageTag":"main-1a2b3c4"}},"chart":{"metadata":{"appVersion":"2.1.0"}}}
END
"#;

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
    let told = error.to_string();
    let expected = "api-gateway is being released by ana@laptop, pid 1, run x";
    assert!(told.starts_with(expected), "{told}");
    assert!(!helm.read("asked").contains("upgrade"), "helm was not run");
}

#[tokio::test]
async fn what_is_live_of_a_blue_green_service_keeps_its_version_and_is_named() {
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
    let asked = helm.read("asked");
    assert!(
        !asked.contains("hunter2") && !asked.contains("--wait"),
        "{asked}"
    );
    assert!(
        asked.contains("--kube-context kind-trii --namespace trii-platform"),
        "{asked}"
    );
    let left = std::fs::read_dir(helm.dir.path()).unwrap();
    let left = left.filter(|it| it.as_ref().unwrap().path().is_dir());
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_hook_that_will_never_start_ends_helm_gently() {
    let upgrade = "trap 'touch asked-to-end; kill $!; exit 1' TERM; touch started; sleep 60 & wait";
    let helm = Script::new("absent", upgrade);
    let server = without_image(helm.path("started"));
    let (deployed, _) = helm.deploy(&server, &release()).await;
    let error = deployed.unwrap_err();
    let DeployError::Trouble { trouble, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(trouble.cause, Cause::Image);
    assert!(helm.path("asked-to-end").exists());
    assert_eq!(error.exit_code(), ExitCode::NoEnvironment);
    let failure = error.failure(&helm.at(server.cluster("trii-platform")));
    assert!(
        failure.seen.contains("Back-off pulling image"),
        "{failure:?}"
    );
    assert!(
        failure.next.ends_with("describe pod/migration-x"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_helm_that_fails_is_told_in_its_own_words() {
    let upgrade =
        "echo 'WARNING: x' >&2; echo 'Error: UPGRADE FAILED: no matches for kind' >&2; exit 1";
    let helm = Script::new("absent", upgrade);
    let (deployed, _) = helm.deploy(&complete(), &release()).await;
    assert_eq!(
        deployed.unwrap_err().to_string(),
        "helm failed: UPGRADE FAILED: no matches for kind"
    );
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
    let asked = helm.read("asked");
    let rollback = asked.find("rollback trii-platform 4").unwrap();
    assert!(rollback < asked.find("upgrade --install").unwrap());
}

#[tokio::test]
async fn a_rollback_that_would_move_a_live_colour_is_done_without() {
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
    let access = Access::granted("staging", "trii-platform", actions.iter().copied());
    helm.at(complete().cluster_with("trii-platform", access))
}

/// However old it is: nobody can tell from here whether somebody is at work.
#[tokio::test]
async fn one_that_others_may_be_deploying_is_named_with_the_command_and_left_as_it_is() {
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
        let typed = format!("helm --kube-context kind-trii --namespace trii-platform {command}");
        assert!(error.failure(&shared).next.contains(&typed), "{error:?}");
        let asked = helm.read("asked");
        assert!(
            asked.starts_with("history ") && asked.lines().count() == 1,
            "{asked}"
        );
    }
}

#[tokio::test]
async fn without_permission_no_helm_is_started_that_changes_anything() {
    let helm = Script::new("absent", ANSWER);
    let read_only = staging(&helm, &[Action::Inside]);
    let (deployed, _) = helm.deploy_to(&read_only, &release()).await;
    let error = deployed.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Refused, "{error}");
    let asked = helm.read("asked");
    assert!(!asked.contains("upgrade"), "{asked}");
    // What it would change may be read.
    let shown = difference(&read_only, &helm.path("helm"), &release()).await;
    shown.unwrap();
    assert!(helm.read("asked").contains("--dry-run=server"));
}

#[tokio::test]
async fn a_helm_that_is_not_there_is_named() {
    let server = complete();
    let dir = TempDir::new().unwrap();
    let mut cluster = server.cluster("trii");
    cluster.kubeconfig = dir.path().join("kubeconfig");
    let deployed = deploy(
        &cluster,
        Path::new("/no/helm"),
        &release(),
        DEADLINE,
        &|_| (),
    )
    .await;
    let error = deployed.unwrap_err();
    assert!(matches!(error, DeployError::NoHelm { .. }), "{error}");
    assert!(error.to_string().contains("/no/helm"), "{error}");
}

#[tokio::test]
async fn helm_does_not_outlive_a_caller_that_goes_away() {
    let upgrade = "echo $$ > pid.new && mv pid.new pid; exec sleep 60";
    let helm = Script::new("absent", upgrade);
    let (server, release) = (complete(), release());
    let up = crate::wait::until(
        "helm runs",
        DEADLINE,
        Duration::from_millis(20),
        async || match helm.path("pid").exists() {
            true => crate::wait::Observation::Ready(()),
            false => crate::wait::Observation::NotYet("no pid".to_owned()),
        },
    );
    tokio::select! {
        (deployed, _) = helm.deploy(&server, &release) => panic!("{deployed:?}"),
        up = up => up.unwrap(),
    }
    let pid = Pid::from_raw(helm.read("pid").trim().parse().unwrap());
    let gone = crate::wait::until(
        "helm is gone",
        DEADLINE,
        Duration::from_millis(20),
        async || match kill(pid, None) {
            Err(_) => crate::wait::Observation::Ready(()),
            Ok(()) => crate::wait::Observation::NotYet("it runs".to_owned()),
        },
    );
    gone.await.unwrap();
    // Nor does its lock.
    let cluster = helm.at(server.cluster("trii-platform"));
    let after = Helm::new(&helm.path("helm"), &cluster).unwrap();
    alone(&after, DEADLINE, &|_| ()).await.unwrap();
}
