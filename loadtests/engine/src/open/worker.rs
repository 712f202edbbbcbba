//! A worker: starts its share of the arrivals when they are due.
//!
//! A worker is one thread. An arrival that is due goes to an idle [slot](super::slots). If no slot
//! is idle, each turn of the thread's loop adds one, after it has handled the responses so far. A
//! full thread adds none: opening a connection costs as much as several requests, and a thread that
//! opens connections instead of reading the responses that free its slots never catches up. At the
//! limit of arrivals in flight an arrival is dropped.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hurl_checks::Response;
use hyper::HeaderMap;
use hyper::body::{Bytes, Incoming};
use prober::answer::of_http;
use prober::{IdentityHeaders, RequestOutcome};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::busy::Busy;
use super::connection::{Connection, Dial, Http1Connection, Http2Connection};
use super::journeys::{Arrival, DueRequest, PreparedJourneys, RunningJourney};
use super::plan::ConnectionMode;
use super::recorder::{ArrivalRecorder, FailureReason, RequestResult, WorkerCounts};
use super::schedule::Schedule;
use super::slots::Slots;
use super::timer::Timer;
use crate::raw_log::Sink;

/// Arrivals that are due within this time may be started together, as each wake-up has a cost.
const TOGETHER: Duration = Duration::from_micros(100);
/// The same if the thread is full. The server also wakes up less often then.
const TOGETHER_WHEN_FULL: Duration = Duration::from_micros(400);
/// How long a full thread has to catch up before the next check.
const CATCH_UP: Duration = Duration::from_millis(10);
/// How often counts are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What all workers share.
pub struct Job {
    pub journeys: PreparedJourneys,
    pub schedule: Schedule,
    pub connections: ConnectionMode,
    pub timeout: Duration,
    pub drain: Duration,
    pub block: Duration,
    /// The workers of all generators together.
    pub workers: usize,
    pub dial: Dial,
    /// The headers that name what answered.
    pub headers: IdentityHeaders,
    /// When the first arrival is due.
    pub begin: Instant,
    /// Cancelled when no more arrivals are due.
    pub stop: CancellationToken,
}

/// One worker's share.
pub struct WorkerShare {
    pub job: Arc<Job>,
    /// The worker's number among all workers, from 0. It sends every `workers`-th arrival.
    pub number: usize,
    /// The most arrivals in flight.
    pub bound: usize,
    pub log: Option<Sink>,
    /// Receives the worker's counts once a second, and at its end.
    pub counts: UnboundedSender<WorkerCounts>,
}

impl WorkerShare {
    /// Sends the arrivals, on a runtime of one thread (`LocalRuntime`), which must be dropped
    /// afterwards with its remaining tasks. Returns when all arrivals have ended.
    pub async fn work(self, timer: Timer, busy: Busy) {
        let recorder = ArrivalRecorder::new(self.job.block, self.job.headers.clone(), self.log);
        let worker = Rc::new(Worker {
            job: self.job,
            busy: RefCell::new(busy),
            bound: self.bound,
            slots: RefCell::default(),
            waiting: RefCell::default(),
            too_few_slots: Notify::new(),
            http2: RefCell::default(),
            recorder: RefCell::new(recorder),
            all_sent: Cell::new(false),
            all_ended: Notify::new(),
            counts: self.counts,
        });
        worker.clone().run(self.number, timer).await;
        worker.report();
    }
}

struct Worker {
    job: Arc<Job>,
    busy: RefCell<Busy>,
    bound: usize,
    slots: RefCell<Slots>,
    /// Arrivals that wait for a free slot; empty while a slot is idle.
    waiting: RefCell<VecDeque<Arrival>>,
    too_few_slots: Notify,
    /// The HTTP/2 connections.
    http2: RefCell<Vec<Rc<Http2Connection>>>,
    recorder: RefCell<ArrivalRecorder>,
    /// No more arrivals are due.
    all_sent: Cell<bool>,
    all_ended: Notify,
    counts: UnboundedSender<WorkerCounts>,
}

impl Worker {
    async fn run(self: Rc<Self>, number: usize, timer: Timer) {
        spawn_local(self.clone().report_every_second());
        spawn_local(self.clone().grow());
        let stop = &self.job.stop;
        let _ = stop
            .run_until_cancelled(self.send_all(number, &timer))
            .await;
        self.all_sent.set(true);
        if self.all_idle() {
            return;
        }
        tokio::select! {
            // This returns, as each request has a timeout.
            () = self.all_ended.notified() => {}
            () = self.drain_timeout() => self.fail_all_in_flight(),
        }
    }

    async fn drain_timeout(&self) {
        self.job.stop.cancelled().await;
        sleep_until(Instant::now() + self.job.drain).await;
    }

    /// Starts every arrival of worker `number` when it is due.
    async fn send_all(&self, number: usize, timer: &Timer) {
        let schedule = &self.job.schedule;
        let mut now = Instant::now();
        for number in (number as u64..schedule.arrivals()).step_by(self.job.workers) {
            let after = schedule.due(number);
            let due = self.job.begin + after;
            if due > now {
                now = Instant::now();
            }
            if due > now {
                let together = match self.is_full() {
                    true => TOGETHER_WHEN_FULL,
                    false => TOGETHER,
                };
                timer.until(due.max(now + together)).await;
                now = Instant::now();
            }
            self.start(self.job.journeys.arrival(number, after, due));
        }
    }

    fn is_full(&self) -> bool {
        self.busy.borrow_mut().is_full()
    }

    fn start(&self, arrival: Arrival) {
        let mut slots = self.slots.borrow_mut();
        if slots.give(arrival) {
            return;
        }
        // Every slot is busy.
        let mut waiting = self.waiting.borrow_mut();
        if slots.count() + waiting.len() < self.bound {
            waiting.push_back(arrival);
            self.too_few_slots.notify_one();
        } else {
            self.recorder.borrow_mut().dropped(arrival.first);
        }
    }

    /// Adds slots, one after the other, while arrivals wait.
    async fn grow(self: Rc<Self>) {
        loop {
            self.too_few_slots.notified().await;
            loop {
                while self.is_full() && self.slots.borrow().count() > 0 {
                    sleep(CATCH_UP).await;
                }
                yield_now().await;
                let Some(arrival) = self.waiting.borrow_mut().pop_front() else {
                    break;
                };
                let slot = self.slots.borrow_mut().add(arrival);
                spawn_local(self.clone().serve(slot));
            }
        }
    }

    /// The task of a slot.
    async fn serve(self: Rc<Self>, slot: usize) {
        let mut connection = self.connection(slot);
        let mut alarm = Alarm::default();
        loop {
            let given = poll_fn(|context| self.slots.borrow_mut().poll_given(slot, context));
            let (arrival, sent) = given.await;
            self.journey(slot, arrival, sent, &mut connection, &mut alarm)
                .await;
            let next = self.waiting.borrow_mut().pop_front();
            self.slots.borrow_mut().free(slot, next);
            if self.all_sent.get() && self.all_idle() {
                self.all_ended.notify_one();
            }
        }
    }

    /// Sends the requests of an arrival, one after the other.
    async fn journey(
        &self,
        slot: usize,
        arrival: Arrival,
        sent: Instant,
        connection: &mut Connection,
        alarm: &mut Alarm,
    ) {
        let mut journey = self.job.journeys.begin(arrival);
        let (mut request, mut sent) = (arrival.first, sent);
        for step in 0..journey.steps() {
            if step > 0 {
                self.slots.borrow_mut().thinks(slot);
                if !journey.can_send(step) {
                    continue;
                }
                if !self.think(journey.thinks(step)).await {
                    return;
                }
                (request, sent) = self.follow(slot, journey.name(step));
            }
            let deadline = request.due + self.job.timeout;
            let sending = pin!(send(connection, &mut journey, step, sent, &self.recorder));
            let ending = alarm.within(deadline, sending).await;
            let ending = ending.unwrap_or(Err(RequestOutcome::TimedOut));
            self.ended(request, sent, ending);
        }
    }

    /// Waits. Returns false if the run ends before.
    async fn think(&self, time: Duration) -> bool {
        let Job {
            begin,
            schedule,
            drain,
            stop,
            ..
        } = &*self.job;
        let at = Instant::now() + time;
        if at > *begin + schedule.takes() + *drain {
            return false;
        }
        match time.is_zero() {
            true => !stop.is_cancelled(),
            false => stop.run_until_cancelled(sleep_until(at)).await.is_some(),
        }
    }

    /// Returns a further request of the slot's arrival, which is due now, and sent now.
    fn follow(&self, slot: usize, name: u16) -> (DueRequest, Instant) {
        let now = Instant::now();
        let request = DueRequest {
            name,
            after: now - self.job.begin,
            due: now,
            follows: true,
        };
        self.slots.borrow_mut().sends(slot, request);
        (request, now)
    }

    /// Returns the connection of a slot. With HTTP/2 several slots share one.
    fn connection(&self, slot: usize) -> Connection {
        let dial = self.job.dial.clone();
        let streams = match self.job.connections {
            ConnectionMode::Http2 { streams } => streams,
            mode => {
                let keep_alive = mode == ConnectionMode::KeepAlive;
                return Connection::Http1(Http1Connection::new(dial, keep_alive));
            }
        };
        let mut http2 = self.http2.borrow_mut();
        let number = slot / streams;
        if http2.len() <= number {
            http2.push(Rc::new(Http2Connection::new(dial)));
        }
        Connection::Http2(http2[number].clone())
    }

    fn ended(
        &self,
        request: DueRequest,
        sent: Instant,
        ending: Result<RequestResult, RequestOutcome>,
    ) {
        let mut recorder = self.recorder.borrow_mut();
        match ending {
            Ok(ending) => recorder.ended(request, sent, ending),
            Err(RequestOutcome::Dropped) => recorder.without_port(request),
            Err(outcome) => {
                let ending = RequestResult::failed(FailureReason::Outcome(outcome));
                recorder.ended(request, sent, ending);
            }
        }
    }

    fn all_idle(&self) -> bool {
        self.slots.borrow().are_idle() && self.waiting.borrow().is_empty()
    }

    /// Counts the requests in flight as failed.
    fn fail_all_in_flight(&self) {
        let now = Instant::now();
        let mut recorder = self.recorder.borrow_mut();
        let slots = self.slots.borrow();
        let waiting = self.waiting.borrow();
        let waiting = waiting.iter().map(|arrival| (arrival.first, None));
        for (request, sent) in slots.in_flight().chain(waiting) {
            let ending = RequestResult::failed(FailureReason::Unanswered);
            let sent = sent.unwrap_or(now).max(request.due);
            recorder.ended(request, sent, ending);
        }
    }

    async fn report_every_second(self: Rc<Self>) {
        let mut seconds = interval_at(self.job.begin + REPORT_INTERVAL, REPORT_INTERVAL);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            seconds.tick().await;
            self.report();
        }
    }

    fn report(&self) {
        let counts = self.recorder.borrow_mut().take();
        // Sending fails if the run was dropped.
        let _ = self.counts.send(counts);
    }
}

/// Sends one request, once, reads the whole response and evaluates it.
async fn send(
    connection: &mut Connection,
    journey: &mut RunningJourney<'_>,
    step: usize,
    sent: Instant,
    recorder: &RefCell<ArrivalRecorder>,
) -> Result<RequestResult, RequestOutcome> {
    let request = match journey.request(step) {
        Ok(request) => request,
        Err(why) => return Ok(RequestResult::failed(FailureReason::Unsendable(why))),
    };
    let needs_status_only = journey.needs_status_only(step);
    let receive = async |response: hyper::Response<Incoming>| {
        recorder.borrow_mut().answered(response.headers());
        let (head, body) = response.into_parts();
        let mut answer = Response {
            url: String::new(),
            version: head.version,
            status: head.status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            duration: Duration::ZERO,
        };
        if needs_status_only {
            return Ok((answer, read(body).await?));
        }
        let body = body.collect().await;
        answer.body = body.map_err(|error| of_http(&error))?.to_bytes();
        answer.headers = head.headers;
        answer.url = journey.url(&request);
        answer.duration = sent.elapsed();
        let received = answer.body.len() as u64;
        Ok((answer, received))
    };
    let exchanged = connection.exchange(|| request.as_ref().clone(), receive);
    let (answer, received) = exchanged.await?;
    let evaluated = journey.evaluate(step, &answer);
    Ok(RequestResult {
        status: Some(answer.status.as_u16()),
        received,
        failure: evaluated.err().map(FailureReason::Answer),
    })
}

/// Reads a body to its end. Returns the number of its bytes.
async fn read(mut body: Incoming) -> Result<u64, RequestOutcome> {
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| of_http(&error))?;
        received += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(received)
}
