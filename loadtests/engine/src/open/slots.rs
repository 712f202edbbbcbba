//! The slots of a worker: each has a task and at most one arrival in flight. An arrival goes to
//! the slot that has been idle for the shortest time, whose memory is still cached. Connections
//! that only a burst needed stay unused.

use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::journeys::{Arrival, DueRequest};

#[derive(Default)]
pub struct Slots {
    all: Vec<Slot>,
    /// The slots without an arrival, the longest idle first.
    idle: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    arrival: Option<Arrival>,
    /// Its current request, and when it was started. None while the user thinks.
    request: Option<(DueRequest, Option<Instant>)>,
    waker: Option<Waker>,
}

impl Slots {
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Adds a slot with this arrival. Returns its number.
    pub fn add(&mut self, arrival: Arrival) -> usize {
        self.all.push(Slot::default());
        let number = self.all.len() - 1;
        self.all[number].take(arrival);
        number
    }

    /// Gives this arrival to an idle slot. Returns false if no slot is idle.
    pub fn give(&mut self, arrival: Arrival) -> bool {
        let Some(number) = self.idle.pop() else {
            return false;
        };
        let slot = &mut self.all[number];
        slot.take(arrival);
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
        slot.request = Some((arrival.first, Some(now)));
        Poll::Ready((arrival, now))
    }

    /// The slot's arrival sends a further request now.
    pub fn sends(&mut self, number: usize, request: DueRequest) {
        self.all[number].request = Some((request, Some(request.due)));
    }

    /// The slot's arrival has no request in flight.
    pub fn thinks(&mut self, number: usize) {
        self.all[number].request = None;
    }

    /// Ends a slot's arrival. The slot gets the next one, or becomes idle.
    pub fn free(&mut self, number: usize, next: Option<Arrival>) {
        let slot = &mut self.all[number];
        match next {
            Some(next) => slot.take(next),
            None => {
                slot.arrival = None;
                slot.request = None;
                self.idle.push(number);
            }
        }
    }

    pub fn are_idle(&self) -> bool {
        self.idle.len() == self.count()
    }

    /// Returns the requests in flight, and when they were started, if they were.
    pub fn in_flight(&self) -> impl Iterator<Item = (DueRequest, Option<Instant>)> {
        self.all.iter().filter_map(|slot| slot.request)
    }
}

impl Slot {
    fn take(&mut self, arrival: Arrival) {
        self.arrival = Some(arrival);
        self.request = Some((arrival.first, None));
    }
}
