//! The traffic during each release: which version answered, and when.

use base::run::release::{LaneTraffic, PhaseTraffic, ReleaseTraffic};
use maud::{Markup, html};

use super::super::model::Report;
use super::chart::{Blocks, Chart, Line, Role, in_millis, millis, number, total};
use super::elements::wide_table;

pub(super) fn section(report: &Report) -> Markup {
    if report.releases.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="releases" {
            h2 #releases { "Releases" }
            @for (index, traffic) in report.releases.iter().enumerate() {
                (release(&Release::of(index, traffic)))
            }
        }
    }
}

/// A release, with what its charts share.
struct Release<'a> {
    index: usize,
    traffic: &'a ReleaseTraffic,
    blocks: Blocks,
}

fn release(release: &Release<'_>) -> Markup {
    let traffic = release.traffic;
    html! {
        h3.sub id=(release.id("of")) {
            (traffic.scenario) ": " (traffic.old) " to " (traffic.new)
        }
        div.charts {
            @for (number, lane) in traffic.lanes.iter().enumerate() {
                (release.lane(number, lane).figure())
            }
            (release.latency().figure())
            @if !traffic.replicas.is_empty() { (release.replicas().figure()) }
        }
        (release.phases())
    }
}

impl<'a> Release<'a> {
    fn of(index: usize, traffic: &'a ReleaseTraffic) -> Release<'a> {
        let lanes = traffic.lanes.iter();
        let blocks = lanes.map(|lane| lane.old.len()).max().unwrap_or(0);
        Release {
            index,
            traffic,
            blocks: Blocks::of(traffic.block_millis, blocks),
        }
    }

    fn id(&self, what: &str) -> String {
        format!("release-{}-{what}", self.index)
    }

    fn chart(&self, id: String, title: String, about: String, lines: Vec<Line>) -> Chart {
        let phases = self.traffic.phases.iter();
        // The first phase begins with the chart.
        let phases = phases.filter(|phase| phase.from_millis > 0);
        let marks = phases.map(|it| (it.phase.clone(), it.from_millis as f64 / 1000.0));
        Chart {
            marks: marks.collect(),
            ..Chart::over_time(id, title, about, self.blocks, lines)
        }
    }

    fn lane(&self, number: usize, lane: &LaneTraffic) -> Chart {
        let rate = |counts| self.blocks.rates(counts);
        let mut lines = vec![
            Line::new(&self.traffic.old, Role::First, rate(&lane.old)),
            Line::new(&self.traffic.new, Role::Second, rate(&lane.new)),
        ];
        if lane.other.iter().any(|it| *it > 0) {
            lines.push(Line::new("other", Role::Third, rate(&lane.other)));
        }
        let failed = total(&lane.failed);
        if failed > 0 {
            lines.push(Line::new("failed", Role::Bad, rate(&lane.failed)));
        }
        let [old, new] = [&lane.old, &lane.new].map(|counts| total(counts));
        let about = format!(
            "{old} answers of {}, {new} of {}; {failed} requests failed. {}",
            self.traffic.old,
            self.traffic.new,
            gap(lane)
        );
        let title = format!("{}, {}: answers/s by version", lane.lane, lane.from);
        self.chart(self.id(&format!("lane-{number}")), title, about, lines)
    }

    fn latency(&self) -> Chart {
        let latency = &self.traffic.latency;
        let lines = vec![
            Line::new("p50", Role::First, millis(&latency.p50)),
            Line::new("p99", Role::Third, millis(&latency.p99)),
        ];
        let title = "Latency of good answers, ms".to_owned();
        let about = "The table of phases has the latency before and after.".to_owned();
        self.chart(self.id("latency"), title, about, lines)
    }

    fn replicas(&self) -> Chart {
        let colours = self.traffic.replicas.iter();
        let lines = colours.zip([Role::First, Role::Second]).map(|(it, role)| {
            let ready = it.ready.iter().map(|it| it.map(|it| it as f64));
            Line::new(&it.colour, role, ready)
        });
        let ends = self.traffic.replicas.iter().filter_map(|it| {
            let ready = |it: Option<u64>| it.map(|it| it.to_string());
            let first = it.ready.iter().flatten().next().copied();
            let last = it.ready.iter().flatten().next_back().copied();
            Some(format!(
                "{}: {} at the start, {} at the end.",
                it.colour,
                ready(first)?,
                ready(last)?
            ))
        });
        let about: Vec<String> = ends.collect();
        let title = "Ready replicas by colour".to_owned();
        self.chart(self.id("replicas"), title, about.join(" "), lines.collect())
    }

    fn phases(&self) -> Markup {
        const HEADINGS: [&str; 7] = [
            "Phase",
            "From",
            "Requests",
            "Failed",
            "p50, ms",
            "p99, ms",
            "Longest gap, ms",
        ];
        let rows = html! {
            @for it in &self.traffic.phases { (phase(it)) }
            @for lane in &self.traffic.lanes {
                tr { th scope="row" { (lane.lane) ", " (lane.from) } td.evidence colspan="6" { (gap(lane)) } }
            }
        };
        wide_table("card wide numeric", &self.id("of"), &HEADINGS, rows)
    }
}

fn phase(it: &PhaseTraffic) -> Markup {
    let millis =
        |micros: Option<u64>| micros.map_or_else(|| "–".to_owned(), |it| number(in_millis(it)));
    html! {
        tr {
            th scope="row" { (it.phase) }
            td.time { (number(it.from_millis as f64 / 1000.0)) " s" }
            td.time { (it.requests) }
            td.time { (it.failed) }
            td.time { (millis(it.p50)) }
            td.time { (millis(it.p99)) }
            td.time { (millis(Some(it.longest_gap))) }
        }
    }
}

fn gap(lane: &LaneTraffic) -> String {
    format!(
        "The longest time without a good answer was {} ms, from {} s.",
        number(in_millis(lane.longest_gap)),
        number(lane.longest_gap_from_millis as f64 / 1000.0)
    )
}
