//! A release by the guide's script, by the node's own bash and kubectl: this machine needs
//! neither.

use std::time::Duration;

use harness::kind::cluster::control_plane;
use harness::subprocess::{self, SubprocessError};

use super::Quality;
use super::ground::Ground;
use crate::bench::error::BenchError;

/// In the repository.
const SCRIPT: &str = "loadtests/src/bench/blue_green/guide.sh";

/// It waits 300 s for a rollout itself.
const LONGEST: Duration = Duration::from_secs(400);

/// What it ends with when it does not release.
const REFUSED: i32 = 1;

/// Releases `version`, which is to be kept where it is good, and refused where it is bad.
pub async fn release(
    ground: &Ground<'_>,
    version: &str,
    quality: Quality,
) -> Result<(), BenchError> {
    let ended = subprocess::run(&command(ground, version), LONGEST, &|_| ()).await;
    match (quality, ended) {
        (Quality::Good, Ok(())) => Ok(()),
        (Quality::Bad, Err(SubprocessError::Failed { status, .. }))
            if status.code() == Some(REFUSED) =>
        {
            Ok(())
        }
        (Quality::Bad, Ok(())) => Err(BenchError::release("the guide's script")(
            "it kept a version that answers with 500",
        )),
        (_, Err(error)) => Err(error.into()),
    }
}

/// The script goes in by its standard input.
fn command(ground: &Ground<'_>, version: &str) -> Vec<String> {
    let node = control_plane(&ground.place().name);
    let script = ground.workspace.join(SCRIPT).display().to_string();
    let run = "exec docker exec --interactive --env KUBECONFIG=/etc/kubernetes/admin.conf \
               \"$1\" bash -s -- \"$2\" \"$3\" < \"$4\"";
    let namespace = &ground.cluster.namespace;
    ground
        .kind
        .command(&["sh", "-c", run, "sh", &node, namespace, version, &script])
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
