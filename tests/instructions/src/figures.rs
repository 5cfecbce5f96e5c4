//! The figures of the hot paths that are recorded in tests/instructions/recorded.tsv, and how new ones
//! compare with them.

use std::fmt::Write as _;
use std::io::ErrorKind;

use anyhow::{Context as _, Result};

/// The largest rise that needs no explanation.
pub const CHANGE_PERCENT_MAX: u64 = 3;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recorded.tsv");

/// The columns of the file.
const COLUMNS: &str = "path\tinstructions\twhy";

/// All figures, and the tools they were counted with.
#[derive(Debug, Default, PartialEq)]
pub struct Record {
    pub tools: String,
    pub figures: Vec<Figure>,
}

/// The instructions of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub name: String,
    pub instructions: u64,
    /// The explanation of the last change.
    pub why: String,
}

/// How a path compares with its recorded figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Within `CHANGE_PERCENT_MAX`.
    Same,
    Rose,
    Fell,
    /// Not recorded.
    New,
    /// Recorded, but not counted.
    Gone,
}

/// A row of the table: one path.
#[derive(Debug, PartialEq)]
pub struct Line<'a> {
    pub name: &'a str,
    pub recorded: Option<u64>,
    pub now: Option<u64>,
    pub change: Change,
}

impl<'a> Line<'a> {
    fn of(name: &'a str, recorded: Option<u64>, now: Option<u64>) -> Self {
        let change = match (recorded, now) {
            (Some(recorded), Some(now)) => match 100 * now {
                now if now > (100 + CHANGE_PERCENT_MAX) * recorded => Change::Rose,
                now if now < (100 - CHANGE_PERCENT_MAX) * recorded => Change::Fell,
                _ => Change::Same,
            },
            (None, _) => Change::New,
            (_, None) => Change::Gone,
        };
        Line {
            name,
            recorded,
            now,
            change,
        }
    }
}

impl Record {
    /// Reads the file; empty if it does not exist.
    pub fn read() -> Result<Self> {
        match std::fs::read_to_string(FILE) {
            Ok(text) => Self::parse(&text).with_context(|| FILE),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(error).context(FILE),
        }
    }

    pub fn write(&self) -> Result<()> {
        std::fs::write(FILE, self.text()).context(FILE)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let tools = lines.next().and_then(|line| line.strip_prefix("# "));
        let tools =
            tools.context("the first line should name the tools that it was counted with")?;
        let figures = lines.skip(1).map(|line| {
            let mut columns = line.splitn(3, '\t');
            let mut column = || columns.next().with_context(|| format!("columns: {line}"));
            anyhow::Ok(Figure {
                name: column()?.into(),
                instructions: column()?.parse().with_context(|| line.to_owned())?,
                why: column()?.into(),
            })
        });
        Ok(Record {
            tools: tools.into(),
            figures: figures.collect::<Result<_>>()?,
        })
    }

    fn text(&self) -> String {
        let mut text = format!("# {}\n{COLUMNS}\n", self.tools);
        for figure in &self.figures {
            let Figure {
                name,
                instructions,
                why,
            } = figure;
            text += &format!("{name}\t{instructions}\t{why}\n");
        }
        text
    }

    fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    /// Compares every counted path, then lists recorded paths that no longer exist.
    pub fn compare<'a>(&'a self, counted: &'a [Figure]) -> Vec<Line<'a>> {
        let lines = counted.iter().map(|now| {
            let recorded = self.figure(&now.name).map(|figure| figure.instructions);
            Line::of(&now.name, recorded, Some(now.instructions))
        });
        let is_gone = |old: &&Figure| counted.iter().all(|now| now.name != old.name);
        let gone = self.figures.iter().filter(is_gone);
        let gone = gone.map(|old| Line::of(&old.name, Some(old.instructions), None));
        lines.chain(gone).collect()
    }

    /// The record to write for the counted paths. A path that has not changed keeps its explanation
    /// and the lower number, because many small rises add up to a large one.
    pub fn updated(&self, counted: &Record, why: &str) -> Record {
        let is_comparable = self.tools == counted.tools;
        let figures = counted.figures.iter().map(|now| {
            let (name, instructions) = (now.name.clone(), now.instructions);
            let old = self.figure(&name).filter(|_| is_comparable);
            let line = Line::of(&name, old.map(|old| old.instructions), Some(instructions));
            let (instructions, why) = match old {
                Some(old) if line.change == Change::Same => {
                    (instructions.min(old.instructions), old.why.clone())
                }
                _ => (instructions, why.to_owned()),
            };
            Figure {
                name,
                instructions,
                why,
            }
        });
        Record {
            tools: counted.tools.clone(),
            figures: figures.collect(),
        }
    }
}

/// The table as text for people.
pub fn table(lines: &[Line]) -> String {
    let mut table = format!(
        "{:20}{:>12}{:>12}{:>9}\n",
        "instructions", "recorded", "now", "change"
    );
    for line in lines {
        let number = |number: Option<u64>| number.map_or("-".into(), |n| n.to_string());
        let change = match (line.recorded, line.now) {
            (Some(recorded), Some(now)) => {
                let ratio = now as f64 / recorded.max(1) as f64;
                format!("{:+.2}%", (ratio - 1.0) * 100.0)
            }
            _ => String::new(),
        };
        let word = match line.change {
            Change::Same => "",
            Change::Rose => "  rose",
            Change::Fell => "  fell",
            Change::New => "  new",
            Change::Gone => "  gone",
        };
        let (name, recorded, now) = (line.name, number(line.recorded), number(line.now));
        // Writing to memory cannot fail.
        let _ = writeln!(table, "{name:20}{recorded:>12}{now:>12}{change:>9}{word}");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tools: &str, figures: &[(&str, u64, &str)]) -> Record {
        let figures = figures.iter().map(|&(name, instructions, why)| Figure {
            name: name.into(),
            instructions,
            why: why.into(),
        });
        Record {
            tools: tools.into(),
            figures: figures.collect(),
        }
    }

    #[test]
    fn more_than_three_percent_is_a_change() {
        for (recorded, now, change) in [
            (Some(1000), Some(1000), Change::Same),
            (Some(1000), Some(1030), Change::Same),
            (Some(1000), Some(1031), Change::Rose),
            (Some(1000), Some(970), Change::Same),
            (Some(1000), Some(969), Change::Fell),
            (Some(0), Some(1), Change::Rose),
            (None, Some(1), Change::New),
            (Some(1), None, Change::Gone),
        ] {
            let line = Line::of("plan", recorded, now);
            assert_eq!(line.change, change, "{recorded:?} {now:?}");
        }
    }

    #[test]
    fn all_paths_are_compared() {
        let recorded = record("1", &[("decode", 100, ""), ("plan", 100, "")]);
        let counted = record("1", &[("plan", 104, ""), ("encode", 7, "")]);
        assert_eq!(
            recorded.compare(&counted.figures),
            [
                Line::of("plan", Some(100), Some(104)),
                Line::of("encode", None, Some(7)),
                Line::of("decode", Some(100), None),
            ]
        );
    }

    #[test]
    fn what_has_changed_is_recorded_with_its_reason() {
        let recorded = record(
            "1",
            &[
                ("decode", 1000, "first"),
                ("plan", 1000, "first"),
                ("encode", 1000, "first"),
                ("conclude", 1000, "first"),
                ("gone", 1, "first"),
            ],
        );
        let counts = [
            ("decode", 1020, ""),
            ("plan", 990, ""),
            ("encode", 1040, ""),
            ("conclude", 900, ""),
            ("ping", 10, ""),
        ];
        let expected = record(
            "1",
            &[
                ("decode", 1000, "first"),
                ("plan", 990, "first"),
                ("encode", 1040, "second"),
                ("conclude", 900, "second"),
                ("ping", 10, "second"),
            ],
        );
        assert_eq!(recorded.updated(&record("1", &counts), "second"), expected);

        // With other compilers, nothing can be compared.
        let counts = counts.map(|(name, instructions, _)| (name, instructions, "second"));
        let expected = record("2", &counts);
        assert_eq!(recorded.updated(&expected, "second"), expected);
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let record = record("rustc 1", &[("decode", 1000, "first"), ("plan", 2, "why")]);
        let text = record.text();
        assert_eq!(
            text,
            "# rustc 1\npath\tinstructions\twhy\ndecode\t1000\tfirst\nplan\t2\twhy\n"
        );
        assert_eq!(Record::parse(&text).unwrap(), record);
        for text in [
            "",
            "decode\t1\tfirst\n",
            "# 1\n\ndecode\t1\n",
            "# 1\n\ndecode\tx\ty\n",
        ] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
    }
}
