//! The charts of a report, one below the other in one SVG. Text stays text, so it can be searched and read aloud.

use std::ops::Range;

use kad_sim::report::{Chart, Curve, short};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::table::grouped;

/// Pixels of the drawing, across.
const WIDTH: u32 = 980;
/// Pixels of a chart, down; more if its legend needs them.
const HEIGHT: u32 = 400;
/// Pixels of the heading.
const HEADING: u32 = 64;
/// Pixels of the legend at the right of a chart.
const LEGEND: u32 = 240;
/// A line of the legend.
const LINE: i32 = 22;
/// A further line of the same name.
const NEXT_LINE: i32 = 16;
/// Where the legend begins, down from the top of its chart.
const LEGEND_TOP: i32 = 52;
/// Letters of a legend's line that fit into it.
const LETTERS: usize = 32;
/// Curves with more points than these are drawn without marks.
const MARKED: usize = 24;
const FONT: &str = "sans-serif";

/// Colours that people with any colour vision tell apart (Okabe and Ito 2008), yellow being too faint for a line.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 0, 0),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// Draws all charts below a title and a line about them.
///
/// # Errors
/// What the library says; it writes into memory, so only a bug can be the cause.
pub(crate) fn draw(title: &str, about: &str, charts: &[Chart]) -> Result<String, String> {
    let size = (WIDTH, HEADING + charts.iter().map(height).sum::<u32>());
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let told = |error: DrawingAreaErrorKind<_>| error.to_string();
        root.fill(&WHITE).map_err(told)?;
        root.draw_text(title, &(FONT, 20).into_text_style(&root), (16, 12))
            .map_err(told)?;
        let grey = RGBColor(90, 90, 90);
        let small = (FONT, 14).into_text_style(&root).color(&grey);
        root.draw_text(about, &small, (16, 40)).map_err(told)?;
        let (_, mut below) = root.split_vertically(HEADING);
        for chart in charts {
            let (area, rest) = below.split_vertically(height(chart));
            draw_chart(&area, chart).map_err(told)?;
            below = rest;
        }
        root.present().map_err(told)?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_chart<'a>(area: &Area<'a>, chart: &Chart) -> Drawn<'a> {
    let curves: Vec<_> = chart
        .curves
        .iter()
        .map(|curve| drawable(curve, chart.log_x))
        .collect();
    let points = || curves.iter().flatten().copied();
    let (plot, legend) = area.split_horizontally(WIDTH - LEGEND);
    let Some(x) = span(points().map(|(x, _)| x)) else {
        let text = format!("{}: there is nothing to draw", chart.title);
        return area.draw_text(&text, &(FONT, 16).into_text_style(area), (16, 16));
    };
    let high = points().map(|(_, y)| y).fold(0.0, f64::max);
    let low = points().map(|(_, y)| y).fold(0.0, f64::min);
    let room = if high > low { (high - low) * 0.04 } else { 1.0 };
    let y = low..if high == 100.0 && chart.y.contains('%') {
        high
    } else {
        high + room
    };
    let mut context = ChartBuilder::on(&plot)
        .caption(&chart.title, (FONT, 17))
        .margin(12)
        // Half of the last number below the axis.
        .margin_right(40)
        .x_label_area_size(46)
        .y_label_area_size(68)
        .build_cartesian_2d(Axis::new(x, chart.log_x), Axis::new(y, false))?;
    context
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(222, 222, 222))
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 14))
        .x_desc(&chart.x)
        .y_desc(&chart.y)
        .x_labels(10)
        .y_labels(8)
        .x_label_formatter(&tick)
        .y_label_formatter(&tick)
        .draw()?;
    for (nth, points) in curves.iter().enumerate() {
        let style = colour(nth).stroke_width(2);
        if is_dashed(nth) {
            context.draw_series(DashedLineSeries::new(points.iter().copied(), 7, 4, style))?;
        } else {
            context.draw_series(LineSeries::new(points.iter().copied(), style))?;
        }
        if points.len() <= MARKED {
            let marks = points
                .iter()
                .map(|&point| Circle::new(point, 3, colour(nth).filled()));
            context.draw_series(marks)?;
        }
    }
    draw_legend(&legend, chart)
}

/// A line of its colour for each curve, and its name.
fn draw_legend<'a>(legend: &Area<'a>, chart: &Chart) -> Drawn<'a> {
    let text = (FONT, 14).into_text_style(legend);
    let mut y = LEGEND_TOP;
    for (nth, curve) in chart.curves.iter().enumerate() {
        let dashes: &[(i32, i32)] = match is_dashed(nth) {
            true => &[(4, 11), (15, 22), (26, 30)],
            false => &[(4, 30)],
        };
        for &(from, to) in dashes {
            legend.draw(&PathElement::new(
                vec![(from, y), (to, y)],
                colour(nth).stroke_width(2),
            ))?;
        }
        for (place, part) in lines(&curve.name).iter().enumerate() {
            y += if place > 0 { NEXT_LINE } else { 0 };
            legend.draw_text(part, &text, (38, y - 8))?;
        }
        y += LINE;
    }
    Ok(())
}

/// Pixels of a chart, down.
fn height(chart: &Chart) -> u32 {
    let name = |curve: &Curve| LINE + NEXT_LINE * (lines(&curve.name).len() as i32 - 1);
    let legend = LEGEND_TOP + chart.curves.iter().map(name).sum::<i32>();
    HEIGHT.max(legend.unsigned_abs())
}

/// A name in lines that fit into the legend.
fn lines(name: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in name.split_whitespace() {
        let longer = lines.last().map_or(0, |line| line.chars().count()) + 1 + word.chars().count();
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if longer <= LETTERS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The points that have a place on paper.
fn drawable(curve: &Curve, log_x: bool) -> Vec<(f64, f64)> {
    let has_place = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!log_x || x > 0.0);
    curve.points.iter().copied().filter(has_place).collect()
}

/// From the smallest to the largest, which are never the same; `None` of nothing.
fn span(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let ends = values.fold(None, |ends: Option<(f64, f64)>, value| {
        let (low, high) = ends.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    });
    let (low, high) = ends?;
    Some(match low < high {
        true => low..high,
        // One point, and something of the paper on each side.
        false => low - low.abs().max(1.0) / 2.0..high + high.abs().max(1.0) / 2.0,
    })
}

fn colour(nth: usize) -> RGBColor {
    COLOURS[nth % COLOURS.len()]
}

/// Once all colours are used they come again, dashed.
const fn is_dashed(nth: usize) -> bool {
    nth >= COLOURS.len()
}

fn tick(number: &f64) -> String {
    let number = if number.abs() < 1e-9 { 0.0 } else { *number };
    if number >= 10_000.0 && number.fract() == 0.0 {
        return grouped(number as u64);
    }
    short(number)
}

/// An axis, linear or logarithmic. The library's own logarithmic one has no marks between powers of ten, of which the
/// latencies of a network may have a single one.
struct Axis {
    range: Range<f64>,
    log: bool,
}

impl Axis {
    const fn new(range: Range<f64>, log: bool) -> Self {
        Self { range, log }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let place = |value: f64| {
            if self.log {
                value.max(f64::MIN_POSITIVE).ln()
            } else {
                value
            }
        };
        let (start, end) = (place(self.range.start), place(self.range.end));
        let share = (place(*value) - start) / (end - start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if !self.log {
            return RangedCoordf64::from(self.range.clone()).key_points(hint);
        }
        let exponents = self.range.start.log10().floor() as i32..=self.range.end.log10().ceil() as i32;
        let marks = |steps: &[f64]| -> Vec<f64> {
            let all = exponents
                .clone()
                .flat_map(|exponent| steps.iter().map(move |step| step * 10f64.powi(exponent)));
            all.filter(|mark| self.range.contains(mark) || *mark == self.range.end)
                .collect()
        };
        let fine = marks(&[1.0, 2.0, 5.0]);
        if fine.len() <= hint.max_num_points() {
            fine
        } else {
            marks(&[1.0])
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(log_x: bool, curves: &[&[(f64, f64)]]) -> Chart {
        let curve = |(nth, points): (usize, &&[(f64, f64)])| Curve {
            name: format!("curve <{nth}> & a name that is much too long for a single line"),
            points: points.to_vec(),
        };
        Chart {
            title: "a <title> & more".to_owned(),
            x: "nodes".to_owned(),
            y: "%".to_owned(),
            log_x,
            curves: curves.iter().enumerate().map(curve).collect(),
        }
    }

    #[test]
    fn text_stays_text_and_is_escaped() {
        let points: &[(f64, f64)] = &[(10.0, 1.0), (100.0, 2.0), (20_000.0, 3.0)];
        let svg = draw(
            "one & all",
            "seed 1",
            &[chart(true, &[points]), chart(false, &[points, points])],
        )
        .expect("it draws");
        for text in [
            "one &amp; all",
            "a &lt;title&gt; &amp; more",
            "curve &lt;1&gt; &amp; a name",
            "nodes",
            "20,000",
        ] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(
            svg.ends_with("</svg>\n") && svg.contains("height=\"864\""),
            "{}",
            &svg[..200]
        );
    }

    #[test]
    fn what_has_no_place_on_paper_is_left_out() {
        let nothing: &[(f64, f64)] = &[];
        let strange: &[(f64, f64)] = &[(f64::NAN, 1.0), (0.0, 1.0), (-5.0, 1.0), (3.0, f64::INFINITY)];
        for (log, curves) in [
            (true, vec![]),
            (true, vec![nothing]),
            (true, vec![strange]),
            (false, vec![&[(0.0, 0.0)][..]]),
        ] {
            let svg = draw("t", "a", &[chart(log, &curves)]).expect("it draws");
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn a_logarithmic_axis_of_less_than_a_decade_has_marks() {
        let marks = Axis::new(30.0..800.0, true).key_points(10);
        assert_eq!(marks, [50.0, 100.0, 200.0, 500.0]);
        let decades = Axis::new(1.0..1e6, true).key_points(10);
        assert_eq!(decades.len(), 7);
    }
}
