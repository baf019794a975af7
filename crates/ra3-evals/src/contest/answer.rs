//! The program in what a model answered to a contest problem.
//!
//! Not done here: what other benchmarks take from an answer.

/// The last block between a line that begins with three backquotes and `python` or nothing, and
/// the next line that begins with three backquotes; `None` where there is none.
pub fn last_block(answer: &str) -> Option<String> {
    let mut last = None;
    let mut open: Option<(bool, Vec<&str>)> = None;
    for line in answer.lines() {
        let fence = line.trim_start().strip_prefix("```");
        open = match (open.take(), fence) {
            (None, Some(language)) => {
                let language = language.trim().to_lowercase();
                let is_python = matches!(language.as_str(), "" | "python" | "python3" | "py");
                Some((is_python, Vec::new()))
            }
            (None, None) => None,
            (Some((is_python, lines)), Some(_)) => {
                if is_python {
                    last = Some(lines.join("\n"));
                }
                None
            }
            (Some((is_python, mut lines)), None) => {
                lines.push(line);
                Some((is_python, lines))
            }
        };
    }
    last
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
