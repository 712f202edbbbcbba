//! Diagnostics after a failure, in the run's folder: the nodes' journals and the logs of every
//! container (`kind export logs`), events, descriptions, and the engine's state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cluster::control_plane;
use base::process;
use machine::containers::{silence, with_timeout};
use machine::engine::Engine;
use machine::images::exec;

/// The folder in a run's folder.
pub const FOLDER: &str = "diagnostics";

/// The report of the failure waits for the diagnostics.
const DEADLINE: Duration = Duration::from_secs(60);

/// The files, each with the arguments for the `kubectl` of the cluster's node.
const QUERIES: [(&str, &str); 5] = [
    ("pods.txt", "get pods --all-namespaces --output=wide"),
    (
        "events.txt",
        "get events --all-namespaces --sort-by=.metadata.creationTimestamp",
    ),
    ("describe-pods.txt", "describe pods --all-namespaces"),
    ("describe-nodes.txt", "describe nodes"),
    (
        "releases.txt",
        "get deployments,replicasets,jobs,horizontalpodautoscalers,resourcequotas,ingresses,\
         endpointslices --all-namespaces --output=wide",
    ),
];

/// Collects diagnostics of the cluster in the run's folder. Returns their folder, and what is
/// missing, one line each.
pub async fn collect(
    engine: &Engine,
    kind: &Path,
    cluster: &str,
    run_folder: &Path,
) -> (PathBuf, Vec<String>) {
    let folder = run_folder.join(FOLDER);
    let collecting = async {
        if let Err(error) = std::fs::create_dir_all(&folder) {
            return vec![error.to_string()];
        }
        let (logs, answers, state) = tokio::join!(
            export_logs(engine, kind, cluster, &folder),
            query_cluster(engine, cluster, &folder),
            query_engine(engine, &folder),
        );
        let all = [logs, state].into_iter().chain(answers);
        all.filter_map(Result::err).collect()
    };
    let lacking = tokio::select! {
        lacking = collecting => lacking,
        () = tokio::time::sleep(DEADLINE) => vec![format!("what takes longer than {DEADLINE:?}")],
        () = silence(engine) => vec!["more: the engine has stopped answering".to_owned()],
    };
    (folder, lacking)
}

/// Describes where the diagnostics are, and what is missing.
pub fn in_words(folder: &Path, lacking: &[String]) -> String {
    let folder = folder.display();
    match lacking {
        [] => format!("diagnostics are in {folder}"),
        lacking => format!(
            "diagnostics are in {folder}, without {}",
            lacking.join("; ")
        ),
    }
}

async fn export_logs(
    engine: &Engine,
    kind: &Path,
    cluster: &str,
    folder: &Path,
) -> Result<(), String> {
    let mut command = vec!["env".to_owned()];
    let variables = engine.export_env().into_iter();
    command.extend(variables.map(|(name, value)| format!("{name}={value}")));
    command.push(kind.display().to_string());
    command.extend(["export", "logs", "--name", cluster].map(str::to_owned));
    command.push(folder.join("logs").display().to_string());
    let exported = process::run(&command, DEADLINE, &|_| ()).await;
    exported.map_err(|error| error.to_string())
}

async fn query_cluster(engine: &Engine, cluster: &str, folder: &Path) -> Vec<Result<(), String>> {
    let node = control_plane(cluster);
    let queries = QUERIES.map(async |(file, query)| {
        let kubectl = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"];
        let command: Vec<&str> = kubectl.into_iter().chain(query.split(' ')).collect();
        let answer = exec::run(engine, &node, &command, None).await;
        let answer = answer.map_err(|error| format!("{file}: {error}"))?;
        std::fs::write(folder.join(file), answer).map_err(|error| format!("{file}: {error}"))
    });
    futures::future::join_all(queries).await
}

async fn query_engine(engine: &Engine, folder: &Path) -> Result<(), String> {
    let info = with_timeout(engine, engine.client().info()).await?;
    let info = info.map_err(|error| base::chain(&error))?;
    let text = serde_json::to_string_pretty(&info).map_err(|error| error.to_string())?;
    let file = folder.join("engine.json");
    std::fs::write(file, text).map_err(|error| error.to_string())
}
