//! The parts the environment was made of, with their logs.

use maud::{Markup, html};

use super::super::model::Report;
use super::log;
use super::look::{Tone, badge, wide_table};
use crate::run::event::Part;

pub(super) fn section(report: &Report) -> Markup {
    if report.parts.is_empty() {
        return html! {};
    }
    let rows = html! { @for part in &report.parts { (row(report, part)) } };
    html! {
        section aria-labelledby="environment" {
            h2 #environment { "Environment" }
            (wide_table("card wide", "environment", &["Part", "Runs as", "Address", "Log"], rows))
        }
    }
}

fn row(report: &Report, part: &Part) -> Markup {
    let lost = report.lost_parts.iter().any(|lost| lost.part == part.name);
    html! {
        tr {
            th scope="row" { (part.name) @if lost { " " (badge(Tone::Bad, "lost")) } }
            td { (part.runs_as) }
            td { code { (part.address) } }
            td { @if let Some(path) = &part.log { (log(path)) } @else { "–" } }
        }
    }
}
