//! The load to put on an environment.

use std::path::{Path, PathBuf};

use base::run::Run;
use environments::config::load::Profile;
use loadtests::journeys::JourneyFiles;
use loadtests::perf::Turn;
use loadtests::profile;
use loadtests::threshold::Threshold;

use crate::invocation::Invocation;
use crate::problem::Problem;

/// A profile of the configuration, with what it needs.
pub struct ProfileLoad<'a> {
    name: &'a str,
    profile: &'a Profile,
    thresholds: Vec<Threshold>,
    journeys: JourneyFiles,
}

impl<'a> ProfileLoad<'a> {
    /// Reads its thresholds and the files of its journeys.
    pub fn read(invocation: &'a Invocation, name: &str) -> Result<ProfileLoad<'a>, Problem> {
        let config = &invocation.config;
        let (name, profile) = config.profile(name).map_err(Problem::usage)?;
        let journeys = JourneyFiles::read(config, &invocation.context.workspace);
        Ok(ProfileLoad {
            name,
            profile,
            thresholds: profile::thresholds(config, profile).map_err(Problem::usage)?,
            journeys: journeys.map_err(Problem::usage)?,
        })
    }

    /// Returns the order for one load, sent by this process.
    pub fn order(&self) -> LoadOrder<'_> {
        LoadOrder {
            name: self.name,
            profile: self.profile,
            thresholds: &self.thresholds,
            journeys: &self.journeys,
            out: None,
            summary_export: None,
            generators: None,
            turn: None,
        }
    }
}

pub struct LoadOrder<'a> {
    pub name: &'a str,
    pub profile: &'a Profile,
    pub thresholds: &'a [Threshold],
    /// The journeys that files describe.
    pub journeys: &'a JourneyFiles,
    /// The file for k6's stream.
    pub out: Option<&'a Path>,
    /// The file for k6's summary.
    pub summary_export: Option<&'a Path>,
    /// The number of generators in the cluster. Without it, this process sends the load.
    pub generators: Option<u16>,
    /// Which of several loads of its run it is.
    pub turn: Option<Turn>,
}

impl LoadOrder<'_> {
    /// Returns the path of its result, or with another `ending`, of a file beside it.
    pub fn file(&self, run: &Run, ending: &str) -> PathBuf {
        let (folder, name) = (run.folder(), self.name);
        match self.turn {
            None => folder.join(format!("load-{name}.{ending}")),
            Some(Turn { side, number }) => {
                let file = format!("load-{name}-{number}.{ending}");
                folder.join(side.folder()).join(file)
            }
        }
    }

    /// Returns the id for its result and its investors: the run's, with the turn if there are
    /// several loads.
    pub fn id(&self, run: &Run) -> String {
        match self.turn {
            None => run.id().to_owned(),
            Some(Turn { side, number }) => format!("{}-{}{number}", run.id(), side.folder()),
        }
    }

    /// Returns the name under which its thresholds are reported.
    pub fn subject(&self) -> String {
        match self.turn {
            None => self.name.to_owned(),
            Some(turn) => format!("{}, {turn}", self.name),
        }
    }
}
