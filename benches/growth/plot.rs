//! Draws ratios over a count that grows, as SVG.

use std::path::Path;

use plotters::prelude::{
    ChartBuilder, Circle, Color, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, RGBColor,
    SVGBackend, WHITE,
};

/// The points of one contender: a count, and its ratio to the baseline.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

const COLOURS: [RGBColor; 2] = [RGBColor(0, 90, 160), RGBColor(200, 80, 0)];

/// Writes a figure whose lines are ratios to the bare loop, over the count of what `label` names.
pub(crate) fn plot(file: &Path, label: &str, lines: &[Line]) {
    let counts = lines.iter().flat_map(|line| &line.points);
    let most = counts
        .clone()
        .fold(10.0_f64, |most, (count, _)| most.max(*count));
    let highest = counts.fold(1.0_f64, |high, (_, ratio)| high.max(*ratio));
    let area = SVGBackend::new(file, (720, 360)).into_drawing_area();
    area.fill(&WHITE).expect("a figure");
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d((1.0..most * 1.2).log_scale(), 0.0..highest * 1.1)
        .expect("a figure");
    chart
        .configure_mesh()
        .x_desc(label)
        .y_desc("messages a second, bare loop = 1")
        .x_label_formatter(&|count| format!("{count:.0}"))
        .draw()
        .expect("a figure");
    for (line, colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(line.points.clone(), colour.stroke_width(2)))
            .expect("a figure")
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
        let dots = line.points.iter();
        chart
            .draw_series(dots.map(|point| Circle::new(*point, 3, colour.filled())))
            .expect("a figure");
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .draw()
        .expect("a figure");
    area.present().expect("a folder to write to");
}
