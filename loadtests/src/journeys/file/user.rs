//! A user of a journey that a file describes.

use environments::config::load::DataRows;
use hurl_checks::{Response, Variables};
use load_engine::journey::{Rows, given_variables};

use super::FileJourney;
use super::data::RowCounter;
use crate::journeys::visitor::Visitor;
use crate::users::Unanswered;

/// A user, with the variables that its requests read and capture.
#[derive(Clone)]
pub(super) struct FileUser {
    visitor: Visitor,
    /// Before the first request of a repetition.
    given: Variables,
    variables: Variables,
}

impl FileUser {
    pub fn new(journey: &FileJourney, rows: &RowCounter, visitor: Visitor) -> FileUser {
        let mut given = given_variables(visitor.base(), &visitor.investor, visitor.password());
        if let Some(data) = &journey.data
            && data.each == DataRows::User
        {
            take_row(&mut given, &data.rows, rows);
        }
        FileUser {
            visitor,
            variables: given.clone(),
            given,
        }
    }

    /// Makes the request of this number.
    pub async fn step(&mut self, journey: &FileJourney, rows: &RowCounter, number: usize) {
        if number == 0 {
            self.begin_repetition(journey, rows);
        }
        let step = &journey.steps[number];
        let (tokens, investor) = (self.visitor.tokens(), &self.visitor.investor);
        step.sign(&mut self.variables, investor, &journey.tokens, tokens);
        // The request that captures it has failed in this repetition, and is counted.
        if step.entry.without_value(&self.variables).next().is_some() {
            return;
        }
        let request = match step.entry.request(&self.variables) {
            Ok(request) => request
                .try_into()
                .map_err(|_| Unanswered::Unsendable.to_string()),
            Err(error) => Err(format!("{}: {error}", Unanswered::Unsendable)),
        };
        let variables = &mut self.variables;
        let check = |response: &Response| step.evaluate(response, variables);
        self.visitor
            .send(step.endpoint.clone(), request, check)
            .await;
    }

    /// Forgets what the last repetition captured.
    fn begin_repetition(&mut self, journey: &FileJourney, rows: &RowCounter) {
        self.variables.clone_from(&self.given);
        if let Some(data) = &journey.data
            && data.each == DataRows::Iteration
        {
            take_row(&mut self.variables, &data.rows, rows);
        }
    }
}

fn take_row(variables: &mut Variables, rows: &Rows, taken: &RowCounter) {
    for (name, value) in rows.row(taken.next()) {
        variables.insert(name, value.as_str());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use base::entry_point::EntryPoint;
    use environments::config::Config;
    use environments::config::load::JourneySource;
    use environments::environment::Credentials;
    use prober::IdentityHeaders;

    use super::*;
    use crate::users::{PlatformAccess, UserContext};

    fn users() -> Arc<UserContext> {
        let credentials = Credentials {
            jwt_secret: "key".into(),
            demo_password: "open sesame".into(),
        };
        let reach = PlatformAccess {
            entry: &EntryPoint::plain("127.0.0.1:1".parse().unwrap()),
            api_host: "api.trii.co",
            credentials: &credentials,
            max_rate: None,
            timeout: Duration::from_secs(1),
            run: "run",
            headers: &IdentityHeaders::default(),
        };
        Arc::new(UserContext::new(&reach).unwrap())
    }

    /// The shipped journey `browse`, whose data is taken by `each`.
    fn journey(each: DataRows) -> FileJourney {
        let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let config = Config::read(&workspace.join("harness.toml")).unwrap();
        let JourneySource::File(file) = &config.load.journeys["browse"].source else {
            panic!("browse is a file");
        };
        let mut journey = FileJourney::read(&config, workspace, file).unwrap();
        journey.tokens = BTreeMap::new();
        journey.data.as_mut().unwrap().each = each;
        journey
    }

    fn symbol(user: &FileUser) -> String {
        format!("{:?}", user.variables.get("symbol"))
    }

    #[test]
    fn rows_are_taken_in_turn_by_users_or_by_repetitions() {
        let users = users();
        let by_each = [DataRows::User, DataRows::Iteration].map(|each| {
            let (journey, rows) = (journey(each), RowCounter::default());
            let mut taken = Vec::new();
            for _ in 0..2 {
                let mut user = FileUser::new(&journey, &rows, Visitor::new(&users));
                for _ in 0..2 {
                    user.begin_repetition(&journey, &rows);
                    taken.push(symbol(&user));
                }
            }
            taken
        });
        let of = |name: &str| format!("{:?}", Some(hurl_checks::Value::from(name)));
        let by_user = ["ECOPETROL", "ECOPETROL", "ISA", "ISA"].map(of);
        let by_iteration = ["ECOPETROL", "ISA", "GEB", "CIBEST"].map(of);
        assert_eq!(by_each, [by_user, by_iteration].map(Vec::from));
    }

    #[test]
    fn a_repetition_forgets_what_the_last_one_captured() {
        let (journey, rows) = (journey(DataRows::User), RowCounter::default());
        let mut user = FileUser::new(&journey, &rows, Visitor::new(&users()));
        user.variables.insert("order", "1");
        user.begin_repetition(&journey, &rows);
        assert!(user.variables.get("order").is_none());
        assert!(user.variables.get("unique").is_some());
    }
}
