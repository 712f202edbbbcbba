//! Releases by the guide's script, with the node's bash and kubectl, so that this machine needs
//! neither.

use std::process::Stdio;
use std::time::Duration;

use base::process::describe;
use environments::kind::cluster::control_plane;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::setup::BenchSetup;
use super::{Quality, footprint};
use crate::bench::error::BenchError;

/// Its path in the repository.
const SCRIPT: &str = "loadtests/src/bench/blue_green/guide.sh";

/// Its exit code if it does not release.
const REFUSED: i32 = 1;

/// For the engine to start a program in the node.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the script, from standard input, in the node's bash, which first prints its process id.
const RUN: &str = "exec docker exec --interactive --env KUBECONFIG=/etc/kubernetes/admin.conf \
    \"$1\" sh -c 'echo $$ && exec bash -s -- \"$0\" \"$1\" > /dev/null' \"$2\" \"$3\" < \"$4\"";

/// Releases `version`, which must be kept if it is good, and refused if it is bad. Returns the peak
/// memory of its bash and of the largest kubectl, in MiB.
pub async fn release(
    setup: &BenchSetup<'_>,
    version: &str,
    quality: Quality,
) -> Result<Option<f64>, BenchError> {
    let mut script = Script::start(setup, version).await?;
    let namespace = &setup.ours.cluster.namespace;
    let bash = || footprint::called(&["bash", "-s", "--", namespace, version]);
    let (ended, memory) = footprint::during(bash, script.child.wait()).await;
    let ended = ended.map_err(failed)?;
    match (quality, ended.code()) {
        (Quality::Good, Some(0)) | (Quality::Bad, Some(REFUSED)) => Ok(memory),
        _ => Err(failed(format!("of a {quality}: {}", describe(ended)))),
    }
}

/// Releases `version`, and kills its bash right after it has moved traffic away from `before`.
pub async fn killed(setup: &BenchSetup<'_>, version: &str, before: &str) -> Result<(), BenchError> {
    let mut script = Script::start(setup, version).await?;
    tokio::select! {
        switched = setup.ours.switched(before) => { switched?; }
        ended = script.child.wait() => {
            return Err(failed(ended.map_or_else(|error| error.to_string(), describe)));
        }
    }
    setup.in_node(&["kill", "-KILL", &script.process]).await?;
    script.child.wait().await.map(drop).map_err(failed)
}

struct Script {
    /// The local process, which ends with the script.
    child: Child,
    /// The process id of its bash in the node.
    process: String,
}

impl Script {
    async fn start(setup: &BenchSetup<'_>, version: &str) -> Result<Script, BenchError> {
        let argv = command(setup, version);
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let output = child.stdout.take();
        let output = output.ok_or_else(|| failed("it has no output"))?;
        let mut lines = BufReader::new(output).lines();
        let first = timeout(START_TIMEOUT, lines.next_line()).await;
        let first = first.map_err(failed)?.map_err(failed)?;
        let process = first.unwrap_or_default().trim().to_owned();
        Ok(Script { child, process })
    }
}

fn command(setup: &BenchSetup<'_>, version: &str) -> Vec<String> {
    let node = control_plane(&setup.place.name);
    let script = setup.workspace.join(SCRIPT).display().to_string();
    let namespace = &setup.ours.cluster.namespace;
    setup
        .kind
        .command(&["sh", "-c", RUN, "sh", &node, namespace, version, &script])
}

fn failed<E: std::fmt::Display>(why: E) -> BenchError {
    BenchError::release("the guide's script")(why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    /// Blue is live. The smoke test exits with `SMOKE`.
    const KUBECTL: &str = r#"#!/bin/sh
echo "kubectl $*" >> "$LOG"
case "$*" in
    "get service "*) printf blue ;;
    "get deployment "*) printf host:5000/trii/platform:v1 ;;
    "get pods "*) printf 'green-1 green-2 green-3' ;;
    *proxy/quotes*) exit "$SMOKE" ;;
esac
"#;
    const SLEEP: &str = "#!/bin/sh\necho \"sleep $*\" >> \"$LOG\"\n";

    /// The script's exit code, and its commands, one line each.
    fn script(smoke: &str) -> (Option<i32>, String) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("kubectl", KUBECTL), ("sleep", SLEEP)] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let log = folder.path().join("log");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/blue_green/guide.sh");
        let path = std::env::var("PATH").unwrap();
        let ended = Command::new("bash")
            .arg(script)
            .args(["trii-platform", "v2"])
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .env("LOG", &log)
            .env("SMOKE", smoke)
            .output()
            .unwrap();
        let commands = std::fs::read_to_string(&log).unwrap();
        let shorter = commands.replace(" --namespace trii-platform", "");
        (ended.status.code(), shorter)
    }

    #[test]
    fn a_version_that_answers_is_kept() {
        let (code, commands) = script("0");
        assert_eq!(code, Some(0));
        insta::assert_snapshot!(commands);
    }

    #[test]
    fn a_version_that_fails_its_smoke_is_refused() {
        let (code, commands) = script("1");
        assert_eq!(code, Some(super::REFUSED));
        let last = commands.lines().last().unwrap();
        insta::assert_snapshot!(last, @r#"kubectl patch service market-data-service --field-manager trii-blue-green --patch {"spec": {"selector": {"trii.co/track": "blue"}}}"#);
    }
}
