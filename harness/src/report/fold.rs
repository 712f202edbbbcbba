//! Folds a run's events into its report.
//!
//! The sequence may stop anywhere: whatever has no end on record stays unfinished.

use jiff::Timestamp;

use super::model::{
    LostPart, Report, RunFailure, ScenarioReport, ScenarioResult, StageEnd, StageReport, StepReport,
};
use super::verdict::{self, Verdict};
use crate::run::counts::Counts;
use crate::run::event::{Check, Event, Failure, Happening, Stage};

impl Report {
    /// The report of the run that `events` tell of, whether or not they are complete.
    pub fn from_events(events: &[Event]) -> Report {
        let mut fold = Fold::new(events.first().map(|event| event.at));
        for event in events {
            fold.take(event);
        }
        fold.finish()
    }
}

struct Fold {
    report: Report,
    started_at: Timestamp,
    /// The time of the event at hand, milliseconds after the first.
    now: u64,
    /// For each of the report's failures, the stages it may belong to.
    suspects: Vec<Vec<usize>>,
}

impl Fold {
    fn new(started_at: Option<Timestamp>) -> Self {
        Fold {
            report: Report {
                schema: Report::SCHEMA.to_owned(),
                version: Report::VERSION,
                run: String::new(),
                command: String::new(),
                target: String::new(),
                environment: String::new(),
                host: None,
                started_at,
                millis: 0,
                verdict: Verdict::Unfinished,
                exit_code: None,
                checks: Counts::default(),
                stages: Vec::new(),
                up_after_millis: None,
                parts: Vec::new(),
                lost_parts: Vec::new(),
                scenarios: Vec::new(),
                thresholds: Vec::new(),
                comparisons: Vec::new(),
                failures: Vec::new(),
                torn_line: None,
            },
            started_at: started_at.unwrap_or_default(),
            now: 0,
            suspects: Vec::new(),
        }
    }

    fn take(&mut self, event: &Event) {
        self.now = millis_between(self.started_at, event.at);
        if self.report.exit_code.is_none() {
            self.report.millis = self.report.millis.max(self.now);
        }
        match &event.what {
            Happening::RunStarted {
                run,
                command,
                target,
                environment,
                host,
            } => {
                self.report.run.clone_from(run);
                self.report.command.clone_from(command);
                self.report.target.clone_from(target);
                self.report.environment.clone_from(environment);
                self.report.host = Some(host.clone());
            }
            Happening::StageStarted { stage } => self.begin_stage(*stage, self.now),
            Happening::Step {
                stage,
                step,
                millis,
            } => {
                let step = StepReport {
                    step: step.clone(),
                    start_millis: self.now.saturating_sub(*millis),
                    millis: *millis,
                };
                self.stage(*stage, *millis).steps.push(step);
            }
            Happening::Note { stage, text } => {
                self.stage(*stage, 0).notes.push(text.clone());
            }
            Happening::StageFinished {
                stage,
                millis,
                result,
            } => {
                let stage = self.stage(*stage, *millis);
                stage.millis = *millis;
                stage.end = (*result).into();
            }
            Happening::EnvironmentUp { parts } => {
                self.report.up_after_millis = Some(self.now);
                self.report.parts.clone_from(parts);
            }
            Happening::PartLost { part, how, log } => self.report.lost_parts.push(LostPart {
                part: part.clone(),
                after_millis: self.now,
                how: how.clone(),
                log: log.clone(),
            }),
            Happening::ScenarioStarted { scenario, claim } => self.begin_scenario(scenario, claim),
            Happening::CheckFinished { scenario, check } => self.add_check(scenario, check),
            Happening::ScenarioFinished { scenario, millis } => {
                let scenario = self.scenario(scenario);
                scenario.millis = *millis;
                scenario.finished = true;
            }
            Happening::ThresholdJudged { threshold } => {
                self.report.thresholds.push(threshold.clone());
            }
            Happening::Compared { comparison } => {
                self.report.comparisons.push(comparison.clone());
            }
            Happening::Failed { failure } => self.add_failure(failure),
            Happening::RunFinished { exit_code, millis } => {
                self.report.exit_code = Some(*exit_code);
                self.report.millis = *millis;
            }
        }
    }

    fn begin_stage(&mut self, stage: Stage, start_millis: u64) {
        self.report.stages.push(StageReport {
            stage,
            start_millis,
            millis: 0,
            end: StageEnd::Unfinished,
            steps: Vec::new(),
            notes: Vec::new(),
        });
    }

    /// The stage an event speaks of; when its beginning is not on record, one that
    /// began `millis` ago.
    fn stage(&mut self, stage: Stage, millis: u64) -> &mut StageReport {
        let known = self.report.stages.iter().rposition(|it| it.stage == stage);
        let index = known.unwrap_or_else(|| {
            self.begin_stage(stage, self.now.saturating_sub(millis));
            self.report.stages.len() - 1
        });
        &mut self.report.stages[index]
    }

    fn begin_scenario(&mut self, scenario: &str, claim: &str) {
        self.report.scenarios.push(ScenarioReport {
            scenario: scenario.to_owned(),
            claim: claim.to_owned(),
            start_millis: self.now,
            millis: 0,
            finished: false,
            result: ScenarioResult::Unfinished,
            counts: Counts::default(),
            checks: Vec::new(),
        });
    }

    /// The scenario an event speaks of, even if its beginning is not on record.
    fn scenario(&mut self, scenario: &str) -> &mut ScenarioReport {
        let scenarios = &self.report.scenarios;
        let known = scenarios.iter().rposition(|it| it.scenario == scenario);
        let index = known.unwrap_or_else(|| {
            self.begin_scenario(scenario, "");
            self.report.scenarios.len() - 1
        });
        &mut self.report.scenarios[index]
    }

    fn add_check(&mut self, scenario: &str, check: &Check) {
        let scenario = self.scenario(scenario);
        scenario.counts.add(&check.outcome);
        scenario.checks.push(check.clone());
        self.report.checks.add(&check.outcome);
    }

    fn add_failure(&mut self, failure: &Failure) {
        let running = self.stages_that_are(StageEnd::Unfinished);
        self.suspects.push(match running.is_empty() {
            true => self.stages_that_are(StageEnd::Failed),
            false => running,
        });
        self.report.failures.push(RunFailure {
            stage: None,
            failure: failure.clone(),
        });
    }

    fn stages_that_are(&self, end: StageEnd) -> Vec<usize> {
        let stages = self.report.stages.iter().enumerate();
        stages
            .filter(|(_, stage)| stage.end == end)
            .map(|(index, _)| index)
            .collect()
    }

    fn finish(mut self) -> Report {
        self.blame_stages();
        let end = self.report.millis;
        for stage in &mut self.report.stages {
            if stage.end == StageEnd::Unfinished {
                stage.millis = end.saturating_sub(stage.start_millis);
            }
        }
        for scenario in &mut self.report.scenarios {
            if !scenario.finished {
                scenario.millis = end.saturating_sub(scenario.start_millis);
            }
            scenario.result = scenario_result(scenario.counts, scenario.finished);
        }
        self.report.verdict = verdict::of(&self.report);
        self.report
    }

    /// Says for each failure which stage it belongs to. Stages overlap: of those that
    /// were going on, it is the one that failed, else the last that began.
    fn blame_stages(&mut self) {
        let stages = &self.report.stages;
        for (failure, suspects) in self.report.failures.iter_mut().zip(&self.suspects) {
            let failed = suspects
                .iter()
                .rfind(|index| stages[**index].end == StageEnd::Failed);
            failure.stage = failed.or(suspects.last()).map(|index| stages[*index].stage);
        }
    }
}

fn scenario_result(counts: Counts, finished: bool) -> ScenarioResult {
    match counts {
        Counts { failed: 1.., .. } => ScenarioResult::Failed,
        _ if !finished => ScenarioResult::Unfinished,
        Counts {
            inconclusive: 1.., ..
        } => ScenarioResult::Inconclusive,
        Counts { passed: 1.., .. } => ScenarioResult::Held,
        Counts { skipped: 1.., .. } => ScenarioResult::Skipped,
        _ => ScenarioResult::Unproven,
    }
}

/// Zero when the clock was set back.
fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}
