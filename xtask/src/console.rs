//! Prints a run as it goes: a line an event, and on a terminal a spinner for what is
//! under way. All of it on standard error, so that `--json` has standard output alone.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use harness::duration::human;
use harness::run::event::{Check, Failure, Happening, Outcome, Stage, StageResult};
use harness::run::{Listener, News};
use indicatif::{ProgressBar, ProgressStyle};

/// On anything but a terminal, a long step says what it does this often.
const PLAIN_PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The widest text before a duration.
const WIDTH: usize = 78;

/// Prints to standard error.
pub struct Console {
    spinner: Option<ProgressBar>,
    last_progress: Option<Instant>,
}

impl Console {
    /// With a spinner where standard error is a terminal.
    pub fn new() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        Console {
            spinner,
            last_progress: None,
        }
    }

    /// As a run's listener.
    pub fn listener(mut self) -> Listener {
        Box::new(move |news| match news {
            News::Happened(happening) => self.happened(happening),
            News::Progress(stage, text) => self.progress(stage, text),
        })
    }

    /// What a long step is doing.
    pub fn progress(&mut self, stage: Stage, text: &str) {
        let text: String = text
            .lines()
            .last()
            .unwrap_or_default()
            .chars()
            .take(100)
            .collect();
        match &self.spinner {
            Some(spinner) => {
                spinner.enable_steady_tick(Duration::from_millis(100));
                spinner.set_message(format!("{stage:<10} {text}"));
            }
            None => {
                let due = self
                    .last_progress
                    .is_none_or(|last| last.elapsed() >= PLAIN_PROGRESS_EVERY);
                if due {
                    self.last_progress = Some(Instant::now());
                    self.line(stage, &format!("... {text}"));
                }
            }
        }
    }

    fn happened(&mut self, happening: &Happening) {
        match happening {
            Happening::RunStarted { run, .. } => self.line(Stage::Plan, &format!("run {run}")),
            Happening::StageStarted { stage } => {
                if let Some(spinner) = &self.spinner {
                    spinner.enable_steady_tick(Duration::from_millis(100));
                    spinner.set_message(format!("{stage:<10}"));
                }
            }
            Happening::Step {
                stage,
                step,
                millis,
            } => self.timed(*stage, step, *millis),
            Happening::Note { stage, text } => self.line(*stage, text),
            Happening::StageFinished {
                stage,
                millis,
                result,
            } => self.stage_finished(*stage, *millis, *result),
            Happening::PartLost { part, how, .. } => {
                self.line(Stage::Verify, &format!("lost: {part}: {how}"));
            }
            Happening::ScenarioStarted { scenario, claim } => {
                self.line(Stage::Verify, &format!("{scenario}: {claim}"));
            }
            Happening::CheckFinished { check, .. } => self.check(check),
            Happening::ThresholdJudged { threshold } => {
                self.line(Stage::Load, &threshold.to_string());
            }
            Happening::Failed { failure } => self.failure(failure),
            // A comparison is the command's answer: printed at its end.
            Happening::EnvironmentUp { .. }
            | Happening::Compared { .. }
            | Happening::ScenarioFinished { .. }
            | Happening::RunFinished { .. } => {}
        }
    }

    fn stage_finished(&mut self, stage: Stage, millis: u64, result: StageResult) {
        let how = match result {
            StageResult::Done => "done",
            StageResult::Failed => "failed",
            StageResult::Inconclusive => "inconclusive",
            StageResult::Interrupted => "interrupted",
        };
        self.timed(stage, how, millis);
        if let Some(spinner) = &self.spinner {
            spinner.disable_steady_tick();
            spinner.set_message("");
        }
    }

    fn check(&mut self, check: &Check) {
        let (mark, rest) = match &check.outcome {
            Outcome::Passed { .. } => ("ok  ", String::new()),
            Outcome::Failed { .. } => ("FAIL", String::new()),
            Outcome::Inconclusive { because } => ("open", format!(" ({because})")),
            Outcome::Skipped { because } => ("skip", format!(" ({because})")),
        };
        let text = format!("  {mark} {}{rest}", check.name);
        self.timed(Stage::Verify, &text, check.millis);
        if let Outcome::Failed { failure } = &check.outcome {
            self.failure(failure);
        }
    }

    fn failure(&mut self, failure: &Failure) {
        let lines = [
            failure.what.clone(),
            format!("  expected  {}", failure.expected),
            format!("  seen      {}", failure.seen),
            format!("  look at   {}", failure.look_at),
            format!("  next      {}", failure.next),
        ];
        self.print(&lines.join("\n"));
    }

    fn timed(&mut self, stage: Stage, text: &str, millis: u64) {
        self.line(stage, &format!("{text:<WIDTH$} {:>9}", human(millis)));
    }

    fn line(&mut self, stage: Stage, text: &str) {
        self.print(&format!("{stage:<10} {text}"));
    }

    /// Above the spinner, where there is one.
    fn print(&mut self, text: &str) {
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }
}
