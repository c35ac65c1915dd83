//! The page of `qwgpu bench kernels --html`: a roofline plot (Williams et al. 2009) and the table. It needs nothing beside itself.

use anyhow::Result;
use minijinja::{Environment, Value, context};
use qwgpu_suite::bench::CeilingKind;

use super::kernels::{Report, Row, cells, significant};

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 600.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 52.0;
/// Width of a letter of a label, roughly, and its height.
const LETTER: f64 = 6.6;
const LINE: f64 = 14.0;

/// Where a case lies in the plot.
struct Point<'r> {
    row: &'r Row,
    x: f64,
    y: f64,
    label: Option<&'static str>,
}

/// Powers of ten at both ends of the axes.
#[derive(Clone, Copy, Debug)]
struct Axes {
    x: [f64; 2],
    y: [f64; 2],
}

impl Axes {
    fn x(&self, intensity: f64) -> f64 {
        let share = (intensity.log10() - self.x[0]) / (self.x[1] - self.x[0]);
        round(LEFT + share * (WIDTH - LEFT - RIGHT))
    }

    fn y(&self, tflop_s: f64) -> f64 {
        let share = (tflop_s.log10() - self.y[0]) / (self.y[1] - self.y[0]);
        round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM))
    }

    fn ticks([from, to]: [f64; 2], place: impl Fn(f64) -> f64) -> Vec<Value> {
        let powers = from as i32..=to as i32;
        let tick = |power| {
            let value = 10f64.powi(power);
            let label = if power.abs() > 3 { format!("{value:e}") } else { value.to_string() };
            context! { at => place(value), label }
        };
        powers.map(tick).collect()
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Renders the page.
///
/// # Errors
/// None that a report can cause.
pub(super) fn page(report: &Report) -> Result<String> {
    let measured = |row: &&Row| row.skipped.is_none() && row.us > 0.0;
    let plotted: Vec<&Row> = report.results.iter().filter(measured).filter(|row| row.flops > 0).collect();
    let read = report.ceiling(CeilingKind::Read).unwrap_or(1e9) / 1e12;
    let highest = report.ceilings.iter().filter(|ceiling| ceiling.unit != "GB/s");
    let highest = highest.filter_map(|ceiling| ceiling.value).fold(1e-3, f64::max);
    let axes = axes(&plotted, read, highest);
    let lines: Vec<Value> = report.results.iter().map(line).collect();
    let ceilings = report.ceilings.iter();
    let ceilings: Vec<Value> = ceilings
        .map(|c| context! { name => c.name, unit => c.unit, value => c.value, skipped => c.skipped.clone() })
        .collect();
    let mut environment = Environment::new();
    environment.add_template("roofline.html", include_str!("roofline.html"))?;
    let only_moves = report.results.iter().filter(measured).filter(|row| row.flops == 0).count();
    Ok(environment.get_template("roofline.html")?.render(context! {
        adapter => report.adapter.clone(),
        method => report.method(),
        width => WIDTH, height => HEIGHT, left => LEFT, top => TOP, right => WIDTH - RIGHT, bottom => HEIGHT - BOTTOM,
        x_ticks => Axes::ticks(axes.x, |value| axes.x(value)),
        y_ticks => Axes::ticks(axes.y, |value| axes.y(value)),
        roofs => roofs(report, &axes, read),
        points => points(&plotted, &axes),
        ceilings,
        lines,
        only_moves,
    })?)
}

/// Room for every point and every roof.
fn axes(plotted: &[&Row], read: f64, highest: f64) -> Axes {
    let intensities = plotted.iter().map(|row| intensity(row));
    let speeds = plotted.iter().map(|row| row.tflop_s);
    let least = |values: &mut dyn Iterator<Item = f64>, start: f64| values.fold(start, f64::min).log10().floor();
    let ridge = highest / read; // where reading and the fastest arithmetic take the same time
    Axes {
        x: [
            least(&mut intensities.clone(), 0.1),
            intensities.fold(ridge, f64::max).log10().ceil().max(3.0),
        ],
        y: [least(&mut speeds.clone(), highest / 1e3), (highest * 1.5).log10().ceil()],
    }
}

/// Operations to a byte.
fn intensity(row: &Row) -> f64 {
    row.flops as f64 / row.bytes.max(1) as f64
}

/// The slope of memory up to the highest ceiling, and every ceiling of arithmetic from there on.
fn roofs(report: &Report, axes: &Axes, read: f64) -> Vec<Value> {
    let mut roofs = Vec::new();
    let arithmetic = report.ceilings.iter().filter(|ceiling| ceiling.unit != "GB/s");
    let mut flat: Vec<(&str, &str, f64)> = arithmetic.filter_map(|c| Some((c.name, c.unit, c.value?))).collect();
    flat.sort_by(|a, b| a.2.total_cmp(&b.2));
    let highest = flat.iter().map(|(.., value)| *value).fold(1e-3, f64::max);
    // from the left edge or the lower one, whichever the slope meets first
    let from = 10f64.powf(axes.x[0].max(axes.y[0] - read.log10()));
    let named = from.powf(0.75) * (highest / read).powf(0.25); // a quarter up, where few points are
    roofs.push(context! {
        x1 => axes.x(from),
        y1 => axes.y(from * read),
        x2 => axes.x(highest / read),
        y2 => axes.y(highest),
        label => format!("memory {} GB/s", significant(read * 1e3)),
        label_x => axes.x(named) - 10.0,
        label_y => axes.y(named * read) - 8.0,
        main => true,
    });
    let mut label_y = f64::INFINITY;
    for (name, unit, value) in flat {
        let (x2, y) = (axes.x(10f64.powf(axes.x[1])), axes.y(value));
        // above its own line, and above the label of the line below it
        label_y = (y - 6.0).min(label_y - LINE);
        roofs.push(context! {
            x1 => axes.x(value / read),
            y1 => y,
            x2,
            y2 => y,
            label => format!("{name} {} {unit}", significant(value)),
            label_x => x2 - 4.0,
            label_y,
            main => name == CeilingKind::F32.name(),
        });
    }
    roofs
}

fn points(plotted: &[&Row], axes: &Axes) -> Vec<Value> {
    let point = |row| Point {
        row,
        x: axes.x(intensity(row)),
        y: axes.y(row.tflop_s),
        label: None,
    };
    let mut points: Vec<Point<'_>> = plotted.iter().copied().map(point).collect();
    name_best(&mut points);
    let value = |Point { row, x, y, label }: &Point<'_>| {
        let title = format!(
            "{} {}: {:.1} us, {:.1} % of {}",
            row.kernel, row.case, row.us, row.percent, row.ceiling
        );
        context! { x, y, group => group(row.kernel), title, label }
    };
    points.iter().map(value).collect()
}

/// Names each kernel once, at the point that is closest to its roof, unless another name is there.
fn name_best(points: &mut [Point<'_>]) {
    points.sort_by(|a, b| b.row.percent.total_cmp(&a.row.percent));
    let mut taken: Vec<(f64, f64, f64)> = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    for point in points {
        let (kernel, x, y) = (point.row.kernel, point.x, point.y);
        let width = kernel.len() as f64 * LETTER + LINE;
        let free = |&(x0, y0, width0): &(f64, f64, f64)| x + width < x0 || x0 + width0 < x || (y - y0).abs() > LINE;
        if !named.contains(&kernel) && x + width < WIDTH - RIGHT && taken.iter().all(free) {
            named.push(kernel);
            taken.push((x, y, width));
            point.label = Some(kernel);
        }
    }
}

/// What a kernel belongs to, which decides its colour.
fn group(kernel: &str) -> &'static str {
    match kernel {
        "matvec" => "matvec",
        "matmul" => "matmul",
        _ if kernel.starts_with("attention") => "attention",
        _ => "other",
    }
}

fn line(row: &Row) -> Value {
    context! { cells => cells(row), group => group(row.kernel), bar => row.percent.clamp(0.0, 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kernel: &'static str, case: &str, flops: u64) -> Row {
        Row {
            kernel,
            case: case.into(),
            bytes: 1_000_000,
            flops,
            us: 1.0,
            gb_s: 1000.0,
            tflop_s: flops as f64 / 1e6,
            ceiling: "read",
            percent: 33.3,
            ..Row::default()
        }
    }

    #[test]
    fn the_page_has_every_case_and_every_roof() {
        let mut report = Report::with_ceilings("A & B", &[(CeilingKind::Read, 3e12), (CeilingKind::F32, 6e13)]);
        report.results = vec![
            row("matvec", "<1>", 2_000_000),
            row("embed", "moves", 0),
            row("matmul", "much", 900_000_000),
            Row {
                skipped: Some("no room".into()),
                ..row("rope", "large", 1)
            },
        ];
        let page = page(&report).unwrap();
        assert_eq!(page.matches("<circle").count(), 2);
        for text in [
            "A &amp; B",
            "&lt;1&gt;",
            "memory 3000 GB",
            "f32 60.0 TFLOP",
            "skipped: no room",
            "compute nothing: 1;",
        ] {
            assert!(page.contains(text), "{text} is not in {page}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
    }

    #[test]
    fn a_page_without_results_is_a_page() {
        let report = Report::with_ceilings("A", &[(CeilingKind::Read, 1e10)]);
        assert!(page(&report).unwrap().contains("memory 10.0 GB"));
    }
}
