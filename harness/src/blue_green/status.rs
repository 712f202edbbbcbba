//! What is live, what is under way, and what was.

use serde::Serialize;

use super::colour::Colour;
use super::error::BlueGreenError;
use super::lock::{Held, Lock};
use super::objects::{Objects, Side, Sides};
use super::record::{Book, Entry, Record};
use crate::cluster::Cluster;

/// A service that is released blue-green, as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub service: String,
    /// The colour that traffic goes to; none where a hand has the active Service select neither
    /// or both.
    pub live: Option<Colour>,
    /// Both colours, the live one first.
    pub colours: [ColourStatus; 2],
    /// Whether a configuration waits in the idle colour that is not live.
    pub reconfigured: bool,
    /// The release under way.
    pub under_way: Option<Record>,
    /// Who is at it.
    pub held: Option<Held>,
    /// The releases before, the last one last.
    pub audit: Vec<Entry>,
}

/// One colour.
#[derive(Clone, Debug, Serialize)]
pub struct ColourStatus {
    /// Which.
    pub colour: Colour,
    /// The version it runs, or would.
    pub version: String,
    /// The pods it is to have.
    pub wanted: i32,
    /// Those that are ready.
    pub ready: i32,
}

impl From<Side> for ColourStatus {
    fn from(side: Side) -> Self {
        ColourStatus {
            colour: side.colour,
            version: side.version,
            wanted: side.wanted,
            ready: side.ready,
        }
    }
}

impl Status {
    /// Looks.
    ///
    /// # Errors
    /// What is missing of the service, or what the API server said.
    pub async fn of(cluster: &Cluster, service: &str) -> Result<Status, BlueGreenError> {
        let objects = Objects { cluster, service };
        let live = objects.live().await?;
        let first = live.unwrap_or(Colour::Blue);
        let sides = Sides {
            live: objects.side(first).await?,
            idle: objects.side(first.other()).await?,
        };
        let book = Book::read(cluster, service).await?;
        Ok(Status {
            service: service.to_owned(),
            live,
            reconfigured: sides.reconfigured(service),
            colours: [sides.live.into(), sides.idle.into()],
            under_way: book.record,
            held: Lock::held(cluster, service).await?,
            audit: book.audit,
        })
    }
}
