//! The machine a figure was measured on: without it, a figure says nothing.

use std::fmt;

use harness::run::event::Host;
use harness::run::this_host;
use serde::Serialize;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// The machine, and how busy it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// System, cores, memory.
    #[serde(flatten)]
    pub host: Host,
    /// The processor's name, where the system tells it.
    pub processor: Option<String>,
    /// The load average over the minute before the first measurement, where the system
    /// tells it: near 0 on a quiet machine.
    pub load_average: Option<f64>,
}

impl Machine {
    /// The machine this runs on, as it is now.
    pub fn this() -> Self {
        Machine {
            host: this_host(),
            processor: processor(),
            load_average: System::load_average().ok().map(|load| load.one),
        }
    }
}

fn processor() -> Option<String> {
    let wanted = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(wanted).ok()?;
    let name = system.cpus().first()?.brand().trim().to_owned();
    (!name.is_empty()).then_some(name)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        if let Some(processor) = &self.processor {
            write!(f, ", {processor}")?;
        }
        if let Some(load) = self.load_average {
            write!(f, "; load average before: {load:.2}")?;
        }
        Ok(())
    }
}
