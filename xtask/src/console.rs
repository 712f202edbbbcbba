//! Prints a run as it goes: a line an event, and on a terminal a spinner for what is
//! under way. All of it on standard error, so that `--json` has standard output alone.
//!
//! Nothing is silent for more than five seconds: what takes longer is said again, with the
//! time that it has been waited for.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use harness::duration::human;
use harness::run::event::{Check, Failure, Happening, Outcome, Stage, StageResult};
use harness::run::{Listener, News};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::task::AbortOnDropHandle;

/// After so long without a line, what is waited for is said. With [`LOOK_EVERY`], a line
/// comes within five seconds.
const LONGEST_SILENCE: Duration = Duration::from_secs(4);

/// How often the silence is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The widest text before a duration.
const WIDTH: usize = 78;

/// The longest text of a wait.
const LONGEST_TEXT: usize = 100;

/// Prints to standard error, also when nothing happens: as long as it is there, it says
/// what is waited for.
pub struct Console {
    screen: Arc<Mutex<Screen>>,
    _reminder: AbortOnDropHandle<()>,
}

impl Console {
    /// With a spinner where standard error is a terminal.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new() -> Self {
        let screen = Arc::new(Mutex::new(Screen::new()));
        let reminder = tokio::spawn(remind(Arc::clone(&screen)));
        Console {
            screen,
            _reminder: AbortOnDropHandle::new(reminder),
        }
    }

    /// As a run's listener.
    pub fn listener(self) -> Listener {
        Box::new(move |news| self.hear(news))
    }

    fn hear(&self, news: News<'_>) {
        lock(&self.screen, |screen| match news {
            News::Happened(happening) => screen.happened(happening),
            News::Progress(stage, text) => screen.progress(stage, text),
        });
    }

    /// What a long step is doing: shown now and then.
    pub fn progress(&self, stage: Stage, text: &str) {
        lock(&self.screen, |screen| screen.progress(stage, text));
    }

    /// A step has ended, after so long.
    pub fn ended(&self, stage: Stage, step: &str, took: Duration) {
        lock(&self.screen, |screen| {
            screen.timed(stage, step, harness::run::millis(took));
            screen.silence.waited_for = None;
        });
    }

    /// A line of its own; what follows belongs to it.
    pub fn step(&self, text: &str) {
        lock(&self.screen, |screen| {
            screen.print(text);
            screen.silence.wait_for(text, Instant::now());
        });
    }

    /// A child that prints by itself is waited for. On a terminal it also shows that it is
    /// at work; elsewhere what it says is to be told to [`Console::heard`].
    pub fn wait_for_child(&self, what: &str) {
        lock(&self.screen, |screen| match &screen.spinner {
            Some(spinner) => {
                spinner.disable_steady_tick();
                spinner.set_message("");
                screen.silence.waited_for = None;
            }
            None => screen.silence.wait_for(what, Instant::now()),
        });
    }

    /// The child has said something.
    pub fn heard(&self) {
        lock(&self.screen, |screen| screen.silence.since = Instant::now());
    }

    /// Awaits `work`. Where that takes longer, it is said that it does.
    pub async fn waiting<T>(what: &str, work: impl Future<Output = T>) -> T {
        let _console = Console::waiting_for(what);
        work.await
    }

    /// One that says that this is waited for, where it takes longer.
    pub fn waiting_for(what: &str) -> Self {
        let console = Console::new();
        lock(&console.screen, |screen| {
            screen.silence.wait_for(what, Instant::now());
        });
        console
    }
}

/// Looks at the silence, until it is ended.
async fn remind(screen: Arc<Mutex<Screen>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        lock(&screen, Screen::remind);
    }
}

/// A screen is whole after each line: a thread that panicked has not spoilt it.
fn lock<T>(screen: &Mutex<Screen>, draw: impl FnOnce(&mut Screen) -> T) -> T {
    draw(&mut screen.lock().unwrap_or_else(PoisonError::into_inner))
}

/// How long nothing has been said, and what is waited for meanwhile.
struct Silence {
    since: Instant,
    /// Its text, and since when it is that.
    waited_for: Option<(String, Instant)>,
}

impl Silence {
    fn wait_for(&mut self, text: &str, now: Instant) {
        let text: String = text.chars().take(LONGEST_TEXT).collect();
        self.waited_for = Some((text, now));
    }

    /// What is waited for, and for how long, when nothing has been said for too long.
    fn reminder(&self, now: Instant) -> Option<String> {
        let (text, since) = self.waited_for.as_ref()?;
        let is_too_long = now.duration_since(self.since) >= LONGEST_SILENCE;
        let seconds = now.duration_since(*since).as_secs();
        let long = human(seconds * 1_000);
        is_too_long.then(|| format!("{text} ({long})"))
    }
}

struct Screen {
    spinner: Option<ProgressBar>,
    silence: Silence,
    /// When progress was printed last: not every word of it is.
    last_progress: Option<Instant>,
    /// Stages that have begun and not ended.
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

    /// Says what is waited for, when nothing has been said for long.
    fn remind(&mut self) {
        let Some(text) = self.silence.reminder(Instant::now()) else {
            return;
        };
        match &self.spinner {
            Some(_) => self.spin(&text),
            None => self.print(&text),
        }
    }

    fn spin(&self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner.set_message(text.to_owned());
        }
    }

    /// What is waited for from now on, unless it is told more: the stage that is under way,
    /// or, between two, the next.
    fn wait_for_stage(&mut self) {
        let text = match self.open.last() {
            Some(stage) => format!("{stage:<10} ... under way"),
            None => "run        ... its next stage is prepared".to_owned(),
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
                // What was told before may have been about this step.
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
            // A comparison is the command's answer: printed at its end.
            Happening::EnvironmentUp { .. }
            | Happening::Compared { .. }
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
        self.silence.since = Instant::now();
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_said_again_with_its_time_and_never_after_five_seconds() {
        let begun = Instant::now();
        let mut silence = Silence {
            since: begun,
            waited_for: None,
        };
        silence.wait_for("compiling", begun);
        let mut said = Vec::new();
        let mut now = begun;
        // A child that is silent for 12 seconds.
        while now < begun + Duration::from_secs(12) {
            now += LOOK_EVERY;
            if let Some(text) = silence.reminder(now) {
                let gap = now - silence.since;
                assert!(gap <= Duration::from_secs(5), "{gap:?} without a word");
                said.push(text);
                silence.since = now;
            }
        }
        let expected = ["4.00 s", "8.00 s", "12.0 s"];
        assert_eq!(said, expected.map(|long| format!("compiling ({long})")));
    }

    #[test]
    fn where_nothing_is_waited_for_nothing_is_said() {
        let begun = Instant::now();
        let silence = Silence {
            since: begun,
            waited_for: None,
        };
        assert_eq!(silence.reminder(begun + Duration::from_secs(60)), None);
    }
}
