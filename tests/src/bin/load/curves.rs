//! A drawing of curves on logarithmic axes.

use crate::measurement::{Spread, number};
use crate::svg::{Svg, escape};

const HEIGHT: f64 = 460.0;
/// The ends of the axes; the names of the curves are to the right.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 770.0;
const TOP: f64 = 78.0;
const BOTTOM: f64 = 390.0;
/// With more steps of an axis than these, only the powers of ten have marks.
const STEPS: usize = 9;
/// The least distance of two names.
const NAME: f64 = 17.0;

pub struct Chart<'a> {
    pub title: &'a str,
    /// The names of the axes. They continue the title.
    pub text: &'a str,
    pub x_unit: &'a str,
    pub y_unit: &'a str,
    pub curves: Vec<Curve<'a>>,
}

pub struct Curve<'a> {
    pub name: &'a str,
    /// Classes of the style.
    pub look: &'a str,
    /// At least one, in order, all numbers larger than 0.
    pub points: Vec<(f64, Spread)>,
}

/// Draws each curve through the medians, with a bar from the least to the largest round of each
/// point, and its name at its end. The axes have marks where something was measured (x) and at round
/// numbers (y).
pub fn draw(chart: &Chart, conditions: &str) -> String {
    let points = chart.curves.iter().flat_map(|curve| &curve.points);
    let mut xs: Vec<_> = points.clone().map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let ends = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
    let none = (f64::INFINITY, f64::NEG_INFINITY);
    let range = points.fold(none, |range, (_, y)| ends(ends(range, y.min), y.max));
    let steps = steps(range);
    let range = steps.iter().copied().fold(none, ends);
    let x_at = |x: f64| place(x, xs.iter().copied().fold(none, ends), LEFT, RIGHT);
    let y_at = |y: f64| place(y, range, BOTTOM, TOP);

    let mut svg = Svg::start(HEIGHT, chart.title, &describe(chart));
    svg.text("bold", [16.0, 24.0], chart.title);
    svg.text("faint", [16.0, 43.0], chart.text);
    svg.text("faint small", [16.0, TOP - 14.0], chart.y_unit);
    let is_fine = steps.len() <= STEPS;
    for y in steps {
        if !is_fine && y.log10().fract() != 0.0 {
            continue;
        }
        svg.line("line", [LEFT, y_at(y)], [RIGHT, y_at(y)]);
        svg.text("faint small end", [LEFT - 8.0, y_at(y) + 4.0], &mark(y));
    }
    svg.line("line", [LEFT, BOTTOM], [RIGHT, BOTTOM]);
    for x in &xs {
        svg.line("line", [x_at(*x), BOTTOM], [x_at(*x), BOTTOM + 5.0]);
        svg.text("faint small middle", [x_at(*x), BOTTOM + 18.0], &mark(*x));
    }
    let middle = [(LEFT + RIGHT) / 2.0, BOTTOM + 36.0];
    svg.text("faint small middle", middle, chart.x_unit);
    let names = apart(chart.curves.iter().filter_map(|curve| {
        let (_, y) = curve.points.last()?;
        Some(y_at(y.median))
    }));
    for (curve, name_y) in chart.curves.iter().zip(names) {
        svg.add(format_args!(r#"<g class="{}">"#, curve.look));
        let at = |(x, y): &(f64, Spread)| format!("{:.1},{:.1}", x_at(*x), y_at(y.median));
        let line: Vec<_> = curve.points.iter().map(at).collect();
        svg.add(format_args!(
            r#"<polyline class="curve" points="{}"/>"#,
            line.join(" ")
        ));
        for (x, y) in &curve.points {
            let at = x_at(*x);
            svg.line("spread", [at, y_at(y.min)], [at, y_at(y.max)]);
            svg.add(format_args!(
                r#"<circle cx="{at:.1}" cy="{:.1}" r="3.5"><title>{}</title></circle>"#,
                y_at(y.median),
                escape(&format!("{}, {}", curve.name, values(*x, *y)))
            ));
        }
        let end = curve.points.last().map_or(RIGHT, |(x, _)| x_at(*x));
        svg.text("name", [end + 10.0, name_y + 4.0], curve.name);
        svg.add("</g>");
    }
    svg.end(conditions)
}

/// All points in words.
fn describe(chart: &Chart) -> String {
    let mut text = format!(
        "{}. {} by {}, medians with the least and the largest.",
        chart.text, chart.y_unit, chart.x_unit
    );
    for curve in &chart.curves {
        let points: Vec<_> = curve.points.iter().map(|(x, y)| values(*x, *y)).collect();
        text += &format!(" {}: {}.", curve.name, points.join("; "));
    }
    text
}

fn values(x: f64, Spread { median, min, max }: Spread) -> String {
    let [median, min, max] = [median, min, max].map(number);
    format!("{}: {median} ({min}–{max})", mark(x))
}

/// A number of an axis.
fn mark(value: f64) -> String {
    match value {
        100.0.. => number(value),
        _ => value.to_string(),
    }
}

/// 1, 2 and 5 in each power of ten, from the last one below the range to the first one above it.
fn steps((low, high): (f64, f64)) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = powers.flat_map(|exponent| {
        // Divided, because negative powers of ten are not exact.
        [1.0, 2.0, 5.0].map(|step| match exponent {
            ..0 => step / 10f64.powi(-exponent),
            _ => step * 10f64.powi(exponent),
        })
    });
    let all: Vec<_> = all.collect();
    let first = all.iter().rposition(|step| *step <= low).unwrap_or(0);
    let last = all.iter().position(|step| *step >= high && *step > low);
    all[first..=last.unwrap_or(all.len() - 1)].to_vec()
}

/// The place of a value on a logarithmic axis.
fn place(value: f64, (first, last): (f64, f64), from: f64, to: f64) -> f64 {
    let length = (last / first).ln();
    match length > 0.0 {
        true => from + (to - from) * (value / first).ln() / length,
        false => (from + to) / 2.0,
    }
}

/// Moves names apart that would cover each other, each of two neighbours by as much.
fn apart(names: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut names: Vec<_> = names.collect();
    let mut order: Vec<_> = (0..names.len()).collect();
    order.sort_by(|a, b| names[*a].total_cmp(&names[*b]));
    for _ in 0..100 {
        for pair in order.windows(2) {
            let missing = NAME - (names[pair[1]] - names[pair[0]]);
            if missing > 0.0 {
                names[pair[0]] -= missing / 2.0;
                names[pair[1]] += missing / 2.0;
            }
        }
    }
    names
}
