//! Journeys that Hurl files describe: each request is a step of the user.

mod data;
mod user;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use environments::config::Config;
use environments::config::hurl::NamedFileError;
use environments::config::load::{JourneyConfig, JourneyFile, JourneySource};
use environments::environment::Credentials;
use goose::goose::Transaction;
use hurl_checks::{HurlFile, Options};
use load_engine::journey::{self, JourneyStep, UserVariables, WrittenJourney};
use sha2::{Digest, Sha256};
use tokens::TokenClaims;

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
    file: HurlFile,
    steps: Vec<JourneyStep>,
    data: Option<UserData>,
    tokens: BTreeMap<String, TokenClaims>,
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

    /// Returns journeys as the open engine reads them. Those in code are left out.
    pub(crate) fn written(
        &self,
        journeys: &BTreeMap<String, JourneyConfig>,
    ) -> Vec<WrittenJourney> {
        let written = self
            .of(journeys)
            .map(|(name, config, journey)| WrittenJourney {
                name: name.to_owned(),
                weight: config.weight,
                path: journey.file.path().to_owned(),
                text: journey.file.text().to_owned(),
                rows: journey.data.as_ref().map(|data| data.rows.clone()),
                thinks: config.thinks.clone(),
            });
        written.collect()
    }

    /// Returns what these journeys may read: only the secrets that they need.
    pub(crate) fn variables(
        &self,
        journeys: &BTreeMap<String, JourneyConfig>,
        credentials: &Credentials,
        run: &str,
    ) -> UserVariables {
        let mut variables = UserVariables {
            run: run.to_owned(),
            ..UserVariables::default()
        };
        for (_, _, journey) in self.of(journeys) {
            // Each is a variable of the file, also one that it does not read.
            variables.tokens.clone_from(&journey.tokens);
            for name in journey.steps.iter().flat_map(|step| step.entry.reads()) {
                if journey.tokens.contains_key(name) {
                    variables.jwt_secret.clone_from(&credentials.jwt_secret);
                }
                if name == "demo_password" {
                    let password = &credentials.demo_password;
                    variables.demo_password.clone_from(password);
                }
            }
        }
        variables
    }

    /// Returns the most requests of one arrival of these journeys, at least 1.
    pub(crate) fn most_requests(&self, journeys: &BTreeMap<String, JourneyConfig>) -> usize {
        let requests = self.of(journeys).map(|(_, _, journey)| journey.steps.len());
        requests.max().unwrap_or(1)
    }

    /// Returns what identifies the requests and rows of these journeys, for the plan of a result:
    /// `; browse 1f2e3d4c`.
    pub fn digests(&self, journeys: &BTreeMap<String, JourneyConfig>) -> String {
        let digests = self.of(journeys);
        digests
            .map(|(name, _, journey)| format!("; {name} {}", journey.digest))
            .collect()
    }

    fn of<'a>(
        &'a self,
        journeys: &'a BTreeMap<String, JourneyConfig>,
    ) -> impl Iterator<Item = (&'a str, &'a JourneyConfig, &'a FileJourney)> {
        journeys.iter().filter_map(|(name, config)| {
            let journey = self.0.get(name)?;
            Some((name.as_str(), config, &**journey))
        })
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
        let columns = data.iter().flat_map(|data| &data.rows.columns);
        let known = journey::known_variables(columns, &config.tokens);
        let parsed = config.read_hurl(workspace, &file.path, &file.place, &known)?;
        if let Some((line, what, help)) = not_of_a_user(&parsed) {
            let what = format!("{}:{line}: a journey's request {what}", file.path.display());
            let refused = config.refuse(file.place.clone(), what, Some(help.to_owned()));
            return Err(Box::new(refused).into());
        }
        Ok(FileJourney {
            digest: digest(parsed.text(), data.as_ref(), &config.tokens),
            steps: journey::steps(&parsed),
            file: parsed,
            data,
            tokens: config.tokens.clone(),
        })
    }
}

/// Returns the first request that a check may have and a journey may not: its line, what is wrong,
/// and what to do.
fn not_of_a_user(file: &HurlFile) -> Option<(usize, &'static str, &'static str)> {
    file.entries().iter().find_map(|entry| {
        let (what, help) = if entry.options() != Options::default() {
            (
                "has no [Options]",
                "leave them out: think_ms is the pause, and a failed request counts",
            )
        } else if entry.names_host() {
            (
                "names no host",
                "begin its URL with {{api}}: load is for the platform alone",
            )
        } else {
            return None;
        };
        Some((entry.line(), what, help))
    })
}

/// The `Debug` texts have all that makes another load: columns, rows, who takes them, and tokens.
fn digest(text: &str, data: Option<&UserData>, tokens: &BTreeMap<String, TokenClaims>) -> String {
    let digest = Sha256::digest(format!("{text:?} {data:?} {tokens:?}"));
    digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
        GET /market-data/quotes/{symbol}/history
        GET /market-data/quotes/{symbol}
        GET /market-data/quotes
        ");
    }

    #[test]
    fn generators_get_only_the_secrets_that_their_journeys_read() {
        let config = shipped_but("", "");
        let files = JourneyFiles::read(&config, workspace()).unwrap();
        let credentials = Credentials {
            jwt_secret: "key".into(),
            demo_password: "open sesame".into(),
        };
        let steady = &config.profiles["steady"].journeys;
        let variables = files.variables(steady, &credentials, "run");
        assert_eq!(
            (variables.jwt_secret, variables.demo_password),
            Default::default()
        );
        let browse =
            BTreeMap::from([("browse".to_owned(), config.load.journeys["browse"].clone())]);
        let variables = files.variables(&browse, &credentials, "run");
        assert_eq!(variables.jwt_secret, "key");
        assert_eq!(variables.demo_password, "");
    }

    #[test]
    fn other_requests_or_rows_are_another_plan() {
        let folder = tempfile::tempdir().unwrap();
        let rows = folder.path().join("rows.csv");
        std::fs::write(&rows, "symbol\nISA\n").unwrap();
        let shipped = "fixtures/platform/journeys/symbols.csv\", each = \"iteration";
        let other = format!("{}\", each = \"iteration", rows.display());
        let plan = |config: &Config| {
            let files = JourneyFiles::read(config, workspace()).unwrap();
            files.digests(&config.profiles["average"].journeys)
        };
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
            (
                requests,
                path("host.hurl", "GET http://other.test/\nHTTP 200\n"),
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
