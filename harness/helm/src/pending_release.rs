//! Repairs a release that a killed helm has left pending: every later helm refuses to change it
//! (helm#10599).

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::command::{Helm, found, seconds};
use super::{DeployError, Release};

/// In the error of `fixtures/k8s-manifests/blue-green/policy.yaml`.
const GUARD: &str = "trii-blue-green";

/// One entry of `helm history`.
#[derive(Clone, Debug, Deserialize)]
struct Revision {
    revision: u32,
    status: String,
    updated: Timestamp,
}

/// What makes a release usable again.
#[derive(Debug, PartialEq, Eq)]
enum ReleaseRemedy {
    /// It was never up, so nothing is lost.
    Uninstall,
    /// To this revision.
    Rollback(u32),
}

impl ReleaseRemedy {
    /// Returns helm's command and its arguments.
    fn command(&self, release: &str) -> (&'static str, Vec<String>) {
        let release = release.to_owned();
        match self {
            ReleaseRemedy::Uninstall => ("uninstall", vec![release]),
            ReleaseRemedy::Rollback(revision) => ("rollback", vec![release, revision.to_string()]),
        }
    }
}

/// Repairs a release that was left pending, and reports that to `progress`. On a cluster that
/// others deploy to as well, its owner must repair it: they may still be deploying.
///
/// # Errors
/// [`DeployError::LeftPending`] if somebody may be deploying now; helm's error.
pub(super) async fn repair(
    helm: &Helm<'_>,
    release: &Release,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), DeployError> {
    let history = history(helm, &release.name).await?;
    let Some((pending, remedy)) = remedy(&history) else {
        return Ok(());
    };
    let (verb, mut arguments) = remedy.command(&release.name);
    if !helm.cluster.permissions().is_ours() {
        let command = format!("{} {verb} {}", helm.cluster.helm(), arguments.join(" "));
        return Err(DeployError::LeftPending {
            what: format!(
                "revision {} of {} is {} since {}",
                pending.revision, release.name, pending.status, pending.updated
            ),
            command,
        });
    }
    let action = match &remedy {
        ReleaseRemedy::Uninstall => {
            arguments.push("--wait".to_owned());
            "uninstalling it".to_owned()
        }
        ReleaseRemedy::Rollback(revision) => format!("rolling back to revision {revision}"),
    };
    progress(&format!(
        "revision {} of {} was left {} by a helm that was killed: {action}",
        pending.revision, release.name, pending.status
    ));
    arguments.extend(["--timeout".to_owned(), seconds(deadline)]);
    let command = helm.change(verb, &arguments)?;
    match (remedy, helm.program.output_of(command, deadline).await) {
        // The rollback would have reset a later blue-green release. helm has recorded its failure,
        // and now permits an upgrade.
        (ReleaseRemedy::Rollback(_), Err(DeployError::Helm { words })) if words.contains(GUARD) => {
            progress("the rollback would have moved a live colour: continuing without it");
            Ok(())
        }
        (_, output) => output.map(drop),
    }
}

async fn history(helm: &Helm<'_>, name: &str) -> Result<Vec<Revision>, DeployError> {
    let output = helm.output(&["history", name, "--output", "json"]).await;
    let Some(text) = found(output)? else {
        return Ok(Vec::new());
    };
    serde_json::from_str(&text).map_err(|error| DeployError::Helm {
        words: format!("its history cannot be read: {error}"),
    })
}

/// Returns the revision that was left pending, and its remedy.
fn remedy(history: &[Revision]) -> Option<(&Revision, ReleaseRemedy)> {
    let last = history.iter().max_by_key(|it| it.revision)?;
    let remedy = match last.status.as_str() {
        "pending-install" | "uninstalling" => ReleaseRemedy::Uninstall,
        "pending-upgrade" | "pending-rollback" => match last_good(history) {
            Some(revision) => ReleaseRemedy::Rollback(revision),
            None => ReleaseRemedy::Uninstall,
        },
        _ => return None,
    };
    Some((last, remedy))
}

fn last_good(history: &[Revision]) -> Option<u32> {
    let newest = |status: &str| {
        let with_status = history.iter().filter(|it| it.status == status);
        with_status.map(|it| it.revision).max()
    };
    newest("deployed").or_else(|| newest("superseded"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn history(statuses: &[&str]) -> Vec<Revision> {
        let revisions = (1..).zip(statuses);
        revisions
            .map(|(revision, status)| Revision {
                revision,
                status: (*status).to_owned(),
                updated: Timestamp::UNIX_EPOCH,
            })
            .collect()
    }

    #[test]
    fn a_pending_revision_has_a_remedy() {
        for (statuses, expected) in [
            (vec!["pending-install"], ReleaseRemedy::Uninstall),
            (
                vec!["superseded", "deployed", "pending-upgrade"],
                ReleaseRemedy::Rollback(2),
            ),
            (
                vec!["deployed", "failed", "pending-rollback"],
                ReleaseRemedy::Rollback(1),
            ),
            (
                vec!["superseded", "failed", "pending-upgrade"],
                ReleaseRemedy::Rollback(1),
            ),
            (vec!["failed", "pending-upgrade"], ReleaseRemedy::Uninstall),
            (vec!["deployed", "uninstalling"], ReleaseRemedy::Uninstall),
        ] {
            let history = history(&statuses);
            let (pending, remedy) = remedy(&history).unwrap();
            assert_eq!(pending.revision as usize, statuses.len());
            assert_eq!(remedy, expected, "{statuses:?}");
        }
    }

    proptest! {
        #[test]
        fn a_release_that_is_not_pending_is_not_changed(
            before in proptest::collection::vec("superseded|failed|pending-upgrade|deployed", 0..5),
            last in "deployed|failed|superseded|uninstalled"
        ) {
            let mut statuses: Vec<&str> = before.iter().map(String::as_str).collect();
            statuses.push(&last);
            prop_assert!(remedy(&history(&statuses)).is_none());
        }
    }

    #[test]
    fn the_last_revision_has_the_highest_number() {
        let mut entries = history(&["deployed", "pending-upgrade"]);
        entries.reverse();
        assert_eq!(remedy(&entries).unwrap().0.revision, 2);
    }

    #[test]
    fn the_output_of_helm_history_is_read() {
        let text = r#"[{"revision":1,"updated":"2026-11-25T09:27:13.123456789Z","status":"deployed",
            "chart":"trii-platform-2.1.0","app_version":"2.1.0","description":"Install complete"},
            {"revision":2,"updated":"2026-11-25T10:27:13.1+01:00","status":"pending-upgrade",
            "chart":"trii-platform-2.1.0","app_version":"2.1.0","description":"Preparing upgrade"}]"#;
        let entries: Vec<Revision> = serde_json::from_str(text).unwrap();
        assert_eq!(entries[1].status, "pending-upgrade");
    }
}
