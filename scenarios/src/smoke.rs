//! SCENARIOS 1: the services reach each other, and return correct numbers.

mod checks;
mod edges;
mod metrics;
mod predictions;

use base::run::Run;
use environments::capability::Capability;
use environments::config::CodedChecks;
use tokens::Tokens;

pub use checks::SmokeChecks;

use crate::client::PlatformClient;
use crate::{Mismatch, RunResult, Scenario, Subject};

/// The scenario's name when the requests come from outside, as users send them.
pub const NAME: &str = "smoke";

/// The scenario's name when the requests come from inside the cluster.
pub const FROM_INSIDE: &str = "smoke-from-inside";

/// What it proves.
pub const CLAIM: &str = "the platform answers as its smoke checks expect";

pub(crate) const PREPARED: &str = "the scenario can be prepared";
const REACHABLE: &str = "the platform can be reached";

struct Smoke<'a> {
    subject: &'a Subject<'a>,
    client: PlatformClient,
    tokens: Tokens,
}

/// Runs the scenario under `name`.
///
/// It uses its own symbols and investor, so that it can run beside other users, and repeatedly. If
/// the environment does not allow writes, it only reads.
pub async fn run(run: &mut Run, subject: &Subject<'_>, name: &'static str) -> RunResult {
    let mut scenario = Scenario::start(run, subject, name, CLAIM)?;
    match prepare(subject) {
        Ok(smoke) => smoke.all(&mut scenario).await?,
        Err(mismatch) => scenario.record_failure(PREPARED, mismatch).await?,
    }
    scenario.finish().await
}

/// Records under `name` that the environment cannot be reached.
pub async fn unreachable(
    run: &mut Run,
    subject: &Subject<'_>,
    name: &'static str,
    why: Mismatch,
) -> RunResult {
    let mut scenario = Scenario::start(run, subject, name, CLAIM)?;
    scenario.record_failure(REACHABLE, why).await?;
    scenario.finish().await
}

/// Records under `name` that the scenario is skipped.
pub async fn skipped(
    run: &mut Run,
    subject: &Subject<'_>,
    name: &'static str,
    because: &str,
) -> RunResult {
    let mut scenario = Scenario::start(run, subject, name, CLAIM)?;
    scenario.skip(REACHABLE, because).await?;
    scenario.finish().await
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
        client: PlatformClient::new(subject.environment, subject.entry)
            .map_err(|error| unprepared(base::chain(&error)))?,
        tokens: Tokens::new(&subject.credentials.jwt_secret),
    })
}

impl Smoke<'_> {
    async fn all(&self, scenario: &mut Scenario<'_>) -> RunResult {
        self.checks(scenario).await?;
        for coded in &self.subject.checks.coded {
            match coded {
                CodedChecks::Metrics => self.counted(scenario).await?,
                CodedChecks::Predictions => self.prediction(scenario).await?,
                CodedChecks::Edges => self.edges(scenario).await?,
            }
        }
        self.nothing_lost(scenario).await
    }

    async fn nothing_lost(&self, scenario: &mut Scenario<'_>) -> RunResult {
        let claim = "no part was lost or restarted";
        if !scenario.can(Capability::Watched, &[claim]).await? {
            return Ok(());
        }
        let checked = scenario.check(claim, async {
            let environment = self.subject.environment;
            let folder = environments::environment::EnvironmentFolder::of(
                self.subject.home,
                &environment.name,
            );
            let mismatch = |seen: String| Mismatch {
                expected: format!("all {} parts as they were", environment.parts.len()),
                seen,
                look_at: self.subject.log_of("supervisor").display().to_string(),
                next: format!("cargo xtask status --name {}", environment.name),
            };
            let now = folder
                .read(&environment.name)
                .map_err(|error| mismatch(error.to_string()))?;
            match now.lost.is_empty() && now.supervisor == environment.supervisor {
                true => Ok(((), format!("{} parts, none lost", now.parts.len()))),
                false => Err(mismatch(now.lost.join("; "))),
            }
        });
        checked.await.map(|_| ())
    }
}
