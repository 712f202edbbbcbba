//! A run of the deployers, from its plan to its report.

use std::pin::pin;

use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::Run;
use base::run::event::{Failure, Stage, StageResult};
use blue_green::{
    BlueGreenError, Conclusion, Deployer, GroupConclusion, Operation, ReleaseEvent, run_together,
};
use machine::images::Supply;
use miette::Diagnostic;
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::target::{ReleaseTarget, Released};
use crate::invocation::interrupts;
use crate::outcome::{CommandOutcome, conclude, failed, interrupted};
use crate::problem::Problem;

pub struct ReleaseCommand<'a> {
    pub target: &'a ReleaseTarget<'a>,
    pub services: Vec<Released>,
    pub operation: Operation<'a>,
    pub supply: Supply,
    /// The id of the release, by default that of the run.
    pub id: Option<&'a str>,
}

/// How the deployers ended.
enum Followed {
    /// Without a signal.
    GroupConclusion(GroupConclusion),
    /// This signal cancelled the release.
    Cancelled(ExitCode),
    /// A second signal came after this one. The release stays as it is, and its run is not ended.
    Abandoned(ExitCode),
}

impl ReleaseCommand<'_> {
    pub async fn carry_out(&self) -> Result<CommandOutcome, Problem> {
        let mut interrupts = interrupts()?;
        let ReleaseTarget {
            invocation,
            environment,
            name: target,
            ..
        } = self.target;
        let started = invocation.start_run("blue-green", (target, environment), "which is up");
        let mut run = started.await?;
        let followed = async {
            let prober_image = self.bring(&mut run, &mut interrupts).await?;
            let prober_image = prober_image.as_deref();
            self.follow(&mut run, prober_image, &mut interrupts).await
        };
        let ended = match followed.await {
            Ok(Followed::Abandoned(signal)) => return Err(Problem::ended(signal)),
            Ok(Followed::Cancelled(signal)) => Err(interrupted(&mut run, signal)),
            Ok(Followed::GroupConclusion(concluded)) => self.record(&mut run, &concluded),
            Err(problem) => Err(problem),
        };
        let next = ended.as_ref().ok().cloned();
        let outcome = conclude(run, ended.map(|_| ()))?;
        Ok(match next {
            Some(next) => outcome.with_note(next),
            None => outcome,
        })
    }

    /// Brings the version and the prober. Returns the prober's image.
    async fn bring(
        &self,
        run: &mut Run,
        interrupts: &mut Interrupts,
    ) -> Result<Option<String>, Problem> {
        run.begin(Stage::Deploy)?;
        let progress = run.progress_reporter(Stage::Deploy);
        let brought = tokio::select! {
            brought = self.target.bring(self.operation, self.supply, &progress) => Ok(brought),
            signal = interrupts.next() => Err(signal),
        };
        drop(progress);
        match brought {
            Ok(Ok(prober_image)) => Ok(prober_image),
            Ok(Err(failure)) => Err(failed(run, ExitCode::NoEnvironment, [failure])),
            Err(signal) => Err(interrupted(run, signal)),
        }
    }

    /// Runs the deployers and records their events. The first signal cancels the release, which the
    /// deployers handle. A second signal leaves the release as it is.
    async fn follow(
        &self,
        run: &mut Run,
        prober_image: Option<&str>,
        interrupts: &mut Interrupts,
    ) -> Result<Followed, Problem> {
        let output = &self.target.invocation.context.output;
        let cancel = CancellationToken::new();
        let id = self.id.unwrap_or(run.id()).to_owned();
        let deployer = |released| {
            let cancel = cancel.clone();
            self.target.deployer(released, prober_image, &id, cancel)
        };
        let deployers: Vec<Deployer<'_>> = self.services.iter().map(deployer).collect();
        let names = self.services.iter().map(|released| &released.service);
        let names: Vec<String> = names.cloned().collect();
        let mut recorder = Recorder::new(run, &names);
        let mut observe =
            async |service: &str, event: &ReleaseEvent| recorder.write(service, event);
        let followed = {
            let mut running = pin!(run_together(&deployers, self.operation, &mut observe));
            tokio::select! {
                concluded = &mut running => Followed::GroupConclusion(concluded),
                signal = interrupts.next() => {
                    output.line(
                        "cancelled: the release is rolled back, or completed if it is too late to roll back; a second signal exits immediately"
                    );
                    cancel.cancel();
                    tokio::select! {
                        _ = running => Followed::Cancelled(signal),
                        _ = interrupts.next() => {
                            output.line(format_args!(
                                "the release stays as it is; `cargo xtask blue-green abort --service {}` rolls it back",
                                names[0]
                            ));
                            return Ok(Followed::Abandoned(signal));
                        }
                    }
                }
            }
        };
        recorder.end()?;
        Ok(followed)
    }

    /// Records failures, or conclusions that the events do not contain. Returns a note with the
    /// next command.
    fn record(&self, run: &mut Run, concluded: &GroupConclusion) -> Result<String, Problem> {
        let did_not_hold = concluded
            .each
            .iter()
            .filter(|(_, ended)| self.exit_code(ended) != ExitCode::Held);
        let failures = did_not_hold.map(|(service, ended)| match ended {
            Ok(conclusion) => self.failure_of_conclusion(service, conclusion),
            Err(error) => self.failure_of_error(service, error),
        });
        let failures: Vec<Failure> = failures.collect();
        if !failures.is_empty() {
            return Err(failed(run, self.exit_code_of_all(concluded), failures));
        }
        let conclusions = || {
            let each = concluded.each.iter();
            each.filter_map(|(service, ended)| Some((service, ended.as_ref().ok()?)))
        };
        for (service, conclusion) in conclusions() {
            if !matches!(
                conclusion,
                Conclusion::AtGate { .. } | Conclusion::Released { .. }
            ) {
                let text = match concluded.each.len() {
                    1 => conclusion.to_string(),
                    _ => format!("{service}: {conclusion}"),
                };
                run.note(Stage::Deploy, text)?;
            }
        }
        run.end_stages(StageResult::Done)?;
        let (first, named) = (&concluded.each[0].0, self.target.named());
        let at_gate = |conclusion: &Conclusion| matches!(conclusion, Conclusion::AtGate { .. });
        let command = match conclusions().any(|(_, conclusion)| at_gate(conclusion)) {
            true => format!("promote --service {first}{named}, or abort"),
            false => format!("status --service {first}{named}"),
        };
        Ok(format!("next:    cargo xtask blue-green {command}"))
    }

    /// Returns the exit code of the service that failed first, else the highest of all.
    fn exit_code_of_all(&self, concluded: &GroupConclusion) -> ExitCode {
        let each = || {
            let each = concluded.each.iter();
            each.map(move |(service, ended)| (service, self.exit_code(ended)))
        };
        let first = each().find(|(service, code)| {
            concluded.failed.as_ref() == Some(*service) && *code != ExitCode::Held
        });
        let highest = || each().max_by_key(|(_, code)| *code as i32);
        first
            .or_else(highest)
            .map_or(ExitCode::Held, |(_, code)| code)
    }

    fn exit_code(&self, ended: &Result<Conclusion, BlueGreenError>) -> ExitCode {
        let several = self.services.len() > 1;
        match (self.operation, ended) {
            // An abort succeeds when it has rolled back.
            (Operation::Abort, Ok(Conclusion::RolledBack { .. } | Conclusion::Reverted { .. })) => {
                ExitCode::Held
            }
            // Another deployer of the group may have rolled back this service.
            (Operation::Abort, Err(BlueGreenError::NothingInProgress { .. })) if several => {
                ExitCode::Held
            }
            (Operation::Abort, Ok(_)) => ExitCode::CheckFailed,
            (_, Ok(conclusion)) => conclusion.exit_code(),
            (_, Err(error)) => error.exit_code(),
        }
    }

    fn failure_of_conclusion(&self, service: &str, conclusion: &Conclusion) -> Failure {
        let (what, expected) = match self.operation {
            Operation::Abort => ("was not rolled back", "a release that has not ended"),
            _ => ("is not released", "a version that holds"),
        };
        Failure {
            what: format!("{service} {what}"),
            expected: expected.into(),
            seen: conclusion.to_string(),
            look_at: "the audit of the release in the cluster".into(),
            next: format!(
                "cargo xtask blue-green status --service {service}{}",
                self.target.named()
            ),
        }
    }

    fn failure_of_error(&self, service: &str, error: &BlueGreenError) -> Failure {
        // The library does not know the name of the environment.
        let command = format!("--service {service}`");
        let named = format!("--service {service}{}`", self.target.named());
        let help = error.help();
        let help = help.map(|help| help.to_string().replace(&command, &named));
        Failure {
            what: format!("{service} is not released"),
            expected: error.expected().into(),
            seen: error.to_string(),
            look_at: format!("{} get deployments,services", self.target.cluster.kubectl()),
            next: help.unwrap_or_else(|| "cargo xtask status".into()),
        }
    }
}
