//! Several load generators in a cluster, as the pods of an indexed Job. Each sends its share of the
//! arrivals, and their results merge exactly: see [`load_generator`].

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use kubernetes::Cluster;
use kubernetes::indexed_job::{self, IndexedJob, IndexedJobError, JobSettings, PodOutput};
use load_generator::message::GeneratorMessage;
use load_generator::order::{LoadOrder, LoadStart};
use miette::Diagnostic;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::monitor::LoadMonitor;
use crate::result::{Ended, LoadResult};
use crate::run::{LoadRun, Session};

/// The name of the image, and of the Job's part.
pub const PART: &str = "generator";

/// The time for the pods to be scheduled and started.
const START: Duration = Duration::from_secs(120);
/// From the message with the start until the first arrival is due. Every generator receives
/// the message within this time.
const LEAD: Duration = Duration::from_secs(3);
/// The longest time without a message of a generator. It prints one every second, but its log is
/// interrupted while the API server does not answer.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Load generators in a cluster.
pub struct Generators {
    /// The cluster, and the namespace for the generators' pods.
    pub cluster: Cluster,
    /// Their image.
    pub image: String,
    /// The host and port of the ingress, for a pod.
    pub ingress: String,
    /// The number of generators.
    pub count: usize,
}

/// Why several generators have no result.
#[derive(Debug, Error, Diagnostic)]
pub enum GeneratorsError {
    /// The Job cannot be started, written to, or removed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Job(#[from] IndexedJobError),
    /// A generator ended too early: the load is incomplete.
    #[error("generator {number} of {of} ended too early: {why}{message}")]
    #[diagnostic(
        code(loadtests::generators::lost),
        help("was its pod evicted, or its node lost? Start a new run")
    )]
    Lost {
        /// Its number, from 0.
        number: usize,
        /// The number of generators.
        of: usize,
        /// The cluster's reason.
        why: String,
        /// The last line of the generator, if any.
        message: String,
    },
    /// A generator sends no more messages.
    #[error("there was no message from generator {number} of {of} for {SILENCE_TIMEOUT:?}")]
    #[diagnostic(
        code(loadtests::generators::silent),
        help("does the API server answer? The generators' logs are read through it")
    )]
    Silent {
        /// Its number, from 0.
        number: usize,
        /// The number of generators.
        of: usize,
    },
    /// The run was cancelled before the first arrival was due.
    #[error("cancelled before the load started")]
    #[diagnostic(code(loadtests::generators::cancelled))]
    Cancelled,
}

impl Generators {
    /// Runs the load until it ends, is cancelled or aborted. Always removes the generators.
    ///
    /// # Errors
    /// [`GeneratorsError`].
    pub async fn run(
        &self,
        order: &LoadOrder,
        start: LoadStart,
        session: Session,
        monitor: &mut LoadMonitor<'_>,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<LoadRun, GeneratorsError> {
        progress(&format!("{} generators start in the cluster", self.count));
        let settings = self.job_settings(order);
        let starting = IndexedJob::start(&self.cluster, &settings, START);
        let Some(started) = session.stop.run_until_cancelled(starting).await else {
            // The Job may exist, and this process may exit before its drop has removed it.
            indexed_job::end_all(&self.cluster, PART).await?;
            return Err(GeneratorsError::Cancelled);
        };
        let job = started?;
        let states = std::iter::repeat_with(GeneratorState::default);
        let mut reports = Reports {
            job,
            of: states.take(self.count).collect(),
            is_ending: false,
            terminated: None,
        };
        let loaded = reports.load(start, &session.stop, monitor).await;
        // Also after an error, which is reported before an error of the removal.
        let ended = reports.job.end().await;
        let aborted = loaded?;
        ended?;
        Ok(LoadRun {
            result: reports.result(session, aborted),
            raw_log: None,
        })
    }

    fn job_settings(&self, order: &LoadOrder) -> JobSettings {
        let json = serde_json::to_string(order).expect("an order can be written as JSON");
        let takes: Duration = order.stages.iter().map(|stage| stage.takes).sum();
        let grace = order.drain + order.timeout + SILENCE_TIMEOUT;
        JobSettings {
            part: PART,
            image: self.image.clone(),
            variable: ("LOAD_ORDER", json),
            pods: self.count,
            lifetime: START + LEAD + takes + grace,
            grace,
        }
    }
}

/// The messages of the generators so far.
struct Reports {
    job: IndexedJob,
    of: Vec<GeneratorState>,
    /// Set when they are requested to end early.
    is_ending: bool,
    /// The first one that ended early without a request.
    terminated: Option<usize>,
}

/// The messages of one generator so far.
struct GeneratorState {
    last: Instant,
    is_ready: bool,
    /// The time of the last progress. An interrupted log is read again from its start.
    reported: Duration,
    result: Option<LoadResult>,
    /// The last line that is not a message.
    last_line: Option<String>,
}

impl Default for GeneratorState {
    fn default() -> GeneratorState {
        GeneratorState {
            last: Instant::now(),
            is_ready: false,
            reported: Duration::ZERO,
            result: None,
            last_line: None,
        }
    }
}

impl Reports {
    /// Starts the load when all are ready, and waits for the results.
    async fn load(
        &mut self,
        start: LoadStart,
        stop: &CancellationToken,
        monitor: &mut LoadMonitor<'_>,
    ) -> Result<Option<String>, GeneratorsError> {
        while !self.of.iter().all(|state| state.is_ready) {
            let message = stop.run_until_cancelled(self.next()).await;
            message.ok_or(GeneratorsError::Cancelled)??;
        }
        let start = LoadStart {
            begin: Some(Timestamp::now() + LEAD),
            ..start
        };
        let line = serde_json::to_string(&start).expect("a start can be written as JSON");
        self.job.write_line(&line).await?;
        self.wait_for_results(stop, monitor).await
    }

    /// Waits for all results. Returns the threshold that aborted the load, if one did.
    async fn wait_for_results(
        &mut self,
        stop: &CancellationToken,
        monitor: &mut LoadMonitor<'_>,
    ) -> Result<Option<String>, GeneratorsError> {
        let mut aborted = None;
        while !self.of.iter().all(|state| state.result.is_some()) {
            let is_over = stop.is_cancelled() || aborted.is_some() || self.terminated.is_some();
            if is_over && !self.is_ending {
                self.is_ending = true;
                self.job.end().await?;
            }
            let is_ending = self.is_ending;
            let message = tokio::select! {
                message = self.next() => message?,
                () = stop.cancelled(), if !is_ending => continue,
            };
            if let Some(GeneratorMessage::Progress { elapsed, endpoints }) = message
                && let (ControlFlow::Break(threshold), None) =
                    (monitor.update(elapsed, &endpoints), &aborted)
            {
                aborted = Some(threshold);
            }
        }
        match self.terminated {
            Some(number) => Err(self.lost(number, "it was terminated".into())),
            None => Ok(aborted),
        }
    }

    /// Returns the next new message of any generator.
    async fn next(&mut self) -> Result<Option<GeneratorMessage>, GeneratorsError> {
        let states = self.of.iter().enumerate();
        let running = states.filter(|(_, state)| state.result.is_none());
        let Some((longest, state)) = running.min_by_key(|(_, state)| state.last) else {
            return Ok(None);
        };
        let deadline = state.last + SILENCE_TIMEOUT;
        let Ok(Some((number, output))) = timeout_at(deadline, self.job.next()).await else {
            return Err(GeneratorsError::Silent {
                number: longest,
                of: self.of.len(),
            });
        };
        let state = &mut self.of[number];
        match output {
            PodOutput::Line(line) => {
                let message = state.handle(line);
                let result = state.result.as_ref();
                let ended_early = result.is_some_and(|result| result.ended != Ended::Whole);
                if ended_early && !self.is_ending {
                    self.terminated.get_or_insert(number);
                }
                Ok(message)
            }
            PodOutput::Ended(_) if state.result.is_some() => Ok(None),
            PodOutput::Ended(why) => Err(self.lost(number, why)),
        }
    }

    fn lost(&self, number: usize, why: String) -> GeneratorsError {
        let last_line = self.of[number].last_line.as_ref();
        GeneratorsError::Lost {
            number,
            of: self.of.len(),
            why,
            message: last_line.map_or_else(String::new, |line| format!("; its last line: {line}")),
        }
    }

    fn result(self, session: Session, aborted: Option<String>) -> LoadResult {
        let count = self.of.len();
        let results = self.of.into_iter().filter_map(|state| state.result);
        let merged = LoadResult::merge(results).expect("every generator has sent its result");
        let versions = merged.fingerprint.versions;
        let mut fingerprint = session.fingerprint.answered_in(versions);
        fingerprint.machine += &format!("; {count} generators in the cluster");
        LoadResult {
            run: session.run,
            fingerprint,
            ended: aborted.map_or(merged.ended, |threshold| Ended::Aborted { threshold }),
            ..merged
        }
    }
}

impl GeneratorState {
    /// Handles a line of its log. Returns progress that is new.
    fn handle(&mut self, line: String) -> Option<GeneratorMessage> {
        self.last = Instant::now();
        match serde_json::from_str(&line) {
            Ok(GeneratorMessage::Ready) => self.is_ready = true,
            Ok(GeneratorMessage::Progress { elapsed, .. }) if elapsed <= self.reported => {}
            Ok(GeneratorMessage::Progress { elapsed, endpoints }) => {
                self.reported = elapsed;
                return Some(GeneratorMessage::Progress { elapsed, endpoints });
            }
            Ok(GeneratorMessage::Ended(result)) => self.result = Some(*result),
            // An error message of the program, or half a line of an interrupted log.
            Err(_) => self.last_line = Some(line),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(millis: u64) -> String {
        let message = GeneratorMessage::Progress {
            elapsed: Duration::from_millis(millis),
            endpoints: Default::default(),
        };
        serde_json::to_string(&message).unwrap()
    }

    #[test]
    fn a_log_that_is_read_again_repeats_no_progress() {
        let mut state = GeneratorState::default();
        let log = ["\"ready\"".to_owned(), progress(1000), progress(2000)];
        let first = log.iter().filter_map(|line| state.handle(line.clone()));
        assert_eq!(first.count(), 2);
        assert!(state.is_ready);
        let again = log.into_iter().chain([progress(3000)]);
        let again: Vec<GeneratorMessage> = again.filter_map(|line| state.handle(line)).collect();
        let elapsed = Duration::from_secs(3);
        assert!(
            matches!(&again[..], [GeneratorMessage::Progress { elapsed: it, .. }] if *it == elapsed)
        );
    }

    #[test]
    fn the_last_other_line_is_kept() {
        let mut state = GeneratorState::default();
        let error = "load-generator: LOAD_ORDER is invalid".to_owned();
        assert_eq!(state.handle(error.clone()), None);
        assert_eq!(state.handle("{\"progress\":{\"elap".into()), None);
        assert_eq!(state.last_line.as_deref(), Some("{\"progress\":{\"elap"));
        assert!(!state.is_ready && state.result.is_none());
        state.handle(error.clone());
        assert_eq!(state.last_line, Some(error));
    }
}
