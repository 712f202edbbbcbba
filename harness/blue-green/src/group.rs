//! Several services in one release. Each waits for the others before its traffic moves, and before
//! its old colour is retired. Either all services are released, or none.

use std::sync::Arc;

use tokio::sync::watch;

/// The progress of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    Started,
    /// This deployer holds the service's lock.
    Locked,
    /// The checks before any change have passed.
    Preflighted,
    /// Its new colour may get traffic.
    Ready,
    /// Its new colour has all traffic, and the analysis passed.
    Verified,
    /// Its old colour may be retired.
    Drained,
}

/// The decision for all services.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Open,
    RollBack(MemberFailure),
    Finish,
}

struct GroupState {
    members: Vec<MemberState>,
    decision: Decision,
}

struct MemberState {
    name: String,
    reached: Milestone,
    /// Whether it stops at the gate.
    gate: bool,
    /// Its traffic is on the old colour again, or its deployer has ended.
    is_back: bool,
}

/// The failure of one of the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberFailure {
    pub service: String,
    pub why: String,
}

impl MemberFailure {
    pub fn text(&self) -> String {
        format!("{}, of the same release: {}", self.service, self.why)
    }
}

/// One service of a release of several.
#[derive(Clone)]
pub struct Member {
    index: usize,
    state: Arc<watch::Sender<GroupState>>,
}

impl Member {
    /// Returns the members of one release. Each service comes after those that it calls.
    pub fn of(services: &[&str]) -> Vec<Member> {
        let members = services.iter().map(|name| MemberState {
            name: (*name).to_owned(),
            reached: Milestone::Started,
            gate: false,
            is_back: false,
        });
        let state = Arc::new(watch::Sender::new(GroupState {
            members: members.collect(),
            decision: Decision::Open,
        }));
        let member = |index| Member {
            index,
            state: Arc::clone(&state),
        };
        (0..services.len()).map(member).collect()
    }

    /// Returns the only member of a release of one service.
    pub fn alone(service: &str) -> Member {
        Member::of(&[service]).remove(0)
    }

    /// Returns all services of the release, in their order.
    pub fn services(&self) -> Vec<String> {
        let state = self.state.borrow();
        state.members.iter().map(|it| it.name.clone()).collect()
    }

    /// Returns the service that failed first.
    pub fn failed_first(&self) -> Option<String> {
        Some(self.state.borrow().failure()?.service)
    }

    /// Reports a milestone.
    pub fn reached(&self, milestone: Milestone) {
        self.change(|me| me.reached = me.reached.max(milestone));
    }

    /// Reports that its new colour may get traffic, unless it stops at the gate first.
    pub fn ready(&self, gate: bool) {
        self.change(|me| me.gate = gate);
        self.reached(Milestone::Ready);
    }

    fn change(&self, change: impl FnOnce(&mut MemberState)) {
        self.state
            .send_modify(|state| change(&mut state.members[self.index]));
    }

    /// Waits until all services have reached a milestone.
    ///
    /// # Errors
    /// A service failed.
    pub async fn until_all(&self, milestone: Milestone) -> Result<(), MemberFailure> {
        self.until(|state| state.all(milestone).then_some(())).await
    }

    /// Waits until all services are ready. True: one of them stops at the gate.
    pub async fn stops_at_gate(&self) -> Result<bool, MemberFailure> {
        let any = |state: &GroupState| state.members.iter().any(|it| it.gate);
        self.until(|state| state.all(Milestone::Ready).then(|| any(state)))
            .await
    }

    /// Waits until the services that it calls are verified.
    pub async fn until_its_turn(&self) -> Result<(), MemberFailure> {
        let before = |state: &GroupState| {
            let mut before = state.members[..self.index].iter();
            before.all(|it| it.reached >= Milestone::Verified)
        };
        self.until(|state| before(state).then_some(())).await
    }

    /// Whether all old colours may be retired.
    pub fn all_drained(&self) -> bool {
        self.state.borrow().all(Milestone::Drained)
    }

    /// Decides that no service can be rolled back any more.
    ///
    /// # Errors
    /// A service failed before.
    pub fn finish(&self) -> Result<(), MemberFailure> {
        self.decide(Decision::Finish);
        self.state.borrow().failure().map_or(Ok(()), Err)
    }

    /// Reports a failure. False: it is too late to roll the services back.
    pub fn fail(&self, why: &str) -> bool {
        let service = self.state.borrow().members[self.index].name.clone();
        let why = why.to_owned();
        self.decide(Decision::RollBack(MemberFailure { service, why }));
        self.state.borrow().decision != Decision::Finish
    }

    /// Only the first decision counts.
    fn decide(&self, decision: Decision) {
        self.state.send_if_modified(|state| {
            let is_open = state.decision == Decision::Open;
            if is_open {
                state.decision = decision;
            }
            is_open
        });
    }

    /// Waits until another service fails.
    pub fn another_failed(&self) -> impl Future<Output = MemberFailure> + Send + use<> {
        let (mut state, index) = (self.state.subscribe(), self.index);
        async move {
            let of_another = |state: &GroupState| {
                let failure = state.failure()?;
                (failure.service != state.members[index].name).then_some(failure)
            };
            let failed = state.wait_for(|it| of_another(it).is_some()).await;
            match failed.ok().and_then(|it| of_another(&it)) {
                Some(failure) => failure,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until the traffic of its callers is on their old colours again.
    pub async fn until_callers_are_back(&self) {
        let mut state = self.state.subscribe();
        let are_back = |it: &GroupState| it.members[self.index + 1..].iter().all(|it| it.is_back);
        // It fails only without a sender, which is ours.
        let _ = state.wait_for(are_back).await;
    }

    /// Reports that its traffic is on the old colour again, or its deployer has ended.
    pub fn is_back(&self) {
        self.change(|me| me.is_back = true);
    }

    async fn until<T>(
        &self,
        mut find: impl FnMut(&GroupState) -> Option<T>,
    ) -> Result<T, MemberFailure> {
        let mut state = self.state.subscribe();
        loop {
            {
                let current = state.borrow_and_update();
                if let Some(found) = find(&current) {
                    return Ok(found);
                }
                if let Some(failure) = current.failure() {
                    return Err(failure);
                }
            }
            // It fails only without a sender, which is ours.
            let _ = state.changed().await;
        }
    }
}

impl GroupState {
    fn all(&self, milestone: Milestone) -> bool {
        self.members.iter().all(|it| it.reached >= milestone)
    }

    fn failure(&self) -> Option<MemberFailure> {
        match &self.decision {
            Decision::RollBack(failure) => Some(failure.clone()),
            Decision::Open | Decision::Finish => None,
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
    fn traffic_moves_after_all_are_ready_and_the_called_services_are_verified() {
        let [quotes, orders, gateway] = three();
        for member in [&quotes, &orders] {
            member.ready(false);
            assert_eq!(member.stops_at_gate().now_or_never(), None);
        }
        gateway.ready(false);
        assert_eq!(quotes.stops_at_gate().now_or_never(), Some(Ok(false)));
        assert_eq!(quotes.until_its_turn().now_or_never(), Some(Ok(())));
        quotes.reached(Milestone::Verified);
        assert_eq!(orders.until_its_turn().now_or_never(), Some(Ok(())));
        assert_eq!(gateway.until_its_turn().now_or_never(), None);
        orders.reached(Milestone::Verified);
        assert_eq!(gateway.until_its_turn().now_or_never(), Some(Ok(())));
    }

    #[test]
    fn if_one_stops_at_the_gate_all_stop() {
        let [quotes, orders, gateway] = three();
        quotes.ready(false);
        orders.ready(true);
        gateway.ready(false);
        for member in [quotes, orders, gateway] {
            assert_eq!(member.stops_at_gate().now_or_never(), Some(Ok(true)));
        }
    }

    #[test]
    fn a_failure_ends_the_waits_of_all_others() {
        let [quotes, orders, gateway] = three();
        assert!(orders.fail("503"));
        assert!(gateway.fail("as well"));
        let failed = MemberFailure {
            service: "orders".to_owned(),
            why: "503".to_owned(),
        };
        assert_eq!(quotes.another_failed().now_or_never(), Some(failed.clone()));
        assert_eq!(orders.another_failed().now_or_never(), None);
        let ended = gateway.until_all(Milestone::Locked).now_or_never();
        assert_eq!(ended, Some(Err(failed.clone())));
        assert_eq!(quotes.finish(), Err(failed));
        assert_eq!(quotes.failed_first().as_deref(), Some("orders"));
    }

    #[test]
    fn callers_are_back_first() {
        let [quotes, orders, gateway] = three();
        assert!(gateway.until_callers_are_back().now_or_never().is_some());
        assert!(quotes.until_callers_are_back().now_or_never().is_none());
        gateway.is_back();
        assert!(quotes.until_callers_are_back().now_or_never().is_none());
        orders.is_back();
        assert!(quotes.until_callers_are_back().now_or_never().is_some());
    }

    #[test]
    fn after_an_old_colour_is_retired_none_is_rolled_back() {
        let [quotes, orders, gateway] = three();
        for member in [&quotes, &orders, &gateway] {
            assert!(!member.all_drained());
            member.reached(Milestone::Drained);
        }
        assert!(orders.all_drained());
        assert_eq!(orders.finish(), Ok(()));
        assert!(!quotes.fail("late"));
        assert_eq!(gateway.another_failed().now_or_never(), None);
    }
}
