//! Documents that are too long, cut between statements: a file at its top level, and a class or a
//! function that is itself too long between the statements of its body.
//!
//! Such an inner piece stands behind the headers that it is under (`class C:`, `def f():`), as a
//! prefix that is given: it can be parsed, and says where it is from. Statements of other kinds
//! stay whole.

use std::collections::BTreeSet;
use std::ops::Range;

use ra3_text::tokenizer::Tokenizer;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::python::{self, Statement};

/// What becomes of a class or a function that is longer than a document may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongStatements {
    /// It is cut between the statements of its body; each piece is given the headers that it
    /// stands under.
    #[default]
    Cut,
    /// It is dropped.
    Drop,
}

/// Cuts documents that are too long; pieces of a file are named `file#1`, `file#2` and stay on one
/// side of the split. What is behind a prefix is not cut, and a piece may still be too long.
pub(crate) fn pieces(
    documents: &[Document],
    tokenizer: &Tokenizer,
    n_tokens_max: usize,
    long: LongStatements,
) -> Vec<Document> {
    let cut = |document: &Document| -> Vec<Document> {
        // A token has at least one byte, so most documents need no counting.
        if document.text.len() < n_tokens_max / 2 || !document.prefix.is_empty() {
            return vec![document.clone()];
        }
        let source = Source::new(&document.text, tokenizer, n_tokens_max, long);
        let pieces = source.pieces().into_iter().enumerate();
        let named = |(index, piece): (usize, Piece)| Document {
            name: format!("{}#{}", document.name, index + 1),
            prefix: piece.headers,
            text: document.text[piece.range].to_owned(),
            is_open: piece.is_open,
            ..document.clone()
        };
        pieces.map(named).collect()
    };
    documents.par_iter().flat_map_iter(cut).collect()
}

/// The file that a piece was cut from.
pub(crate) fn file_of(name: &str) -> &str {
    match name.split_once('#') {
        Some((file, _)) if !file.is_empty() => file,
        _ => name,
    }
}

/// A part of a text.
#[derive(Clone, Debug)]
struct Piece {
    /// Where it stands.
    range: Range<usize>,
    /// The headers of what it is in.
    headers: String,
    /// Whether a statement goes on behind it.
    is_open: bool,
    /// Tokens with a decision before each line, without the headers.
    n_tokens: usize,
}

/// A text that is cut.
struct Source<'a> {
    text: &'a str,
    tokenizer: &'a Tokenizer,
    n_tokens_max: usize,
    long: LongStatements,
    statements: Vec<Statement>,
    /// Where comments begin.
    comments: BTreeSet<usize>,
}

impl<'a> Source<'a> {
    fn new(
        text: &'a str,
        tokenizer: &'a Tokenizer,
        n_tokens_max: usize,
        long: LongStatements,
    ) -> Self {
        let syntax = python::parse(text).unwrap_or_default();
        Self {
            text,
            tokenizer,
            n_tokens_max,
            long,
            comments: syntax
                .comments
                .iter()
                .map(|comment| comment.start)
                .collect(),
            statements: syntax.statements,
        }
    }

    /// Neighbours below the same headers are one piece while they fit.
    fn pieces(&self) -> Vec<Piece> {
        let mut smallest = Vec::new();
        let whole = self.piece(0..self.text.len(), "", false);
        self.divide(&whole, &self.statements, &mut smallest);
        let mut pieces: Vec<Piece> = Vec::new();
        for next in smallest {
            match pieces.last_mut() {
                Some(last) if last.headers == next.headers && self.fit(last, &next) => {
                    last.range.end = next.range.end;
                    last.n_tokens += next.n_tokens;
                    last.is_open = next.is_open;
                }
                _ => pieces.push(next),
            }
        }
        pieces
    }

    fn fit(&self, last: &Piece, next: &Piece) -> bool {
        self.n_written(&last.headers, last.n_tokens + next.n_tokens) <= self.n_tokens_max
    }

    /// With headers, begin and end of text.
    fn n_written(&self, headers: &str, n_tokens: usize) -> usize {
        self.tokenizer.encode(headers).len() + n_tokens + 2
    }

    fn piece(&self, range: Range<usize>, headers: &str, is_open: bool) -> Piece {
        let lines = self.tokenizer.encode_lines(&self.text[range.clone()]);
        Piece {
            range,
            headers: headers.to_owned(),
            is_open,
            n_tokens: lines.iter().map(|line| line.len() + 1).sum(),
        }
    }

    /// Cuts before each of the statements.
    fn divide(&self, whole: &Piece, statements: &[Statement], into: &mut Vec<Piece>) {
        let Piece { range, headers, .. } = whole;
        let begins = statements.iter().map(|statement| self.begin(statement));
        let begins = begins.filter(|at| *at > range.start);
        let mut starts: Vec<usize> = [range.start].into_iter().chain(begins).collect();
        // Statements that share a line share a piece.
        starts.dedup();
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(range.end);
            let is_open = whole.is_open || (!headers.is_empty() && end < range.end);
            let mut inside = statements
                .iter()
                .filter(|statement| (*start..end).contains(&statement.range.start));
            let first = inside.next().filter(|_| inside.next().is_none());
            self.place(self.piece(*start..end, headers, is_open), first, into);
        }
    }

    /// A piece as it is, or, where it is too long, its statement's header with what comes first in
    /// the body, and the rest of the body below that header.
    fn place(&self, piece: Piece, statement: Option<&Statement>, into: &mut Vec<Piece>) {
        let Piece { range, headers, .. } = &piece;
        let is_long = self.n_written(headers, piece.n_tokens) > self.n_tokens_max;
        let body = statement.map_or(&[][..], |statement| &statement.body);
        let cut = body
            .split_first()
            .filter(|_| is_long && self.long == LongStatements::Cut)
            .filter(|(first, _)| self.begins_its_line(first));
        let Some((first, rest)) = cut else {
            into.push(piece);
            return;
        };
        let header = range.start..self.line_start(first.range.start);
        // Those on the line of the first stay with it.
        let n_beside = rest
            .iter()
            .take_while(|next| self.begin(next) <= header.end);
        let rest = &rest[n_beside.count()..];
        let first = (body.len() == rest.len() + 1).then_some(first);
        let rest_start = rest.first().map_or(range.end, |next| self.begin(next));
        let has_rest = rest_start < range.end;
        let begin = self.piece(range.start..rest_start, headers, piece.is_open || has_rest);
        self.place(begin, first, into);
        if has_rest {
            let headers = format!("{headers}{}", &self.text[header]);
            let rest_piece = self.piece(rest_start..range.end, &headers, piece.is_open);
            self.divide(&rest_piece, rest, into);
        }
    }

    /// The line that a statement is on, or the first of the comments right above it that stand as
    /// far from the margin.
    fn begin(&self, statement: &Statement) -> usize {
        let mut start = self.line_start(statement.range.start);
        let margin = statement.range.start - start;
        while start > 0 && self.begins_its_line(statement) {
            let above = self.line_start(start - 1);
            let at = above + margin;
            // Not one behind code, nor one of another line.
            let is_alone =
                at < start && self.comments.contains(&at) && self.text[above..at].trim().is_empty();
            if !is_alone {
                break;
            }
            start = above;
        }
        start
    }

    fn begins_its_line(&self, statement: &Statement) -> bool {
        let at = statement.range.start;
        self.text[self.line_start(at)..at].trim().is_empty()
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn document(text: &str) -> Document {
        Document {
            name: "f.py".to_owned(),
            text: text.to_owned(),
            ..Document::default()
        }
    }

    fn tokenizer(text: &str) -> Tokenizer {
        Tokenizer::train(&[text.to_owned()], 300).unwrap()
    }

    #[test]
    fn pieces_are_whole_statements_and_lose_nothing() {
        let text = "import a; import b\n# of f\n@b\ndef f():\n    '''Doc\nstring.'''\n\n    \
                    return x\n\nclass C:\n    y = 2\n";
        let document = document(&text.repeat(20));
        let tokenizer = tokenizer(text);
        let all = [document.clone()];
        let cut = pieces(&all, &tokenizer, 100, LongStatements::Drop);
        assert!(cut.len() > 5);
        let texts = cut.iter().map(|piece| piece.text.as_str());
        assert_eq!(texts.collect::<String>(), document.text);
        for piece in &cut {
            assert_eq!(file_of(&piece.name), "f.py");
            assert!(tokenizer.encode(&piece.text).len() <= 100);
            let first = piece.text.lines().next().unwrap();
            assert!(["import a; import b", "# of f", "class C:"].contains(&first));
        }
        // As long as it may be, every statement of the top level stays one.
        assert_eq!(cut, pieces(&all, &tokenizer, 100, LongStatements::Cut));
    }

    #[test]
    fn names_that_begin_with_a_hash_are_files_of_their_own() {
        let names = ["f.py#2", "f.py", "#17", "#17#2"];
        assert_eq!(names.map(file_of), ["f.py", "f.py", "#17", "#17#2"]);
    }

    const CLASS: &str = r#"# of C
@d
class C:
    """Doc

    string."""

    # of x
    x = 1

    # of f
    def f(self):
        a = 1
        # of b
        b = 2
        return a + b
    y = 3
z = 4
"#;

    #[test]
    fn a_long_class_is_cut_below_its_headers() {
        let tokenizer = tokenizer(CLASS);
        let cut = pieces(&[document(CLASS)], &tokenizer, 24, LongStatements::Cut);
        let found: Vec<(&str, &str, bool)> = cut
            .iter()
            .map(|piece| (&*piece.prefix, &*piece.text, piece.is_open))
            .collect();
        let class = "# of C\n@d\nclass C:\n";
        let method = "# of C\n@d\nclass C:\n    # of f\n    def f(self):\n";
        assert_eq!(found.last(), Some(&("", "z = 4\n", false)));
        assert!(found.contains(&(class, "    y = 3\n", false)), "{found:#?}");
        let inner = "        # of b\n        b = 2\n";
        let inner = found.iter().find(|(_, text, _)| text.starts_with(inner));
        assert_eq!(inner.map(|found| (found.0, found.2)), Some((method, true)));
        assert_eq!(found[0].0, "");
        assert!(found[0].1.starts_with(class) && found[0].2, "{found:#?}");
        let kept = pieces(&[document(CLASS)], &tokenizer, 24, LongStatements::Drop);
        assert_eq!(kept.len(), 2, "the class and what follows");
    }

    #[test]
    fn comments_behind_code_and_statements_on_one_line_are_no_beginnings() {
        let text = "\"\"\"doc\n\"\"\"\nimport os  # the system\nimport re; import sys\n\
                    def f():  # of f\n    a = 1; b = 2\n    \"\"\"text\n\"\"\" # noqa\n    \
                    return a\nclass C: x = 1; y = 2\n";
        let tokenizer = tokenizer(text);
        for n_tokens_max in 4..120 {
            let all = [document(&text.repeat(3))];
            let cut = pieces(&all, &tokenizer, n_tokens_max, LongStatements::Cut);
            let texts = cut.iter().map(|piece| piece.text.as_str());
            assert_eq!(texts.collect::<String>(), all[0].text);
            for piece in cut {
                let whole = piece.whole();
                assert!(python::parse(&whole).is_some(), "{n_tokens_max}: {whole}");
            }
        }
    }

    proptest! {
        /// Whatever the limit, nothing is lost, every piece is Python behind its headers, and what
        /// could be cut is not too long.
        #[test]
        fn cut_pieces_are_python(n_tokens_max in 16usize..200, n in 1usize..4) {
            static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer(CLASS));
            let text = CLASS.repeat(n);
            let cut = pieces(&[document(&text)], &TOKENIZER, n_tokens_max, LongStatements::Cut);
            let texts = cut.iter().map(|piece| piece.text.as_str());
            prop_assert_eq!(texts.collect::<String>(), text);
            for piece in cut {
                prop_assert!(python::parse(&piece.whole()).is_some(), "{}", piece.whole());
            }
        }
    }
}
