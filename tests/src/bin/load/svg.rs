//! The style of all drawings. It is readable on light and on dark backgrounds.

use std::fmt::{Display, Write};

pub const WIDTH: f64 = 980.0;

/// Blue and orange can be told apart by colour-blind readers; a second curve of a colour is dashed.
const STYLE: &str = "<style>
  .paper { fill: #ffffff } text { fill: #1f2328 } .faint { fill: #59636e } .line { stroke: #d1d9e0 }
  .floor, .target { stroke: #1f2328 } .met { fill: #2f7d4f } .missed { fill: #b8622b }
  .blue { color: #0b62b0 } .orange { color: #a9541f }
  .target { stroke-width: 3 } .small { font-size: 11px } .bold { font-weight: bold }
  .start { text-anchor: start } .middle { text-anchor: middle } .end { text-anchor: end }
  .curve { fill: none; stroke: currentColor; stroke-width: 2 } .dashed .curve { stroke-dasharray: 7 4 }
  .spread { stroke: currentColor } circle, .name { fill: currentColor }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } text { fill: #e6edf3 } .faint { fill: #9198a1 } .line { stroke: #3d444d }
    .floor, .target { stroke: #e6edf3 } .met { fill: #4fae77 } .missed { fill: #d98350 }
    .blue { color: #6cb2f5 } .orange { color: #e39461 }
  }
</style>
";

/// A drawing that has been begun.
pub struct Svg {
    text: String,
    height: f64,
}

impl Svg {
    /// The title and the description are for those who do not see the drawing.
    pub fn start(height: f64, title: &str, description: &str) -> Svg {
        let (title, description) = (escape(title), escape(description));
        let text = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13" role="img" aria-labelledby="title description">
<title id="title">{title}</title>
<desc id="description">{description}</desc>
{STYLE}<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>
"#
        );
        Svg { text, height }
    }

    /// Adds an element.
    pub fn add(&mut self, element: impl Display) {
        let _ = writeln!(self.text, "{element}");
    }

    pub fn line(&mut self, class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) {
        self.add(format_args!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    pub fn text(&mut self, class: &str, [x, y]: [f64; 2], text: &str) {
        self.add(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{}</text>"#,
            escape(text)
        ));
    }

    /// Ends with a line about the machine.
    pub fn end(mut self, conditions: &str) -> String {
        self.text("faint small", [16.0, self.height - 16.0], conditions);
        self.text + "</svg>\n"
    }
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
