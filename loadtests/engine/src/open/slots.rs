//! The slots of a worker: each has one request in flight at most, and a task that sees to it.
//! An arrival goes to the one that has been idle for the shortest time, whose memory is still at
//! hand: connections that only a burst needed are left alone.

use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::record::Arrival;

#[derive(Default)]
pub struct Slots {
    all: Vec<Slot>,
    /// Those without an arrival, the longest idle first.
    idle: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    arrival: Option<Arrival>,
    /// When it was set about.
    sent: Option<Instant>,
    waker: Option<Waker>,
}

impl Slots {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Makes one, for this arrival. Returns its number.
    pub fn add(&mut self, arrival: Arrival) -> usize {
        self.all.push(Slot {
            arrival: Some(arrival),
            ..Slot::default()
        });
        self.all.len() - 1
    }

    /// Has one that is idle take this arrival. False is that none is.
    pub fn give(&mut self, arrival: Arrival) -> bool {
        let Some(number) = self.idle.pop() else {
            return false;
        };
        let slot = &mut self.all[number];
        slot.arrival = Some(arrival);
        if let Some(waker) = &slot.waker {
            waker.wake_by_ref();
        }
        true
    }

    /// The arrival that a slot was given; it is sent now. The one who asks is woken for it.
    pub fn poll_given(&mut self, number: usize, context: &Context<'_>) -> Poll<(Arrival, Instant)> {
        let slot = &mut self.all[number];
        let Some(arrival) = slot.arrival else {
            match &mut slot.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        };
        let now = Instant::now();
        slot.sent = Some(now);
        Poll::Ready((arrival, now))
    }

    /// A slot's arrival has ended: it has the next one, or is idle.
    pub fn free(&mut self, number: usize, next: Option<Arrival>) {
        let slot = &mut self.all[number];
        slot.arrival = next;
        if next.is_none() {
            self.idle.push(number);
        }
    }

    /// Whether there is no arrival in any.
    pub fn are_idle(&self) -> bool {
        self.idle.len() == self.count()
    }

    /// The arrivals in flight, and when they were set about, where they were.
    pub fn in_flight(&self) -> impl Iterator<Item = (Arrival, Option<Instant>)> {
        self.all
            .iter()
            .filter_map(|slot| Some((slot.arrival?, slot.sent)))
    }
}
