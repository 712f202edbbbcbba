//! Annotations of GitHub Actions: it shows them on the page of the run, and those with a file beside
//! that line of the pull request.
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use std::path::PathBuf;

use base::run::comparison::ComparisonVerdict;
use base::run::event::{CheckOutcome, Failure, Happening};
use operations::tiers::TestFailure;

/// Makes annotations, for files of this repository.
pub struct Annotations {
    workspace: PathBuf,
}

impl Annotations {
    /// Returns none outside GitHub Actions.
    pub fn in_github_actions(workspace: PathBuf) -> Option<Self> {
        let is_set = std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true");
        is_set.then_some(Annotations { workspace })
    }

    /// Returns the annotation of an event that is not good.
    pub fn of(&self, happening: &Happening) -> Option<String> {
        match happening {
            Happening::CheckFinished { scenario, check } => {
                let title = format!("{scenario}: {}", check.name);
                match &check.outcome {
                    CheckOutcome::Failed { failure } => Some(self.failure(&title, failure)),
                    CheckOutcome::Inconclusive { because } => Some(warning(&title, because)),
                    CheckOutcome::Passed { .. } | CheckOutcome::Skipped { .. } => None,
                }
            }
            Happening::Failed { failure } => Some(self.failure("the run failed", failure)),
            Happening::PartLost { part, how, .. } => {
                Some(self.error(&format!("{part} was lost"), how, None))
            }
            Happening::ThresholdJudged { threshold } if !threshold.holds => {
                let title = format!("threshold of {}", threshold.of);
                Some(self.error(&title, &threshold.to_string(), None))
            }
            Happening::Compared { comparison } => {
                let rows = comparison.rows.iter();
                let regressed = rows.filter(|row| row.verdict == ComparisonVerdict::Regressed);
                let lines: Vec<String> = regressed
                    .map(|row| format!("{} {}: {}", row.endpoint, row.metric, row.change))
                    .collect();
                (!lines.is_empty()).then(|| self.error("slower", &lines.join("\n"), None))
            }
            _ => None,
        }
    }

    /// Returns the annotation of a test that failed.
    pub fn of_test(&self, failure: &TestFailure) -> String {
        self.error(&failure.test, &failure.why, failure.at.as_deref())
    }

    fn failure(&self, title: &str, failure: &Failure) -> String {
        let Failure {
            what,
            expected,
            seen,
            look_at,
            next,
        } = failure;
        let text =
            format!("{what}\nexpected: {expected}\nseen: {seen}\nlook at: {look_at}\nnext: {next}");
        self.error(title, &text, Some(look_at))
    }

    /// An error. `place` may be a file and line.
    fn error(&self, title: &str, text: &str, place: Option<&str>) -> String {
        let place = place.and_then(|place| self.file_and_line(place));
        let place = place.map_or(String::new(), |(file, line)| {
            format!("file={},line={line},", property(&file))
        });
        format!("::error {place}title={}::{}", property(title), data(text))
    }

    /// Returns the file, below the repository, and the line of `FILE:LINE` or `FILE:LINE:COLUMN`.
    fn file_and_line(&self, place: &str) -> Option<(String, u32)> {
        let mut parts = place.split(':');
        let (file, line) = (parts.next()?, parts.next()?.parse().ok()?);
        let path = self.workspace.join(file);
        let below = path.strip_prefix(&self.workspace).ok()?;
        path.is_file().then(|| (below.display().to_string(), line))
    }
}

fn warning(title: &str, text: &str) -> String {
    format!("::warning title={}::{}", property(title), data(text))
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base::run::event::Check;

    use super::*;

    fn annotations() -> Annotations {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Annotations {
            workspace: workspace.to_owned(),
        }
    }

    fn check(outcome: CheckOutcome) -> Happening {
        Happening::CheckFinished {
            scenario: "smoke".into(),
            check: Check {
                name: "a, b: 100 %".into(),
                millis: 1,
                outcome,
            },
        }
    }

    fn failed(look_at: &str) -> Happening {
        check(CheckOutcome::Failed {
            failure: Failure {
                what: "the answer is wrong".into(),
                expected: "status 200".into(),
                seen: "status 500".into(),
                look_at: look_at.into(),
                next: "curl".into(),
            },
        })
    }

    #[test]
    fn a_failed_check_is_an_error_at_its_line_and_cannot_end_its_command() {
        let annotations = annotations();
        let file = annotations.workspace.join("harness.toml");
        assert_eq!(
            annotations.of(&failed(&format!("{}:7", file.display()))),
            Some(format!(
                "::error file=harness.toml,line=7,title=smoke%3A a%2C b%3A 100 %25::the answer is wrong\
                 %0Aexpected: status 200%0Aseen: status 500%0Alook at: {}:7%0Anext: curl",
                file.display()
            ))
        );
    }

    #[test]
    fn only_a_file_of_the_repository_is_a_place() {
        let annotations = annotations();
        let place = |place| annotations.file_and_line(place);
        assert_eq!(place("harness.toml:7"), Some(("harness.toml".into(), 7)));
        assert_eq!(
            place("xtask/src/main.rs:2:22"),
            Some(("xtask/src/main.rs".into(), 2))
        );
        for other in [
            "http://127.0.0.1:8080/",
            "/etc/hosts:1",
            "harness.toml",
            "nowhere:1",
            "",
        ] {
            assert_eq!(place(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_inconclusive_is_a_warning_and_what_passed_is_nothing() {
        let annotations = annotations();
        let because = "too few\nrequests".to_owned();
        assert_eq!(
            annotations.of(&check(CheckOutcome::Inconclusive { because })),
            Some("::warning title=smoke%3A a%2C b%3A 100 %25::too few%0Arequests".into())
        );
        let seen = "401".to_owned();
        assert_eq!(annotations.of(&check(CheckOutcome::Passed { seen })), None);
    }

    #[test]
    fn a_failed_test_is_an_error_where_it_panicked() {
        let failure = TestFailure {
            test: "xtask::containers two".into(),
            why: "assertion failed".into(),
            at: Some("xtask/src/main.rs:2:22".into()),
        };
        assert_eq!(
            annotations().of_test(&failure),
            "::error file=xtask/src/main.rs,line=2,title=xtask%3A%3Acontainers two::assertion failed"
        );
    }
}
