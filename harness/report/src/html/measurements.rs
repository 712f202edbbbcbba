//! What each load measured, as charts and a table of its endpoints.

use base::run::load::{
    BlockValues, EndpointMeasurement, FailureCount, GeneratorHealth, Limit, Limited,
    LoadMeasurement, Percentiles,
};
use maud::{Markup, html};

use super::super::model::Report;
use super::super::tone::Tone;
use super::chart::{Blocks, Chart, Line, Role, in_millis, millis, number, total};
use super::elements::{badge, share_bar, wide_table};

/// The charts of each load. Several loads are those of a comparison, which overlays them.
pub(super) fn section(report: &Report) -> Markup {
    if report.loads.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="load" {
            h2 #load { "Load" }
            @if report.loads.len() > 1 { (overlaid(report)) }
            @else {
                @for load in &report.loads { (Charts::of(load).all()) }
            }
        }
    }
}

/// One load, with what its charts share.
struct Charts<'a> {
    load: &'a LoadMeasurement,
    blocks: Blocks,
}

impl<'a> Charts<'a> {
    fn of(load: &'a LoadMeasurement) -> Charts<'a> {
        let blocks = load.whole.blocks.as_ref().map_or(0, |it| it.requests.len());
        Charts {
            load,
            blocks: Blocks::of(load.block_millis, blocks),
        }
    }

    fn all(&self) -> Markup {
        html! {
            div.charts {
                @if let Some(blocks) = &self.load.whole.blocks {
                    (self.rate(blocks).figure())
                    (self.latency_over_time(blocks).figure())
                }
                @if let Some(latency) = &self.load.whole.latency {
                    (self.percentile_curve(latency).figure())
                }
                @if let (Some(blocks), 1..) = (&self.load.whole.blocks, self.load.whole.failed) {
                    (self.failures_over_time(blocks).figure())
                }
            }
            (health(&self.load.generator))
            (failures(&self.load.failures, self.load.whole.failed))
            (self.endpoints())
        }
    }

    fn chart(&self, id: &str, title: &str, about: String, lines: Vec<Line>) -> Chart {
        Chart::over_time(id.to_owned(), title.to_owned(), about, self.blocks, lines)
    }

    /// The rate asked for and held; for users, only what they sent.
    fn rate(&self, blocks: &BlockValues) -> Chart {
        let whole = &self.load.whole;
        let per_second = |counts| self.blocks.rates(counts);
        if self.load.asked.is_empty() {
            let about = format!(
                "Users sent {} requests in {} s. They set the rate by waiting for answers.",
                whole.requests,
                number(self.blocks.seconds())
            );
            let sent = Line::new("sent", Role::First, per_second(&blocks.requests));
            return self.chart("rate", "Rate, requests/s", about, vec![sent]);
        }
        let asked: f64 = self.load.asked.iter().sum();
        let held = total(&blocks.arrivals);
        let about = format!(
            "Asked for {} arrivals, {held} were sent, and {} were dropped.",
            number(asked),
            whole.dropped
        );
        let asked = self
            .load
            .asked
            .iter()
            .map(|it| Some(it / self.blocks.length));
        let mut lines = vec![
            Line::new("asked for", Role::Second, asked),
            Line::new("held", Role::First, per_second(&blocks.arrivals)),
        ];
        if whole.dropped > 0 {
            let dropped = per_second(&blocks.dropped);
            lines.push(Line::new("dropped", Role::Bad, dropped));
        }
        self.chart("rate", "Rate, arrivals/s", about, lines)
    }

    fn latency_over_time(&self, blocks: &BlockValues) -> Chart {
        let about = self.load.whole.latency.as_ref().map(percentiles);
        let lines = vec![
            Line::new("p50", Role::First, millis(&blocks.p50)),
            Line::new("p95", Role::Second, millis(&blocks.p95)),
            Line::new("p99", Role::Third, millis(&blocks.p99)),
        ];
        let title = "Latency over time, ms";
        Chart {
            limits: self.limits(Limited::Latency, None),
            ..self.chart("latency", title, about.unwrap_or_default(), lines)
        }
    }

    /// The latency at each percentile, and beside it how late the generator was.
    fn percentile_curve(&self, latency: &Percentiles) -> Chart {
        let mut lines = vec![curve("latency", Role::First, latency)];
        if let Some(lag) = &self.load.generator.lag {
            lines.push(curve("the generator's lag", Role::Third, lag));
        }
        let curves = [Some(latency), self.load.generator.lag.as_ref()];
        let places = places(curves.into_iter().flatten());
        let title = "Latency by percentile, ms";
        Chart {
            limits: self.limits(Limited::Latency, None),
            ..Chart::of_percentiles(title, percentiles(latency), places, lines)
        }
    }

    fn failures_over_time(&self, blocks: &BlockValues) -> Chart {
        let whole = &self.load.whole;
        let shares = blocks.failed.iter().zip(&blocks.requests);
        let shares = shares.map(|(failed, requests)| {
            (*requests > 0).then(|| 100.0 * *failed as f64 / *requests as f64)
        });
        let about = format!(
            "{} of {} requests failed, {} % of them all.",
            whole.failed,
            whole.requests,
            number(100.0 * whole.failed as f64 / whole.requests.max(1) as f64)
        );
        let lines = vec![Line::new("failed", Role::Bad, shares)];
        Chart {
            limits: self.limits(Limited::Failures, None),
            ..self.chart("failures", "Failed requests, %", about, lines)
        }
    }

    /// Returns the thresholds of all requests, or of one endpoint.
    fn limits(&self, of: Limited, endpoint: Option<&String>) -> Vec<(String, f64)> {
        let is_of = |limit: &&Limit| match endpoint {
            None => limit.endpoints.is_empty(),
            Some(endpoint) => limit.endpoints.contains(endpoint),
        };
        let unit = match of {
            Limited::Latency => 1.0 / 1000.0,
            Limited::Failures => 100.0,
        };
        let limits = self.load.limits.iter().filter(|limit| limit.of == of);
        let limits = limits.filter(is_of);
        limits
            .map(|it| {
                let outcome = if it.holds { "holds" } else { "fails" };
                (format!("{} {outcome}", it.threshold), it.limit * unit)
            })
            .collect()
    }

    fn endpoints(&self) -> Markup {
        let curves = self.load.endpoints.iter().enumerate();
        let curves = curves.filter_map(|(number, it)| Some((number, it, it.blocks.as_ref()?)));
        html! {
            h3.sub { "Endpoints: the 95th percentile over time, ms" }
            div.charts.small {
                @for (number, endpoint, blocks) in curves {
                    (self.endpoint(number, endpoint, blocks).figure())
                }
            }
            (self.table())
        }
    }

    fn endpoint(&self, number: usize, it: &EndpointMeasurement, blocks: &BlockValues) -> Chart {
        let about = it.latency.as_ref().map(percentiles).unwrap_or_default();
        let p95 = Line::new("p95", Role::First, millis(&blocks.p95));
        Chart {
            limits: self.limits(Limited::Latency, Some(&it.name)),
            small: true,
            ..self.chart(&format!("endpoint-{number}"), &it.name, about, vec![p95])
        }
    }

    fn table(&self) -> Markup {
        const HEADINGS: [&str; 9] = [
            "Endpoint",
            "Requests",
            "Per second",
            "Failed",
            "Dropped",
            "p50, ms",
            "p95, ms",
            "p99, ms",
            "Longest, ms",
        ];
        let seconds = self.blocks.seconds().max(f64::MIN_POSITIVE);
        let rows = html! {
            @for it in &self.load.endpoints {
                tr {
                    th scope="row" { (it.name) }
                    (cell(it.requests, &it.requests.to_string()))
                    (cell(it.requests, &number(it.requests as f64 / seconds)))
                    (cell(it.failed, &it.failed.to_string()))
                    (cell(it.dropped, &it.dropped.to_string()))
                    @let times = it.latency.as_ref().map(|it| [it.p50, it.p95, it.p99, it.max]);
                    @match times {
                        Some(times) => {
                            @for time in times { (cell(time, &number(in_millis(time)))) }
                        }
                        None => { @for _ in 0..4 { (cell(0, "–")) } }
                    }
                }
            }
        };
        html! { div.sortable { (wide_table("card wide numeric", "load", &HEADINGS, rows)) } }
    }
}

/// A cell that is sorted by `value`.
fn cell(value: u64, text: &str) -> Markup {
    html! { td.time data-value=(value) { (text) } }
}

fn curve(name: &str, role: Role, times: &Percentiles) -> Line {
    let points = times.curve.iter();
    Line::new(
        name,
        role,
        points.map(|(_, micros)| Some(in_millis(*micros))),
    )
}

/// The percentiles of the longest curve: all have the same, as far as they reach.
fn places<'a>(curves: impl Iterator<Item = &'a Percentiles>) -> Vec<f64> {
    let longest = curves.map(|it| &it.curve).max_by_key(|it| it.len());
    let points = longest.into_iter().flatten();
    points.map(|(percentile, _)| *percentile).collect()
}

fn percentiles(times: &Percentiles) -> String {
    let [p50, p95, p99, max] =
        [times.p50, times.p95, times.p99, times.max].map(|it| number(in_millis(it)));
    format!(
        "Half took up to {p50} ms, 95 % up to {p95} ms, 99 % up to {p99} ms, the longest {max} ms."
    )
}

/// Failures by cause. The bar is the share of all failures.
fn failures(failures: &[FailureCount], all: u64) -> Markup {
    if failures.is_empty() {
        return html! {};
    }
    let rows = html! {
        @for it in failures {
            @let share = 100.0 * it.count as f64 / all.max(1) as f64;
            tr {
                th scope="row" { (it.reason) }
                td { (it.endpoint) }
                td.time { (it.count) }
                (share_bar("failed", &number(share.min(100.0))))
                td.time { (number(share)) " %" }
            }
        }
    };
    let headings = ["Cause", "Endpoint", "Failed", "", "Share of failures"];
    html! {
        h3.sub #causes { "Failures by cause" }
        (wide_table("card wide", "causes", &headings, rows))
    }
}

/// Whether the generator itself kept up.
fn health(generator: &GeneratorHealth) -> Markup {
    html! {
        div.card.health.warn[generator.bottleneck.is_some()] {
            p {
                @match &generator.bottleneck {
                    Some(why) => { (badge(Tone::Warn, "bottleneck")) " The load generator did not keep up: " (why) "." }
                    None => { (badge(Tone::Good, "kept up")) " The load generator was no bottleneck." }
                }
                " It used " (number(generator.cores_used)) " of " (generator.cores) " cores."
                @if let Some(lag) = &generator.lag {
                    " Its lag, from when a request was due to its start: p50 " (number(in_millis(lag.p50)))
                    " ms, p99 " (number(in_millis(lag.p99))) " ms, longest " (number(in_millis(lag.max))) " ms."
                }
            }
        }
    }
}

/// The percentile curves of all runs of a comparison, A's and B's in one chart.
fn overlaid(report: &Report) -> Markup {
    let curves = report.loads.iter();
    let curves = curves.filter_map(|load| Some((load, load.whole.latency.as_ref()?)));
    let places = places(curves.clone().map(|it| it.1));
    if places.is_empty() {
        return html! {};
    }
    let lines = curves.map(|(load, latency)| {
        let role = match load.side.as_deref() {
            Some("B") => Role::Second,
            _ => Role::First,
        };
        curve(&load.of, role, latency)
    });
    let title = "Latency by percentile of each run, ms";
    let about = "One line for each run, in the colour of its side.".to_owned();
    let chart = Chart::of_percentiles(title, about, places, lines.collect());
    html! { div.charts { (chart.figure()) } }
}
