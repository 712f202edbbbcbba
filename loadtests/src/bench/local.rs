//! How long the local target takes to start and to rehearse a release, and how much memory the
//! harness needs for it.

use base::duration::human;
use report::Report;

use super::error::BenchError;
use super::results::Measured;
use super::scratch::{MeasuredRun, Scratch, TARGET};
use super::series::{Series, SeriesCollector, Unit};
use super::stated_figure::{Bound, StatedFigure};
use super::{BenchPlan, Figure, Progress};

/// The series that have a stated figure.
pub const UP: &str = "up: the whole command";
pub const E2E: &str = "e2e: the whole command";
pub const MEMORY: &str = "e2e: memory of command and supervisor";

/// The names of their parts.
const BACKING_SERVICES: [&str; 2] = ["postgres", "redis"];

const NO_MEMORY: &str = "memory was not measured: it is read from /proc, which only Linux has";

const STATED: [StatedFigure; 3] = [
    StatedFigure::of_median(UP, Bound::Below(5_000.0)),
    StatedFigure::of_median(E2E, Bound::Below(15_000.0)),
    StatedFigure::of_max(MEMORY, Bound::Below(100.0)),
];

/// Runs `up` and `e2e` in turn in every round.
pub async fn measure(
    plan: &BenchPlan,
    scratch: &Scratch,
    progress: Progress<'_>,
) -> Result<Measured, BenchError> {
    progress("local: round 0, not counted, builds what is missing: minutes, the first time");
    let first = scratch.rehearse("up", TARGET, &plan.config).await?;
    scratch.tear_down().await?;
    let mut of_up = SeriesCollector::default();
    let mut of_e2e = SeriesCollector::default();
    let mut memory = Vec::new();
    for round in 1..=plan.rounds {
        let up = scratch.rehearse("up", TARGET, &plan.config).await?;
        scratch.tear_down().await?;
        let e2e = scratch.rehearse("e2e", TARGET, &plan.config).await?;
        progress(&format!(
            "local: round {round} of {}: up {}, e2e {}",
            plan.rounds,
            human(up.millis as u64),
            human(e2e.millis as u64)
        ));
        collect_up(&up, &mut of_up).ok_or_else(|| scratch.report_lacks("up", "an end of it"))?;
        e2e.collect("e2e", &mut of_e2e);
        memory.extend(e2e.memory);
    }
    let mut series = of_up.into_series();
    series.extend(of_e2e.into_series());
    series.push(Series::new(MEMORY, Unit::Mebibytes, memory));
    Ok(evaluate(series, backing_services(&first.report)))
}

/// How the backing services ran: containers take longer to start than processes do.
fn backing_services(up: &Report) -> String {
    let is_backing = |name: &String| BACKING_SERVICES.contains(&name.as_str());
    let services = up.parts.iter().filter(|part| is_backing(&part.name));
    let services = services.map(|part| {
        let kind = part.runs_as.split(' ').next().unwrap_or_default();
        format!("{} as a {kind}", part.name)
    });
    let services: Vec<String> = services.collect();
    format!("backing services: {}", services.join(", "))
}

/// The figure, with the verdicts on what is stated.
pub fn evaluate(series: Vec<Series>, backing_services: String) -> Measured {
    let memory = series.iter().find(|one| one.name == MEMORY);
    let is_unknown = memory.is_some_and(|memory| memory.values.is_empty());
    let mut notes = vec![backing_services];
    notes.extend(is_unknown.then(|| NO_MEMORY.to_owned()));
    let about = "local: the platform from nothing to ready, and a whole rehearsal";
    Measured::new(Figure::Local, about, &STATED, series, notes)
}

/// Collects the steps, with the report's names. They overlap: the build runs while the backing
/// services start.
fn collect_up(up: &MeasuredRun, into: &mut SeriesCollector) -> Option<()> {
    let mut add = |name: &str, millis| into.add(name, Unit::Milliseconds, millis);
    let steps = up.report.stages.iter().flat_map(|stage| &stage.steps);
    for step in steps {
        add(&format!("up: {}", step.step), step.millis as f64);
    }
    let (router, everything) = router_and_everything(&up.report)?;
    add("up: the router is in place", router);
    add("up: until everything answers", everything);
    add(UP, up.millis);
    Some(())
}

/// The time of the router, from the last step until everything answers; and the time from the start
/// until then.
fn router_and_everything(report: &Report) -> Option<(f64, f64)> {
    let everything = report.up_after_millis?;
    let steps = report.stages.iter().flat_map(|stage| &stage.steps);
    let last = steps.map(|step| step.start_millis + step.millis).max()?;
    // Steps are in whole milliseconds: the sum may be one too high.
    Some((everything.saturating_sub(last) as f64, everything as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::FigureOutcome;

    /// A successful run of the harness, from the tests of its report.
    fn run(millis: f64) -> MeasuredRun {
        let folder = tempfile::tempdir().unwrap();
        let events = include_bytes!("../../../harness/report/src/samples/held.jsonl");
        std::fs::write(folder.path().join("events.jsonl"), events).unwrap();
        MeasuredRun {
            millis,
            report: report::render(folder.path()).unwrap(),
            memory: None,
        }
    }

    #[test]
    fn each_step_is_a_series_named_as_in_the_report() {
        let mut collector = SeriesCollector::default();
        for millis in [2_000.0, 3_000.0] {
            collect_up(&run(millis), &mut collector).unwrap();
        }
        let series = collector.into_series();
        let names: Vec<_> = series.iter().map(|one| one.name.as_str()).collect();
        insta::assert_snapshot!(names.join("\n"));
        assert!(series.iter().all(|one| one.values.len() == 2), "{series:?}");
        assert_eq!(series.last().unwrap().values, [2_000.0, 3_000.0]);
    }

    #[test]
    fn the_backing_services_are_listed_with_their_kind() {
        insta::assert_snapshot!(backing_services(&run(1.0).report));
    }

    #[test]
    fn a_run_that_was_never_up_is_no_measurement() {
        let mut up = run(1.0);
        up.report.up_after_millis = None;
        assert!(collect_up(&up, &mut SeriesCollector::default()).is_none());
    }

    #[test]
    fn every_stated_figure_is_evaluated() {
        let mut collector = SeriesCollector::default();
        collect_up(&run(4_999.0), &mut collector).unwrap();
        run(14_999.0).collect("e2e", &mut collector);
        let mut series = collector.into_series();
        series.push(Series::new(MEMORY, Unit::Mebibytes, vec![99.9]));
        let evaluated = evaluate(series, String::new()).verdicts;
        assert_eq!(evaluated.len(), STATED.len());
        for verdict in evaluated {
            assert_eq!(verdict.outcome, FigureOutcome::Held, "{verdict}");
        }
    }
}
