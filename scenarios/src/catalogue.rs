//! Every scenario, by name.

use base::run::Run;
use base::text::nearest;
use environments::capability::Capability;
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;

use crate::blue_green::BlueGreen;
use crate::rolling::Rolling;
use crate::{Mismatch, RunResult, Scenario, Subject, smoke};

/// One scenario of the catalogue.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CatalogueEntry {
    /// `smoke`, or `FAMILY/NAME`.
    pub name: &'static str,
    /// Its number among the delivery scenarios.
    pub number: u32,
    /// What it proves, in one sentence.
    pub claim: &'static str,
    /// The capabilities that it needs. Without them it is skipped.
    pub needs: &'static [Capability],
    /// The fault that breaks the claim on purpose, if there is one.
    pub sabotage: Option<&'static str>,
    /// The code that runs it.
    #[serde(skip)]
    pub family: Family,
}

/// The code that runs a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// [`smoke`].
    Smoke,
    /// [`crate::blue_green`].
    BlueGreen(BlueGreen),
    /// [`crate::rolling`].
    Rolling(Rolling),
}

/// Every scenario, in the order in which they run.
pub const ALL: &[CatalogueEntry] = &[
    CatalogueEntry {
        name: smoke::NAME,
        number: 1,
        claim: smoke::CLAIM,
        needs: &[],
        sabotage: None,
        family: Family::Smoke,
    },
    blue_green(BlueGreen::Happy),
    blue_green(BlueGreen::Purity),
    blue_green(BlueGreen::BadImage),
    blue_green(BlueGreen::NeverReady),
    blue_green(BlueGreen::BadHealth),
    blue_green(BlueGreen::BadSmoke),
    blue_green(BlueGreen::SlowGreen),
    blue_green(BlueGreen::SilentGreen),
    blue_green(BlueGreen::UnreachedGreen),
    blue_green(BlueGreen::Weighted),
    blue_green(BlueGreen::BadShare),
    blue_green(BlueGreen::Drain),
    blue_green(BlueGreen::KeepAlive),
    blue_green(BlueGreen::ScaledSwitch),
    blue_green(BlueGreen::Race),
    blue_green(BlueGreen::Kill),
    blue_green(BlueGreen::NoData),
    blue_green(BlueGreen::ReApply),
    rolling(Rolling::Upgrade),
    rolling(Rolling::BadImage),
    rolling(Rolling::NeverReady),
    rolling(Rolling::FailingHook),
    rolling(Rolling::Kill),
    rolling(Rolling::TwoReleases),
];

const fn blue_green(which: BlueGreen) -> CatalogueEntry {
    CatalogueEntry {
        name: which.name(),
        number: which.number(),
        claim: which.claim(),
        needs: which.needs(),
        sabotage: Some(which.sabotage()),
        family: Family::BlueGreen(which),
    }
}

const fn rolling(which: Rolling) -> CatalogueEntry {
    CatalogueEntry {
        name: which.name(),
        number: Rolling::NUMBER,
        claim: which.claim(),
        needs: Rolling::NEEDS,
        sabotage: Some(which.sabotage()),
        family: Family::Rolling(which),
    }
}

/// No scenario and no family has this name.
#[derive(Debug, Error, Diagnostic)]
#[error("there is no scenario {name:?}")]
#[diagnostic(help("{hint} (`cargo xtask scenario list` shows all)"))]
pub struct UnknownScenario {
    name: String,
    hint: String,
}

/// A scenario's claim cannot be broken on purpose.
#[derive(Debug, Error, Diagnostic)]
#[error("the scenario {name:?} has no fault to plant")]
#[diagnostic(help(
    "leave --sabotage out, or name scenarios that have one: `sabotage` in `cargo xtask scenario list --json`"
))]
pub struct NoSabotage {
    name: &'static str,
}

/// Returns the scenarios with these names, each once, in the catalogue's order. A family's name
/// selects the family. An empty list selects every scenario.
///
/// # Errors
/// The first unknown name, with the nearest known one.
pub fn select(names: &[String]) -> Result<Vec<&'static CatalogueEntry>, UnknownScenario> {
    select_from(ALL, names)
}

fn select_from<'a>(
    all: &'a [CatalogueEntry],
    names: &[String],
) -> Result<Vec<&'a CatalogueEntry>, UnknownScenario> {
    let unknown = names
        .iter()
        .find(|name| !all.iter().any(|entry| entry.answers_to(name)));
    if let Some(name) = unknown {
        let scenarios = all.iter().map(|entry| entry.name);
        let families = all.iter().filter_map(CatalogueEntry::family_name);
        let mut known: Vec<&str> = scenarios.chain(families).collect();
        known.sort_unstable();
        known.dedup();
        return Err(UnknownScenario {
            name: name.clone(),
            hint: nearest(name, known).unwrap_or_default(),
        });
    }
    let is_selected = |entry: &&CatalogueEntry| {
        names.is_empty() || names.iter().any(|name| entry.answers_to(name))
    };
    Ok(all.iter().filter(is_selected).collect())
}

/// Checks that each scenario has a fault to plant.
///
/// # Errors
/// The first scenario without one.
pub fn can_sabotage(scenarios: &[&CatalogueEntry]) -> Result<(), NoSabotage> {
    match scenarios.iter().find(|entry| entry.sabotage.is_none()) {
        Some(entry) => Err(NoSabotage { name: entry.name }),
        None => Ok(()),
    }
}

impl CatalogueEntry {
    /// The part of its name before the slash.
    fn family_name(&self) -> Option<&'static str> {
        self.name.split_once('/').map(|(family, _)| family)
    }

    fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.family_name() == Some(name)
    }

    /// Records that it is skipped.
    ///
    /// # Errors
    /// The run folder cannot be written.
    pub async fn skipped(&self, run: &mut Run, subject: &Subject<'_>, because: &str) -> RunResult {
        let mut scenario = Scenario::start(run, subject, self.name, self.claim)?;
        scenario.skip(self.claim, because).await?;
        scenario.finish().await
    }

    /// Records that its preparation failed.
    ///
    /// # Errors
    /// The run folder cannot be written.
    pub async fn failed(&self, run: &mut Run, subject: &Subject<'_>, why: Mismatch) -> RunResult {
        let mut scenario = Scenario::start(run, subject, self.name, self.claim)?;
        scenario.record_failure(smoke::PREPARED, why).await?;
        scenario.finish().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn entry(name: &'static str, sabotage: Option<&'static str>) -> CatalogueEntry {
        CatalogueEntry {
            name,
            number: 2,
            claim: "it holds",
            needs: &[],
            sabotage,
            family: Family::Smoke,
        }
    }

    const SAMPLE: &[CatalogueEntry] = &[
        entry("smoke", None),
        entry("blue-green/happy", Some("no preStop")),
        entry("blue-green/purity", Some("selectors overlap")),
        entry("outage/redis", None),
    ];

    fn selected(names: &[&str]) -> Result<Vec<&'static str>, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        match select_from(SAMPLE, &names) {
            Ok(entries) => Ok(entries.iter().map(|entry| entry.name).collect()),
            Err(error) => Err(format!("{error}: {}", error.help().unwrap())),
        }
    }

    #[test]
    fn names_and_families_select_each_scenario_once_in_the_catalogues_order() {
        let [happy, purity] = ["blue-green/happy", "blue-green/purity"];
        assert_eq!(selected(&["smoke"]).unwrap(), ["smoke"]);
        assert_eq!(selected(&["blue-green"]).unwrap(), [happy, purity]);
        let twice = selected(&[purity, "blue-green", happy]);
        assert_eq!(twice.unwrap(), [happy, purity]);
        let reversed = selected(&["outage/redis", "smoke"]);
        assert_eq!(reversed.unwrap(), ["smoke", "outage/redis"]);
        assert_eq!(selected(&[]).unwrap().len(), SAMPLE.len());
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_of_scenarios_and_families() {
        let refusals = [
            ["smok"],
            ["blue-gren"],
            ["blue-green/hapy"],
            ["blue"],
            ["blue-green/"],
            ["happy"],
            [""],
        ]
        .map(|names| selected(&names).unwrap_err());
        insta::assert_snapshot!(refusals.join("\n"));
        assert!(selected(&["smoke", "nonsense"]).is_err());
    }

    #[test]
    fn only_a_scenario_with_a_fault_can_be_sabotaged() {
        let of = |name: &str| select_from(SAMPLE, &[name.to_owned()]).unwrap();
        can_sabotage(&of("blue-green")).unwrap();
        let refused = can_sabotage(&[of("blue-green"), of("smoke")].concat()).unwrap_err();
        assert!(refused.to_string().contains("\"smoke\""), "{refused}");
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
