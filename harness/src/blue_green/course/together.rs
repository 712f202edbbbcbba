//! Several services in one release: each waits for the others before its traffic moves, and before
//! its old colour goes. All of them are released, or none is.

use std::sync::Arc;

use tokio::sync::watch;

/// How far one of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// It has begun.
    Begun,
    /// Nobody else releases it.
    Locked,
    /// Nothing stands against its release.
    Possible,
    /// Its new colour may get traffic.
    Ready,
    /// Its new colour has all traffic, and holds.
    Holds,
    /// Its old colour may go.
    Drained,
}

/// What becomes of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Open,
    /// They are taken back.
    Back {
        service: String,
        why: String,
    },
    /// They are finished.
    Forward,
}

struct State {
    members: Vec<MemberState>,
    decision: Decision,
}

struct MemberState {
    name: String,
    progress: Progress,
    /// Whether it is to stop at the gate.
    gate: bool,
    /// Whether its traffic is where it was, or nobody sees to it any more.
    is_back: bool,
}

/// Another service of the release does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub service: String,
    pub why: String,
}

impl Failed {
    pub fn text(&self) -> String {
        format!("{}, of the same release: {}", self.service, self.why)
    }
}

/// One service of a release of several.
#[derive(Clone)]
pub struct Member {
    place: usize,
    state: Arc<watch::Sender<State>>,
}

impl Member {
    /// Those of one release; each comes after those that it calls.
    pub fn of(services: &[&str]) -> Vec<Member> {
        let members = services.iter().map(|name| MemberState {
            name: (*name).to_owned(),
            progress: Progress::Begun,
            gate: false,
            is_back: false,
        });
        let state = Arc::new(watch::Sender::new(State {
            members: members.collect(),
            decision: Decision::Open,
        }));
        let places = 0..services.len();
        let member = |place| Member {
            place,
            state: Arc::clone(&state),
        };
        places.map(member).collect()
    }

    /// All services of the release, in their order.
    pub fn services(&self) -> Vec<String> {
        let state = self.state.borrow();
        state.members.iter().map(|it| it.name.clone()).collect()
    }

    /// The service that did not hold first.
    pub fn failed_first(&self) -> Option<String> {
        Some(self.state.borrow().failed()?.service)
    }

    /// It is so far now.
    pub fn reached(&self, progress: Progress) {
        self.change(|me| me.progress = me.progress.max(progress));
    }

    /// Its new colour may get traffic, unless it is to stop at the gate before.
    pub fn ready(&self, gate: bool) {
        self.change(|me| {
            me.progress = me.progress.max(Progress::Ready);
            me.gate = gate;
        });
    }

    fn change(&self, change: impl FnOnce(&mut MemberState)) {
        self.state
            .send_modify(|state| change(&mut state.members[self.place]));
    }

    /// Waits until all of them are so far.
    ///
    /// # Errors
    /// That one of them does not hold.
    pub async fn until_all(&self, progress: Progress) -> Result<(), Failed> {
        self.until(|state| state.all(progress).then_some(())).await
    }

    /// Whether one of them is to stop at the gate, once all of them are ready.
    pub async fn stops_at_gate(&self) -> Result<bool, Failed> {
        let any = |state: &State| state.members.iter().any(|it| it.gate);
        self.until(|state| state.all(Progress::Ready).then(|| any(state)))
            .await
    }

    /// Waits until those that it calls hold.
    pub async fn until_its_turn(&self) -> Result<(), Failed> {
        let before = |state: &State| {
            let mut before = state.members[..self.place].iter();
            before.all(|it| it.progress >= Progress::Holds)
        };
        self.until(|state| before(state).then_some(())).await
    }

    /// Whether all old colours may go.
    pub fn all_drained(&self) -> bool {
        self.state.borrow().all(Progress::Drained)
    }

    /// From here on there is no way back for any of them.
    ///
    /// # Errors
    /// That one of them does not hold.
    pub fn go_forward(&self) -> Result<(), Failed> {
        self.state.send_if_modified(|state| {
            let is_open = state.decision == Decision::Open;
            if is_open {
                state.decision = Decision::Forward;
            }
            is_open
        });
        self.state.borrow().failed().map_or(Ok(()), Err)
    }

    /// It does not hold. False: it is too late for all of them to be taken back.
    pub fn fail(&self, why: &str) -> bool {
        self.state.send_if_modified(|state| {
            let is_open = state.decision == Decision::Open;
            if is_open {
                state.decision = Decision::Back {
                    service: state.members[self.place].name.clone(),
                    why: why.to_owned(),
                };
            }
            is_open
        });
        self.state.borrow().decision != Decision::Forward
    }

    /// Ends when another one does not hold.
    pub fn failed(&self) -> impl Future<Output = Failed> + Send + use<> {
        let (mut state, place) = (self.state.subscribe(), self.place);
        async move {
            let is_another = |state: &State| {
                let failed = state.failed()?;
                (failed.service != state.members[place].name).then_some(failed)
            };
            let seen = state.wait_for(|it| is_another(it).is_some()).await;
            match seen.ok().and_then(|it| is_another(&it)) {
                Some(failed) => failed,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until those that call it have their traffic where it was.
    pub async fn until_callers_are_back(&self) {
        let after = |state: &State| state.members[self.place + 1..].iter().all(|it| it.is_back);
        let mut state = self.state.subscribe();
        // The sender is ours.
        let _ = state.wait_for(after).await;
    }

    /// Its traffic is where it was, or nobody sees to it any more.
    pub fn is_back(&self) {
        self.change(|me| me.is_back = true);
    }

    async fn until<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> Result<T, Failed> {
        let mut state = self.state.subscribe();
        loop {
            {
                let seen = state.borrow_and_update();
                if let Some(found) = look(&seen) {
                    return Ok(found);
                }
                if let Some(failed) = seen.failed() {
                    return Err(failed);
                }
            }
            // The sender is ours.
            let _ = state.changed().await;
        }
    }
}

impl State {
    fn all(&self, progress: Progress) -> bool {
        self.members.iter().all(|it| it.progress >= progress)
    }

    fn failed(&self) -> Option<Failed> {
        match &self.decision {
            Decision::Back { service, why } => Some(Failed {
                service: service.clone(),
                why: why.clone(),
            }),
            Decision::Open | Decision::Forward => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn three() -> [Member; 3] {
        let members = Member::of(&["quotes", "orders", "gateway"]);
        members.try_into().ok().unwrap()
    }

    #[test]
    fn traffic_of_each_moves_once_all_are_ready_and_those_hold_that_it_calls() {
        let [quotes, orders, gateway] = three();
        for member in [&quotes, &orders] {
            member.ready(false);
            assert_eq!(member.stops_at_gate().now_or_never(), None);
        }
        gateway.ready(false);
        assert_eq!(quotes.stops_at_gate().now_or_never(), Some(Ok(false)));
        assert_eq!(quotes.until_its_turn().now_or_never(), Some(Ok(())));
        quotes.reached(Progress::Holds);
        assert_eq!(orders.until_its_turn().now_or_never(), Some(Ok(())));
        assert_eq!(gateway.until_its_turn().now_or_never(), None);
        orders.reached(Progress::Holds);
        assert_eq!(gateway.until_its_turn().now_or_never(), Some(Ok(())));
    }

    #[test]
    fn one_that_stops_at_the_gate_has_all_of_them_stop() {
        let [quotes, orders, gateway] = three();
        quotes.ready(false);
        orders.ready(true);
        gateway.ready(false);
        for member in [quotes, orders, gateway] {
            assert_eq!(member.stops_at_gate().now_or_never(), Some(Ok(true)));
        }
    }

    #[test]
    fn one_that_does_not_hold_ends_the_waits_of_all_others() {
        let [quotes, orders, gateway] = three();
        assert!(orders.fail("503"));
        assert!(gateway.fail("as well"));
        let failed = Failed {
            service: "orders".to_owned(),
            why: "503".to_owned(),
        };
        assert_eq!(quotes.failed().now_or_never(), Some(failed.clone()));
        assert_eq!(orders.failed().now_or_never(), None);
        let ended = gateway.until_all(Progress::Locked).now_or_never();
        assert_eq!(ended, Some(Err(failed.clone())));
        assert_eq!(quotes.go_forward(), Err(failed));
        assert_eq!(quotes.failed_first().as_deref(), Some("orders"));
    }

    #[test]
    fn those_that_call_others_are_back_first() {
        let [quotes, orders, gateway] = three();
        assert!(gateway.until_callers_are_back().now_or_never().is_some());
        assert!(quotes.until_callers_are_back().now_or_never().is_none());
        gateway.is_back();
        assert!(quotes.until_callers_are_back().now_or_never().is_none());
        orders.is_back();
        assert!(quotes.until_callers_are_back().now_or_never().is_some());
    }

    #[test]
    fn once_an_old_colour_goes_none_is_taken_back() {
        let [quotes, orders, gateway] = three();
        for member in [&quotes, &orders, &gateway] {
            assert!(!member.all_drained());
            member.reached(Progress::Drained);
        }
        assert!(orders.all_drained());
        assert_eq!(orders.go_forward(), Ok(()));
        assert!(!quotes.fail("late"));
        assert_eq!(gateway.failed().now_or_never(), None);
    }
}
