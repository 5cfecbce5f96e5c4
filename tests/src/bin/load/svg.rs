//! A drawing of the ratios to the floor.

use std::fmt::Write;

use crate::measurement::{Goal, Measurement};

const WIDTH: f64 = 980.0;
/// The start of the bars, and the length of the axis.
const LEFT: f64 = 470.0;
const AXIS: f64 = 320.0;
const TOP: f64 = 64.0;
const ROW: f64 = 30.0;
/// The ends of the axis, as powers of two.
const POWERS: std::ops::RangeInclusive<i32> = -4..=4;

/// Draws a bar for each measurement with a floor. A bar goes from 1, the floor itself, to the
/// ratio, on an axis of powers of two; a mark shows its target. The drawing is readable on light
/// and on dark backgrounds.
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
    let height = bottom + 40.0;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13" role="img">
<title>Ratio of each figure to its floor</title>
<style>
  .paper {{ fill: #ffffff }} text {{ fill: #1f2328 }} .faint {{ fill: #59636e }} .line {{ stroke: #d1d9e0 }}
  .floor, .target {{ stroke: #1f2328 }} .met {{ fill: #2f7d4f }} .missed {{ fill: #b8622b }}
  @media (prefers-color-scheme: dark) {{
    .paper {{ fill: #0d1117 }} text {{ fill: #e6edf3 }} .faint {{ fill: #9198a1 }} .line {{ stroke: #3d444d }}
    .floor, .target {{ stroke: #e6edf3 }} .met {{ fill: #4fae77 }} .missed {{ fill: #d98350 }}
  }}
</style>
<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>
<text x="16" y="24" font-weight="bold">Times the floor</text>
<text class="faint" x="140" y="24">Each bar goes from the floor (1) to the figure; the mark is the target.</text>
"#
    );
    for power in POWERS {
        let (x, ratio) = (at(2f64.powi(power)), 2f64.powi(power));
        let class = if power == 0 { "floor" } else { "line" };
        let label = match power {
            ..0 => format!("1/{}", 2i32.pow(power.unsigned_abs())),
            _ => ratio.to_string(),
        };
        let top = TOP - 8.0;
        let _ = writeln!(
            svg,
            r#"<line class="{class}" x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{bottom}"/><text class="faint" x="{x:.1}" y="{}" text-anchor="middle" font-size="11">{label}</text>"#,
            TOP - 14.0
        );
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
        let name = escape(&measurement.name);
        let _ = write!(
            svg,
            r#"<text x="{}" y="{text_y}" text-anchor="end">{name}</text><rect class="{class}" x="{from:.1}" y="{}" width="{length:.1}" height="16"/>"#,
            LEFT - 12.0,
            y + 5.0
        );
        if let Some(goal) = goal {
            let x = at(*goal);
            let _ = write!(
                svg,
                r#"<line class="target" x1="{x:.1}" y1="{}" x2="{x:.1}" y2="{}" stroke-width="3"/>"#,
                y + 1.0,
                y + 25.0
            );
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
        let _ = writeln!(
            svg,
            r#"<text x="{}" y="{text_y}">{ratio:.2}</text><text class="faint" x="{}" y="{text_y}" font-size="11">{sign}{met}</text>"#,
            LEFT + AXIS + 12.0,
            LEFT + AXIS + 52.0
        );
    }
    let _ = write!(
        svg,
        r#"<text class="faint" x="16" y="{}" font-size="11">{}</text>
</svg>
"#,
        bottom + 24.0,
        escape(conditions)
    );
    svg
}

/// The position of a ratio on the axis. A ratio beyond the axis is at its end.
fn at(ratio: f64) -> f64 {
    let (first, last) = (f64::from(*POWERS.start()), f64::from(*POWERS.end()));
    LEFT + AXIS * (ratio.log2().clamp(first, last) - first) / (last - first)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
