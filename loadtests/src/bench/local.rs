//! How long the local target takes to stand up and to rehearse a release, and how much
//! memory the harness needs for it.

use harness::duration::human;
use harness::report::Report;

use super::error::BenchError;
use super::results::Measured;
use super::scratch::{Course, Scratch, TARGET};
use super::series::{Collected, Series, Unit};
use super::threshold::{Bound, Statistic, Threshold};
use super::{Figure, Plan, Progress};

/// The series that have a stated figure.
pub const UP: &str = "up: the whole command";
pub const E2E: &str = "e2e: the whole command";
pub const MEMORY: &str = "e2e: memory of command and supervisor";

/// The names of their parts.
const BACKING_SERVICES: [&str; 2] = ["postgres", "redis"];

const NO_MEMORY: &str =
    "memory was not measured: it is read from /proc, which Linux has and this system has not";

const STATED: [Threshold; 3] = [
    Threshold::of_median(UP, Bound::Below(5_000.0)),
    Threshold::of_median(E2E, Bound::Below(15_000.0)),
    Threshold {
        series: MEMORY,
        statistic: Statistic::Max,
        bound: Bound::Below(100.0),
    },
];

/// Runs `up` and `e2e` in turn, as often as planned.
pub async fn measure(
    plan: &Plan,
    scratch: &Scratch,
    progress: Progress<'_>,
) -> Result<Measured, BenchError> {
    progress("local: round 0, not counted, builds what is missing: minutes, the first time");
    let first = scratch.rehearse("up", TARGET, &plan.config).await?;
    scratch.take_down().await?;
    let (mut of_up, mut of_e2e, mut memory) = (Collected::default(), Collected::default(), vec![]);
    for round in 1..=plan.rounds {
        let up = scratch.rehearse("up", TARGET, &plan.config).await?;
        scratch.take_down().await?;
        let e2e = scratch.rehearse("e2e", TARGET, &plan.config).await?;
        progress(&format!(
            "local: round {round} of {}: up {}, e2e {}",
            plan.rounds,
            human(up.millis as u64),
            human(e2e.millis as u64)
        ));
        collect_up(&up, &mut of_up).ok_or_else(|| scratch.report_lacks("up", "an end of it"))?;
        collect_e2e(&e2e, &mut of_e2e);
        memory.extend(e2e.memory);
    }
    let mut series = of_up.into_series();
    series.extend(of_e2e.into_series());
    series.push(Series::new(MEMORY, Unit::Mebibytes, memory));
    Ok(judge(series, backing_services(&first.report)))
}

/// How the backing services ran: containers take longer to start than processes do.
fn backing_services(up: &Report) -> String {
    let others = up
        .parts
        .iter()
        .filter(|part| BACKING_SERVICES.contains(&part.name.as_str()));
    let words = others.map(|part| {
        let kind = part.runs_as.split(' ').next().unwrap_or_default();
        format!("{} as a {kind}", part.name)
    });
    format!("backing services: {}", words.collect::<Vec<_>>().join(", "))
}

/// The figure, and what it says of what is stated.
pub fn judge(series: Vec<Series>, backing_services: String) -> Measured {
    let verdicts = Threshold::judge_all(&STATED, &series);
    let memory = series.iter().find(|one| one.name == MEMORY);
    let unseen = memory.is_some_and(|memory| memory.values.is_empty());
    let mut notes = vec![backing_services];
    notes.extend(unseen.then(|| NO_MEMORY.to_owned()));
    Measured {
        figure: Figure::Local,
        about: "local: the platform from nothing to ready, and a whole rehearsal".into(),
        series,
        notes,
        verdicts,
    }
}

/// The steps in the report's own words. They overlap: the build runs beside the backing
/// services.
fn collect_up(up: &Course, into: &mut Collected) -> Option<()> {
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

/// From the last step to all answering, which is the router's; and from the beginning.
fn router_and_everything(report: &Report) -> Option<(f64, f64)> {
    let everything = report.up_after_millis?;
    let steps = report.stages.iter().flat_map(|stage| &stage.steps);
    let last = steps.map(|step| step.start_millis + step.millis).max()?;
    // Steps are told in whole milliseconds: the sum may be one too high.
    Some((everything.saturating_sub(last) as f64, everything as f64))
}

fn collect_e2e(e2e: &Course, into: &mut Collected) {
    for stage in &e2e.report.stages {
        let name = format!("e2e: {}", stage.stage);
        into.add(&name, Unit::Milliseconds, stage.millis as f64);
    }
    into.add(E2E, Unit::Milliseconds, e2e.millis);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of the harness that held, as its own tests have it.
    fn course(millis: f64) -> Course {
        let folder = tempfile::tempdir().unwrap();
        let events = include_bytes!("../../../harness/src/report/samples/held.jsonl");
        std::fs::write(folder.path().join("events.jsonl"), events).unwrap();
        Course {
            millis,
            report: harness::report::render(folder.path()).unwrap(),
            memory: None,
        }
    }

    #[test]
    fn each_step_is_a_series_in_the_reports_words() {
        let mut collected = Collected::default();
        for millis in [2_000.0, 3_000.0] {
            collect_up(&course(millis), &mut collected).unwrap();
        }
        let series = collected.into_series();
        let names: Vec<_> = series.iter().map(|one| one.name.as_str()).collect();
        insta::assert_snapshot!(names.join("\n"));
        assert!(series.iter().all(|one| one.values.len() == 2), "{series:?}");
        assert_eq!(series.last().unwrap().values, [2_000.0, 3_000.0]);
    }

    #[test]
    fn how_the_backing_services_ran_is_said() {
        insta::assert_snapshot!(backing_services(&course(1.0).report));
    }

    #[test]
    fn a_run_that_was_never_up_is_no_measurement() {
        let mut up = course(1.0);
        up.report.up_after_millis = None;
        assert!(collect_up(&up, &mut Collected::default()).is_none());
    }

    #[test]
    fn every_stated_figure_is_judged() {
        let mut collected = Collected::default();
        collect_up(&course(4_999.0), &mut collected).unwrap();
        collect_e2e(&course(14_999.0), &mut collected);
        let mut series = collected.into_series();
        series.push(Series::new(MEMORY, Unit::Mebibytes, vec![99.9]));
        let judged = judge(series, String::new()).verdicts;
        assert_eq!(judged.len(), STATED.len());
        for verdict in judged {
            assert_eq!(verdict.outcome, crate::bench::Outcome::Held, "{verdict}");
        }
    }
}
