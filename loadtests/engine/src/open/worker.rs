//! A worker: has its share of the arrivals set about when they are due, each on its own.
//!
//! It is one thread. An arrival that is due goes to a [slot](super::slots) that is idle. Where
//! none is, one more is made in each turn of the thread's loop, after what has been answered
//! meanwhile was looked at; while the thread has no time to spare, none. To make a connection
//! costs as much as several requests, and each request costs more the more of them there are: a
//! thread that made them instead of reading the answers that free those it has would never catch
//! up. At the bound an arrival is dropped.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use prober::Outcome;
use prober::classify::of_http;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::busy::Busy;
use super::line::{Dial, Line, Own, Shared};
use super::plan::Connections;
use super::record::{Arrival, Counts, Ending, Failure, Recorder};
use super::requests::Requests;
use super::schedule::Schedule;
use super::slots::Slots;
use super::timer::Timer;
use crate::raw_log::Sink;

/// Arrivals that are due within this of each other may be set about together: to wake for each
/// alone would cost more than it is late.
const TOGETHER: Duration = Duration::from_micros(100);
/// The same where the thread has no time to spare: so the server, too, is woken for more at once,
/// which costs whoever wakes it as much as a request does.
const TOGETHER_WHEN_FULL: Duration = Duration::from_micros(400);
/// A thread that is behind has so long to catch up, until it is looked again.
const CATCHES_UP: Duration = Duration::from_millis(10);
/// How often counts are handed on.
const HANDED_ON: Duration = Duration::from_secs(1);

/// What all workers do, each its share.
pub struct Job {
    pub requests: Requests,
    pub schedule: Schedule,
    pub connections: Connections,
    pub timeout: Duration,
    pub drain: Duration,
    pub block: Duration,
    /// Of all generators together.
    pub workers: usize,
    pub dial: Dial,
    /// The first arrival's time.
    pub begin: Instant,
    /// Nothing is due any more.
    pub stop: CancellationToken,
}

/// One worker's share.
pub struct Share {
    pub job: Arc<Job>,
    /// Of all workers, from 0: every so many-eth arrival is its.
    pub number: usize,
    /// In flight at most.
    pub bound: usize,
    pub log: Option<Sink>,
    /// What it counted, once a second, and at its end.
    pub counts: UnboundedSender<Counts>,
}

impl Share {
    /// Does all of it, on a runtime of one thread (`LocalRuntime`), which then is to be dropped
    /// with all that is left on it. Returns when nothing is due and nothing in flight any more.
    pub async fn work(self, timer: Timer, busy: Busy) {
        let recorder = Recorder::new(self.job.block, self.log);
        let worker = Rc::new(Worker {
            job: self.job,
            busy: RefCell::new(busy),
            bound: self.bound,
            slots: RefCell::default(),
            waiting: RefCell::default(),
            too_few_slots: Notify::new(),
            shared: RefCell::default(),
            recorder: RefCell::new(recorder),
            nothing_more: Cell::new(false),
            all_ended: Notify::new(),
            counts: self.counts,
        });
        worker.clone().run(self.number, timer).await;
        worker.hand_on();
    }
}

struct Worker {
    job: Arc<Job>,
    busy: RefCell<Busy>,
    bound: usize,
    slots: RefCell<Slots>,
    /// Due, for the next slot that is free; none while one is idle.
    waiting: RefCell<VecDeque<Arrival>>,
    too_few_slots: Notify,
    /// HTTP/2's connections.
    shared: RefCell<Vec<Rc<Shared>>>,
    recorder: RefCell<Recorder>,
    /// Nothing is due any more.
    nothing_more: Cell<bool>,
    all_ended: Notify,
    counts: UnboundedSender<Counts>,
}

impl Worker {
    async fn run(self: Rc<Self>, number: usize, timer: Timer) {
        spawn_local(self.clone().hand_on_once_a_second());
        spawn_local(self.clone().grow());
        let stop = &self.job.stop;
        let pacing = stop.run_until_cancelled(self.set_about_all(number, &timer));
        let _or_stopped = pacing.await;
        self.nothing_more.set(true);
        if self.all_idle() {
            return;
        }
        tokio::select! {
            // Each has a timeout.
            () = self.all_ended.notified() => {}
            () = self.no_more_time() => self.give_up(),
        }
    }

    async fn no_more_time(&self) {
        self.job.stop.cancelled().await;
        sleep_until(Instant::now() + self.job.drain).await;
    }

    /// Sets about every arrival of worker `number` when it is due.
    async fn set_about_all(&self, number: usize, timer: &Timer) {
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
            self.set_about(Arrival {
                number,
                asks: self.job.requests.picked(number),
                after,
                due,
            });
        }
    }

    fn is_full(&self) -> bool {
        self.busy.borrow_mut().is_full()
    }

    fn set_about(&self, arrival: Arrival) {
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
            let mut recorder = self.recorder.borrow_mut();
            recorder.dropped(&self.job.requests, arrival);
        }
    }

    /// Makes slots, one after the other as long as arrivals wait.
    async fn grow(self: Rc<Self>) {
        loop {
            self.too_few_slots.notified().await;
            loop {
                while self.is_full() && self.slots.borrow().count() > 0 {
                    sleep(CATCHES_UP).await;
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

    /// A slot at work.
    async fn serve(self: Rc<Self>, slot: usize) {
        let mut line = self.line(slot);
        let mut alarm = Alarm::default();
        loop {
            let given = poll_fn(|context| self.slots.borrow_mut().poll_given(slot, context));
            let (arrival, sent) = given.await;
            let deadline = arrival.due + self.job.timeout;
            let asking = pin!(ask(&mut line, &self.job.requests, arrival, &self.recorder));
            let asked = alarm.within(deadline, asking).await;
            let ending = asked.unwrap_or(Err(Outcome::TimedOut));
            self.ended(arrival, sent, ending);
            self.free(slot);
            if self.nothing_more.get() && self.all_idle() {
                self.all_ended.notify_one();
            }
        }
    }

    /// Has a slot take who has waited longest, else be idle.
    fn free(&self, slot: usize) {
        let next = self.waiting.borrow_mut().pop_front();
        self.slots.borrow_mut().free(slot, next);
    }

    /// The connection of a slot: HTTP/2's is several slots'.
    fn line(&self, slot: usize) -> Line {
        let dial = self.job.dial.clone();
        let streams = match self.job.connections {
            Connections::New => return Line::Own(Own::new(dial, false)),
            Connections::Kept => return Line::Own(Own::new(dial, true)),
            Connections::Http2 { streams } => streams,
        };
        let mut shared = self.shared.borrow_mut();
        let number = slot / streams;
        if shared.len() <= number {
            shared.push(Rc::new(Shared::new(dial)));
        }
        Line::Shared(shared[number].clone())
    }

    fn ended(&self, arrival: Arrival, sent: Instant, ending: Result<Ending, Outcome>) {
        let mut recorder = self.recorder.borrow_mut();
        let requests = &self.job.requests;
        match ending {
            Ok(ending) => recorder.ended(requests, arrival, sent, ending),
            Err(Outcome::Dropped) => recorder.without_port(requests, arrival),
            Err(outcome) => {
                let ending = Ending::failed(Failure::Outcome(outcome));
                recorder.ended(requests, arrival, sent, ending);
            }
        }
    }

    fn all_idle(&self) -> bool {
        self.slots.borrow().are_idle() && self.waiting.borrow().is_empty()
    }

    /// Counts as failed what is still in flight.
    fn give_up(&self) {
        let now = Instant::now();
        let mut recorder = self.recorder.borrow_mut();
        let slots = self.slots.borrow();
        let waiting = self.waiting.borrow();
        let waiting = waiting.iter().map(|arrival| (*arrival, None));
        for (arrival, sent) in slots.in_flight().chain(waiting) {
            let ending = Ending::failed(Failure::Unanswered);
            let sent = sent.unwrap_or(now).max(arrival.due);
            recorder.ended(&self.job.requests, arrival, sent, ending);
        }
    }

    async fn hand_on_once_a_second(self: Rc<Self>) {
        let mut seconds = interval_at(self.job.begin + HANDED_ON, HANDED_ON);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            seconds.tick().await;
            self.hand_on();
        }
    }

    fn hand_on(&self) {
        let counts = self.recorder.borrow_mut().take();
        // Nobody hears it when the run was dropped.
        let _ = self.counts.send(counts);
    }
}

/// Sends one request, once, and reads the whole answer.
async fn ask(
    line: &mut Line,
    requests: &Requests,
    arrival: Arrival,
    recorder: &RefCell<Recorder>,
) -> Result<Ending, Outcome> {
    let ready = requests.ready(arrival.asks);
    let judged = async |response: Response<Incoming>| {
        recorder.borrow_mut().answered(response.headers());
        let status = response.status().as_u16();
        let check = ready.template.check.as_ref();
        let (received, holds) = match check {
            None => (read(response.into_body()).await?, true),
            Some(check) => {
                let body = response.into_body().collect().await;
                let body = body.map_err(|error| of_http(&error))?.to_bytes();
                (body.len() as u64, (check.holds)(&body))
            }
        };
        let failure = match (ready.template.is_good(status), holds) {
            (false, _) => Some(Failure::Outcome(Outcome::Status(status))),
            (true, false) => Some(Failure::Check),
            (true, true) => None,
        };
        Ok(Ending {
            status: Some(status),
            received,
            failure,
        })
    };
    line.exchange(|| ready.request(arrival.number), judged)
        .await
}

/// Reads a body to its end, and counts its bytes.
async fn read(mut body: Incoming) -> Result<u64, Outcome> {
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| of_http(&error))?;
        received += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(received)
}
