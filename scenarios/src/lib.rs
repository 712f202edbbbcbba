//! What is proven about a running environment, one file a scenario family.
//!
//! A scenario never asks which target it is on: it acts on an [`Environment`] over HTTP
//! and records one [`Check`](harness::run::event::Check) an observation.

pub mod blue_green;
pub mod catalogue;
pub mod client;
pub mod smoke;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use harness::capability::Capability;
use harness::entry::Entry;
use harness::environment::{Credentials, Environment};
use harness::home::Home;
use harness::run::event::{Failure, Happening, Outcome, Stage};
use harness::run::{Run, RunFolderError, millis};
use harness::service::Service;

/// What a scenario acts on.
pub struct Subject<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// The services that have another version than the environment: those that are
    /// released blue-green.
    pub versions: BTreeMap<Service, String>,
    /// Where it is looked at from.
    pub entry: &'a Entry,
    /// What to log in and sign tokens with.
    pub credentials: &'a Credentials,
    /// Where the environment's state is kept.
    pub home: &'a Home,
    /// How long one check may take.
    pub check_deadline: Duration,
    /// Whether a fault is to be planted that breaks the claim.
    pub sabotage: bool,
}

/// A scenario under way: records its checks.
pub struct Scenario<'a> {
    name: &'static str,
    run: &'a mut Run,
    subject: &'a Subject<'a>,
    begun: std::time::Instant,
}

/// A claim that did not hold.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// What was expected.
    pub expected: String,
    /// What was seen instead.
    pub seen: String,
    /// Where to look.
    pub look_at: String,
    /// The command that shows more.
    pub next: String,
}

/// Why a claim is not met.
#[derive(Debug)]
pub enum Unmet {
    /// It does not hold.
    Failed(Mismatch),
    /// There is not enough evidence to say so: what is lacking, in one sentence.
    Inconclusive(String),
}

impl From<Mismatch> for Unmet {
    fn from(mismatch: Mismatch) -> Self {
        Unmet::Failed(mismatch)
    }
}

/// What a check saw: the evidence, or what it saw instead.
pub type Seen = Result<String, Mismatch>;

impl<'a> Scenario<'a> {
    /// Begins a scenario; `claim` is what it proves, in one sentence.
    pub fn begin(
        run: &'a mut Run,
        subject: &'a Subject<'a>,
        name: &'static str,
        claim: &str,
    ) -> Result<Self, RunFolderError> {
        run.record(Happening::ScenarioStarted {
            scenario: name.into(),
            claim: claim.into(),
        })?;
        Ok(Scenario {
            name,
            run,
            subject,
            begun: std::time::Instant::now(),
        })
    }

    /// Makes one observation. What it yields is there for checks that build on it.
    pub async fn check<T>(
        &mut self,
        claim: &str,
        observe: impl Future<Output = Result<(T, String), Mismatch>>,
    ) -> Result<Option<T>, RunFolderError> {
        self.judge(claim, async { observe.await.map_err(Unmet::from) })
            .await
    }

    /// As [`Scenario::check`], where the evidence may not be enough either way.
    pub async fn judge<T>(
        &mut self,
        claim: &str,
        observe: impl Future<Output = Result<(T, String), Unmet>>,
    ) -> Result<Option<T>, RunFolderError> {
        let mut yielded = None;
        let outcome = async {
            match observe.await {
                Ok((value, seen)) => {
                    yielded = Some(value);
                    Outcome::Passed { seen }
                }
                Err(Unmet::Failed(mismatch)) => Outcome::Failed {
                    failure: mismatch.into_failure(claim),
                },
                Err(Unmet::Inconclusive(because)) => Outcome::Inconclusive { because },
            }
        };
        self.run
            .check(self.name, claim, self.subject.check_deadline, outcome)
            .await?;
        Ok(yielded)
    }

    /// A check that cannot be made, because one it builds on did not hold, or the
    /// environment cannot do what it takes.
    pub async fn skip(&mut self, claim: &str, because: &str) -> Result<(), RunFolderError> {
        let because = because.to_owned();
        let outcome = async { Outcome::Skipped { because } };
        self.run
            .check(self.name, claim, self.subject.check_deadline, outcome)
            .await
    }

    /// Whether the environment can do what these checks take; where not, they are skipped.
    pub async fn can(
        &mut self,
        capability: Capability,
        claims: &[&str],
    ) -> Result<bool, RunFolderError> {
        let Some(because) = self.subject.environment.lacks(capability) else {
            return Ok(true);
        };
        for claim in claims {
            self.skip(claim, &because).await?;
        }
        Ok(false)
    }

    /// Tells whoever follows the run what a long step is doing right now; not kept.
    pub fn progress(&mut self, text: &str) {
        self.run.progress(Stage::Verify, text);
    }

    /// Records what a reader of the report should know.
    pub fn note(&mut self, text: impl Into<String>) -> Result<(), RunFolderError> {
        self.run.note(Stage::Verify, text)
    }

    /// Ends the scenario.
    pub fn finish(self) -> Result<(), RunFolderError> {
        let millis = millis(self.begun.elapsed());
        self.run.record(Happening::ScenarioFinished {
            scenario: self.name.into(),
            millis,
        })
    }
}

impl Mismatch {
    fn into_failure(self, claim: &str) -> Failure {
        Failure {
            what: format!("it does not hold that {claim}"),
            expected: self.expected,
            seen: self.seen,
            look_at: self.look_at,
            next: self.next,
        }
    }
}

impl Subject<'_> {
    /// The version that a service is expected to be.
    pub fn version(&self, service: Service) -> &str {
        let own = self.versions.get(&service);
        own.unwrap_or(&self.environment.version)
    }

    /// The log of a service, for whoever looks for the cause.
    pub fn log_of(&self, part: &str) -> PathBuf {
        self.environment
            .run_folder
            .join(harness::run::LOGS)
            .join(format!("{part}.log"))
    }
}
