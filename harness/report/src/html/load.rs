//! The results of load: thresholds and comparisons.

use maud::{Markup, html};

use super::super::model::Report;
use super::super::tone::Tone;
use super::chart;
use super::elements::{badge, wide_table};
use base::run::comparison::{ComparisonSummary, ComparisonVerdict};

/// The figures after those of the checks.
pub(super) fn figures(report: &Report) -> Markup {
    html! {
        @if !report.thresholds.is_empty() {
            li.bad[report.failed_thresholds().next().is_some()] {
                span.name { "Thresholds that hold" }
                strong {
                    (report.thresholds_that_hold())
                    small { " of " (report.thresholds.len()) }
                }
                span.aside { (report.thresholds_counted()) }
            }
        }
        @for comparison in &report.comparisons {
            li.bad[comparison.verdict == ComparisonVerdict::Regressed].warn[is_open(comparison.verdict)] {
                span.name { "Compared" }
                strong { (comparison.verdict) }
                span.aside { (comparison.counted()) }
            }
        }
    }
}

pub(super) fn thresholds(report: &Report) -> Markup {
    if report.thresholds.is_empty() {
        return html! {};
    }
    let rows = html! {
        @for it in &report.thresholds {
            tr {
                td {
                    @if it.holds { (badge(Tone::Good, "holds")) }
                    @else { (badge(Tone::Bad, "fails")) }
                }
                td { (it.of) }
                th scope="row" { code { (it.threshold) } }
                td.evidence { (it.seen) }
            }
        }
    };
    html! {
        section aria-labelledby="thresholds" {
            h2 #thresholds { "Thresholds" }
            (wide_table("card wide", "thresholds", &["Result", "Load", "Threshold", "Seen"], rows))
        }
    }
}

pub(super) fn comparisons(report: &Report) -> Markup {
    if report.comparisons.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="verdicts" {
            h2 #verdicts { "Verdicts" }
            @for comparison in &report.comparisons { (card(comparison)) }
        }
    }
}

fn card(comparison: &ComparisonSummary) -> Markup {
    html! {
        article class={ "card scenario " (tone(comparison.verdict).class()) } {
            header {
                h3 { (verdict_badge(comparison.verdict)) (comparison.of) }
                p.aside { (comparison.counted()) }
            }
            @for obstacle in &comparison.obstacles {
                p.claim { "Not comparable: " (obstacle) }
            }
            @if !comparison.rows.is_empty() {
                p.aside {
                    "The band is what does not matter. A verdict needs the interval to be on one side of \
                     its edge."
                }
                (rows(comparison))
            }
        }
    }
}

fn rows(comparison: &ComparisonSummary) -> Markup {
    let headings = [
        "Verdict",
        "Endpoint",
        "Metric",
        "A",
        "B",
        "Change",
        "Better | worse",
        "Reason",
    ];
    let end = axis_end(comparison);
    let rows = html! {
        @for row in &comparison.rows {
            tr {
                td { (verdict_badge(row.verdict)) }
                th scope="row" { (row.endpoint) }
                td { (row.metric) }
                td { (row.a) }
                td { (row.b) }
                td { (row.change) }
                td { @if let Some(it) = &row.worse_by { (chart::interval(it, end, &row.change)) } @else { "–" } }
                td.evidence { (row.reason) }
            }
        }
    };
    wide_table("wide", "verdicts", &headings, rows)
}

/// Returns the end of the axis of all intervals. Those that reach far beyond what matters are cut.
fn axis_end(comparison: &ComparisonSummary) -> f64 {
    let intervals = comparison.rows.iter().filter_map(|row| row.worse_by);
    let furthest = intervals.map(|it| it.low.abs().max(it.high.abs()));
    furthest.fold(2.0, f64::max).min(25.0)
}

fn verdict_badge(verdict: ComparisonVerdict) -> Markup {
    badge(tone(verdict), &verdict.to_string())
}

fn tone(verdict: ComparisonVerdict) -> Tone {
    match verdict {
        ComparisonVerdict::Unchanged => Tone::Quiet,
        ComparisonVerdict::Improved => Tone::Good,
        ComparisonVerdict::Inconclusive | ComparisonVerdict::NotComparable => Tone::Warn,
        ComparisonVerdict::Regressed => Tone::Bad,
    }
}

fn is_open(verdict: ComparisonVerdict) -> bool {
    matches!(
        verdict,
        ComparisonVerdict::Inconclusive | ComparisonVerdict::NotComparable
    )
}
