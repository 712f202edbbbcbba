//! A helm that was killed leaves its release pending, and every later helm refuses to
//! touch it (helm#10599).

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::helm::{Helm, found, seconds};
use super::{DeployError, Release};

/// In the refusal of `fixtures/k8s-manifests/blue-green/policy.yaml`.
const GUARD: &str = "trii-blue-green";

/// One line of `helm history`.
#[derive(Clone, Debug, Deserialize)]
struct Revision {
    revision: u32,
    status: String,
    updated: Timestamp,
}

/// What makes a release usable again.
#[derive(Debug, PartialEq, Eq)]
enum Remedy {
    /// It was never up: nothing is lost by starting over.
    Uninstall,
    /// The revision that was up before.
    Rollback(u32),
}

impl Remedy {
    /// helm's verb, and what follows it.
    fn command(&self, release: &str) -> (&'static str, Vec<String>) {
        let release = release.to_owned();
        match self {
            Remedy::Uninstall => ("uninstall", vec![release]),
            Remedy::Rollback(revision) => ("rollback", vec![release, revision.to_string()]),
        }
    }
}

/// Makes a release that was left pending usable again, and says so by `progress`; on a cluster
/// that others deploy to as well nobody can tell whether it was left, and it is theirs to mend.
///
/// # Errors
/// [`DeployError::LeftPending`] where somebody may be deploying right now; helm's own.
pub(super) async fn mend(
    helm: &Helm<'_>,
    release: &Release,
    deadline: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), DeployError> {
    let history = history(helm, &release.name).await?;
    let Some((left, remedy)) = remedy(&history) else {
        return Ok(());
    };
    let (verb, mut arguments) = remedy.command(&release.name);
    if !helm.cluster.access().is_ours() {
        let command = format!("{} {verb} {}", helm.cluster.helm(), arguments.join(" "));
        return Err(DeployError::LeftPending {
            what: format!(
                "revision {} of {} is {} since {}",
                left.revision, release.name, left.status, left.updated
            ),
            command,
        });
    }
    let doing = match &remedy {
        Remedy::Uninstall => {
            arguments.push("--wait".to_owned());
            "uninstalling it".to_owned()
        }
        Remedy::Rollback(revision) => format!("rolling back to revision {revision}"),
    };
    progress(&format!(
        "revision {} of {} was left {} by a helm that was killed: {doing}",
        left.revision, release.name, left.status
    ));
    arguments.extend(["--timeout".to_owned(), seconds(deadline)]);
    let command = helm.change(verb, &arguments)?;
    match (remedy, helm.answer_of(command, deadline).await) {
        // It would have moved what was released blue-green since. helm has noted that it
        // failed, after which it lets an upgrade follow.
        (Remedy::Rollback(_), Err(DeployError::Helm { words })) if words.contains(GUARD) => {
            progress("the rollback would have moved a live colour: going on from here instead");
            Ok(())
        }
        (_, answer) => answer.map(drop),
    }
}

async fn history(helm: &Helm<'_>, name: &str) -> Result<Vec<Revision>, DeployError> {
    let answer = helm.answer(&["history", name, "--output", "json"]).await;
    let Some(text) = found(answer)? else {
        return Ok(Vec::new());
    };
    serde_json::from_str(&text).map_err(|error| DeployError::Helm {
        words: format!("its history cannot be read: {error}"),
    })
}

/// The revision that was left as it was being made, and what to do about it.
fn remedy(history: &[Revision]) -> Option<(&Revision, Remedy)> {
    let last = history.iter().max_by_key(|it| it.revision)?;
    let remedy = match last.status.as_str() {
        "pending-install" | "uninstalling" => Remedy::Uninstall,
        "pending-upgrade" | "pending-rollback" => match last_good(history) {
            Some(revision) => Remedy::Rollback(revision),
            None => Remedy::Uninstall,
        },
        _ => return None,
    };
    Some((last, remedy))
}

fn last_good(history: &[Revision]) -> Option<u32> {
    let newest = |status: &str| {
        let of_status = history.iter().filter(|it| it.status == status);
        of_status.map(|it| it.revision).max()
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
    fn what_was_left_pending_has_a_remedy() {
        for (statuses, expected) in [
            (vec!["pending-install"], Remedy::Uninstall),
            (
                vec!["superseded", "deployed", "pending-upgrade"],
                Remedy::Rollback(2),
            ),
            (
                vec!["deployed", "failed", "pending-rollback"],
                Remedy::Rollback(1),
            ),
            (
                vec!["superseded", "failed", "pending-upgrade"],
                Remedy::Rollback(1),
            ),
            (vec!["failed", "pending-upgrade"], Remedy::Uninstall),
            (vec!["deployed", "uninstalling"], Remedy::Uninstall),
        ] {
            let history = history(&statuses);
            let (left, remedy) = remedy(&history).unwrap();
            assert_eq!(left.revision as usize, statuses.len());
            assert_eq!(remedy, expected, "{statuses:?}");
        }
    }

    proptest! {
        #[test]
        fn a_release_that_is_not_pending_is_left_alone(
            before in proptest::collection::vec("superseded|failed|pending-upgrade|deployed", 0..5),
            last in "deployed|failed|superseded|uninstalled"
        ) {
            let mut statuses: Vec<&str> = before.iter().map(String::as_str).collect();
            statuses.push(&last);
            prop_assert!(remedy(&history(&statuses)).is_none());
        }
    }

    #[test]
    fn the_last_line_is_that_of_the_highest_number() {
        let mut lines = history(&["deployed", "pending-upgrade"]);
        lines.reverse();
        assert_eq!(remedy(&lines).unwrap().0.revision, 2);
    }

    #[test]
    fn helms_own_lines_are_read() {
        let text = r#"[{"revision":1,"updated":"2026-11-25T09:27:13.123456789Z","status":"deployed",
            "chart":"trii-platform-2.1.0","app_version":"2.1.0","description":"Install complete"},
            {"revision":2,"updated":"2026-11-25T10:27:13.1+01:00","status":"pending-upgrade",
            "chart":"trii-platform-2.1.0","app_version":"2.1.0","description":"Preparing upgrade"}]"#;
        let lines: Vec<Revision> = serde_json::from_str(text).unwrap();
        assert_eq!(lines[1].status, "pending-upgrade");
    }
}
