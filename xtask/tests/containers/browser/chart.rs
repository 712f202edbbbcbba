//! The numbers of a chart: those that a page shows, in the table and in the drawing, and those of
//! the run.

use base::run::load::LoadMeasurement;
use base::run::release::ReleaseTraffic;
use report::Report;
use serde::Deserialize;

/// Returns all charts of a page as [`Shown`].
pub const READ: &str = r#"[...document.querySelectorAll('figure.chart')].map(figure => ({
  id: figure.id,
  columns: [...figure.querySelectorAll('thead th')].slice(1).map(it => it.textContent),
  rows: [...figure.querySelectorAll('tbody tr')].map(row => [...row.cells].slice(1).map(it => it.textContent)),
  shapes: [...figure.querySelectorAll('svg polyline, svg circle')].map(shape => shape.localName === 'circle'
    ? { colour: shape.getAttribute('fill'), points: [[+shape.getAttribute('cx'), +shape.getAttribute('cy')]] }
    : { colour: shape.getAttribute('stroke'), points: [...shape.points].map(it => [it.x, it.y]) }),
  ticks: [...figure.querySelectorAll('svg text[text-anchor=end]')].map(it => [+it.textContent, +it.getAttribute('y')]),
}))"#;

/// A chart as a page shows it.
#[derive(Debug, Deserialize)]
pub struct Shown {
    pub id: String,
    /// The headings of the table, without that of the places.
    columns: Vec<String>,
    /// The cells below them.
    rows: Vec<Vec<String>>,
    /// What is drawn, in order.
    shapes: Vec<Shape>,
    /// The labels of the vertical axis: the value, and where it is.
    ticks: Vec<(f64, f64)>,
}

#[derive(Debug, Deserialize)]
struct Shape {
    colour: String,
    points: Vec<(f64, f64)>,
}

/// The numbers of a run that a chart shows.
pub struct Expected {
    pub id: String,
    lines: Vec<ExpectedLine>,
}

struct ExpectedLine {
    name: String,
    /// What the line is for, as a number: its colour in the drawing.
    role: u8,
    values: Vec<Option<f64>>,
}

impl Shown {
    /// Checks the table and the drawing.
    pub fn has(&self, expected: &Expected) {
        let names: Vec<&String> = expected.lines.iter().map(|line| &line.name).collect();
        assert_eq!(
            self.columns.iter().collect::<Vec<_>>(),
            names,
            "{}",
            self.id
        );
        for (column, line) in expected.lines.iter().enumerate() {
            self.lists(column, line);
        }
        for role in 1..=4 {
            let of_role = |line: &&ExpectedLine| line.role == role;
            let lines = expected.lines.iter().filter(of_role);
            self.draws(
                role,
                lines.flat_map(|line| line.values.iter().flatten().copied()),
            );
        }
    }

    fn lists(&self, column: usize, line: &ExpectedLine) {
        let what = format!("{}, {}", self.id, line.name);
        let longest = self.rows.len();
        assert!(longest > 0 && line.values.len() <= longest, "{what}");
        let values = line.values.iter().copied().chain(std::iter::repeat(None));
        for (row, value) in self.rows.iter().zip(values) {
            let cell = row[column].as_str();
            match value {
                None => assert_eq!(cell, "–", "{what}"),
                Some(value) => {
                    let shown: f64 = cell.parse().unwrap_or_else(|_| panic!("{what}: {cell}"));
                    // Three significant digits.
                    let within = (value.abs() * 0.005).max(1e-6);
                    assert!(
                        (shown - value).abs() <= within,
                        "{what}: {cell} for {value}"
                    );
                }
            }
        }
    }

    /// Checks that the lines of a role have these values, by the labels of the axis.
    fn draws(&self, role: u8, values: impl Iterator<Item = f64>) {
        const PIXELS: f64 = 2.5;
        let colour = format!("#00000{role}");
        let shapes = self
            .shapes
            .iter()
            .filter(|shape| shape.colour.to_lowercase() == colour);
        let drawn: Vec<_> = shapes.flat_map(|shape| &shape.points).collect();
        let values: Vec<f64> = values.collect();
        assert_eq!(
            drawn.len(),
            values.len(),
            "{}, points of role {role}",
            self.id
        );
        let lowest = self
            .ticks
            .iter()
            .copied()
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap();
        let highest = self
            .ticks
            .iter()
            .copied()
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap();
        let scale = (highest.1 - lowest.1) / (highest.0 - lowest.0);
        for ((_, y), value) in drawn.into_iter().zip(values) {
            let expected = lowest.1 + (value - lowest.0) * scale;
            assert!(
                (y - expected).abs() <= PIXELS,
                "{}, role {role}: {value} is drawn at {y} instead of {expected}",
                self.id
            );
        }
    }
}

/// Returns the charts of a report.
pub fn expected(report: &Report) -> Vec<Expected> {
    let mut charts = match &report.loads[..] {
        [] => Vec::new(),
        [load] => of_load(load),
        several => vec![of_several(several)],
    };
    for (number, traffic) in report.releases.iter().enumerate() {
        charts.extend(of_release(number, traffic));
    }
    charts
}

fn of_load(load: &LoadMeasurement) -> Vec<Expected> {
    let mut charts = Vec::new();
    let rates = |counts: &[u64]| rates(counts, load.block_millis);
    if let Some(blocks) = &load.whole.blocks {
        let asked = load.asked.iter();
        let asked = asked.map(|it| Some(it * 1000.0 / load.block_millis as f64));
        let mut lines = match load.asked.is_empty() {
            true => vec![line("sent", 1, rates(&blocks.requests))],
            false => vec![
                line("asked for", 2, asked.collect()),
                line("held", 1, rates(&blocks.arrivals)),
            ],
        };
        if load.whole.dropped > 0 {
            lines.push(line("dropped", 4, rates(&blocks.dropped)));
        }
        charts.push(chart("rate", lines));
        let lines = [
            ("p50", 1, &blocks.p50),
            ("p95", 2, &blocks.p95),
            ("p99", 3, &blocks.p99),
        ];
        let lines = lines.map(|(name, role, times)| line(name, role, millis(times)));
        charts.push(chart("latency", lines.into()));
        if load.whole.failed > 0 {
            let counts = blocks.failed.iter().zip(&blocks.requests);
            let shares = counts.map(|(failed, requests)| {
                (*requests > 0).then(|| 100.0 * *failed as f64 / *requests as f64)
            });
            charts.push(chart("failures", vec![line("failed", 4, shares.collect())]));
        }
    }
    if let Some(latency) = &load.whole.latency {
        let mut lines = vec![line("latency", 1, curve(&latency.curve))];
        if let Some(lag) = &load.generator.lag {
            lines.push(line("the generator's lag", 3, curve(&lag.curve)));
        }
        charts.push(chart("percentiles", lines));
    }
    for (number, endpoint) in load.endpoints.iter().enumerate() {
        if let Some(blocks) = &endpoint.blocks {
            let p95 = line("p95", 1, millis(&blocks.p95));
            charts.push(chart(&format!("endpoint-{number}"), vec![p95]));
        }
    }
    charts
}

/// The runs of a comparison in one chart.
fn of_several(loads: &[LoadMeasurement]) -> Expected {
    let lines = loads.iter().filter_map(|load| {
        let role = if load.side.as_deref() == Some("B") {
            2
        } else {
            1
        };
        Some(line(
            &load.of,
            role,
            curve(&load.whole.latency.as_ref()?.curve),
        ))
    });
    chart("percentiles", lines.collect())
}

fn of_release(number: usize, traffic: &ReleaseTraffic) -> Vec<Expected> {
    let rates = |counts: &[u64]| rates(counts, traffic.block_millis);
    let mut charts = Vec::new();
    for (lane, counts) in traffic.lanes.iter().enumerate() {
        let mut lines = vec![
            line(&traffic.old, 1, rates(&counts.old)),
            line(&traffic.new, 2, rates(&counts.new)),
        ];
        for (name, role, counts) in [("other", 3, &counts.other), ("failed", 4, &counts.failed)] {
            if counts.iter().any(|count| *count > 0) {
                lines.push(line(name, role, rates(counts)));
            }
        }
        charts.push(chart(&format!("release-{number}-lane-{lane}"), lines));
    }
    let latency = [
        ("p50", 1, &traffic.latency.p50),
        ("p99", 3, &traffic.latency.p99),
    ];
    let latency = latency.map(|(name, role, times)| line(name, role, millis(times)));
    charts.push(chart(&format!("release-{number}-latency"), latency.into()));
    if !traffic.replicas.is_empty() {
        let colours = traffic.replicas.iter().zip([1, 2]);
        let colours = colours.map(|(it, role)| {
            let ready = it.ready.iter().map(|ready| ready.map(|it| it as f64));
            line(&it.colour, role, ready.collect())
        });
        charts.push(chart(
            &format!("release-{number}-replicas"),
            colours.collect(),
        ));
    }
    charts
}

fn chart(id: &str, lines: Vec<ExpectedLine>) -> Expected {
    Expected {
        id: id.to_owned(),
        lines,
    }
}

fn line(name: &str, role: u8, values: Vec<Option<f64>>) -> ExpectedLine {
    ExpectedLine {
        name: name.to_owned(),
        role,
        values,
    }
}

fn rates(counts: &[u64], block_millis: u64) -> Vec<Option<f64>> {
    let rates = counts
        .iter()
        .map(|it| *it as f64 * 1000.0 / block_millis as f64);
    rates.map(Some).collect()
}

fn millis(micros: &[Option<u64>]) -> Vec<Option<f64>> {
    micros
        .iter()
        .map(|it| it.map(|it| it as f64 / 1000.0))
        .collect()
}

fn curve(points: &[(f64, u64)]) -> Vec<Option<f64>> {
    points
        .iter()
        .map(|(_, micros)| Some(*micros as f64 / 1000.0))
        .collect()
}
