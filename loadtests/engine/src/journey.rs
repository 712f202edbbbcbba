//! Journeys in Hurl's format, as both engines run them. <https://hurl.dev>
//!
//! A journey's file is text until an engine [parses](WrittenJourney::steps) it, so that it can be
//! sent to generators in a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hurl_checks::{Entry, HurlFile, HurlFileError, Response, Variables};
use serde::{Deserialize, Serialize};
use tokens::{TokenClaims, Tokens};

use crate::result::CHECK;

/// A journey as its files have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenJourney {
    /// Its name in `[load.journeys]`.
    pub name: String,
    /// How often it is chosen, relative to the other weights.
    pub weight: u32,
    /// The file, for messages.
    pub path: PathBuf,
    /// The file's text.
    pub text: String,
    /// Rows whose columns are variables.
    pub rows: Option<Rows>,
    /// The wait between two requests: uniformly distributed, in whole milliseconds.
    pub thinks: RangeInclusive<Duration>,
}

/// Rows of data: names of variables, and their values in each row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// The names.
    pub columns: Vec<String>,
    /// The values; at least one row, each as long as the columns.
    pub values: Vec<Vec<String>>,
}

/// What requests may read beside the rows of their journey. It has secrets, and is never printed.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserVariables {
    /// The run's id, which is part of `{{unique}}`.
    pub run: String,
    /// The claims of the tokens, by the names of their variables.
    pub tokens: BTreeMap<String, TokenClaims>,
    /// The key that signs the tokens.
    pub jwt_secret: String,
    /// `{{demo_password}}`
    pub demo_password: String,
}

/// One request of a journey.
#[derive(Clone, Debug)]
pub struct JourneyStep {
    /// The name in results: the method, and the path with placeholders.
    pub endpoint: Arc<str>,
    /// The request, and what it expects.
    pub entry: Entry,
}

impl WrittenJourney {
    /// A journey of one `GET`, which must be answered with 200. Its name is that in results.
    pub fn get(path: &str) -> WrittenJourney {
        let text = format!("GET {{{{api}}}}{path}\nHTTP 200\n");
        WrittenJourney::of(&format!("GET {path}"), &text)
    }

    /// A journey with this text, without rows and think time.
    pub fn of(name: &str, text: &str) -> WrittenJourney {
        WrittenJourney {
            name: name.to_owned(),
            weight: 1,
            path: PathBuf::from(format!("{name}.hurl")),
            text: text.to_owned(),
            rows: None,
            thinks: Duration::ZERO..=Duration::ZERO,
        }
    }

    /// Parses the file.
    ///
    /// # Errors
    /// As [`HurlFile::parse`].
    pub fn steps(
        &self,
        tokens: &BTreeMap<String, TokenClaims>,
    ) -> Result<Vec<JourneyStep>, HurlFileError> {
        let columns = self.rows.iter().flat_map(|rows| &rows.columns);
        let known = known_variables(columns, tokens);
        Ok(steps(&HurlFile::parse(&self.path, &self.text, &known)?))
    }
}

/// Returns the variables that have a value before the first request of a journey.
pub fn known_variables<'a>(
    columns: impl IntoIterator<Item = &'a String>,
    tokens: &'a BTreeMap<String, TokenClaims>,
) -> BTreeSet<String> {
    let given = ["api", "unique", "demo_password"].map(str::to_owned);
    let named = columns.into_iter().chain(tokens.keys()).cloned();
    named.chain(given).collect()
}

/// Returns the variables of a user before its first request, without its row and its tokens.
pub fn given_variables(api: &str, unique: &str, demo_password: &str) -> Variables {
    let mut variables = Variables::new();
    variables.insert("api", api);
    variables.insert("unique", unique);
    variables.insert_secret("demo_password", demo_password);
    variables
}

/// Returns the requests of a file.
pub fn steps(file: &HurlFile) -> Vec<JourneyStep> {
    file.entries()
        .iter()
        .cloned()
        .map(JourneyStep::of)
        .collect()
}

impl Rows {
    /// Returns the columns of a row with their values. After the last row, the first is next.
    pub fn row(&self, number: usize) -> impl Iterator<Item = (&String, &String)> {
        let values = &self.values[number % self.values.len()];
        self.columns.iter().zip(values)
    }
}

/// Returns the name of a run's user with this number, from 1: the value of `{{unique}}`.
pub fn user_name(run: &str, number: u64) -> String {
    format!("load-{run}-{number}")
}

impl JourneyStep {
    fn of(entry: Entry) -> JourneyStep {
        let name = entry
            .method_and_path()
            .replace("{{", "{")
            .replace("}}", "}");
        JourneyStep {
            endpoint: name.into(),
            entry,
        }
    }

    /// Signs the tokens that the request reads for the user `unique`. Each request has new ones,
    /// which have not expired.
    pub fn sign(
        &self,
        variables: &mut Variables,
        unique: &str,
        claims: &BTreeMap<String, TokenClaims>,
        tokens: &Tokens,
    ) {
        for name in self.entry.reads() {
            if let Some(TokenClaims { subject, role }) = claims.get(name) {
                let subject = subject.replace("{unique}", unique);
                variables.insert_secret(name, tokens.token(&subject, role));
            }
        }
    }

    /// Evaluates an answer, and sets the variables that the request captures.
    ///
    /// # Errors
    /// The name of the failure: `status 500`, or `check: ` and the line that does not hold.
    pub fn evaluate(&self, response: &Response, variables: &mut Variables) -> Result<(), String> {
        let assertions = self.entry.evaluate(response, variables);
        match assertions.iter().find(|it| it.failure.is_some()) {
            None => Ok(()),
            Some(status) if assertions.len() == 1 && status.text.starts_with("HTTP ") => {
                Err(format!("status {}", response.status.as_u16()))
            }
            Some(assertion) => Err(format!("{CHECK}{}", assertion.text.trim())),
        }
    }
}
