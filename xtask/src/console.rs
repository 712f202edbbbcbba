//! Prints the messages of an operation: a line for each event, and on a terminal a spinner for the
//! current activity. Everything goes to standard error, so that standard output has only the
//! document of `--json`.
//!
//! The console prints at least every five seconds: an activity that takes longer is printed again,
//! with its duration so far.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::duration::human;
use base::run::event::{Check, CheckOutcome, Failure, Happening, Stage, StageResult};
use base::run::{News, millis};
use indicatif::{ProgressBar, ProgressStyle};
use operations::output::OutputMessage;
use tokio_util::task::AbortOnDropHandle;

use crate::annotations::Annotations;

/// The time without a line after which the current activity is printed again. With
/// [`POLL_EVERY`], a line is printed within five seconds.
const LONGEST_SILENCE: Duration = Duration::from_secs(4);

const POLL_EVERY: Duration = Duration::from_millis(500);

/// The width of the text before a duration.
const WIDTH: usize = 78;

/// The longest text of an activity, in characters.
const LONGEST_TEXT: usize = 100;

/// Prints messages. Prints the current activity again and again until it is dropped.
pub struct Console {
    screen: Arc<Mutex<Screen>>,
    /// Whether standard output is reserved for one JSON document.
    json: bool,
    annotations: Option<Annotations>,
    _reminder: AbortOnDropHandle<()>,
}

impl Console {
    /// Creates a console, with a spinner if standard error is a terminal.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(json: bool, annotations: Option<Annotations>) -> Self {
        let screen = Arc::new(Mutex::new(Screen::new()));
        let reminder = tokio::spawn(remind(Arc::clone(&screen)));
        Console {
            screen,
            json,
            annotations,
            _reminder: AbortOnDropHandle::new(reminder),
        }
    }

    pub fn receive(&self, message: OutputMessage<'_>) {
        lock(&self.screen, |screen| match message {
            OutputMessage::Run(News::Happened(happening)) => {
                screen.happened(happening);
                self.annotate(screen, |annotations| annotations.of(happening));
            }
            OutputMessage::TestFailed(failure) => {
                self.annotate(screen, |annotations| Some(annotations.of_test(failure)));
            }
            OutputMessage::Run(News::Progress(stage, text)) => screen.progress(stage, text),
            OutputMessage::Line(text) => screen.print(text),
            OutputMessage::Answer(text) if self.json => screen.print(text),
            OutputMessage::Answer(text) => screen.aside(|| print_line!("{text}")),
            OutputMessage::Problem(problem) => screen.aside(|| {
                crate::output::problem(problem);
            }),
            OutputMessage::Step(text) => {
                screen.print(text);
                screen.silence.wait_for(text, Instant::now());
            }
            OutputMessage::StepEnded(stage, step, took) => {
                screen.timed(stage, step, millis(took));
                screen.silence.waited_for = None;
            }
            OutputMessage::Waiting(what) => {
                let now = Instant::now();
                screen.silence.since = now;
                screen.silence.wait_for(what, now);
            }
            OutputMessage::Done => screen.rest(),
            OutputMessage::WaitingForChild(what) => screen.wait_for_child(what),
            OutputMessage::ChildPrinted => screen.silence.since = Instant::now(),
        });
    }

    fn annotate(&self, screen: &mut Screen, of: impl FnOnce(&Annotations) -> Option<String>) {
        if let Some(annotation) = self.annotations.as_ref().and_then(of) {
            screen.print(&annotation);
        }
    }
}

async fn remind(screen: Arc<Mutex<Screen>>) {
    loop {
        tokio::time::sleep(POLL_EVERY).await;
        lock(&screen, Screen::remind);
    }
}

/// A poisoned lock is usable: the screen is in a valid state after each line.
fn lock<T>(screen: &Mutex<Screen>, draw: impl FnOnce(&mut Screen) -> T) -> T {
    draw(&mut screen.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The time without a line, and the current activity.
struct Silence {
    since: Instant,
    /// The text of the activity, and its start.
    waited_for: Option<(String, Instant)>,
}

impl Silence {
    fn wait_for(&mut self, text: &str, now: Instant) {
        let text: String = text.chars().take(LONGEST_TEXT).collect();
        self.waited_for = Some((text, now));
    }

    /// Returns the current activity and its duration, after too long a silence.
    fn reminder(&self, now: Instant) -> Option<String> {
        let (text, since) = self.waited_for.as_ref()?;
        let is_too_long = now.duration_since(self.since) >= LONGEST_SILENCE;
        let duration = human(now.duration_since(*since).as_secs() * 1_000);
        is_too_long.then(|| format!("{text} ({duration})"))
    }
}

struct Screen {
    spinner: Option<ProgressBar>,
    silence: Silence,
    /// When progress was last printed: without a spinner, most of it is not printed.
    last_progress: Option<Instant>,
    /// Stages that have started and not ended.
    open: Vec<Stage>,
}

impl Screen {
    fn new() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        Screen {
            spinner,
            silence: Silence {
                since: Instant::now(),
                waited_for: None,
            },
            last_progress: None,
            open: Vec::new(),
        }
    }

    fn progress(&mut self, stage: Stage, text: &str) {
        let last_line = text.lines().last().unwrap_or_default();
        let text = format!("{stage:<10} ... {last_line}");
        let now = Instant::now();
        self.silence.wait_for(&text, now);
        let last = self.last_progress;
        if self.spinner.is_some() {
            self.spin(&text);
        } else if last.is_none_or(|last| now.duration_since(last) >= LONGEST_SILENCE) {
            self.last_progress = Some(now);
            self.print(&text);
        }
    }

    fn remind(&mut self) {
        let Some(text) = self.silence.reminder(Instant::now()) else {
            return;
        };
        match &self.spinner {
            Some(_) => self.spin(&text),
            None => self.print(&text),
        }
    }

    /// Waits for a child that prints itself. On a terminal the child shows its own progress;
    /// elsewhere its lines end the silence.
    fn wait_for_child(&mut self, what: &str) {
        match &self.spinner {
            Some(_) => self.rest(),
            None => self.silence.wait_for(what, Instant::now()),
        }
    }

    fn rest(&mut self) {
        self.silence.waited_for = None;
        self.last_progress = None;
        self.clear();
    }

    fn clear(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.disable_steady_tick();
            spinner.set_message("");
        }
    }

    fn spin(&self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner.set_message(text.to_owned());
        }
    }

    /// Makes the current stage the activity; between two stages, the preparation of the next.
    fn wait_for_stage(&mut self) {
        let text = match self.open.last() {
            Some(stage) => format!("{stage:<10} ... running"),
            None => "run        ... preparing the next stage".to_owned(),
        };
        self.silence.wait_for(&text, Instant::now());
    }

    fn happened(&mut self, happening: &Happening) {
        match happening {
            Happening::RunStarted { run, .. } => {
                self.line(Stage::Plan, &format!("run {run}"));
                self.wait_for_stage();
            }
            Happening::RunFinished { .. } => self.silence.waited_for = None,
            Happening::StageStarted { stage } => {
                self.open.push(*stage);
                self.wait_for_stage();
                self.spin(&format!("{stage:<10}"));
            }
            Happening::Step {
                stage,
                step,
                millis,
            } => {
                self.timed(*stage, step, *millis);
                // The current activity may be that of this step.
                self.wait_for_stage();
            }
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
            // A comparison is the command's answer, which is printed at its end. The notes tell the
            // measurements of a load and of a release.
            Happening::EnvironmentUp { .. }
            | Happening::Checkout { .. }
            | Happening::Compared { .. }
            | Happening::LoadMeasured { .. }
            | Happening::LogLines { .. }
            | Happening::PlatformVersion { .. }
            | Happening::ReleaseObserved { .. }
            | Happening::ScenarioFinished { .. } => {}
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
        self.open.retain(|open| *open != stage);
        self.wait_for_stage();
        self.clear();
    }

    fn check(&mut self, check: &Check) {
        let (mark, rest) = match &check.outcome {
            CheckOutcome::Passed { .. } => ("ok  ", String::new()),
            CheckOutcome::Failed { .. } => ("FAIL", String::new()),
            CheckOutcome::Inconclusive { because } => ("open", format!(" ({because})")),
            CheckOutcome::Skipped { because } => ("skip", format!(" ({because})")),
        };
        let text = format!("  {mark} {}{rest}", check.name);
        self.timed(Stage::Verify, &text, check.millis);
        if let CheckOutcome::Failed { failure } = &check.outcome {
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

    fn print(&mut self, text: &str) {
        self.aside(|| say!("{text}"));
    }

    /// Prints above the spinner, if there is one.
    fn aside(&mut self, print: impl FnOnce()) {
        self.silence.since = Instant::now();
        match &self.spinner {
            Some(spinner) => spinner.suspend(print),
            None => print(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_activity_is_printed_again_within_five_seconds() {
        let begun = Instant::now();
        let mut silence = Silence {
            since: begun,
            waited_for: None,
        };
        silence.wait_for("compiling", begun);
        let mut reminders = Vec::new();
        let mut now = begun;
        // A child that is silent for 12 seconds.
        while now < begun + Duration::from_secs(12) {
            now += POLL_EVERY;
            if let Some(text) = silence.reminder(now) {
                let gap = now - silence.since;
                assert!(gap <= Duration::from_secs(5), "{gap:?} without a line");
                reminders.push(text);
                silence.since = now;
            }
        }
        let expected = ["4.00 s", "8.00 s", "12.0 s"];
        assert_eq!(
            reminders,
            expected.map(|time| format!("compiling ({time})"))
        );
    }

    #[test]
    fn without_an_activity_there_is_no_reminder() {
        let begun = Instant::now();
        let silence = Silence {
            since: begun,
            waited_for: None,
        };
        assert_eq!(silence.reminder(begun + Duration::from_secs(60)), None);
    }
}
