//! A run of the deployer, from its plan to its report.

use std::pin::pin;

use harness::blue_green::{
    Ask, BlueGreenError, Concluded, Conclusion, Deployer, Event, run_together,
};
use harness::exit::ExitCode;
use harness::interrupts::Interrupts;
use harness::run::Run;
use harness::run::event::{Failure, Happening, Stage, StageResult};
use miette::Diagnostic;
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::target::{ReleaseTarget, Released};
use crate::cli::{Named, Supply};
use crate::commands::workplace::{conclude, interrupts};
use crate::problem::Problem;

/// What is to be done with which services.
pub struct ReleaseCommand<'a> {
    pub target: &'a ReleaseTarget<'a>,
    pub named: &'a Named,
    pub services: Vec<Released>,
    pub ask: Ask<'a>,
    pub supply: Supply,
    /// Its id, where it is not the run's.
    pub id: Option<&'a str>,
}

impl ReleaseCommand<'_> {
    /// Does it.
    pub async fn carry_out(&self) -> Result<ExitCode, Problem> {
        let mut interrupts = interrupts()?;
        let (name, json) = (&self.named.name, self.named.common.json);
        let (workplace, target) = (self.target.workplace, &self.target.name);
        let mut run = workplace.start_run_on("blue-green", target, name, "which is up")?;
        run.begin(Stage::Deploy)?;
        let progress = run.teller(Stage::Deploy);
        let brought = tokio::select! {
            brought = self.target.bring(self.ask, self.supply, &progress) => Ok(brought),
            code = interrupts.next() => Err(code),
        };
        drop(progress);
        let prober_image = match brought {
            Ok(Ok(prober_image)) => prober_image,
            Ok(Err(failure)) => {
                return failed(&mut run, vec![failure], ExitCode::NoEnvironment, json);
            }
            Err(code) => return interrupted(&mut run, code, json),
        };
        let followed = self.follow(&mut run, prober_image.as_deref(), &mut interrupts);
        match followed.await? {
            (_, Some(code)) => interrupted(&mut run, code, json),
            (concluded, None) => self.conclude(&mut run, &concluded),
        }
    }

    /// Has the deployers do it and writes down what they tell. The first signal cancels the
    /// release, which they see to themselves; a second one leaves it where it is.
    async fn follow(
        &self,
        run: &mut Run,
        prober_image: Option<&str>,
        interrupts: &mut Interrupts,
    ) -> Result<(Concluded, Option<ExitCode>), Problem> {
        let called_off = CancellationToken::new();
        let id = self.id.unwrap_or(run.id()).to_owned();
        let deployer = |it| {
            self.target
                .deployer(it, prober_image, &id, called_off.clone())
        };
        let deployers: Vec<Deployer<'_>> = self.services.iter().map(deployer).collect();
        let names: Vec<String> = self.services.iter().map(|it| it.service.clone()).collect();
        let mut recorder = Recorder::new(run, &names);
        let mut observe = async |service: &str, event: &Event| recorder.write(service, event);
        let ended = {
            let mut asked = pin!(run_together(&deployers, self.ask, &mut observe));
            tokio::select! {
                concluded = &mut asked => (concluded, None),
                code = interrupts.next() => {
                    say!(
                        "called off: it is taken back, or finished where it is too late for that; once more leaves at once"
                    );
                    called_off.cancel();
                    tokio::select! {
                        concluded = asked => (concluded, Some(code)),
                        _ = interrupts.next() => {
                            say!("left as it is; `cargo xtask blue-green abort --service {}` takes it back", names[0]);
                            std::process::exit(code as i32);
                        }
                    }
                }
            }
        };
        recorder.end()?;
        Ok(ended)
    }

    fn conclude(&self, run: &mut Run, concluded: &Concluded) -> Result<ExitCode, Problem> {
        let json = self.named.common.json;
        let failures: Vec<Failure> = concluded
            .each
            .iter()
            .filter(|(_, ended)| self.exit_code(ended) != ExitCode::Held)
            .map(|(service, ended)| match ended {
                Ok(conclusion) => self.did_not_hold(service, conclusion),
                Err(error) => self.not_released(service, error),
            })
            .collect();
        if !failures.is_empty() {
            return failed(run, failures, self.exit_code_of_all(concluded), json);
        }
        let conclusions = || {
            concluded
                .each
                .iter()
                .filter_map(|(service, it)| Some((service, it.as_ref().ok()?)))
        };
        // Of the other two the deployer has told.
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
        run.finish(ExitCode::Held)?;
        let code = conclude(run, ExitCode::Held, json)?;
        let (first, named) = (&concluded.each[0].0, self.target.named(self.named));
        let waits = conclusions().any(|(_, it)| matches!(it, Conclusion::AtGate { .. }));
        match waits {
            true => {
                say!("next:    cargo xtask blue-green promote --service {first}{named}, or abort")
            }
            false => say!("next:    cargo xtask blue-green status --service {first}{named}"),
        }
        Ok(code)
    }

    /// What the command ends with: what it is for that service which did not hold first.
    fn exit_code_of_all(&self, concluded: &Concluded) -> ExitCode {
        let mut each = concluded.each.iter();
        let first = each.find(|(service, ended)| {
            concluded.failed.as_ref() == Some(service) && self.exit_code(ended) != ExitCode::Held
        });
        let all = concluded
            .each
            .iter()
            .map(|(_, ended)| self.exit_code(ended));
        first.map_or_else(
            || all.max_by_key(|it| *it as i32).unwrap_or(ExitCode::Held),
            |(_, ended)| self.exit_code(ended),
        )
    }

    fn exit_code(&self, ended: &Result<Conclusion, BlueGreenError>) -> ExitCode {
        let several = self.services.len() > 1;
        match (self.ask, ended) {
            // To take back is what it is for.
            (Ask::Abort, Ok(Conclusion::TakenBack { .. } | Conclusion::Reverted { .. })) => {
                ExitCode::Held
            }
            // Of one of several, another deployer may have done so.
            (Ask::Abort, Err(BlueGreenError::NothingUnderWay { .. })) if several => ExitCode::Held,
            (Ask::Abort, Ok(_)) => ExitCode::CheckFailed,
            (_, Ok(conclusion)) => conclusion.exit_code(),
            (_, Err(error)) => error.exit_code(),
        }
    }

    fn did_not_hold(&self, service: &str, conclusion: &Conclusion) -> Failure {
        let (what, expected) = match self.ask {
            Ask::Abort => ("was not taken back", "a release that is not at its end yet"),
            _ => ("is not released", "a version that holds"),
        };
        Failure {
            what: format!("{service} {what}"),
            expected: expected.into(),
            seen: conclusion.to_string(),
            look_at: "the audit of the release in the cluster".into(),
            next: format!(
                "cargo xtask blue-green status --service {service}{}",
                self.target.named(self.named)
            ),
        }
    }

    fn not_released(&self, service: &str, error: &BlueGreenError) -> Failure {
        let help = error.help().map(|it| it.to_string());
        // The library does not know how the environment is named here.
        let command = format!("--service {service}`");
        let named = format!("--service {service}{}`", self.target.named(self.named));
        let help = help.map(|it| it.replace(&command, &named));
        Failure {
            what: format!("{service} is not released"),
            expected: error.expected().into(),
            seen: error.to_string(),
            look_at: format!("{} get deployments,services", self.target.cluster.kubectl()),
            next: help.unwrap_or_else(|| "cargo xtask status".into()),
        }
    }
}

fn failed(
    run: &mut Run,
    failures: Vec<Failure>,
    code: ExitCode,
    json: bool,
) -> Result<ExitCode, Problem> {
    for failure in failures {
        run.record(Happening::Failed { failure })?;
    }
    run.end_stages(StageResult::Failed)?;
    run.finish(code)?;
    conclude(run, code, json)
}

fn interrupted(run: &mut Run, code: ExitCode, json: bool) -> Result<ExitCode, Problem> {
    run.end_stages(StageResult::Interrupted)?;
    run.finish(code)?;
    conclude(run, code, json)
}
