//! The program in what a model answered to a contest problem.
//!
//! Not done here: what other benchmarks take from an answer.

/// The last block that says it is Python, or where none does the last that says nothing: between a
/// line that begins with three backquotes and the next one. `None` where there is neither.
pub fn last_block(answer: &str) -> Option<String> {
    let (mut python, mut other) = (None, None);
    let mut open: Option<(String, Vec<&str>)> = None;
    for line in answer.lines() {
        let fence = line.trim_start().strip_prefix("```");
        open = match (open.take(), fence) {
            (None, Some(language)) => Some((language.trim().to_lowercase(), Vec::new())),
            (None, None) => None,
            (Some((language, lines)), Some(_)) => {
                match language.as_str() {
                    "python" | "python3" | "py" => python = Some(lines.join("\n")),
                    "" => other = Some(lines.join("\n")),
                    _ => {}
                }
                None
            }
            (Some((language, mut lines)), None) => {
                lines.push(line);
                Some((language, lines))
            }
        };
    }
    python.or(other)
}

/// The program with the names back that newer versions of Python have dropped: solutions that were
/// written for older ones import `gcd` from `fractions` and sequences from `collections`.
pub fn for_newer_python(program: &str) -> String {
    const MOVED: [(&str, &str); 3] = [
        ("from fractions import gcd", "from math import gcd"),
        ("fractions.gcd(", "__import__('math').gcd("),
        (
            "collections.Iterable",
            "__import__('collections.abc').abc.Iterable",
        ),
    ];
    let replace = |program: String, (old, new): &(&str, &str)| program.replace(old, new);
    MOVED.iter().fold(program.to_owned(), replace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_by_hand() {
        for (answer, block) in [
            ("```python\nprint(1)\n```", Some("print(1)")),
            (
                "First:\n```\na\n```\nthen\n```python\nb\nc\n```\nDone.",
                Some("b\nc"),
            ),
            ("```python\na\n```\n```text\nout\n```", Some("a")),
            ("```python\na\n```\nIt prints:\n```\n3\n```", Some("a")),
            ("```\na\n```\nor\n```\nb\n```", Some("b")),
            ("```python\na", None),
            ("print(1)", None),
            ("```cpp\nint x;\n```", None),
            ("  ```py\n  a\n  ```", Some("  a")),
        ] {
            assert_eq!(last_block(answer).as_deref(), block, "{answer}");
        }
    }

    #[test]
    fn dropped_names_come_back() {
        let program = "from fractions import gcd\nprint(gcd(4, 6))\n";
        assert_eq!(
            for_newer_python(program),
            "from math import gcd\nprint(gcd(4, 6))\n"
        );
    }
}
