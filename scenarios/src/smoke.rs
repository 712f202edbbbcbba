//! SCENARIOS 1: every part is wired to the others, and the numbers that come out are right.

mod account;
mod edges;
mod wiring;

use harness::capability::Capability;
use harness::environment::DEMO_INVESTOR;
use harness::run::{Run, RunFolderError};
use reqwest::Method;

use crate::client::Client;
use crate::{Mismatch, Scenario, Subject};
use harness::tokens::Tokens;

/// The scenario's name, as users of the platform see it.
pub const NAME: &str = "smoke";

/// Its name where it is looked at from inside the cluster.
pub const FROM_INSIDE: &str = "smoke-from-inside";

/// What it proves.
pub const CLAIM: &str = "every route answers in the expected version, and an order flows from quote to analysis with exact numbers";

const WAY_IN: &str = "there is a way in";

/// What every part of the scenario needs.
struct Smoke<'a> {
    subject: &'a Subject<'a>,
    client: Client,
    tokens: Tokens,
}

/// Runs the scenario under `name`.
///
/// It writes ticks for symbols and a portfolio for an investor that are this run's own,
/// so that it can run beside other users of the environment, and again. Where the
/// environment does not allow that, it only reads.
pub async fn run(
    run: &mut Run,
    subject: &Subject<'_>,
    name: &'static str,
) -> Result<(), RunFolderError> {
    let mut scenario = Scenario::begin(run, subject, name, CLAIM)?;
    match prepare(subject) {
        Ok(smoke) => smoke.all(&mut scenario).await?,
        Err(reason) => {
            let nothing =
                scenario.check::<()>("the scenario can be prepared", async { Err(reason) });
            nothing.await?;
        }
    }
    scenario.finish()
}

/// The scenario under `name` where there is no way to where it is looked at from.
pub async fn no_way(
    run: &mut Run,
    subject: &Subject<'_>,
    name: &'static str,
    why: Mismatch,
) -> Result<(), RunFolderError> {
    let mut scenario = Scenario::begin(run, subject, name, CLAIM)?;
    let nothing = scenario.check::<()>(WAY_IN, async { Err(why) });
    nothing.await?;
    scenario.finish()
}

/// The scenario under `name` where nobody may look from there.
pub async fn skipped(
    run: &mut Run,
    subject: &Subject<'_>,
    name: &'static str,
    because: &str,
) -> Result<(), RunFolderError> {
    let mut scenario = Scenario::begin(run, subject, name, CLAIM)?;
    scenario.skip(WAY_IN, because).await?;
    scenario.finish()
}

fn prepare<'a>(subject: &'a Subject<'a>) -> Result<Smoke<'a>, Mismatch> {
    let unprepared = |seen: String| Mismatch {
        expected: "an HTTP client, and tokens signed with the run's key".into(),
        seen,
        look_at: "this machine".into(),
        next: "cargo xtask doctor".into(),
    };
    Ok(Smoke {
        subject,
        client: Client::new(subject.environment, subject.entry)
            .map_err(|error| unprepared(harness::chain(&error)))?,
        tokens: Tokens::new(&subject.credentials.jwt_secret),
    })
}

impl Smoke<'_> {
    async fn all(&self, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
        let investor = self.login(scenario).await?;
        self.wiring(scenario, investor.as_deref()).await?;
        self.account(scenario).await?;
        self.edges(scenario).await?;
        self.nothing_lost(scenario).await
    }

    /// The seeded investor's token, from the gateway itself.
    async fn login(&self, scenario: &mut Scenario<'_>) -> Result<Option<String>, RunFolderError> {
        scenario
            .check("a seeded investor can log in", async {
                let password = &self.subject.credentials.demo_password;
                let answer = self
                    .client
                    .site(Method::POST, "/api/login")
                    .json(serde_json::json!({"investor": DEMO_INVESTOR, "password": password}))
                    .send()
                    .await?
                    .expect(200)?;
                match answer.json()?["token"].as_str() {
                    Some(token) => Ok((token.to_owned(), "200 with a token".into())),
                    None => Err(answer.mismatch("a token", "an answer without one")),
                }
            })
            .await
    }

    async fn nothing_lost(&self, scenario: &mut Scenario<'_>) -> Result<(), RunFolderError> {
        let claim = "no part was lost or restarted meanwhile";
        if !scenario.can(Capability::Watched, &[claim]).await? {
            return Ok(());
        }
        let looked = scenario.check(claim, async {
            let environment = self.subject.environment;
            let folder =
                harness::environment::EnvironmentFolder::of(self.subject.home, &environment.name);
            let trouble = |seen: String| Mismatch {
                expected: format!("all {} parts as they were", environment.parts.len()),
                seen,
                look_at: self.subject.log_of("supervisor").display().to_string(),
                next: format!("cargo xtask status --name {}", environment.name),
            };
            let now = folder
                .read(&environment.name)
                .map_err(|error| trouble(error.to_string()))?;
            match now.lost.is_empty() && now.supervisor == environment.supervisor {
                true => Ok(((), format!("{} parts, none lost", now.parts.len()))),
                false => Err(trouble(now.lost.join("; "))),
            }
        });
        looked.await.map(|_| ())
    }
}
