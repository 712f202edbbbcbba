//! Polls the colours that the active Service selects, independently of the deployer's events.

use std::time::Duration;

use blue_green::Colour;
use k8s_openapi::api::core::v1::Service;
use tokio::task::JoinHandle;
use tokio::time::interval;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::setup::Setup;

/// The result of the polls.
#[derive(Default)]
pub struct ObservedColours {
    /// The number of successful reads.
    pub reads: u32,
    /// The selected colours, in order, without repetition.
    pub colours: Vec<Colour>,
}

/// Polls until it is dropped.
pub struct ServiceWatch {
    stop: DropGuard,
    polling: JoinHandle<Result<ObservedColours, String>>,
}

impl ServiceWatch {
    /// Starts to poll.
    pub fn start(setup: &Setup<'_>) -> ServiceWatch {
        const EVERY: Duration = Duration::from_millis(50);
        let stop = CancellationToken::new();
        let api = setup.api::<Service>();
        let (service, stopped) = (setup.service().to_owned(), stop.clone());
        let polling = tokio::spawn(async move {
            let mut every = interval(EVERY);
            let mut observed = ObservedColours::default();
            while !stopped.is_cancelled() {
                every.tick().await;
                // A failed read shows no colour.
                let Ok(service) = api.get(&service).await else {
                    continue;
                };
                observed.reads += 1;
                let selector = service.spec.and_then(|it| it.selector).unwrap_or_default();
                let colour = Colour::of(&selector)
                    .ok_or_else(|| format!("the active Service selected {selector:?}"))?;
                if observed.colours.last() != Some(&colour) {
                    observed.colours.push(colour);
                }
            }
            Ok(observed)
        });
        let stop = stop.drop_guard();
        ServiceWatch { stop, polling }
    }

    /// Stops, and returns the result. It is an error if the Service ever did not select exactly one
    /// colour.
    pub async fn end(self) -> Result<ObservedColours, String> {
        drop(self.stop);
        self.polling.await.map_err(|error| error.to_string())?
    }
}
