//! The slots of a worker: each has a task and at most one request in flight. An arrival goes to
//! the slot that has been idle for the shortest time, whose memory is still cached. Connections
//! that only a burst needed stay unused.

use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::recorder::Arrival;

#[derive(Default)]
pub struct Slots {
    all: Vec<Slot>,
    /// The slots without an arrival, the longest idle first.
    idle: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    arrival: Option<Arrival>,
    /// When it was started.
    sent: Option<Instant>,
    waker: Option<Waker>,
}

impl Slots {
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Adds a slot with this arrival. Returns its number.
    pub fn add(&mut self, arrival: Arrival) -> usize {
        self.all.push(Slot {
            arrival: Some(arrival),
            ..Slot::default()
        });
        self.all.len() - 1
    }

    /// Gives this arrival to an idle slot. Returns false if no slot is idle.
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

    /// Returns the arrival of a slot, which is started now. The task is woken when there is one.
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

    /// Ends a slot's arrival. The slot gets the next one, or becomes idle.
    pub fn free(&mut self, number: usize, next: Option<Arrival>) {
        let slot = &mut self.all[number];
        slot.arrival = next;
        if next.is_none() {
            self.idle.push(number);
        }
    }

    pub fn are_idle(&self) -> bool {
        self.idle.len() == self.count()
    }

    /// Returns the arrivals in flight, and when they were started, if they were.
    pub fn in_flight(&self) -> impl Iterator<Item = (Arrival, Option<Instant>)> {
        let slots = self.all.iter();
        slots.filter_map(|slot| Some((slot.arrival?, slot.sent)))
    }
}
