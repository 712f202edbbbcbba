//! How long the kind target takes, compared with the same cluster, release and backing services
//! made by hand, and how fast an image is loaded into its nodes.

mod by_hand;
mod loading;

use std::path::PathBuf;
use std::time::Duration;

use base::duration::human;
use environments::config::{Config, KindTarget, Target};
use environments::preflight;
use machine::engine::Engine;
use machine::tools::own_or_on_path;

use super::error::BenchError;
use super::results::Measured;
use super::scratch::Scratch;
use super::series::{Series, SeriesCollector, Unit};
use super::stated_figure::{Bound, StatedFigure};
use super::{BenchPlan, Figure, Progress};
use by_hand::{ByHand, CREATE, HELM};
use loading::Loading;

/// The target that is measured.
pub const TARGET: &str = "kind";

const E2E: &str = "e2e: the whole command";
const BARE: &str = "by hand: create cluster and helm install alone";
const BY_HAND: &str = "by hand: all of it";
const SHARE: &str = "e2e, as a share of those two alone";
const SHARE_OF_ALL: &str = "e2e, as a share of all of it by hand";
const UP_AGAIN: &str = "up, of what is up: the whole command";
const E2E_AGAIN: &str = "e2e, of what is up: the whole command";
const LOAD: &str = "an image to the node: images load";
const KIND_LOAD: &str = "an image to the node: kind load";
const LOAD_SHARE: &str = "images load, as a share of kind load";
const LOAD_AGAIN: &str = "the same image again: images load";
const KIND_LOAD_AGAIN: &str = "the same image again: kind load";

const STATED: [StatedFigure; 6] = [
    StatedFigure::of_median(SHARE, Bound::AtMost(1.3)),
    StatedFigure::of_median(E2E, Bound::Below(75_000.0)),
    StatedFigure::of_median(E2E_AGAIN, Bound::Below(25_000.0)),
    StatedFigure::of_median(UP_AGAIN, Bound::Below(2_000.0)),
    StatedFigure::of_median(LOAD_SHARE, Bound::Below(1.0)),
    StatedFigure::of_median(LOAD_AGAIN, Bound::Below(500.0)),
];

pub struct KindBench {
    pub(super) engine: Engine,
    kind: PathBuf,
    helm: PathBuf,
    pub(super) config: Config,
    target: KindTarget,
}

impl KindBench {
    /// Checks that this machine has what is needed, or returns what is missing.
    pub async fn prepare(plan: &BenchPlan) -> Result<KindBench, String> {
        let config = Config::read(&plan.config).map_err(|error| error.to_string())?;
        let target = match config.targets.get(TARGET) {
            Some(Target::Kind(target)) => target.clone(),
            _ => {
                return Err(format!(
                    "harness.toml has no target {TARGET:?} of that kind"
                ));
            }
        };
        let tools_dir = plan.home.tools();
        let of_kind = Target::Kind(target.clone());
        let found = preflight::look(&config, &of_kind, &tools_dir).await;
        let engine = found.map_err(|missing| missing.to_string())?.engine;
        let tool = |name| {
            own_or_on_path(&tools_dir, name).ok_or_else(|| format!("{name} is not installed"))
        };
        Ok(KindBench {
            engine: engine.ok_or("no container engine answers")?,
            kind: tool("kind")?,
            helm: tool("helm")?,
            config,
            target,
        })
    }

    /// Runs `e2e` and the same by hand in turn, in every round; then `up` and `e2e` of a running
    /// environment, and loads images into its node.
    pub async fn measure(
        &self,
        plan: &BenchPlan,
        scratch: &Scratch,
        progress: Progress<'_>,
    ) -> Result<Measured, BenchError> {
        self.tidy().await?;
        progress("kind: round 0, not counted, gets missing images: minutes, if there are any");
        scratch.rehearse("up", TARGET, &plan.config).await?;
        scratch.tear_down().await?;
        let mut collector = SeriesCollector::default();
        self.cold_rounds(plan, scratch, progress, &mut collector)
            .await?;
        self.warm_rounds(plan, scratch, progress, &mut collector)
            .await?;
        Ok(evaluate(collector.into_series(), Vec::new()))
    }

    async fn cold_rounds(
        &self,
        plan: &BenchPlan,
        scratch: &Scratch,
        progress: Progress<'_>,
        into: &mut SeriesCollector,
    ) -> Result<(), BenchError> {
        for round in 1..=plan.rounds {
            let e2e = scratch.rehearse("e2e", TARGET, &plan.config).await?;
            let by_hand = ByHand::prepare(self, plan, scratch).await?.run().await?;
            progress(&format!(
                "kind: round {round} of {}: e2e {}, by hand {}",
                plan.rounds,
                human(e2e.millis as u64),
                human(by_hand.iter().map(|step| step.millis).sum::<f64>() as u64),
            ));
            e2e.collect("e2e", into);
            collect_by_hand(e2e.millis, &by_hand, into);
        }
        Ok(())
    }

    async fn warm_rounds(
        &self,
        plan: &BenchPlan,
        scratch: &Scratch,
        progress: Progress<'_>,
        into: &mut SeriesCollector,
    ) -> Result<(), BenchError> {
        scratch.rehearse("up", TARGET, &plan.config).await?;
        let cluster = scratch.environment()?.cluster;
        let cluster = cluster.ok_or_else(|| scratch.report_lacks("up", "a cluster"))?;
        let loading = Loading::new(self, &cluster.name, scratch);
        for round in 1..=plan.rounds {
            let up = scratch.command("up", TARGET, &plan.config).await?;
            let e2e = scratch.rehearse("e2e", TARGET, &plan.config).await?;
            into.add(UP_AGAIN, Unit::Milliseconds, up.millis);
            e2e.collect("e2e, of what is up", into);
            let loaded = loading.round(round).await?;
            progress(&format!(
                "kind: round {round} of {}, of what is up: up {}, e2e {}, an image {}",
                plan.rounds,
                human(up.millis as u64),
                human(e2e.millis as u64),
                human(loaded.ours as u64),
            ));
            collect_loaded(&loaded, into);
        }
        scratch.tear_down().await
    }

    /// Removes the images that were built for the measurement.
    pub async fn tidy(&self) -> Result<(), BenchError> {
        loading::remove_images(self).await
    }

    /// A command with the engine's environment variables.
    pub(super) fn command(&self, words: &[&str]) -> Vec<String> {
        let engine = self.engine.export_env().into_iter();
        let engine = engine.map(|(name, value)| format!("{name}={value}"));
        let words = words.iter().map(|word| (*word).to_owned());
        let env = std::iter::once("env".to_owned());
        env.chain(engine).chain(words).collect()
    }
}

/// A step by hand, and how long it took.
struct TimedStep {
    what: &'static str,
    millis: f64,
}

/// How long it took to load an image into the node, in milliseconds.
struct Loaded {
    ours: f64,
    ours_again: f64,
    kinds: f64,
    kinds_again: f64,
}

/// The timeout of a single command by hand, a last resort: kind and helm have shorter ones.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10 * 60);

fn collect_by_hand(e2e: f64, steps: &[TimedStep], into: &mut SeriesCollector) {
    for step in steps {
        let name = format!("by hand: {}", step.what);
        into.add(&name, Unit::Milliseconds, step.millis);
    }
    let sum = |counts: fn(&&TimedStep) -> bool| -> f64 {
        steps.iter().filter(counts).map(|step| step.millis).sum()
    };
    let bare = sum(|step| [CREATE, HELM].contains(&step.what));
    let all = sum(|_| true);
    into.add(BARE, Unit::Milliseconds, bare);
    into.add(BY_HAND, Unit::Milliseconds, all);
    into.add(SHARE, Unit::Ratio, e2e / bare);
    into.add(SHARE_OF_ALL, Unit::Ratio, e2e / all);
}

fn collect_loaded(loaded: &Loaded, into: &mut SeriesCollector) {
    into.add(LOAD, Unit::Milliseconds, loaded.ours);
    into.add(KIND_LOAD, Unit::Milliseconds, loaded.kinds);
    into.add(LOAD_SHARE, Unit::Ratio, loaded.ours / loaded.kinds);
    into.add(LOAD_AGAIN, Unit::Milliseconds, loaded.ours_again);
    into.add(KIND_LOAD_AGAIN, Unit::Milliseconds, loaded.kinds_again);
}

/// The figure if it cannot be measured here because of `why`: every stated figure counts as not
/// measured.
pub fn not_measured(why: &str) -> Measured {
    let series = STATED.map(|stated| {
        let unit = match stated.series {
            SHARE | LOAD_SHARE => Unit::Ratio,
            _ => Unit::Milliseconds,
        };
        Series::new(stated.series, unit, Vec::new())
    });
    let note = format!("the kind target was not measured: {why}");
    evaluate(series.into(), vec![note])
}

fn evaluate(series: Vec<Series>, notes: Vec<String>) -> Measured {
    let about =
        "kind: from no cluster to a rehearsed release and back, compared with the same by hand";
    Measured::new(Figure::Kind, about, &STATED, series, notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::FigureOutcome;

    fn steps() -> Vec<TimedStep> {
        let steps = [(CREATE, 20_000.0), ("apply", 1_000.0), (HELM, 20_000.0)];
        steps
            .map(|(what, millis)| TimedStep { what, millis })
            .into()
    }

    fn collector() -> SeriesCollector {
        let mut collector = SeriesCollector::default();
        collector.add(E2E, Unit::Milliseconds, 52_000.0);
        collect_by_hand(52_000.0, &steps(), &mut collector);
        collector.add(UP_AGAIN, Unit::Milliseconds, 400.0);
        collector.add(E2E_AGAIN, Unit::Milliseconds, 9_000.0);
        let loaded = Loaded {
            ours: 900.0,
            ours_again: 100.0,
            kinds: 1_800.0,
            kinds_again: 300.0,
        };
        collect_loaded(&loaded, &mut collector);
        collector
    }

    #[test]
    fn every_stated_figure_is_evaluated() {
        let measured = evaluate(collector().into_series(), Vec::new());
        assert_eq!(measured.verdicts.len(), STATED.len());
        for verdict in &measured.verdicts {
            assert_eq!(verdict.outcome, FigureOutcome::Held, "{verdict}");
        }
    }

    #[test]
    fn e2e_is_compared_with_the_two_bare_steps() {
        let series = collector().into_series();
        let value = |name| series.iter().find(|one| one.name == name).unwrap().values[0];
        assert_eq!(value(BARE), 40_000.0);
        assert_eq!(value(BY_HAND), 41_000.0);
        assert_eq!(value(SHARE), 1.3);
    }

    #[test]
    fn without_a_measurement_no_stated_figure_holds() {
        let measured = not_measured("no container engine answers");
        assert_eq!(measured.verdicts.len(), STATED.len());
        for verdict in &measured.verdicts {
            assert_eq!(verdict.outcome, FigureOutcome::NotMeasured, "{verdict}");
        }
        insta::assert_snapshot!(measured.notes.join("\n"), @"the kind target was not measured: no container engine answers");
    }
}
