//! How scenarios reach an environment from inside its cluster: a tunnel through a pod.

use std::time::Duration;

use environments::config::Target;
use environments::environment::{ClusterPlace, Environment};
use environments::kind::INGRESS_SERVICE;
use kubernetes::permissions::INSIDE;
use kubernetes::prober::PART;
use kubernetes::tunnel::Tunnel;
use scenarios::Mismatch;

use crate::invocation::Invocation;
use crate::stages::redeploy::KindDeployment;

/// The timeout for a pod inside the cluster to run.
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns why there is no image for the pod, if a remote target does not name one.
pub fn lacks_image(invocation: &Invocation, environment: &Environment) -> Option<String> {
    let name = &environment.target;
    match invocation.config.targets.get(name) {
        Some(Target::Remote(target)) if target.prober_image.is_none() => {
            Some(format!("the target {name} has no prober_image"))
        }
        _ => None,
    }
}

pub async fn open(
    invocation: &Invocation,
    environment: &Environment,
    cluster: &ClusterPlace,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Tunnel, String> {
    let image = match invocation.config.targets.get(&environment.target) {
        Some(Target::Remote(target)) => {
            let missing = || lacks_image(invocation, environment).unwrap_or_default();
            target.prober_image.clone().ok_or_else(missing)?
        }
        _ => {
            let deployment = KindDeployment::find(invocation, environment).await;
            let deployment = deployment.map_err(|problem| problem.to_string())?;
            let brought = deployment.bring_helper(PART, progress).await;
            brought.map_err(|error| error.to_string())?
        }
    };
    let cluster = cluster.open().await.map_err(|error| error.to_string())?;
    let client = cluster.client().clone();
    let opened = Tunnel::open(client, INSIDE, &image, INGRESS_SERVICE, DEADLINE);
    opened.await.map_err(|error| error.to_string())
}

/// The mismatch for a tunnel that cannot be opened.
pub fn not_reached(place: &ClusterPlace, seen: String) -> Mismatch {
    let kubeconfig = place.kubeconfig.display();
    Mismatch {
        expected: "a pod that connections go through".into(),
        seen,
        look_at: "the events of the namespace default".into(),
        next: format!("kubectl --kubeconfig {kubeconfig} --namespace default get events"),
    }
}
