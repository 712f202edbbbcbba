//! Arrivals made by several generators in a cluster: pods of an indexed Job, each of which sends
//! every so many-eth of them. What they measured adds up exactly; see [`load_generator`].

use std::ops::ControlFlow;
use std::time::Duration;

use harness::cluster::Cluster;
use harness::indexed_job::{self, Heard, IndexedJob, IndexedJobError, Wanted};
use jiff::Timestamp;
use load_generator::order::Order;
use load_generator::said::Said;
use miette::Diagnostic;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::course::Course;
use crate::result::{Ended, Fingerprint, LoadResult};
use crate::run::{Run, Session};

/// The name of the image, and of what runs of it.
pub const PART: &str = "generator";

/// For the pods to be scheduled and started.
const START: Duration = Duration::from_secs(120);
/// Until the first arrival is due: by then every generator has been told when that is.
const LEAD: Duration = Duration::from_secs(3);
/// A generator says something every second; its log may break off for as long as the API server
/// is away.
const SILENT_AT_MOST: Duration = Duration::from_secs(60);

/// Who makes arrivals in a cluster.
pub struct Crew {
    /// The cluster, and the namespace for the generators' pods.
    pub cluster: Cluster,
    /// Their image.
    pub image: String,
    /// Host and port by which a pod reaches the ingress.
    pub ingress: String,
    /// How many they are.
    pub generators: usize,
}

/// Why several generators have no result.
#[derive(Debug, Error, Diagnostic)]
pub enum GeneratorsError {
    /// Their pods cannot be had, told, or ended.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Job(#[from] IndexedJobError),
    /// One ended before its time: a part of the load is not the load.
    #[error("generator {number} of {of} ended before its time: {why}{said}")]
    #[diagnostic(
        code(loadtests::generators::lost),
        help("was its pod evicted, or its node lost? The same again is a new run")
    )]
    Lost {
        /// Which, from 0.
        number: usize,
        /// Of how many.
        of: usize,
        /// How, in the cluster's words.
        why: String,
        /// What it said itself, if anything.
        said: String,
    },
    /// One is not heard any more.
    #[error("nothing was heard of generator {number} of {of} for {SILENT_AT_MOST:?}")]
    #[diagnostic(
        code(loadtests::generators::silent),
        help("does the API server answer? The generators' logs are read through it")
    )]
    Silent {
        /// Which, from 0.
        number: usize,
        /// Of how many.
        of: usize,
    },
    /// It was called off before the first arrival was due.
    #[error("called off before the load began")]
    #[diagnostic(code(loadtests::generators::called_off))]
    CalledOff,
}

impl Crew {
    /// Has the generators make the arrivals, to their end, until that is called off, or a
    /// threshold ends it. Nothing of them is left.
    ///
    /// # Errors
    /// [`GeneratorsError`].
    pub async fn run(
        &self,
        order: &Order,
        session: Session,
        course: &mut Course<'_>,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Run, GeneratorsError> {
        progress(&format!(
            "{} generators start in the cluster",
            self.generators
        ));
        let wanted = self.wanted(order);
        let starting = IndexedJob::start(&self.cluster, &wanted, START);
        let Some(started) = session.stop.run_until_cancelled(starting).await else {
            // It may have been created: this process may end before what drops it is through.
            indexed_job::end_all(&self.cluster, PART).await?;
            return Err(GeneratorsError::CalledOff);
        };
        let job = started?;
        let mut listening = Listening::to(job, self.generators);
        let loaded = listening.load(&session.stop, course).await;
        // Whatever became of it; what it was says more than that it is still there.
        let ended = listening.job.end().await;
        let aborted = loaded?;
        ended?;
        Ok(Run {
            result: listening.result(session, aborted),
            raw_log: None,
        })
    }

    fn wanted(&self, order: &Order) -> Wanted {
        let json = serde_json::to_string(order).expect("an order is JSON");
        let takes: Duration = order.stages.iter().map(|stage| stage.takes).sum();
        let grace = order.drain + order.timeout + SILENT_AT_MOST;
        Wanted {
            part: PART,
            image: self.image.clone(),
            variable: ("LOAD_ORDER", json),
            pods: self.generators,
            lifetime: START + LEAD + takes + grace,
            grace,
        }
    }
}

/// What was heard of the generators.
struct Listening {
    job: IndexedJob,
    of: Vec<OneHeard>,
    /// They are told to end before their time.
    is_ending: bool,
    /// The first one that ended before its time although nobody here told it to.
    terminated: Option<usize>,
}

/// What was heard of one of them.
struct OneHeard {
    last: Instant,
    is_ready: bool,
    /// What it told of last: a log that broke off is read again.
    told: Duration,
    result: Option<LoadResult>,
    /// The last line that was none of a generator's.
    complaint: Option<String>,
}

impl Default for OneHeard {
    fn default() -> OneHeard {
        OneHeard {
            last: Instant::now(),
            is_ready: false,
            told: Duration::ZERO,
            result: None,
            complaint: None,
        }
    }
}

impl Listening {
    fn to(job: IndexedJob, generators: usize) -> Listening {
        Listening {
            job,
            is_ending: false,
            terminated: None,
            of: std::iter::repeat_with(OneHeard::default)
                .take(generators)
                .collect(),
        }
    }

    /// From when they are ready until all have said what they measured.
    async fn load(
        &mut self,
        stop: &CancellationToken,
        course: &mut Course<'_>,
    ) -> Result<Option<String>, GeneratorsError> {
        self.hear_ready(stop).await?;
        let begin = Timestamp::now() + LEAD;
        self.job.tell(&begin.to_string()).await?;
        self.hear_all(stop, course).await
    }

    async fn hear_ready(&mut self, stop: &CancellationToken) -> Result<(), GeneratorsError> {
        while !self.of.iter().all(|one| one.is_ready) {
            let heard = stop.run_until_cancelled(self.next()).await;
            heard.ok_or(GeneratorsError::CalledOff)??;
        }
        Ok(())
    }

    /// Until all have said what they measured. Tells which threshold ended it, if one did.
    async fn hear_all(
        &mut self,
        stop: &CancellationToken,
        course: &mut Course<'_>,
    ) -> Result<Option<String>, GeneratorsError> {
        let mut aborted = None;
        while !self.of.iter().all(|one| one.result.is_some()) {
            let is_over = stop.is_cancelled() || aborted.is_some() || self.terminated.is_some();
            if is_over && !self.is_ending {
                self.is_ending = true;
                self.job.end().await?;
            }
            let is_ending = self.is_ending;
            let heard = tokio::select! {
                heard = self.next() => heard?,
                () = stop.cancelled(), if !is_ending => continue,
            };
            if let Some(Said::Progress { elapsed, endpoints }) = heard
                && let (ControlFlow::Break(threshold), None) =
                    (course.goes_on(elapsed, &endpoints), &aborted)
            {
                aborted = Some(threshold);
            }
        }
        match self.terminated {
            Some(number) => Err(self.lost(number, "it was terminated".into())),
            None => Ok(aborted),
        }
    }

    /// What one of them says next that it has not said before.
    async fn next(&mut self) -> Result<Option<Said>, GeneratorsError> {
        let count = self.of.len();
        let waited_for = self
            .of
            .iter()
            .enumerate()
            .filter(|(_, one)| one.result.is_none());
        let Some((longest, last)) = waited_for
            .map(|(it, one)| (it, one.last))
            .min_by_key(|it| it.1)
        else {
            return Ok(None);
        };
        let heard = timeout_at(last + SILENT_AT_MOST, self.job.next()).await;
        let Ok(Some((number, heard))) = heard else {
            return Err(GeneratorsError::Silent {
                number: longest,
                of: count,
            });
        };
        let one = &mut self.of[number];
        match heard {
            Heard::Line(line) => {
                let said = one.said(line);
                let is_cut_short = one
                    .result
                    .as_ref()
                    .is_some_and(|it| it.ended != Ended::Whole);
                if is_cut_short && !self.is_ending {
                    self.terminated.get_or_insert(number);
                }
                Ok(said)
            }
            Heard::Ended(_) if one.result.is_some() => Ok(None),
            Heard::Ended(why) => Err(self.lost(number, why)),
        }
    }

    fn lost(&self, number: usize, why: String) -> GeneratorsError {
        let said = self.of[number].complaint.as_ref();
        GeneratorsError::Lost {
            number,
            of: self.of.len(),
            why,
            said: said.map_or_else(String::new, |said| format!("; it said: {said}")),
        }
    }

    fn result(self, session: Session, aborted: Option<String>) -> LoadResult {
        let count = self.of.len();
        let results = self.of.into_iter().filter_map(|one| one.result);
        let whole = LoadResult::together(results).expect("every generator has said its result");
        let mut fingerprint = session.fingerprint;
        fingerprint.machine += &format!("; {count} generators in the cluster");
        let versions = whole.fingerprint.versions;
        LoadResult {
            run: session.run,
            fingerprint: match versions.is_empty() {
                true => fingerprint,
                false => Fingerprint {
                    versions,
                    ..fingerprint
                },
            },
            ended: aborted.map_or(whole.ended, |threshold| Ended::Aborted { threshold }),
            ..whole
        }
    }
}

impl OneHeard {
    /// Takes a line of its log: what it says, unless it was heard before.
    fn said(&mut self, line: String) -> Option<Said> {
        self.last = Instant::now();
        match serde_json::from_str(&line) {
            Ok(Said::Ready) => self.is_ready = true,
            Ok(Said::Progress { elapsed, .. }) if elapsed <= self.told => {}
            Ok(Said::Progress { elapsed, endpoints }) => {
                self.told = elapsed;
                return Some(Said::Progress { elapsed, endpoints });
            }
            Ok(Said::Ended(result)) => self.result = Some(*result),
            // What the program complains of; or half a line, where the log broke off.
            Err(_) => self.complaint = Some(line),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(millis: u64) -> String {
        let said = Said::Progress {
            elapsed: Duration::from_millis(millis),
            endpoints: Default::default(),
        };
        serde_json::to_string(&said).unwrap()
    }

    #[test]
    fn a_log_that_is_read_again_is_heard_once() {
        let mut one = OneHeard::default();
        let log = ["\"ready\"".to_owned(), progress(1000), progress(2000)];
        let first = log.iter().filter_map(|line| one.said(line.clone()));
        assert_eq!(first.count(), 2);
        assert!(one.is_ready);
        let again = log.into_iter().chain([progress(3000)]);
        let again: Vec<Said> = again.filter_map(|line| one.said(line)).collect();
        let elapsed = Duration::from_secs(3);
        assert!(matches!(&again[..], [Said::Progress { elapsed: it, .. }] if *it == elapsed));
    }

    #[test]
    fn what_is_no_line_of_its_own_is_kept_as_its_complaint() {
        let mut one = OneHeard::default();
        let complaint = "load-generator: LOAD_ORDER is no order".to_owned();
        assert_eq!(one.said(complaint.clone()), None);
        assert_eq!(one.said("{\"progress\":{\"elap".into()), None);
        assert_eq!(one.complaint.as_deref(), Some("{\"progress\":{\"elap"));
        assert!(!one.is_ready && one.result.is_none());
        one.said(complaint.clone());
        assert_eq!(one.complaint, Some(complaint));
    }
}
