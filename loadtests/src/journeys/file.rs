//! Journeys that Hurl files describe: each request is a step of the user.

mod data;
mod user;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use environments::config::hurl::NamedFileError;
use environments::config::load::{JourneyFile, JourneySource};
use environments::config::{Config, TokenClaims};
use goose::goose::Transaction;
use hurl_checks::{Entry, Options};
use sha2::{Digest, Sha256};

use super::arrives;
use crate::users::UserContext;
use data::{RowCounter, UserData};
use user::FileUser;

/// The journeys that files describe, by name.
#[derive(Debug, Default)]
pub struct JourneyFiles(BTreeMap<String, Arc<FileJourney>>);

/// A journey of a file.
#[derive(Debug)]
struct FileJourney {
    /// Identifies the requests and the rows: with others, results are not comparable.
    digest: String,
    steps: Vec<Step>,
    data: Option<UserData>,
    tokens: BTreeMap<String, TokenClaims>,
}

/// A request of a journey.
#[derive(Debug)]
struct Step {
    /// The name in results: the method, and the path with placeholders.
    endpoint: Arc<str>,
    entry: Entry,
}

impl JourneyFiles {
    /// Reads the files that `[load.journeys]` names, relative to the repository.
    ///
    /// # Errors
    /// A file that cannot be read, or is not valid.
    pub fn read(config: &Config, workspace: &Path) -> Result<JourneyFiles, NamedFileError> {
        let mut journeys = BTreeMap::new();
        for (name, journey) in &config.load.journeys {
            if let JourneySource::File(file) = &journey.source {
                let journey = FileJourney::read(config, workspace, file)?;
                journeys.insert(name.clone(), Arc::new(journey));
            }
        }
        Ok(JourneyFiles(journeys))
    }

    /// Returns the steps of a user of the journey.
    pub(super) fn steps(&self, name: &str, users: &Arc<UserContext>) -> Vec<Transaction> {
        let journey = self.0.get(name);
        journey.map_or_else(Vec::new, |journey| steps(journey, users))
    }

    /// Returns the names of all requests in results.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &str> {
        let steps = self.0.values().flat_map(|journey| &journey.steps);
        steps.map(|step| &*step.endpoint)
    }
}

impl FileJourney {
    fn read(
        config: &Config,
        workspace: &Path,
        file: &JourneyFile,
    ) -> Result<FileJourney, NamedFileError> {
        let data = file.data.as_ref();
        let data = data.map(|data| UserData::read(config, workspace, data));
        let data = data.transpose()?;
        let given = ["api", "unique", "demo_password"].map(str::to_owned);
        let columns = data.iter().flat_map(UserData::columns);
        let tokens = config.tokens.keys();
        let known = columns.chain(tokens).cloned().chain(given).collect();
        let parsed = config.read_hurl(workspace, &file.path, &file.place, &known)?;
        let mut entries = parsed.entries().iter();
        if let Some(entry) = entries.find(|entry| entry.options() != Options::default()) {
            let at = format!("{}:{}", file.path.display(), entry.line());
            let what = format!("{at}: a journey's request has no [Options]");
            let help = "leave them out: think_ms is the pause, and a failed request counts";
            let refused = config.refuse(file.place.clone(), what, Some(help.to_owned()));
            return Err(Box::new(refused).into());
        }
        Ok(FileJourney {
            digest: digest(parsed.text(), data.as_ref(), &config.tokens),
            steps: parsed.entries().iter().cloned().map(Step::of).collect(),
            data,
            tokens: config.tokens.clone(),
        })
    }
}

/// The `Debug` texts have all that makes another load: columns, rows, who takes them, and tokens.
fn digest(text: &str, data: Option<&UserData>, tokens: &BTreeMap<String, TokenClaims>) -> String {
    let digest = Sha256::digest(format!("{text:?} {data:?} {tokens:?}"));
    digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// For the plan of a result: `; browse 1f2e3d4c`.
impl fmt::Display for JourneyFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut journeys = self.0.iter();
        journeys.try_for_each(|(name, journey)| write!(f, "; {name} {}", journey.digest))
    }
}

impl Step {
    fn of(entry: Entry) -> Step {
        let name = entry
            .method_and_path()
            .replace("{{", "{")
            .replace("}}", "}");
        Step {
            endpoint: name.into(),
            entry,
        }
    }
}

fn steps(journey: &Arc<FileJourney>, users: &Arc<UserContext>) -> Vec<Transaction> {
    let rows = Arc::new(RowCounter::default());
    let (arriving, taken) = (Arc::clone(journey), Arc::clone(&rows));
    let arrive = arrives(users, move |visitor| {
        FileUser::new(&arriving, &taken, visitor)
    });
    let steps = (0..journey.steps.len()).map(|number| {
        let (journey, rows) = (Arc::clone(journey), Arc::clone(&rows));
        Transaction::new(Arc::new(move |user| {
            let (journey, rows) = (Arc::clone(&journey), Arc::clone(&rows));
            Box::pin(async move {
                let user: &mut FileUser = user.get_session_data_unchecked_mut();
                user.step(&journey, &rows, number).await;
                Ok(())
            })
        }))
    });
    [arrive].into_iter().chain(steps).collect()
}

#[cfg(test)]
mod tests {
    use miette::Diagnostic;

    use super::*;

    fn workspace() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    fn shipped_but(from: &str, to: &str) -> Config {
        let shipped = include_str!("../../../harness.toml");
        assert!(shipped.contains(from), "{from:?}");
        Config::parse(Path::new("harness.toml"), &shipped.replacen(from, to, 1)).unwrap()
    }

    #[test]
    fn the_shipped_files_are_valid_and_their_requests_have_names() {
        let config = shipped_but("", "");
        let journeys = JourneyFiles::read(&config, workspace()).unwrap();
        let endpoints: Vec<&str> = journeys.endpoints().collect();
        insta::assert_snapshot!(endpoints.join("\n"), @r"
        GET /api/analysis-engine/analysis/symbols/{symbol}
        POST /api/ml-prediction/predictions
        GET /api/market-data/quotes
        GET /api/market-data/quotes/{symbol}
        GET /api/market-data/quotes/{symbol}/history
        ");
    }

    #[test]
    fn other_requests_or_rows_are_another_plan() {
        let folder = tempfile::tempdir().unwrap();
        let rows = folder.path().join("rows.csv");
        std::fs::write(&rows, "symbol\nISA\n").unwrap();
        let shipped = "fixtures/platform/journeys/symbols.csv\", each = \"iteration";
        let other = format!("{}\", each = \"iteration", rows.display());
        let plan = |config: &Config| JourneyFiles::read(config, workspace()).unwrap().to_string();
        let (shipped, other) = (shipped_but("", ""), shipped_but(shipped, &other));
        assert_eq!(plan(&shipped), plan(&shipped));
        assert_ne!(plan(&shipped), plan(&other));
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (requests, rows) = ("journeys/browse.hurl", "journeys/symbols.csv");
        let cases = [
            (
                requests,
                folder.path().join("none.hurl").display().to_string(),
            ),
            (
                requests,
                path("capture.hurl", "GET {{api}}/{{other}}\nHTTP 200\n"),
            ),
            (
                requests,
                path(
                    "option.hurl",
                    "GET {{api}}/\n[Options]\nretry: 3\nHTTP 200\n",
                ),
            ),
            (rows, path("empty.csv", "symbol\n")),
            (rows, path("uneven.csv", "symbol\nISA\nGEB,1\n")),
            (rows, path("name.csv", "the symbol\nISA\n")),
            (rows, path("given.csv", "symbol,api\nISA,a\n")),
            (rows, path("token.csv", "symbol,visitor\nISA,a\n")),
            (rows, path("twice.csv", "symbol,symbol\nISA,GEB\n")),
            (requests, path("answer.hurl", "GET {{api}}/\n")),
        ];
        let refusals = cases.map(|(shipped, other)| {
            let config = shipped_but(&format!("fixtures/platform/{shipped}"), &other);
            let error = JourneyFiles::read(&config, workspace()).unwrap_err();
            let help = error.help().map(|it| it.to_string()).unwrap_or_default();
            format!("{error}\n  help: {help}").replace(&folder.path().display().to_string(), "DIR")
        });
        insta::assert_snapshot!(refusals.join("\n\n"));
    }
}
