//! Folds a run's events into its report.
//!
//! The events may stop anywhere: a stage or scenario without an end on record is unfinished.

use jiff::Timestamp;

use super::critical_path;
use super::model::{
    Checkout, LostPart, Report, RunFailure, ScenarioReport, ScenarioResult, StageEnd, StageReport,
    StepReport,
};
use super::verdict;
use base::run::counts::Counts;
use base::run::event::{Check, Event, Failure, Happening, Stage};

impl Report {
    /// Returns the report of the run with these events. They may be incomplete.
    pub fn from_events(events: &[Event]) -> Report {
        let mut fold = Fold::new(events.first().map(|event| event.at));
        for event in events {
            fold.add(event);
        }
        fold.finish()
    }
}

struct Fold {
    report: Report,
    started_at: Timestamp,
    /// The time of the current event, milliseconds after the first.
    now: u64,
    /// For each failure, the indices of the stages that it may belong to.
    candidates: Vec<Vec<usize>>,
}

impl Fold {
    fn new(started_at: Option<Timestamp>) -> Self {
        Fold {
            report: Report {
                schema: Report::SCHEMA.to_owned(),
                version: Report::VERSION,
                started_at,
                ..Report::default()
            },
            started_at: started_at.unwrap_or_default(),
            now: 0,
            candidates: Vec::new(),
        }
    }

    fn add(&mut self, event: &Event) {
        self.now = millis_between(self.started_at, event.at);
        if self.report.exit_code.is_none() {
            self.report.millis = self.report.millis.max(self.now);
        }
        match event.what.clone() {
            Happening::RunStarted {
                run,
                command,
                platform,
                target,
                environment,
                host,
            } => {
                self.report.run = run;
                self.report.command = command;
                self.report.platform = platform;
                self.report.target = target;
                self.report.environment = environment;
                self.report.host = Some(host);
            }
            Happening::Checkout { commit, dirty } => {
                self.report.checkout = Some(Checkout { commit, dirty });
            }
            Happening::PlatformVersion { version } => self.report.platform_version = version,
            Happening::StageStarted { stage } => self.begin_stage(stage, self.now),
            Happening::Step {
                stage,
                step,
                millis,
            } => {
                let start_millis = self.now.saturating_sub(millis);
                self.stage(stage, millis).steps.push(StepReport {
                    step,
                    start_millis,
                    millis,
                });
            }
            Happening::Note { stage, text } => self.stage(stage, 0).notes.push(text),
            Happening::StageFinished {
                stage,
                millis,
                result,
            } => {
                let stage = self.stage(stage, millis);
                stage.millis = millis;
                stage.end = result.into();
            }
            Happening::EnvironmentUp { parts } => {
                self.report.up_after_millis = Some(self.now);
                self.report.parts = parts;
            }
            Happening::PartLost { part, how, log, .. } => self.report.lost_parts.push(LostPart {
                part,
                after_millis: self.now,
                how,
                log,
            }),
            Happening::ScenarioStarted { scenario, claim } => self.begin_scenario(scenario, claim),
            Happening::CheckFinished { scenario, check } => self.add_check(scenario, check),
            Happening::LogLines { scenario, logs } => self.scenario(scenario).logs.extend(logs),
            Happening::ScenarioFinished { scenario, millis } => {
                let scenario = self.scenario(scenario);
                scenario.millis = millis;
                scenario.finished = true;
            }
            Happening::ReleaseObserved { traffic } => self.report.releases.push(*traffic),
            Happening::LoadMeasured { load } => self.report.loads.push(*load),
            Happening::ThresholdJudged { threshold } => self.report.thresholds.push(threshold),
            Happening::Compared { comparison } => self.report.comparisons.push(comparison),
            Happening::Failed { failure } => self.add_failure(failure),
            Happening::RunFinished { exit_code, millis } => {
                self.report.exit_code = Some(exit_code);
                self.report.millis = millis;
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

    /// Returns the stage. If its start is not on record, it started `millis` ago.
    fn stage(&mut self, stage: Stage, millis: u64) -> &mut StageReport {
        let known = self.report.stages.iter().rposition(|it| it.stage == stage);
        let index = known.unwrap_or_else(|| {
            self.begin_stage(stage, self.now.saturating_sub(millis));
            self.report.stages.len() - 1
        });
        &mut self.report.stages[index]
    }

    fn begin_scenario(&mut self, scenario: String, claim: String) {
        self.report.scenarios.push(ScenarioReport {
            scenario,
            claim,
            start_millis: self.now,
            millis: 0,
            finished: false,
            result: ScenarioResult::Unfinished,
            counts: Counts::default(),
            checks: Vec::new(),
            logs: Vec::new(),
        });
    }

    /// Returns the scenario, even if its start is not on record.
    fn scenario(&mut self, scenario: String) -> &mut ScenarioReport {
        let scenarios = &self.report.scenarios;
        let known = scenarios.iter().rposition(|it| it.scenario == scenario);
        let index = known.unwrap_or_else(|| {
            self.begin_scenario(scenario, String::new());
            self.report.scenarios.len() - 1
        });
        &mut self.report.scenarios[index]
    }

    fn add_check(&mut self, scenario: String, check: Check) {
        self.report.checks.add(&check.outcome);
        let scenario = self.scenario(scenario);
        scenario.counts.add(&check.outcome);
        scenario.checks.push(check);
    }

    fn add_failure(&mut self, failure: Failure) {
        let running = self.stages_that_are(StageEnd::Unfinished);
        self.candidates.push(match running.is_empty() {
            true => self.stages_that_are(StageEnd::Failed),
            false => running,
        });
        self.report.failures.push(RunFailure {
            stage: None,
            failure,
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
        self.assign_failures();
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
        self.report.critical_path = critical_path::of(&self.report);
        self.report.verdict = verdict::of(&self.report);
        self.report.headline = self.report.sentences();
        self.report
    }

    /// Assigns each failure to a stage. Stages overlap: of those that were running, it is the one
    /// that failed, otherwise the last that started.
    fn assign_failures(&mut self) {
        let stages = &self.report.stages;
        for (failure, candidates) in self.report.failures.iter_mut().zip(&self.candidates) {
            let mut running = candidates.iter().map(|index| &stages[*index]);
            let last = running.clone().next_back();
            let failed = running.rfind(|stage| stage.end == StageEnd::Failed);
            failure.stage = failed.or(last).map(|stage| stage.stage);
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

/// 0 if the clock was set back.
fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}
