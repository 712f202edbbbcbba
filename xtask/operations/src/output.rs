//! The one channel for the messages of a running operation.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use base::run::event::Stage;
use base::run::{Listener, News};

use crate::problem::Problem;
use crate::tiers::TestFailure;

/// A message of a running operation.
pub enum OutputMessage<'a> {
    /// News of its run, or the progress of a stage without a run.
    Run(News<'a>),
    /// A line for people.
    Line(&'a str),
    /// A line that belongs to the answer.
    Answer(&'a str),
    /// A problem that does not end the operation.
    Problem(&'a Problem),
    /// A line about a step that may take a while.
    Step(&'a str),
    /// A step outside a run has ended, after this time.
    StepEnded(Stage, &'a str, Duration),
    /// An activity that may take a while, until [`OutputMessage::Done`].
    Waiting(&'a str),
    /// The activity has ended.
    Done,
    /// A child process that prints itself, and may take a while.
    WaitingForChild(&'a str),
    /// That child has printed something.
    ChildPrinted,
    /// A test of the project failed. The results, which follow, list it too.
    TestFailed(&'a TestFailure),
}

/// The receiver of messages.
#[derive(Clone)]
pub struct Output(Arc<dyn Fn(OutputMessage<'_>) + Send + Sync>);

impl Output {
    /// Sends messages to `receive`, from any thread.
    pub fn new(receive: impl Fn(OutputMessage<'_>) + Send + Sync + 'static) -> Self {
        Output(Arc::new(receive))
    }

    /// Sends a message.
    pub fn send(&self, message: OutputMessage<'_>) {
        (self.0)(message);
    }

    /// Sends a line for people.
    pub fn line(&self, line: impl Display) {
        self.send(OutputMessage::Line(&line.to_string()));
    }

    /// Sends the progress of a stage, outside a run.
    pub fn progress(&self, stage: Stage, text: &str) {
        self.send(OutputMessage::Run(News::Progress(stage, text)));
    }

    /// Awaits `work`, an activity that may take a while.
    pub async fn waiting<T>(&self, activity: &str, work: impl Future<Output = T>) -> T {
        self.send(OutputMessage::Waiting(activity));
        let _done_at_end = DoneAtEnd(self);
        work.await
    }

    /// Returns a listener for a run.
    pub fn listener(&self) -> Listener {
        let output = self.clone();
        Box::new(move |news| output.send(OutputMessage::Run(news)))
    }
}

/// Sends [`OutputMessage::Done`] when it is dropped.
pub struct DoneAtEnd<'a>(pub &'a Output);

impl Drop for DoneAtEnd<'_> {
    fn drop(&mut self) {
        self.0.send(OutputMessage::Done);
    }
}
