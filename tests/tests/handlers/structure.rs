//! The source files import each other in one direction only: there are no circles.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a crate, each with the files that it imports. Paths are relative to the crate's
/// `src`.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn files_of_the_host_have_no_circles() {
    check("host");
}

#[test]
fn files_of_the_handler_have_no_circles() {
    check("handler");
}

#[test]
fn the_store_and_the_registry_do_not_know_each_other() {
    for (file, uses) in graph("host") {
        let names = |part: &str| uses.iter().any(|used| used.starts_with(part));
        let is_strange = match file.split(['/', '.']).next() {
            Some("store") => names("socket/") || names("registry"),
            Some("registry") => names("store/"),
            _ => false,
        };
        assert!(!is_strange, "{file} uses {uses:?}");
    }
}

fn check(package: &str) {
    let graph = graph(package);
    let circles = circles(&graph);
    assert!(circles.is_empty(), "circles in {package}: {circles:#?}");
}

#[test]
fn a_circle_is_found() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use std::fmt; use crate::{b::{self, B}, c::C};"),
        (
            "b.rs",
            "fn b() { super::c::inner::call::<u8>(\"crate::a\") } // crate::a",
        ),
        (
            "c/mod.rs",
            "mod inner; use inner::D; #[cfg(test)] mod tests { use crate::a; }",
        ),
        ("c/inner.rs", "use super::C;"),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let graph = graph_of(&files.into());
    let expected = [
        ("a.rs", vec!["b.rs", "c/mod.rs"]),
        ("b.rs", vec!["c/inner.rs"]),
        ("c/inner.rs", vec!["c/mod.rs"]),
        ("c/mod.rs", vec!["c/inner.rs"]),
        ("lib.rs", vec![]),
    ];
    for (file, uses) in expected {
        assert_eq!(graph[file].iter().collect::<Vec<_>>(), uses, "{file}");
    }
    let circle = vec!["c/inner.rs", "c/mod.rs"];
    assert_eq!(circles(&graph), BTreeSet::from([circle]));
}

fn graph(package: &str) -> Graph {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let src = root.join(package).join("src");
    let mut files = BTreeMap::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&src).expect("inside");
                let text = fs::read_to_string(&path).expect("a text");
                files.insert(name.display().to_string(), text);
            }
        }
    }
    graph_of(&files)
}

fn graph_of(files: &BTreeMap<String, String>) -> Graph {
    let modules: BTreeMap<_, _> = files.keys().map(|file| (module(file), file)).collect();
    let uses = files.iter().map(|(file, text)| {
        let own = module(file);
        let paths = paths(text).into_iter();
        let paths = paths.filter_map(|path| absolute(&own, &path, &modules));
        // The longest prefix of a path that is a module; the rest is an item of its file.
        let used = paths.filter_map(|path| {
            let lengths = (0..=path.len()).rev();
            lengths
                .map(|length| modules.get(&path[..length]))
                .find_map(|found| found.copied())
        });
        let used = used.filter(|other| *other != file);
        (file.clone(), used.cloned().collect())
    });
    uses.collect()
}

/// `a/b.rs` and `a/b/mod.rs` are both `["a", "b"]`.
fn module(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let parts = path.split('/').map(str::to_owned);
    let mut parts: Vec<_> = parts.collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
        parts.pop();
    }
    parts
}

/// The path from the root of the crate; `None` if it leads to another crate.
fn absolute(
    own: &[String],
    path: &[String],
    modules: &BTreeMap<Vec<String>, &String>,
) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([own, rest].concat()),
        "super" => {
            let (_, parent) = own.split_last()?;
            match rest.first().map(String::as_str) {
                Some("super") => absolute(parent, rest, modules),
                _ => Some([parent, rest].concat()),
            }
        }
        _ => {
            let inner = [own, path].concat();
            modules
                .contains_key(&inner[..own.len() + 1])
                .then_some(inner)
        }
    }
}

/// All paths with `::` in a source file, those in braces one by one, without its tests, comments
/// and string literals.
fn paths(text: &str) -> Vec<Vec<String>> {
    let text = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let text = text
        .split("#[cfg(test)] mod tests")
        .next()
        .unwrap_or_default();
    let words = words(text);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let next = words.get(at + 1).map(String::as_str);
        if is_name(&words[at]) && next == Some("::") {
            at = tree(&words, at, &[], &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads a path or a tree of paths, starting at a word; returns the index of the word after it.
fn tree(words: &[String], mut at: usize, before: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    loop {
        match words.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while words.get(at).is_some_and(|word| word != "}") {
                    match words[at].as_str() {
                        "," => at += 1,
                        _ => at = tree(words, at, &path, paths).max(at + 1),
                    }
                }
                return at + 1;
            }
            // `a::{self}` is `a`.
            Some("self") if !path.is_empty() => at += 1,
            Some(name) if is_name(name) => {
                path.push(name.to_owned());
                at += 1;
            }
            _ => {}
        }
        if words.get(at).is_none_or(|word| word != "::") {
            paths.push(path);
            return at;
        }
        at += 1;
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::`, and every other character as a word of its own, without comments and string
/// literals.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '"' {
            let mut is_escaped = false;
            let end = rest[1..].find(|next| {
                let is_end = next == '"' && !is_escaped;
                is_escaped = next == '\\' && !is_escaped;
                is_end
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else if is_name(rest) {
            let is_end = |next: char| !next.is_alphanumeric() && next != '_';
            rest.find(is_end).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (word, later) = rest.split_at(length);
        rest = later;
        if !word.starts_with("//") && !word.starts_with('"') && !word.trim().is_empty() {
            words.push(word.to_owned());
        }
    }
    words
}

/// The files that reach each other, one list for each circle.
fn circles(graph: &Graph) -> BTreeSet<Vec<&str>> {
    let files = graph.keys().map(String::as_str);
    let reached: BTreeMap<_, _> = files.map(|file| (file, reached(graph, file))).collect();
    let circle = |file: &&str| {
        let others = reached[*file].iter().copied();
        let others = others.filter(|other| reached[other].contains(*file));
        others.collect::<Vec<_>>()
    };
    let circles = reached.keys().map(circle);
    circles.filter(|circle| !circle.is_empty()).collect()
}

/// The files that a file uses, directly and indirectly.
fn reached<'a>(graph: &'a Graph, file: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        let used = graph[file].iter().map(String::as_str);
        open.extend(used.filter(|used| reached.insert(*used)));
    }
    reached
}
