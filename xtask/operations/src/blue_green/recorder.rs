//! Writes a deployer's events into a run: each step with its time, and what passed as checks.

use std::collections::BTreeMap;
use std::time::Instant;

use base::run::event::{Check, CheckOutcome, Happening, Stage};
use base::run::{Run, RunFolderError, millis};
use blue_green::{EventKind, ReleaseEvent, ReleaseStep};

/// The scenario of a release's checks in the report.
const SCENARIO: &str = "release";

pub struct Recorder<'r> {
    run: &'r mut Run,
    services: Vec<String>,
    /// By service, the current step and its start.
    steps: BTreeMap<String, (ReleaseStep, Instant)>,
    /// When the first check was recorded.
    proving: Option<Instant>,
}

impl<'r> Recorder<'r> {
    pub fn new(run: &'r mut Run, services: &[String]) -> Self {
        Recorder {
            run,
            services: services.to_vec(),
            steps: BTreeMap::new(),
            proving: None,
        }
    }

    /// Ignores a failed write, as on a full disk: it must not stop a release halfway, and the end
    /// of the run reports it.
    pub fn write(&mut self, service: &str, event: &ReleaseEvent) {
        let _ = self.try_write(service, event);
    }

    fn try_write(&mut self, service: &str, event: &ReleaseEvent) -> Result<(), RunFolderError> {
        match &event.what {
            EventKind::Progress { text } => {
                let text = self.of(service, text);
                self.run.progress(Stage::Deploy, &text);
                Ok(())
            }
            EventKind::Began { step } => {
                self.end_step(service)?;
                self.steps
                    .insert(service.to_owned(), (*step, Instant::now()));
                let text = self.of(service, &format!("{step} ..."));
                self.run.note(Stage::Deploy, text)
            }
            EventKind::Released { .. } | EventKind::AtGate { .. } => {
                self.end_step(service)?;
                let text = self.of(service, &event.what.to_string());
                self.run.note(Stage::Deploy, text)
            }
            EventKind::HealthHeld { .. }
            | EventKind::SmokeHeld { .. }
            | EventKind::Settled { .. }
            | EventKind::Analysed { .. }
            | EventKind::Reverted { .. } => {
                let step = self.steps.get(service);
                let step = step.map_or("beginning".to_owned(), |(step, _)| step.to_string());
                let seen = format!("in the step {step}, at {:.0}", event.at);
                self.checked(service, event, CheckOutcome::Passed { seen })
            }
            EventKind::SmokeSkipped { .. } => {
                let because = "[services.NAME] smoke of the configuration has no paths for it";
                let because = because.to_owned();
                self.checked(service, event, CheckOutcome::Skipped { because })
            }
            EventKind::CanarySkipped { because } => {
                let because = because.clone();
                self.checked(service, event, CheckOutcome::Skipped { because })
            }
            what => {
                let text = self.of(service, &format!("  {what}"));
                self.run.note(Stage::Deploy, text)
            }
        }
    }

    /// Prefixes the text with the service if there are several.
    fn of(&self, service: &str, text: &str) -> String {
        match self.services.len() {
            1 => text.to_owned(),
            _ => format!("{service}: {text}"),
        }
    }

    fn checked(
        &mut self,
        service: &str,
        event: &ReleaseEvent,
        outcome: CheckOutcome,
    ) -> Result<(), RunFolderError> {
        if self.proving.is_none() {
            self.proving = Some(Instant::now());
            let claim = self.claim();
            self.run.record(Happening::ScenarioStarted {
                scenario: SCENARIO.into(),
                claim,
            })?;
        }
        let begun = self.steps.get(service).map(|(_, begun)| begun.elapsed());
        let check = Check {
            name: self.of(service, &event.what.to_string()),
            millis: millis(begun.unwrap_or_default()),
            outcome,
        };
        self.run.checked(SCENARIO, check)
    }

    fn claim(&self) -> String {
        match self.services.as_slice() {
            [service] => {
                format!("{service} gets traffic in a version that holds, and in no other")
            }
            services => format!(
                "{} get traffic in versions that hold, all of them or none",
                services.join(", ")
            ),
        }
    }

    /// Ends all steps and the scenario.
    pub fn end(mut self) -> Result<(), RunFolderError> {
        for service in self.services.clone() {
            self.end_step(&service)?;
        }
        match self.proving {
            None => Ok(()),
            Some(begun) => self.run.record(Happening::ScenarioFinished {
                scenario: SCENARIO.into(),
                millis: millis(begun.elapsed()),
            }),
        }
    }

    fn end_step(&mut self, service: &str) -> Result<(), RunFolderError> {
        let Some((step, begun)) = self.steps.remove(service) else {
            return Ok(());
        };
        let step = self.of(service, &step.to_string());
        self.run.record(Happening::Step {
            stage: Stage::Deploy,
            step,
            millis: millis(begun.elapsed()),
        })
    }
}
