//! What a crawl found, as a picture: how far away the nodes are, and how many of the contacts in their tables are dead.

use std::error::Error;
use std::time::Duration;

use kad_node::Crawl;
use kad_node::crawl::Latency;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::super::reply::Failure;

/// Width and height in pixels; a picture scales.
const SIZE: (u32, u32) = (960, 800);

/// Points of the curve: one for each percent and some for the last one.
const POINTS: u32 = 200;

const CURVE: RGBColor = RGBColor(31, 96, 160);
const DEAD: RGBColor = RGBColor(176, 48, 48);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The picture as SVG.
pub(super) fn draw(crawl: &Crawl) -> Result<String, Failure> {
    let mut svg = String::new();
    drawn(crawl, &mut svg)
        .map_err(|error| Failure::usage(format!("the picture could not be drawn: {error}")))?;
    Ok(svg)
}

fn drawn(crawl: &Crawl, svg: &mut String) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!(
        "{} nodes, {} heard of, {} dead",
        crawl.size, crawl.heard, crawl.dead
    );
    let below = root.titled(&title, ("sans-serif", 22))?;
    let (upper, lower) = below.split_vertically(below.dim_in_pixel().1 / 2);
    curve(&upper, &crawl.latency)?;
    bars(&lower, crawl)?;
    root.present()?;
    Ok(())
}

/// The share of the nodes within a round trip, which is on a logarithmic axis.
fn curve(area: &Area<'_>, latency: &Latency) -> Result<(), Box<dyn Error>> {
    let at = |share: f64| millis(latency.quantile(share).unwrap_or_default());
    let (least, most) = (at(0.0), at(1.0));
    let mut chart = ChartBuilder::on(area)
        .caption("round trips", ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((least * 0.8..most * 1.25).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .max_light_lines(1)
        .x_desc("milliseconds")
        .y_desc("nodes, %")
        .x_label_formatter(&|ms| format!("{ms}"))
        .y_label_formatter(&|share| format!("{share:.0}"))
        .draw()?;
    if latency.nodes() > 0 {
        let point = |step: u32| {
            let share = f64::from(step) / f64::from(POINTS);
            (at(share), 100.0 * share)
        };
        chart.draw_series(LineSeries::new((0..=POINTS).map(point), CURVE.stroke_width(2)))?;
    }
    Ok(())
}

/// The dead among the contacts in each bucket of all tables.
fn bars(area: &Area<'_>, crawl: &Crawl) -> Result<(), Box<dyn Error>> {
    let last = crawl
        .buckets
        .iter()
        .map(|bucket| bucket.bucket)
        .max()
        .unwrap_or(0);
    let shares = crawl.buckets.iter().map(|bucket| 100.0 * bucket.dead_share());
    // Room above the highest bar; where nobody is dead, an axis all the same.
    let most = shares.fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption("dead contacts by bucket", ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(-0.5..f64::from(last) + 0.5, 0.0..most)?;
    chart
        .configure_mesh()
        .max_light_lines(1)
        .disable_x_mesh()
        .x_desc("bits in common with the teller")
        .y_desc("dead, %")
        .x_label_formatter(&|bucket| format!("{bucket:.0}"))
        .y_label_formatter(&|share| format!("{share:.1}"))
        .draw()?;
    let bar = |bucket: &kad_node::crawl::BucketCensus| {
        let (at, share) = (f64::from(bucket.bucket), 100.0 * bucket.dead_share());
        Rectangle::new([(at - 0.4, 0.0), (at + 0.4, share)], DEAD.filled())
    };
    chart.draw_series(crawl.buckets.iter().map(bar))?;
    Ok(())
}

/// Never 0, which has no place on a logarithmic axis.
fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e3).max(1e-3)
}
