//! A release by our deployer.

use harness::blue_green::lock::Holder;
use harness::blue_green::{Ask, Conclusion, Deployer, Event, Happened, ProbeFrom, Step};
use tokio_util::sync::CancellationToken;

use super::Quality;
use super::ground::{Ground, SERVICE};
use crate::bench::error::BenchError;

/// The id of the benchmark's releases, and of who holds their lock.
const RELEASE: &str = "bench";

/// How long a release was at what is not the deployer's to make shorter, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spans {
    /// From when it asks for the new pods until it sees their rollout complete.
    pub come_up: f64,
    /// From when it sends the old pods away until it sees that none is left.
    pub end: f64,
}

impl Spans {
    /// Between the deployer's own events; none of a release that did not come to its end.
    pub fn of(events: &[Event]) -> Option<Spans> {
        let at = |wanted: fn(&Happened) -> bool| {
            let event = events.iter().find(|it| wanted(&it.what));
            event.map(|it| it.at)
        };
        let began = |step: Step| {
            let its = |it: &&Event| it.what == Happened::Began { step };
            events.iter().find(its).map(|it| it.at)
        };
        let retired = at(|it| matches!(it, Happened::Retired { .. }));
        let millis = |from: jiff::Timestamp, to: jiff::Timestamp| {
            to.duration_since(from).as_secs_f64() * 1000.0
        };
        Some(Spans {
            come_up: millis(began(Step::BringUp)?, began(Step::Check)?),
            end: millis(began(Step::Retire)?, retired?),
        })
    }
}

/// Releases `version`, which is to be kept where it is good, and taken back where it is bad.
pub async fn release(
    ground: &Ground<'_>,
    version: &str,
    quality: Quality,
) -> Result<Option<Spans>, BenchError> {
    let deployer = Deployer {
        cluster: &ground.cluster,
        service: SERVICE,
        policy: ground.policy(),
        smoke: ground.smoke(),
        probe_from: ProbeFrom::Nowhere,
        holder: Holder::this(RELEASE),
        release: RELEASE.to_owned(),
        called_off: CancellationToken::new(),
    };
    let mut events = Vec::new();
    let manual = false;
    let concluded = deployer
        .run(
            Ask::Deploy { version, manual },
            &mut async |event: &Event| events.push(event.clone()),
        )
        .await;
    let concluded = concluded.map_err(BenchError::release("our deployer"))?;
    match (quality, &concluded) {
        (Quality::Good, Conclusion::Released { .. })
        | (
            Quality::Bad,
            Conclusion::Reverted {
                inconclusive: false,
                ..
            },
        ) => Ok(Spans::of(&events)),
        (_, other) => Err(BenchError::release("our deployer")(format!(
            "a {quality} ended as {other:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use harness::blue_green::Colour;

    use super::*;

    fn at(second: i64, what: Happened) -> Event {
        let at = jiff::Timestamp::from_second(1_800_000_000 + second).unwrap();
        Event { at, what }
    }

    #[test]
    fn pods_come_up_in_the_one_step_and_end_in_the_other() {
        let mut events = vec![
            at(
                1,
                Happened::Began {
                    step: Step::BringUp,
                },
            ),
            at(8, Happened::Began { step: Step::Check }),
            at(9, Happened::Began { step: Step::Switch }),
            at(50, Happened::Began { step: Step::Retire }),
        ];
        assert_eq!(Spans::of(&events), None, "it has not come to its end");
        let colour = Colour::Blue;
        events.push(at(59, Happened::Retired { colour }));
        let expected = Spans {
            come_up: 7_000.0,
            end: 9_000.0,
        };
        assert_eq!(Spans::of(&events), Some(expected));
    }
}
