//! The timeline: a bar for each stage and step on one axis, so that overlap is visible, with the
//! critical path marked. Below it, what the run waited for.

use maud::{Markup, html};

use super::super::model::{CriticalPart, Report, StageEnd, StageReport, StepReport};
use super::super::tone::Tone;
use super::elements::{icon, share_bar, wide_table};
use base::duration::human;

/// The most marks on the axis: more would overlap on a phone.
const MOST_MARKS: u64 = 5;
/// The most parts of the critical path that are listed.
const MOST_PARTS: usize = 8;
/// A shorter part than one in this many of the run is not listed.
const SHORTEST_PART: u64 = 200;

pub(super) fn section(report: &Report) -> Markup {
    if report.stages.is_empty() {
        return html! {};
    }
    let axis = Axis::of(report);
    html! {
        section aria-labelledby="timeline" {
            h2 #timeline { "Timeline" }
            table.card.timeline style={ "--mark: " (axis.percent(axis.mark)) "%" } {
                thead {
                    tr {
                        th scope="col" { div.row { span { "Stage and steps" } (axis.head()) } }
                        th.time.start scope="col" { "Began after" }
                        th.time scope="col" { "Time" }
                    }
                }
                @for stage in &report.stages {
                    tbody {
                        (stage_row(&axis, stage))
                        @for step in &stage.steps {
                            (step_row(&axis, step, is_critical(report, stage, step)))
                        }
                    }
                }
            }
            (waited_for(report))
        }
    }
}

fn is_critical(report: &Report, stage: &StageReport, step: &StepReport) -> bool {
    let mut path = report.critical_path.iter();
    path.any(|it| {
        it.stage == stage.stage
            && it.what.as_ref() == Some(&step.step)
            && it.start_millis == step.start_millis
    })
}

/// The longest parts of the critical path, the longest first.
fn waited_for(report: &Report) -> Markup {
    let path = report.critical_path.iter();
    let whole: u64 = path.clone().map(|it| it.millis).sum();
    let is_long = |it: &&CriticalPart| it.millis >= report.millis / SHORTEST_PART;
    let mut parts: Vec<&CriticalPart> = path.filter(is_long).collect();
    parts.sort_by_key(|it| std::cmp::Reverse(it.millis));
    parts.truncate(MOST_PARTS);
    let rest = whole - parts.iter().map(|it| it.millis).sum::<u64>();
    let rows = html! {
        @for part in &parts {
            @let what = part.what.as_deref().unwrap_or("between its steps");
            (waited_row(report, what, &part.stage.to_string(), part.millis))
        }
        @if rest > 0 { (waited_row(report, "everything else", "", rest)) }
    };
    if report.critical_path.len() < 2 {
        return html! {};
    }
    html! {
        h3.sub #waited { "What the run waited for" }
        p.aside {
            "The critical path, " (mark()) " above: each part is the one that ended last before the next began."
        }
        (wide_table("card wide", "waited", &["Part", "Stage", "Time", "", "Share of the run"], rows))
    }
}

fn waited_row(report: &Report, what: &str, stage: &str, millis: u64) -> Markup {
    let tenths = u128::from(millis) * 1000 / u128::from(report.millis.max(1));
    let share = format!("{}.{}", tenths / 10, tenths % 10);
    html! {
        tr {
            th scope="row" { (what) }
            td { (stage) }
            td.time { (human(millis)) }
            (share_bar("critical", &share))
            td.time { (share) " %" }
        }
    }
}

/// The mark of the critical path.
fn mark() -> Markup {
    html! { span.mark role="img" aria-label="critical path" title="on the critical path" { "◆" } }
}

/// The time axis.
struct Axis {
    /// The full width, in milliseconds.
    millis: u64,
    /// The distance of two marks, in milliseconds.
    mark: u64,
}

impl Axis {
    fn of(report: &Report) -> Axis {
        let stages = report.stages.iter();
        let ends = stages.map(|stage| stage.start_millis.saturating_add(stage.millis));
        let millis = ends.max().unwrap_or(0).max(report.millis).max(1);
        Axis {
            millis,
            mark: distance_of_marks(millis),
        }
    }

    /// A hundredth of a percent is a tenth of a pixel, which is exact enough.
    fn percent(&self, millis: u64) -> String {
        let basis_points = u128::from(millis) * 10_000 / u128::from(self.millis);
        format!("{}.{:02}", basis_points / 100, basis_points % 100)
    }

    fn head(&self) -> Markup {
        let step = usize::try_from(self.mark).unwrap_or(usize::MAX);
        // A mark at the end would overlap the next column.
        let end = self.millis - self.millis / 12;
        html! {
            span.axis aria-hidden="true" {
                @for mark in (0..end).step_by(step) {
                    span style={ "left: " (self.percent(mark)) "%" } { (mark_label(mark)) }
                }
            }
        }
    }

    fn bar(&self, class: &str, start_millis: u64, millis: u64) -> Markup {
        let style = format!(
            "left: {}%; width: {}%",
            self.percent(start_millis),
            self.percent(millis)
        );
        html! { span.track aria-hidden="true" { span class={ "bar " (class) } style=(style) {} } }
    }
}

/// Returns the smallest round distance with at most [`MOST_MARKS`] marks: 1, 2 or 5 times a power
/// of ten up to ten seconds, then fractions of a minute and an hour.
fn distance_of_marks(millis: u64) -> u64 {
    const ROUND: [u64; 21] = [
        1, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000,
        300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000,
    ];
    let round = ROUND.into_iter().find(|it| millis / it < MOST_MARKS);
    round.unwrap_or(millis / MOST_MARKS)
}

/// Formats a mark, without digits that are 0 on every mark.
fn mark_label(millis: u64) -> String {
    match millis {
        0 => "0".to_owned(),
        1..1_000 => format!("{millis} ms"),
        1_000..60_000 if millis.is_multiple_of(1_000) => format!("{} s", millis / 1_000),
        1_000..10_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 if millis.is_multiple_of(60_000) => format!("{} min", millis / 60_000),
        _ => human(millis),
    }
}

fn stage_row(axis: &Axis, stage: &StageReport) -> Markup {
    let (tone, class) = match stage.end {
        StageEnd::Done => (Tone::Good, "done"),
        StageEnd::Failed => (Tone::Bad, "failed"),
        StageEnd::Inconclusive => (Tone::Warn, "inconclusive"),
        StageEnd::Interrupted => (Tone::Warn, "interrupted"),
        StageEnd::Unfinished => (Tone::Warn, "unfinished"),
    };
    html! {
        tr.stage {
            th scope="rowgroup" {
                div.row {
                    span.name { (icon(tone)) span { (stage.stage) " " span.aside { (stage.end) } } }
                    (axis.bar(class, stage.start_millis, stage.millis))
                }
            }
            td.time.start { (human(stage.start_millis)) }
            td.time { (human(stage.millis)) }
        }
    }
}

fn step_row(axis: &Axis, step: &StepReport, critical: bool) -> Markup {
    let class = if critical { "step critical" } else { "step" };
    html! {
        tr.step {
            th scope="row" {
                div.row {
                    span.name { (step.step) @if critical { " " (mark()) } }
                    (axis.bar(class, step.start_millis, step.millis))
                }
            }
            td.time.start { (human(step.start_millis)) }
            td.time { (human(step.millis)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_has_few_round_marks_at_every_length() {
        for exponent in 0..40 {
            let millis = 1_u64 << exponent;
            let marks = millis.div_ceil(distance_of_marks(millis));
            assert!(
                (1..=MOST_MARKS + 1).contains(&marks),
                "{millis} ms: {marks}"
            );
        }
        assert_eq!(distance_of_marks(21_400), 5_000);
        assert_eq!(distance_of_marks(150_000), 60_000);
        assert_eq!(
            [500, 1_000, 1_500, 120_000].map(mark_label),
            ["500 ms", "1 s", "1.5 s", "2 min"]
        );
    }

    #[test]
    fn a_bar_is_positioned_by_its_time() {
        let axis = Axis {
            millis: 20_000,
            mark: 5_000,
        };
        let bar = axis.bar("done", 5_000, 2_500).into_string();
        assert!(bar.contains("left: 25.00%; width: 12.50%"), "{bar}");
    }
}
