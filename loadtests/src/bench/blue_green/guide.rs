//! A release by the guide's script, by the node's own bash and kubectl: this machine needs
//! neither.

use std::process::Stdio;
use std::time::Duration;

use harness::kind::cluster::control_plane;
use harness::process::bound::describe;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::ground::Ground;
use super::{Quality, footprint};
use crate::bench::error::BenchError;

/// In the repository.
const SCRIPT: &str = "loadtests/src/bench/blue_green/guide.sh";

/// What it ends with when it does not release.
const REFUSED: i32 = 1;

/// For the engine to start something in the node.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// Has the node's bash run the script, which goes in by its standard input, and tell its own
/// process id there first.
const RUN: &str = "exec docker exec --interactive --env KUBECONFIG=/etc/kubernetes/admin.conf \
    \"$1\" sh -c 'echo $$ && exec bash -s -- \"$0\" \"$1\" > /dev/null' \"$2\" \"$3\" < \"$4\"";

/// Releases `version`, which is to be kept where it is good, and refused where it is bad. The most
/// memory that its bash held, and the largest kubectl.
pub async fn release(
    ground: &Ground<'_>,
    version: &str,
    quality: Quality,
) -> Result<Option<f64>, BenchError> {
    let mut script = Script::start(ground, version).await?;
    let namespace = &ground.ours.cluster.namespace;
    let bash = || footprint::called(&["bash", "-s", "--", namespace, version]);
    let (ended, memory) = footprint::during(bash, script.child.wait()).await;
    let ended = ended.map_err(failed)?;
    match (quality, ended.code()) {
        (Quality::Good, Some(0)) | (Quality::Bad, Some(REFUSED)) => Ok(memory),
        _ => Err(failed(format!("of a {quality}: {}", describe(ended)))),
    }
}

/// Has it release `version`, and kills its bash right after it has moved traffic away from
/// `before`.
pub async fn killed(ground: &Ground<'_>, version: &str, before: &str) -> Result<(), BenchError> {
    let mut script = Script::start(ground, version).await?;
    tokio::select! {
        switched = ground.ours.switched(before) => { switched?; }
        ended = script.child.wait() => {
            return Err(failed(ended.map_or_else(|error| error.to_string(), describe)));
        }
    }
    ground.in_node(&["kill", "-KILL", &script.process]).await?;
    script.child.wait().await.map(drop).map_err(failed)
}

/// The script, under way.
struct Script {
    /// Ends with it.
    child: Child,
    /// The id of its bash, in the node.
    process: String,
}

impl Script {
    async fn start(ground: &Ground<'_>, version: &str) -> Result<Script, BenchError> {
        let argv = command(ground, version);
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let output = child.stdout.take().ok_or_else(|| failed("it is mute"))?;
        let mut process = String::new();
        let mut output = BufReader::new(output);
        let told = output.read_line(&mut process);
        let told = timeout(STARTS_WITHIN, told).await.map_err(failed)?;
        told.map_err(failed)?;
        let process = process.trim().to_owned();
        Ok(Script { child, process })
    }
}

fn command(ground: &Ground<'_>, version: &str) -> Vec<String> {
    let node = control_plane(&ground.place.name);
    let script = ground.workspace.join(SCRIPT).display().to_string();
    let namespace = &ground.ours.cluster.namespace;
    ground
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

    /// Blue is live. The smoke test is answered as `SMOKE` says.
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

    /// What the script asked for, a line each, and what it ended with.
    fn script(smoke: &str) -> (Option<i32>, String) {
        let room = tempfile::tempdir().unwrap();
        for (name, text) in [("kubectl", KUBECTL), ("sleep", SLEEP)] {
            let path = room.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let log = room.path().join("log");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/blue_green/guide.sh");
        let path = std::env::var("PATH").unwrap();
        let ended = Command::new("bash")
            .arg(script)
            .args(["trii-platform", "v2"])
            .env("PATH", format!("{}:{path}", room.path().display()))
            .env("LOG", &log)
            .env("SMOKE", smoke)
            .output()
            .unwrap();
        let asked = std::fs::read_to_string(&log).unwrap();
        let shorter = asked.replace(" --namespace trii-platform", "");
        (ended.status.code(), shorter)
    }

    #[test]
    fn a_version_that_answers_is_kept() {
        let (code, asked) = script("0");
        assert_eq!(code, Some(0));
        insta::assert_snapshot!(asked);
    }

    #[test]
    fn a_version_that_fails_its_smoke_is_refused() {
        let (code, asked) = script("1");
        assert_eq!(code, Some(super::REFUSED));
        let last = asked.lines().last().unwrap();
        insta::assert_snapshot!(last, @r#"kubectl patch service market-data-service --field-manager trii-blue-green --patch {"spec": {"selector": {"trii.co/track": "blue"}}}"#);
    }
}
