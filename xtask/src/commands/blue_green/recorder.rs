//! Writes a deployer's events into a run: each step with its time, and what was seen to hold as
//! checks.

use std::collections::BTreeMap;
use std::time::Instant;

use harness::blue_green::{Event, Happened, Step};
use harness::run::event::{Check, Happening, Outcome, Stage};
use harness::run::{Run, RunFolderError, millis};

/// What the checks of a release are under, in its report.
const SCENARIO: &str = "release";

/// Writes the events of a release's deployers into its run.
pub struct Recorder<'r> {
    run: &'r mut Run,
    services: Vec<String>,
    /// By service, the step that it is at and since when.
    steps: BTreeMap<String, (Step, Instant)>,
    /// Since when there are checks.
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

    /// What a full disk keeps from being written does not stop a release half way: the run's end
    /// tells.
    pub fn write(&mut self, service: &str, event: &Event) {
        let _ = self.try_write(service, event);
    }

    fn try_write(&mut self, service: &str, event: &Event) -> Result<(), RunFolderError> {
        match &event.what {
            Happened::Progress { text } => {
                let text = self.of(service, text);
                self.run.progress(Stage::Deploy, &text);
                Ok(())
            }
            Happened::Began { step } => {
                self.end_step(service)?;
                self.steps
                    .insert(service.to_owned(), (*step, Instant::now()));
                let text = self.of(service, &format!("{step} ..."));
                self.run.note(Stage::Deploy, text)
            }
            Happened::Released { .. } | Happened::AtGate { .. } => {
                self.end_step(service)?;
                let text = self.of(service, &event.what.to_string());
                self.run.note(Stage::Deploy, text)
            }
            Happened::HealthHeld { .. }
            | Happened::SmokeHeld { .. }
            | Happened::Settled { .. }
            | Happened::Analysed { .. }
            | Happened::Reverted { .. } => {
                let step = self.steps.get(service);
                let step = step.map_or("beginning".to_owned(), |(step, _)| step.to_string());
                let seen = format!("in the step {step}, at {:.0}", event.at);
                self.checked(service, event, Outcome::Passed { seen })
            }
            Happened::SmokeSkipped { .. } => {
                let because = "[services.NAME] smoke of the configuration has no paths for it";
                let because = because.to_owned();
                self.checked(service, event, Outcome::Skipped { because })
            }
            Happened::CanarySkipped { because } => {
                let because = because.clone();
                self.checked(service, event, Outcome::Skipped { because })
            }
            what => {
                let text = self.of(service, &format!("  {what}"));
                self.run.note(Stage::Deploy, text)
            }
        }
    }

    /// Text about one service, which says so where there are several.
    fn of(&self, service: &str, text: &str) -> String {
        match self.services.len() {
            1 => text.to_owned(),
            _ => format!("{service}: {text}"),
        }
    }

    fn checked(
        &mut self,
        service: &str,
        event: &Event,
        outcome: Outcome,
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

    /// No more events come.
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
