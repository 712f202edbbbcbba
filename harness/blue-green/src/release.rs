//! The release of one service, step by step. Each step is written into the cluster before it runs,
//! and can run twice. So the next deployer continues where a dead one stopped.

mod barrier;
mod operations;
mod rollback;
mod steps;
mod switch;
mod watch;

use jiff::Timestamp;
use tokio::time::Instant;

use super::changes::Changes;
use super::error::BlueGreenError;
use super::event::{EventKind, ReleaseEvent};
use super::group::{Member, Milestone};
use super::lock::ReleaseLock;
use super::objects::ServiceObjects;
use super::probe::Probe;
use super::record::{RecordMap, ReleaseRecord, ReleaseStep};
use super::requests::{OperatorRequests, RequestMap};
use super::step_error::{Reason, StepError};
use super::traffic::Reading;
use super::{Conclusion, Deployer, Operation};

/// A release in progress, and its observer.
pub(super) struct ServiceRelease<'a, O> {
    deployer: &'a Deployer<'a>,
    objects: ServiceObjects<'a>,
    changes: Changes<'a>,
    lock: &'a ReleaseLock,
    records: RecordMap,
    member: Member,
    /// Requests to this release from other deployers.
    requests: Option<OperatorRequests>,
    /// The live colour's counters when the checks began, for the baseline.
    before: Option<Reading>,
    /// The new colour's counters at the last read; first right before the switch.
    on_new: Option<Reading>,
    /// The deployer's own requests.
    probe: Option<Probe>,
    observe: &'a mut O,
}

impl<'a, O: AsyncFnMut(&ReleaseEvent)> ServiceRelease<'a, O> {
    /// Reads the service's record.
    pub async fn open(
        deployer: &'a Deployer<'a>,
        lock: &'a ReleaseLock,
        member: Member,
        observe: &'a mut O,
    ) -> Result<Self, BlueGreenError> {
        let objects = deployer.objects();
        Ok(ServiceRelease {
            deployer,
            objects,
            changes: Changes { objects, lock },
            lock,
            records: RecordMap::read(deployer.cluster, deployer.service).await?,
            member,
            requests: None,
            before: None,
            on_new: None,
            probe: None,
            observe,
        })
    }

    pub async fn run(&mut self, operation: Operation<'_>) -> Result<Conclusion, BlueGreenError> {
        // Boxed, as the future is large.
        let concluded = Box::pin(self.carry_out(operation)).await;
        self.end_probe().await;
        concluded.map_err(|source| match &self.records.record {
            Some(record) if record.deployer == self.deployer.holder.to_string() => {
                BlueGreenError::Unfinished {
                    service: self.deployer.service.to_owned(),
                    release: record.release.clone(),
                    step: record.step.to_string(),
                    source: Box::new(source),
                }
            }
            _ => source,
        })
    }

    async fn carry_out(&mut self, operation: Operation<'_>) -> Result<Conclusion, BlueGreenError> {
        self.must_be_of_these()?;
        self.until_all(Milestone::Locked).await?;
        match operation {
            Operation::Deploy { version, manual } => self.deploy(version, manual).await,
            Operation::Promote => self.promote().await,
            Operation::Abort => self.abort().await,
            Operation::Pause => Err(self.record()?.wrong_step(
                "paused",
                "no deployer is running it: it stays at this step until `deploy`, `promote` or `abort`",
            )),
            Operation::End => self.end().await,
        }
    }

    /// Runs the steps from the one in the record to the end, or rolls back.
    async fn resume(&mut self) -> Result<Conclusion, BlueGreenError> {
        self.reached_by(self.record()?.step);
        let request_map = self.request_map();
        self.requests = Some(OperatorRequests::of(request_map, &self.record()?.release));
        loop {
            let record = self.record()?;
            self.emit(EventKind::Began { step: record.step }).await;
            let next = match record.step {
                ReleaseStep::Gate => return self.wait_at_gate(&record).await,
                ReleaseStep::Retire => return Box::pin(self.retire(&record)).await,
                step => self.unless_cancelled(step, &record).await,
            };
            match next {
                Ok(step) => self.begin(step).await?,
                Err(StepError::RollBack(reason)) if !self.member.fail(reason.text()) => {
                    let text = format!("too late to roll back: {}", reason.text());
                    self.progress(text).await;
                    self.begin(ReleaseStep::Retire).await?;
                }
                Err(StepError::RollBack(reason)) => {
                    return Box::pin(self.roll_back(reason, Instant::now())).await;
                }
                Err(StepError::Leave(error)) => return Err(error),
            }
        }
    }

    /// Runs a step, unless the release is cancelled, or the lock lost.
    async fn unless_cancelled(
        &mut self,
        step: ReleaseStep,
        record: &ReleaseRecord,
    ) -> Result<ReleaseStep, StepError> {
        let (cancellation, lock) = (self.deployer.cancellation.clone(), self.lock);
        let abort = self.requests.as_ref().map(OperatorRequests::abort);
        let abort = async {
            match abort {
                Some(abort) => abort.await,
                None => std::future::pending().await,
            }
        };
        let another = self.member.another_failed();
        tokio::select! {
            biased;
            lost = lock.lost() => Err(lost.into()),
            () = cancellation.cancelled() => Err(StepError::RollBack(Reason::Cancelled)),
            request = abort => Err(StepError::failed(request.to_string())),
            failure = another => Err(failure.into()),
            next = self.step(step, record) => next,
        }
    }

    /// Boxed, as each future is large and only one of them is needed at a time.
    async fn step(
        &mut self,
        step: ReleaseStep,
        record: &ReleaseRecord,
    ) -> Result<ReleaseStep, StepError> {
        match step {
            ReleaseStep::BringUp => Box::pin(self.bring_up(record)).await,
            ReleaseStep::Check => {
                let next = Box::pin(self.check(record)).await?;
                self.wait_for_others(next).await
            }
            ReleaseStep::Canary => Box::pin(self.shift_by_weights(record)).await,
            ReleaseStep::Switch => Box::pin(self.switch(record)).await,
            ReleaseStep::Analyse => Box::pin(self.analyse(record)).await,
            ReleaseStep::Drain => Box::pin(self.drain(record)).await,
            ReleaseStep::Gate | ReleaseStep::Retire => Ok(step),
            ReleaseStep::Revert => {
                let why = record.why.as_deref();
                Err(StepError::failed(why.unwrap_or("its rollback had begun")))
            }
        }
    }

    /// Begins the next step.
    async fn begin(&mut self, step: ReleaseStep) -> Result<(), BlueGreenError> {
        let mut record = self.record()?;
        record.step = step;
        record.since = Timestamp::now();
        self.write(record).await?;
        self.reached_by(step);
        Ok(())
    }

    async fn write(&mut self, record: ReleaseRecord) -> Result<(), BlueGreenError> {
        self.lock.ours().await?;
        self.records.write(record).await
    }

    fn record(&self) -> Result<ReleaseRecord, BlueGreenError> {
        let service = self.deployer.service.to_owned();
        let record = self.records.record.clone();
        record.ok_or(BlueGreenError::NothingInProgress { service })
    }

    fn request_map(&self) -> RequestMap {
        RequestMap::of(self.deployer.cluster, self.deployer.service)
    }

    async fn progress(&mut self, text: String) {
        self.emit(EventKind::Progress { text }).await;
    }

    async fn emit(&mut self, what: EventKind) {
        // Boxed, so that the observer's future is not part of every step's.
        Box::pin((self.observe)(&ReleaseEvent::now(what))).await;
    }
}
