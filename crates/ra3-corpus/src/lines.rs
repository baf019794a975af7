//! Cutting documents into line-actions, and turning comments into latents for the cold start
//! (docs/algorithm.md, "Setting" and "The outer loop").
//!
//! A comment line before code becomes the latent of the next code line; every other line keeps.
//! Strings that look like comments are not comments: the positions come from Python's lexer.

use ra3::policy::TokenId;
use ra3::trajectory::{Annotated, Latent, Trajectory};

use crate::document::Document;
use crate::python;
use ra3_text::tokenizer::Tokenizer;

/// Comments that speak to tools, not to readers.
const TOOL_COMMENTS: &[&str] = &[
    "!", "type:", "noqa", "pragma", "pylint", "mypy", "fmt:", "isort", "-*-", "vim:", "coding",
];

/// A document in both views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Comments are lines like any other: what next-token prediction is trained on.
    pub plain: Trajectory,
    /// Comments are latents: what the cold start is trained on, and, without the latents, what
    /// the E-step searches and the bounds measure.
    pub annotated: Annotated,
    /// Bytes of the annotated view's lines.
    pub n_annotated_bytes: usize,
}

/// Cuts a document. A rationale longer than `rationale_tokens_max` is no latent; its comment is
/// dropped from the annotated view all the same.
pub fn cut(document: &Document, tokenizer: &Tokenizer, rationale_tokens_max: usize) -> Cut {
    let prefix = tokenizer.encode_prompt(&document.prefix);
    let text = with_newline(&document.text);
    let end = (!document.is_open).then(|| vec![tokenizer.markers().end]);
    let lines = tokenizer.encode_lines(&text).into_iter();
    let plain = Trajectory {
        prefix: prefix.clone(),
        lines: lines.chain(end.clone()).collect(),
    };
    let (code, comments) = lift(document, &text);
    let mut lines = Vec::new();
    let mut latents = Vec::new();
    for (line, comment) in code.iter().zip(comments) {
        let parts = tokenizer.encode_lines(line);
        let rationale = comment.map(|comment| tokenizer.encode(&comment));
        let latent = rationale
            .filter(|ids| ids.len() <= rationale_tokens_max)
            .map_or(Latent::Keep, |rationale| Latent::Switch {
                rationale,
                forced_close: false,
            });
        latents.push(Some(latent));
        latents.resize(lines.len() + parts.len(), Some(Latent::Keep));
        lines.extend(parts);
    }
    lines.extend(end);
    latents.resize(lines.len(), Some(Latent::Keep));
    let n_annotated_bytes = code.iter().map(String::len).sum();
    let annotated = Annotated {
        trajectory: Trajectory { prefix, lines },
        latents,
    };
    Cut {
        plain,
        annotated,
        n_annotated_bytes,
    }
}

/// The ids of a rationale as the cold start writes it.
pub fn encode_rationale(text: &str, tokenizer: &Tokenizer) -> Vec<TokenId> {
    tokenizer.encode(&format!(" {text}"))
}

fn with_newline(text: &str) -> String {
    if text.ends_with('\n') {
        text.to_owned()
    } else {
        format!("{text}\n")
    }
}

/// The lines that are no comments, and the comment before each.
fn lift(document: &Document, text: &str) -> (Vec<String>, Vec<Option<String>>) {
    let is_comment = comment_lines(document, text);
    let (mut code, mut comments) = (Vec::<String>::new(), Vec::new());
    let mut pending: Vec<&str> = Vec::new();
    for (line, is_comment) in text.split_inclusive('\n').zip(is_comment) {
        if is_comment {
            pending.push(line.trim().trim_start_matches('#').trim());
        } else if line.trim().is_empty() && !code.is_empty() && pending.is_empty() {
            // A line is a code line with its newline and the blank lines after it.
            code.last_mut().expect("checked just now").push_str(line);
        } else {
            code.push(line.to_owned());
            let joined = pending.join(" ");
            // The leading space is that of `# comment`: the ids are those of a comment's words.
            comments.push((!joined.is_empty()).then(|| format!(" {joined}")));
            pending.clear();
        }
    }
    (code, comments)
}

/// By line of the text: true if it holds nothing but a comment for readers.
fn comment_lines(document: &Document, text: &str) -> Vec<bool> {
    let whole = format!("{}{text}", document.prefix);
    let mut marks = vec![false; text.split_inclusive('\n').count()];
    let Some(syntax) = python::parse(&whole) else {
        return marks;
    };
    let mut starts = vec![0];
    starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
    for range in syntax.comments {
        let Some(at) = range.start.checked_sub(document.prefix.len()) else {
            continue;
        };
        let line = starts.partition_point(|start| *start <= at) - 1;
        let before = &text[starts[line]..at];
        let comment = whole[range].trim_start_matches('#').trim_start();
        let speaks_to_tools = TOOL_COMMENTS.iter().any(|mark| comment.starts_with(mark));
        marks[line] = before.trim().is_empty() && !comment.trim().is_empty() && !speaks_to_tools;
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "    # add one\n    # to each\n    ys = [x + 1 for x in xs]  # here\n\n    \
                        text = '''\n    # no comment\n    '''\n    # noqa: all\n    return ys";

    fn document() -> Document {
        Document {
            name: "f".to_owned(),
            prefix: "def f(xs):\n".to_owned(),
            text: TEXT.to_owned(),
            ..Document::default()
        }
    }

    #[test]
    fn comments_become_latents_and_strings_do_not() {
        let tokenizer = Tokenizer::train(&[document().whole()], 300).unwrap();
        let cut = cut(&document(), &tokenizer, 40);
        let lines = &cut.annotated.trajectory.lines;
        let text = |ids: &[TokenId]| tokenizer.decode(ids);
        assert_eq!(lines.len(), cut.annotated.latents.len());
        assert_eq!(text(&lines[0]), "    ys = [x + 1 for x in xs]  # here\n\n");
        let Some(Latent::Switch { rationale, .. }) = &cut.annotated.latents[0] else {
            panic!("the first line has a latent")
        };
        assert_eq!(text(rationale), " add one to each");
        assert!(
            cut.annotated.latents[1..]
                .iter()
                .all(|latent| *latent == Some(Latent::Keep))
        );
        assert_eq!(text(&lines[2]), "    # no comment\n");
        assert_eq!(lines.last().unwrap(), &[tokenizer.markers().end]);
    }

    #[test]
    fn the_plain_lines_are_the_text() {
        let tokenizer = Tokenizer::train(&[document().whole()], 300).unwrap();
        let cut = cut(&document(), &tokenizer, 40);
        let n = cut.plain.lines.len();
        let ids = cut.plain.lines[..n - 1].concat();
        assert_eq!(tokenizer.decode(&ids), format!("{TEXT}\n"));
        assert_eq!(ids, tokenizer.encode(&format!("{TEXT}\n")));
    }

    #[test]
    fn a_rationale_that_is_too_long_is_no_latent() {
        let tokenizer = Tokenizer::train(&[document().whole()], 300).unwrap();
        let cut = cut(&document(), &tokenizer, 2);
        assert!(
            cut.annotated
                .latents
                .iter()
                .all(|latent| *latent == Some(Latent::Keep))
        );
    }
}
