//! The program in a text, as EvalPlus takes it from what a model wrote (`evalplus/sanitize.py`,
//! 0.3.1): the longest run of lines that is Python, and of it the imports and what the entry point
//! reaches.
//!
//! Not done here: cutting at stop words ([`crate::prompt`]).

use std::collections::{BTreeMap, BTreeSet};

use ruff_python_parser::parse_module;
use tree_sitter::{Node, Parser};

use crate::contest::compare::is_space;

/// Lines that are looked at. A model's answer has fewer; the number of runs grows with its square.
/// EvalPlus looks at all, in a time that grows with the cube.
const N_LINES_MAX: usize = 1000;

/// Stack for a byte of text: a nested expression takes a frame of the parser's for each bracket.
const STACK_BYTES_PER_BYTE: usize = 4096;
/// Bytes that are looked at.
const N_BYTES_MAX: usize = 1 << 18;

/// The program in a text: what the entry point reaches, or every definition where none is named.
pub fn sanitize(text: &str, entry_point: Option<&str>) -> String {
    let text = &text[..text.floor_char_boundary(N_BYTES_MAX)];
    let stack = (1 << 20) + STACK_BYTES_PER_BYTE * text.len();
    // What a model wrote may be nested as deeply as it is long.
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(stack)
            .spawn_scoped(scope, || sanitize_here(text, entry_point))
            .expect("a gigabyte of address space is there for a stack")
            .join()
            .expect("the parsers answer with an error, and do not panic")
    })
}

fn sanitize_here(text: &str, entry_point: Option<&str>) -> String {
    let code = longest_python(text);
    let reached = reached(&code, entry_point);
    let reached = reached.trim_matches(is_space);
    if reached.is_empty() {
        code
    } else {
        reached.to_owned()
    }
}

/// The run of two lines or more that is Python and has the most lines that are not blank; of equals
/// the one that begins first, and then ends first. The first line where there is none.
///
/// Nothing is said of which run is tried first: those with more lines are, until one is Python.
fn longest_python(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').take(N_LINES_MAX).collect();
    let is_filled = |line: &&str| !line.trim_matches(is_space).is_empty();
    let mut n_filled = vec![0usize];
    n_filled.extend(lines.iter().scan(0, |n, line| {
        *n += usize::from(is_filled(line));
        Some(*n)
    }));
    // A run that begins with an indented line is no Python, whatever follows.
    let is_start = |index: &usize| {
        let line = lines[*index];
        let is_indented = line.starts_with([' ', '\t', '\x0c']);
        !is_indented
            || !is_filled(&line)
            || line.trim_start().starts_with('#')
            || line.ends_with('\\')
    };
    let mut runs: Vec<(usize, usize, usize)> = (0..lines.len())
        .filter(is_start)
        .flat_map(|start| (start + 1..lines.len()).map(move |last| (start, last)))
        .map(|(start, last)| (n_filled[last + 1] - n_filled[start], start, last))
        .filter(|(n, ..)| *n > 0)
        .collect();
    runs.sort_by_key(|(n, start, last)| (std::cmp::Reverse(*n), *start, *last));
    runs.iter()
        .map(|(_, start, last)| lines[*start..=*last].join("\n"))
        .find(|run| is_python(run))
        .unwrap_or_else(|| lines[0].to_owned())
}

fn is_python(text: &str) -> bool {
    // CPython refuses it, the parser does not.
    !text.contains('\0') && parse_module(text).is_ok()
}

/// A definition at the top level.
struct Definition<'a> {
    /// None where what is assigned to has no name of its own.
    name: Option<&'a str>,
    node: Node<'a>,
}

/// Imports, and definitions that the entry point reaches by their names.
fn reached(code: &str, entry_point: Option<&str>) -> String {
    let mut parser = Parser::new();
    let language = tree_sitter_python::LANGUAGE.into();
    parser
        .set_language(&language)
        .expect("the grammar is of a version that the parser reads");
    let tree = parser.parse(code, None).expect("it has a language");
    let mut cursor = tree.root_node().walk();
    let mut imports = Vec::new();
    let mut definitions: Vec<Definition<'_>> = Vec::new();
    let mut names = BTreeSet::new();
    for child in tree.root_node().children(&mut cursor) {
        if matches!(child.kind(), "import_statement" | "import_from_statement") {
            imports.push(child);
        } else if let Some(node) = definition(child) {
            // The first definition of a name is the one that counts.
            let name = name(node, code);
            if names.insert(name) {
                definitions.push(Definition { name, node });
            }
        }
    }
    let names = entry_point.map(|entry_point| names_reached(&definitions, entry_point, code));
    let is_kept = |definition: &&Definition<'_>| match &names {
        Some(names) => definition.name.is_some_and(|name| names.contains(name)),
        None => true,
    };
    let kept = definitions
        .iter()
        .filter(is_kept)
        .map(|definition| definition.node);
    let texts: Vec<&str> = imports
        .into_iter()
        .chain(kept)
        .map(|node| &code[node.byte_range()])
        .collect();
    texts.join("\n")
}

/// What counts as a definition: a class, a function that returns something somewhere, a plain
/// assignment. Decorated ones do not.
fn definition(child: Node<'_>) -> Option<Node<'_>> {
    match child.kind() {
        "class_definition" => Some(child),
        "function_definition" if has_return(child) => Some(child),
        "expression_statement" => child.child(0).filter(|first| first.kind() == "assignment"),
        _ => None,
    }
}

fn has_return(node: Node<'_>) -> bool {
    let mut cursor = node.walk();
    node.kind() == "return_statement" || node.children(&mut cursor).any(has_return)
}

/// The first identifier among a node's own children.
fn name<'a>(node: Node<'_>, code: &'a str) -> Option<&'a str> {
    let mut cursor = node.walk();
    let identifier = node
        .children(&mut cursor)
        .find(|child| child.kind() == "identifier");
    identifier.map(|identifier| &code[identifier.byte_range()])
}

fn names_reached<'a>(
    definitions: &[Definition<'a>],
    entry_point: &'a str,
    code: &'a str,
) -> BTreeSet<&'a str> {
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for definition in definitions {
        let mut used = BTreeSet::new();
        collect_identifiers(definition.node, code, &mut used);
        uses.extend(definition.name.map(|name| (name, used)));
    }
    let mut reached = BTreeSet::from([entry_point]);
    let mut queue = vec![entry_point];
    while let Some(name) = queue.pop() {
        let used = uses.get(name).into_iter().flatten();
        queue.extend(used.filter(|name| reached.insert(**name)));
    }
    reached
}

fn collect_identifiers<'a>(node: Node<'_>, code: &'a str, found: &mut BTreeSet<&'a str>) {
    let mut cursor = node.walk();
    for child in node.children(&mut cursor) {
        if child.kind() == "identifier" {
            found.insert(&code[child.byte_range()]);
        } else {
            collect_identifiers(child, code, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_nesting_is_no_danger() {
        let deep = format!(
            "x = {}1{}\ndef f():\n    return x",
            "(".repeat(50_000),
            ")".repeat(50_000)
        );
        let _ = sanitize(&deep, Some("f"));
        let open = "[".repeat(100_000);
        assert_eq!(sanitize(&open, Some("f")), open);
    }

    /// As `evalplus.sanitize.sanitize(text)` has it.
    #[test]
    fn without_an_entry_point_all_definitions_stay() {
        let text =
            "Sure:\nimport re\nx = 1\ndef f():\n    return x\nclass C:\n    pass\nprint(f())";
        assert_eq!(
            sanitize(text, None),
            "import re\nx = 1\ndef f():\n    return x\nclass C:\n    pass"
        );
        assert_eq!(sanitize(text, Some("C")), "import re\nclass C:\n    pass");
    }

    /// Texts and what `evalplus.sanitize.sanitize(text, "f")` makes of them.
    #[test]
    fn answers_are_those_of_evalplus() {
        let recorded = include_str!("../tests/golden/sanitize.jsonl");
        let mut n_recorded = 0;
        for line in recorded.lines() {
            let record: [String; 2] = serde_json::from_str(line).expect("the file is ours");
            assert_eq!(sanitize(&record[0], Some("f")), record[1], "{}", record[0]);
            n_recorded += 1;
        }
        assert!(n_recorded > 100);
    }
}
