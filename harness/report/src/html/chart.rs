//! Charts: SVG by the crate `plotters`, each with a description and the same numbers as a table.
//!
//! Plotters writes colours as attributes. Each [`Role`] has a colour that only stands for it, and
//! `style.css` replaces it: there is one set of colours for light, and one for dark.

use base::run::comparison::Interval;
use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::elements::wide_table;

/// The size of the drawing. It is twice the size on a page, because plotters rounds to pixels.
const LARGE: (u32, u32) = (960, 480);
const SMALL: (u32, u32) = (680, 300);
/// The size of the labels in it.
const LABEL: f64 = 29.0;

/// A limit further above the values than this would flatten them.
const LIMIT_IN_VIEW: f64 = 4.0;
/// Marks closer than this share of the width have one label.
const MARKS_APART: f64 = 0.08;

const AXIS: RGBColor = RGBColor(0, 0, 0x10);
const GRID: RGBColor = RGBColor(0, 0, 0x11);
const TEXT: RGBColor = RGBColor(0, 0, 0x12);
const BAND: RGBColor = RGBColor(0, 0, 0x13);

/// What a line is for; decides its colour and dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The first of several values.
    First = 1,
    /// The second.
    Second,
    /// The third.
    Third,
    /// Failures.
    Bad,
    /// A threshold.
    Limit,
    /// A moment.
    Mark,
}

impl Role {
    fn colour(self) -> RGBColor {
        RGBColor(0, 0, self as u8)
    }

    fn class(self) -> &'static str {
        match self {
            Role::First => "first",
            Role::Second => "second",
            Role::Third => "third",
            Role::Bad => "failures",
            Role::Limit => "limit",
            Role::Mark => "mark",
        }
    }

    fn style(self) -> ShapeStyle {
        ShapeStyle {
            color: self.colour().to_rgba(),
            filled: false,
            stroke_width: 3,
        }
    }
}

/// The values of one line, at each of the chart's places.
pub(super) struct Line {
    pub name: String,
    pub role: Role,
    pub values: Vec<Option<f64>>,
}

impl Line {
    pub fn new(
        name: impl Into<String>,
        role: Role,
        values: impl IntoIterator<Item = Option<f64>>,
    ) -> Line {
        Line {
            name: name.into(),
            role,
            values: values.into_iter().collect(),
        }
    }
}

/// The horizontal axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Across {
    /// Seconds, up to this one.
    Time { end: f64 },
    /// Percentiles to 99.99, so that each further nine is as wide as the one before.
    Percentile,
}

impl Across {
    fn end(self) -> f64 {
        match self {
            Across::Time { end } if end.is_finite() && end > 0.0 => end.min(1e9),
            Across::Time { .. } => 1.0,
            Across::Percentile => 4.0,
        }
    }

    /// Returns where a place is, from 0 to the end.
    fn position(self, at: f64) -> f64 {
        let position = match self {
            Across::Time { .. } => at,
            Across::Percentile => -(1.0 - at / 100.0).log10(),
        };
        position.clamp(0.0, self.end())
    }

    fn tick(self, position: f64) -> String {
        match self {
            Across::Time { end } if end > 600.0 => format!("{} min", number(position / 60.0)),
            Across::Time { .. } => format!("{} s", number(position)),
            Across::Percentile => self.label(100.0 - 100.0 / 10f64.powf(position)),
        }
    }

    fn label(self, at: f64) -> String {
        match self {
            Across::Time { .. } => format!("{} s", number(at)),
            Across::Percentile => {
                let digits = if at < 99.0 { 1e1 } else { 1e4 };
                format!("{} %", (at * digits).round() / digits)
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Across::Time { .. } => "From",
            Across::Percentile => "Percentile",
        }
    }
}

/// A chart of lines.
pub(super) struct Chart {
    /// Its id in the page.
    pub id: String,
    /// What it shows, with the unit.
    pub title: String,
    /// What it says, for those who do not see it.
    pub about: String,
    pub across: Across,
    /// The places of the values: block starts, or percentiles.
    pub places: Vec<f64>,
    /// The distance from a place to its point, such as half a block.
    pub offset: f64,
    pub lines: Vec<Line>,
    /// Horizontal lines, with their names.
    pub limits: Vec<(String, f64)>,
    /// Moments, with their names, in order.
    pub marks: Vec<(String, f64)>,
    /// Whether it is one of many.
    pub small: bool,
}

/// Equal parts of a time.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    /// The length of each, seconds.
    pub length: f64,
    pub count: usize,
}

impl Blocks {
    pub fn of(millis: u64, count: usize) -> Blocks {
        Blocks {
            length: millis.max(1) as f64 / 1000.0,
            count,
        }
    }

    /// The length of them all, seconds.
    pub fn seconds(self) -> f64 {
        self.count as f64 * self.length
    }

    /// Returns counts as rates, each in 1/s.
    pub fn rates(self, counts: &[u64]) -> impl Iterator<Item = Option<f64>> {
        let length = self.length;
        counts.iter().map(move |it| Some(*it as f64 / length))
    }
}

/// Returns times in milliseconds.
pub(super) fn millis(times: &[Option<u64>]) -> impl Iterator<Item = Option<f64>> {
    times.iter().map(|it| it.map(in_millis))
}

/// Converts from microseconds.
pub(super) fn in_millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

impl Chart {
    /// A chart of values in each block, without limits or marks.
    pub fn over_time(
        id: String,
        title: String,
        about: String,
        blocks: Blocks,
        lines: Vec<Line>,
    ) -> Chart {
        let starts = (0..blocks.count).map(|number| number as f64 * blocks.length);
        Chart {
            id,
            title,
            about,
            across: Across::Time {
                end: blocks.seconds(),
            },
            places: starts.collect(),
            offset: blocks.length / 2.0,
            lines,
            limits: Vec::new(),
            marks: Vec::new(),
            small: false,
        }
    }

    /// A chart of percentile curves, which have these percentiles as far as they reach.
    pub fn of_percentiles(title: &str, about: String, places: Vec<f64>, lines: Vec<Line>) -> Chart {
        Chart {
            id: "percentiles".to_owned(),
            title: title.to_owned(),
            about,
            across: Across::Percentile,
            places,
            offset: 0.0,
            lines,
            limits: Vec::new(),
            marks: Vec::new(),
            small: false,
        }
    }

    pub fn figure(&self) -> Markup {
        let (title, about) = (format!("{}-title", self.id), format!("{}-about", self.id));
        let (width, height) = self.size();
        html! {
            figure.chart.small[self.small] id=(self.id) {
                figcaption { (self.title) }
                (self.legend())
                svg role="img" viewBox={ "0 0 " (width) " " (height) }
                    aria-labelledby={ (title) " " (about) }
                {
                    title id=(title) { (self.title) }
                    desc id=(about) { (self.about) }
                    (PreEscaped(self.drawing()))
                }
                (self.table())
            }
        }
    }

    fn size(&self) -> (u32, u32) {
        if self.small { SMALL } else { LARGE }
    }

    fn legend(&self) -> Markup {
        if self.small && self.limits.is_empty() {
            return html! {};
        }
        html! {
            ul.legend {
                @if !self.small { (self.legend_of_lines()) }
                @for (name, limit) in &self.limits {
                    li.limit { (name) @if !self.in_view(*limit) { " (far above)" } }
                }
                @for (number, (name, at)) in (1..).zip(&self.marks) {
                    li.mark { (number) ": " (name) ", " (self.across.label(*at)) }
                }
            }
        }
    }

    /// One entry for each role, as lines of one role look the same.
    fn legend_of_lines(&self) -> Markup {
        let mut lines: Vec<(&Line, usize)> = Vec::new();
        for line in &self.lines {
            match lines.iter_mut().find(|(first, _)| first.role == line.role) {
                Some((_, more)) => *more += 1,
                None => lines.push((line, 0)),
            }
        }
        html! {
            @for (line, more) in lines {
                li class=(line.role.class()) { (line.name) @if more > 0 { " and " (more) " more" } }
            }
        }
    }

    fn highest_value(&self) -> f64 {
        let values = self.lines.iter().flat_map(|it| it.values.iter().flatten());
        values
            .copied()
            .filter(|it| it.is_finite())
            .fold(0.0, f64::max)
    }

    fn in_view(&self, limit: f64) -> bool {
        let highest = self.highest_value();
        limit.is_finite() && limit >= 0.0 && (highest == 0.0 || limit <= highest * LIMIT_IN_VIEW)
    }

    fn highest(&self) -> f64 {
        let limits = self.limits.iter().map(|(_, limit)| *limit);
        let limits = limits.filter(|limit| self.in_view(*limit));
        match limits.fold(self.highest_value(), f64::max) {
            0.0 => 1.0,
            // Plotters overflows far above this.
            highest => (highest * 1.05).min(1e15),
        }
    }

    fn drawing(&self) -> String {
        draw(self.size(), |root| self.draw(root))
    }

    fn draw(&self, root: &Area<'_>) -> Drawn {
        let (end, highest) = (self.across.end(), self.highest());
        let mut chart = ChartBuilder::on(root)
            .margin(10)
            .margin_right(50)
            .margin_top(if self.marks.is_empty() { 18 } else { 44 })
            .x_label_area_size(44)
            .y_label_area_size(100)
            .build_cartesian_2d(0.0..end, 0.0..highest)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(if self.small { 4 } else { 6 })
            .y_labels(if self.small { 4 } else { 6 })
            .max_light_lines(0)
            .bold_line_style(GRID)
            .axis_style(AXIS)
            .label_style(("sans-serif", LABEL).into_font().color(&TEXT))
            .x_label_formatter(&|at| self.across.tick(*at))
            .y_label_formatter(&|value| number(*value))
            .draw()?;
        for (_, limit) in &self.limits {
            if self.in_view(*limit) {
                let line = [(0.0, *limit), (end, *limit)];
                chart.draw_series(LineSeries::new(line, Role::Limit.style()))?;
            }
        }
        for (label, at) in self.grouped_marks() {
            let line = [(at, 0.0), (at, highest)];
            chart.draw_series(LineSeries::new(line, Role::Mark.style()))?;
            let (x, y) = chart.backend_coord(&(at, highest));
            let style = ("sans-serif", LABEL).into_font().color(&TEXT);
            root.draw(&Text::new(label, (x + 4, y - 32), style))?;
        }
        for line in &self.lines {
            for points in self.unbroken(line) {
                match points[..] {
                    [point] => {
                        let dot = Circle::new(point, 4, line.role.colour().filled());
                        chart.draw_series([dot])?;
                    }
                    _ => {
                        chart.draw_series(LineSeries::new(points, line.role.style()))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the points of a line, in parts where it has no gap.
    fn unbroken(&self, line: &Line) -> Vec<Vec<(f64, f64)>> {
        let places = self.places.iter();
        let at = places.map(|place| self.across.position(place + self.offset));
        let highest = self.highest();
        let points: Vec<_> = at.zip(&line.values).collect();
        let parts = points.split(|(_, value)| !value.is_some_and(f64::is_finite));
        let parts = parts.filter(|part| !part.is_empty());
        parts
            .map(|part| {
                part.iter()
                    .filter_map(|(at, value)| Some((*at, value.as_ref()?.clamp(0.0, highest))))
                    .collect()
            })
            .collect()
    }

    /// Returns each moment with its number. Those at nearly the same place have one line.
    fn grouped_marks(&self) -> Vec<(String, f64)> {
        let apart = self.across.end() * MARKS_APART;
        let mut groups: Vec<(usize, usize, f64)> = Vec::new();
        for (number, (_, at)) in (1..).zip(&self.marks) {
            let at = self.across.position(*at);
            match groups.last_mut() {
                Some((_, last, first_at)) if at - *first_at < apart => *last = number,
                _ => groups.push((number, number, at)),
            }
        }
        let label = |(first, last, at)| match first == last {
            true => (format!("{first}"), at),
            false => (format!("{first}–{last}"), at),
        };
        groups.into_iter().map(label).collect()
    }

    fn table(&self) -> Markup {
        let names = self.lines.iter().map(|line| line.name.as_str());
        let headings: Vec<&str> = std::iter::once(self.across.name()).chain(names).collect();
        let value = |line: &Line, row: usize| line.values.get(row).copied().flatten();
        let rows = html! {
            @for (row, place) in self.places.iter().enumerate() {
                tr {
                    th scope="row" { (self.across.label(*place)) }
                    @for line in &self.lines {
                        td.time { @match value(line, row) { Some(it) => (number(it)), None => "–" } }
                    }
                }
            }
        };
        html! {
            details.numbers {
                summary { "Numbers" span.hidden { " of: " (self.title) } }
                (wide_table("wide numeric", &format!("{}-title", self.id), &headings, rows))
            }
        }
    }
}

/// Draws how much worse B is, beside the band of what does not matter, which is from -1 to 1.
/// `about` says the same. The axis is from `-end` to `end`.
pub(super) fn interval(interval: &Interval, end: f64, about: &str) -> Markup {
    const SIZE: (u32, u32) = (360, 48);
    let at = |value: f64| {
        let share = (value.clamp(-end, end) + end) / (2.0 * end);
        (share * f64::from(SIZE.0 - 16)) as i32 + 8
    };
    let drawing = draw(SIZE, |root| {
        root.draw(&Rectangle::new(
            [(at(-1.0), 0), (at(1.0), 48)],
            BAND.filled(),
        ))?;
        root.draw(&PathElement::new(
            [(at(0.0), 0), (at(0.0), 48)],
            Role::Mark.style(),
        ))?;
        let line = [(at(interval.low), 24), (at(interval.high), 24)];
        root.draw(&PathElement::new(line, Role::First.style()))?;
        let dot = Circle::new((at(interval.change), 24), 7, Role::First.colour().filled());
        root.draw(&dot)
    });
    html! {
        svg.interval role="img" aria-label=(about) viewBox={ "0 0 " (SIZE.0) " " (SIZE.1) } {
            (PreEscaped(drawing))
        }
    }
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Returns the content of an SVG element of this size.
fn draw(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    draw(&root).expect("a string takes any drawing");
    drop(root);
    let content = svg.split_once('>').map_or("", |(_, content)| content);
    content.trim_end().trim_end_matches("</svg>").to_owned()
}

/// Returns the sum of counts. Those of an edited record may be too large for one.
pub(super) fn total(counts: &[u64]) -> u64 {
    counts
        .iter()
        .fold(0, |sum: u64, it| sum.saturating_add(*it))
}

/// Formats a number with three significant digits, but without a digit of its whole part lost.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        small if small < 0.001 => 6,
        small if small < 0.01 => 5,
        small if small < 0.1 => 4,
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chart(values: Vec<Option<f64>>) -> Chart {
        Chart {
            id: "it".into(),
            title: "Latency, ms".into(),
            about: "It rises.".into(),
            across: Across::Time { end: 10.0 },
            places: (0..values.len()).map(|it| it as f64).collect(),
            offset: 0.5,
            lines: vec![Line::new("p95", Role::Second, values)],
            limits: Vec::new(),
            marks: Vec::new(),
            small: false,
        }
    }

    #[test]
    fn a_line_has_a_part_on_each_side_of_a_gap() {
        let chart = chart(vec![
            Some(1.0),
            Some(2.0),
            None,
            Some(3.0),
            None,
            Some(4.0),
            Some(4.0),
        ]);
        let drawing = chart.drawing();
        let lines = drawing.matches("<polyline").count();
        let dots = drawing.matches("<circle").count();
        let series = |shape: &str| {
            let shapes = drawing.split('<').filter(|it| it.starts_with(shape));
            shapes.filter(|it| it.contains("#000002")).count()
        };
        assert_eq!(
            (series("polyline"), series("circle")),
            (2, 1),
            "{lines} {dots}"
        );
        let table = chart.table().into_string();
        assert!(
            table.contains("<tr><th scope=\"row\">2 s</th><td class=\"time\">–</td></tr>"),
            "{table}"
        );
    }

    #[test]
    fn only_a_limit_near_the_values_is_drawn_and_all_are_named() {
        let mut chart = chart(vec![Some(10.0), Some(20.0)]);
        chart.limits = vec![("p(95)<50".into(), 50.0), ("p(99)<1000".into(), 1000.0)];
        assert_eq!(chart.drawing().matches("#000005").count(), 1);
        let legend = chart.legend().into_string();
        assert!(legend.contains("p(95)&lt;50</li>"), "{legend}");
        assert!(legend.contains("p(99)&lt;1000 (far above)"), "{legend}");
    }

    #[test]
    fn each_nine_of_a_percentile_is_as_wide_as_the_one_before() {
        let places = [0.0, 90.0, 99.0, 99.9, 99.99, 100.0];
        let at = places.map(|it| (Across::Percentile.position(it) * 1e6).round() / 1e6);
        assert_eq!(at, [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]);
        let ticks = [0.0, 1.0, 2.0, 3.0, 4.0].map(|it| Across::Percentile.tick(it));
        assert_eq!(ticks, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn marks_at_the_same_place_share_a_label() {
        let mut chart = chart(vec![Some(1.0)]);
        let marks = [
            ("before", 0.0),
            ("patch", 4.0),
            ("mixed", 4.1),
            ("scale-down", 8.0),
        ];
        chart.marks = marks.map(|(name, at)| (name.to_owned(), at)).into();
        let labels: Vec<_> = chart.grouped_marks().into_iter().map(|it| it.0).collect();
        assert_eq!(labels, ["1", "2–3", "4"]);
    }

    #[test]
    fn a_number_has_three_significant_digits() {
        let numbers = [0.0, 0.0123, 1.0, 1.234, 12.34, 123.4, 12_345.0, 99.99];
        let texts = ["0", "0.0123", "1", "1.23", "12.3", "123", "12345", "100"];
        assert_eq!(numbers.map(number), texts);
    }

    proptest! {
        #[test]
        fn any_values_can_be_drawn(
            values in prop::collection::vec(prop::option::of(any::<f64>()), 0..8),
            end in any::<f64>(), limit in any::<f64>(), small in any::<bool>(),
        ) {
            let mut chart = chart(values);
            chart.across = Across::Time { end };
            chart.limits = vec![("limit".into(), limit)];
            chart.marks = vec![("mark".into(), limit)];
            chart.small = small;
            chart.figure();
        }
    }
}
