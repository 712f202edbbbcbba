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
