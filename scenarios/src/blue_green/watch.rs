//! The active Service, looked at all the time: what it leads to, whatever a deployer says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::blue_green::Colour;
use k8s_openapi::api::core::v1::Service;
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::ground::{Ground, SERVICE};

/// What was seen of it.
#[derive(Default)]
pub struct Seen {
    /// How often it was looked at.
    pub looks: u32,
    /// The colours that it led to, one after the other.
    pub colours: Vec<Colour>,
}

/// Looks until it is dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<Result<Seen, String>>,
}

impl Watch {
    /// Begins to look.
    pub fn begin(ground: &Ground<'_>) -> Watch {
        const EVERY: Duration = Duration::from_millis(50);
        let stop = Arc::new(AtomicBool::new(false));
        let api = ground.api::<Service>();
        let asked = Arc::clone(&stop);
        let looking = tokio::spawn(async move {
            let mut every = interval(EVERY);
            let mut seen = Seen::default();
            while !asked.load(Ordering::Relaxed) {
                every.tick().await;
                // An API server that is busy says nothing about the colour.
                let Ok(service) = api.get(SERVICE).await else {
                    continue;
                };
                seen.looks += 1;
                let selector = service.spec.and_then(|it| it.selector).unwrap_or_default();
                let colour = Colour::of(&selector)
                    .ok_or_else(|| format!("the active Service selected {selector:?}"))?;
                if seen.colours.last() != Some(&colour) {
                    seen.colours.push(colour);
                }
            }
            Ok(seen)
        });
        Watch { stop, looking }
    }

    /// What it saw; an error where no single colour was live.
    pub async fn end(mut self) -> Result<Seen, String> {
        self.stop.store(true, Ordering::Relaxed);
        let looked = (&mut self.looking).await;
        looked.map_err(|error| error.to_string())?
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
