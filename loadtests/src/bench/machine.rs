//! The machine a figure was measured on: without it, a figure says nothing.

use std::fmt;

use harness::run::event::Host;
use harness::run::this_host;
use serde::Serialize;
use sysinfo::System;

/// The machine, and how busy it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// System, cores, memory, processor.
    #[serde(flatten)]
    pub host: Host,
    /// The load average over the minute before the first measurement, where the system
    /// tells it: near 0 on a quiet machine.
    pub load_average: Option<f64>,
}

impl Machine {
    /// The machine this runs on, as it is now.
    pub fn this() -> Self {
        Machine {
            host: this_host(),
            load_average: System::load_average().ok().map(|load| load.one),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        if let Some(load) = self.load_average {
            write!(f, "; load average before: {load:.2}")?;
        }
        Ok(())
    }
}
