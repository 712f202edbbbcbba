//! What a person looks at after a failure, kept in the run's folder: the nodes' journals
//! and the logs of every container (`kind export logs`), events, descriptions, and how the
//! engine is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cluster::control_plane;
use crate::bring_up::containers::{silence, with_patience};
use crate::engine::Engine;
use crate::images::exec;
use crate::subprocess;

/// The folder in a run's folder.
pub const FOLDER: &str = "diagnostics";

/// For all of it: whoever waits for the failure waits for this, too.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is asked of the cluster by the `kubectl` of its own node, by the file's name.
const QUESTIONS: [(&str, &str); 5] = [
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

/// Collects all that can be had of the cluster into the run's folder. Returns where it is,
/// and what could not be had, one line each.
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
            ask_cluster(engine, cluster, &folder),
            ask_engine(engine, &folder),
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

/// Where the diagnostics are, and what they lack.
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
    let engine = engine.export_env().into_iter();
    let engine = engine.map(|(name, value)| format!("{name}={value}"));
    let logs = [
        kind.display().to_string(),
        "export".to_owned(),
        "logs".to_owned(),
        "--name".to_owned(),
        cluster.to_owned(),
        folder.join("logs").display().to_string(),
    ];
    let command: Vec<String> = ["env".to_owned()]
        .into_iter()
        .chain(engine)
        .chain(logs)
        .collect();
    let exported = subprocess::run(&command, DEADLINE, &|_| ()).await;
    exported.map_err(|error| error.to_string())
}

async fn ask_cluster(engine: &Engine, cluster: &str, folder: &Path) -> Vec<Result<(), String>> {
    let node = control_plane(cluster);
    let asked = QUESTIONS.map(async |(file, question)| {
        let kubectl = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"];
        let words: Vec<&str> = kubectl.into_iter().chain(question.split(' ')).collect();
        let answer = exec::run(engine, &node, &words, None).await;
        let answer = answer.map_err(|error| format!("{file}: {error}"))?;
        std::fs::write(folder.join(file), answer).map_err(|error| format!("{file}: {error}"))
    });
    futures::future::join_all(asked).await
}

async fn ask_engine(engine: &Engine, folder: &Path) -> Result<(), String> {
    let info = with_patience(engine, engine.client().info()).await?;
    let info = info.map_err(|error| crate::chain(&error))?;
    let text = serde_json::to_string_pretty(&info).map_err(|error| error.to_string())?;
    let file = folder.join("engine.json");
    std::fs::write(file, text).map_err(|error| error.to_string())
}
