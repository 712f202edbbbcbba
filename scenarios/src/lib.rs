//! The scenarios, which prove claims about a running environment. Each family has a file.
//!
//! A scenario does not know which target it runs on. It acts on an [`Environment`] over HTTP
//! and records each observation as one [`Check`](base::run::event::Check).

pub mod blue_green;
pub mod catalogue;
pub mod client;
mod late_requests;
mod log_lines;
pub mod rolling;
pub mod smoke;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ::blue_green::VersionSources;
use base::entry_point::EntryPoint;
use base::home::Home;
use base::run::event::{CheckOutcome, Failure, Happening, Stage};
use base::run::release::ReleaseTraffic;
use base::run::{Run, RunFolderError, millis};
use environments::capability::Capability;
use environments::environment::{Credentials, Environment};
use log_lines::LogPositions;
use smoke::SmokeChecks;

/// A result whose only error is that the run folder cannot be written.
pub type RunResult<T = ()> = Result<T, RunFolderError>;

/// What a scenario acts on.
pub struct Subject<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// The versions of services that differ from the environment's, after blue-green releases.
    pub versions: BTreeMap<String, String>,
    /// The address for its requests.
    pub entry: &'a EntryPoint,
    /// The credentials to log in and to sign tokens.
    pub credentials: &'a Credentials,
    /// How the versions of services are known.
    pub version_sources: &'a VersionSources,
    /// The smoke checks.
    pub checks: &'a SmokeChecks,
    /// The directory of the environment's state.
    pub home: &'a Home,
    /// The time limit of one check.
    pub check_deadline: Duration,
    /// Whether to plant a fault that breaks the claim.
    pub sabotage: bool,
}

/// A running scenario, which records its checks.
pub struct Scenario<'a> {
    name: &'static str,
    run: &'a mut Run,
    subject: &'a Subject<'a>,
    started: std::time::Instant,
    logs: LogPositions,
    /// The failed checks of the run when it started.
    failed_before: usize,
}

/// A failed check.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The expected state.
    pub expected: String,
    /// The actual state.
    pub seen: String,
    /// Where to look.
    pub look_at: String,
    /// The command that shows more.
    pub next: String,
}

/// Why a claim is not proven.
#[derive(Debug)]
pub enum Unmet {
    /// The claim is false.
    Failed(Mismatch),
    /// There is not enough evidence. The sentence says what is missing.
    Inconclusive(String),
}

impl From<Mismatch> for Unmet {
    fn from(mismatch: Mismatch) -> Self {
        Unmet::Failed(mismatch)
    }
}

impl<'a> Scenario<'a> {
    /// Starts a scenario. `claim` says in one sentence what it proves.
    pub fn start(
        run: &'a mut Run,
        subject: &'a Subject<'a>,
        name: &'static str,
        claim: &str,
    ) -> RunResult<Self> {
        run.record(Happening::ScenarioStarted {
            scenario: name.into(),
            claim: claim.into(),
        })?;
        Ok(Scenario {
            name,
            failed_before: run.checks().failed,
            run,
            subject,
            started: std::time::Instant::now(),
            logs: LogPositions::now(subject.environment),
        })
    }

    /// Makes one observation. Returns its value, for later checks that depend on it.
    pub async fn check<T>(
        &mut self,
        claim: &str,
        observe: impl Future<Output = Result<(T, String), Mismatch>>,
    ) -> RunResult<Option<T>> {
        self.evaluate(claim, async { observe.await.map_err(Unmet::from) })
            .await
    }

    /// As [`Scenario::check`], for an observation that may be inconclusive.
    pub async fn evaluate<T>(
        &mut self,
        claim: &str,
        observe: impl Future<Output = Result<(T, String), Unmet>>,
    ) -> RunResult<Option<T>> {
        let mut yielded = None;
        let outcome = async {
            match observe.await {
                Ok((value, seen)) => {
                    yielded = Some(value);
                    CheckOutcome::Passed { seen }
                }
                Err(Unmet::Failed(mismatch)) => CheckOutcome::Failed {
                    failure: mismatch.into_failure(claim),
                },
                Err(Unmet::Inconclusive(because)) => CheckOutcome::Inconclusive { because },
            }
        };
        self.run
            .check(self.name, claim, self.subject.check_deadline, outcome)
            .await?;
        Ok(yielded)
    }

    /// Records a failed check for a step of the scenario itself.
    pub(crate) async fn record_failure(&mut self, claim: &str, mismatch: Mismatch) -> RunResult {
        let failed = self.check::<()>(claim, async { Err(mismatch) });
        failed.await.map(drop)
    }

    /// Records a check that is skipped, because a check that it depends on failed, or because the
    /// environment lacks a capability.
    pub async fn skip(&mut self, claim: &str, because: &str) -> RunResult {
        let because = because.to_owned();
        let outcome = async { CheckOutcome::Skipped { because } };
        self.run
            .check(self.name, claim, self.subject.check_deadline, outcome)
            .await
    }

    /// Returns whether the environment has the capability that these checks need. If it does not,
    /// the checks are skipped.
    pub async fn can(&mut self, capability: Capability, claims: &[&str]) -> RunResult<bool> {
        let Some(because) = self.subject.environment.lacks(capability) else {
            return Ok(true);
        };
        for claim in claims {
            self.skip(claim, &because).await?;
        }
        Ok(false)
    }

    /// Shows the progress of a long step, without recording it.
    pub fn progress(&mut self, text: &str) {
        self.run.progress(Stage::Verify, text);
    }

    /// Returns a function that shows the progress of a long step.
    pub fn progress_reporter(&mut self) -> impl Fn(&str) + Sync {
        self.run.progress_reporter(Stage::Verify)
    }

    /// Records a note for the report.
    pub fn note(&mut self, text: impl Into<String>) -> RunResult {
        self.run.note(Stage::Verify, text)
    }

    /// Records the traffic during a release, for the report's charts.
    pub fn released(&mut self, traffic: ReleaseTraffic) -> RunResult {
        let traffic = Box::new(ReleaseTraffic {
            scenario: self.name.to_owned(),
            ..traffic
        });
        self.run.record(Happening::ReleaseObserved { traffic })
    }

    /// Ends the scenario. If a check failed, records the lines of logs that may explain it.
    pub async fn finish(self) -> RunResult {
        let elapsed = self.started.elapsed();
        if self.run.checks().failed > self.failed_before {
            let folder = self.run.folder();
            let logs = self.logs.excerpts(self.subject, folder, elapsed).await;
            if !logs.is_empty() {
                self.run.record(Happening::LogLines {
                    scenario: self.name.into(),
                    logs,
                })?;
            }
        }
        self.run.record(Happening::ScenarioFinished {
            scenario: self.name.into(),
            millis: millis(elapsed),
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
    /// Returns the version that a service must have.
    pub fn version(&self, service: &str) -> &str {
        let released = self.versions.get(service);
        released.unwrap_or(&self.environment.version)
    }

    /// Returns the path of a part's log.
    pub fn log_of(&self, part: &str) -> PathBuf {
        self.environment
            .run_folder
            .join(base::run::LOGS)
            .join(format!("{part}.log"))
    }
}
