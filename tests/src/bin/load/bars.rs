//! A drawing of the ratios to the floor.

use crate::measurement::{Goal, Measurement};
use crate::svg::Svg;

/// The start of the bars, and the length of the axis.
const LEFT: f64 = 470.0;
const AXIS: f64 = 320.0;
const TOP: f64 = 64.0;
const ROW: f64 = 30.0;
/// The ends of the axis, as powers of two.
const POWERS: std::ops::RangeInclusive<i32> = -4..=4;

/// Draws a bar for each measurement with a floor. A bar goes from 1, the floor itself, to the
/// ratio, on an axis of powers of two; a mark shows its target.
pub fn draw(measurements: &[Measurement], conditions: &str) -> String {
    let rows = measurements.iter().filter_map(|measurement| {
        let goal = match measurement.target {
            Some(Goal::RatioAtLeast(goal) | Goal::RatioAtMost(goal)) => Some(goal),
            _ => None,
        };
        Some((measurement, measurement.ratio()?.median, goal))
    });
    let rows: Vec<_> = rows.collect();
    let bottom = TOP + ROW * rows.len() as f64;
    let meaning = "Each bar goes from the floor (1) to the figure; the mark is the target.";
    let title = "Ratio of each figure to its floor";
    let mut svg = Svg::start(bottom + 40.0, title, meaning);
    svg.text("bold", [16.0, 24.0], "Times the floor");
    svg.text("faint", [140.0, 24.0], meaning);
    for power in POWERS {
        let ratio = 2f64.powi(power);
        let x = at(ratio);
        let class = if power == 0 { "floor" } else { "line" };
        let label = match power {
            ..0 => format!("1/{}", 2i32.pow(power.unsigned_abs())),
            _ => ratio.to_string(),
        };
        svg.line(class, [x, TOP - 8.0], [x, bottom]);
        svg.text("faint small middle", [x, TOP - 14.0], &label);
    }
    for (index, (measurement, ratio, goal)) in rows.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        let text_y = y + 18.0;
        let (from, to) = (at(ratio.min(1.0)), at(ratio.max(1.0)));
        let is_met = measurement.is_met();
        let class = if is_met == Some(false) {
            "missed"
        } else {
            "met"
        };
        // A figure at its floor must be visible too.
        let length = (to - from).max(2.0);
        svg.text("end", [LEFT - 12.0, text_y], &measurement.name);
        svg.add(format_args!(
            r#"<rect class="{class}" x="{from:.1}" y="{}" width="{length:.1}" height="16"/>"#,
            y + 5.0
        ));
        if let Some(goal) = goal {
            let x = at(*goal);
            svg.line("target", [x, y + 1.0], [x, y + 25.0]);
        }
        let sign = match measurement.target {
            Some(Goal::RatioAtLeast(goal)) => format!("target ≥ {goal}"),
            Some(Goal::RatioAtMost(goal)) => format!("target ≤ {goal}"),
            _ => String::new(),
        };
        let met = match is_met {
            Some(true) => ", met",
            Some(false) => ", not met",
            None => "",
        };
        let right = LEFT + AXIS + 12.0;
        svg.text("", [right, text_y], &format!("{ratio:.2}"));
        let target = format!("{sign}{met}");
        svg.text("faint small", [right + 40.0, text_y], &target);
    }
    svg.end(conditions)
}

/// The position of a ratio on the axis. A ratio beyond the axis is at its end.
fn at(ratio: f64) -> f64 {
    let (first, last) = (f64::from(*POWERS.start()), f64::from(*POWERS.end()));
    LEFT + AXIS * (ratio.log2().clamp(first, last) - first) / (last - first)
}
