//! The program in an answer, as LiveCodeBench takes it (`lcb_runner/utils/extraction_utils.py`).

/// Of a base model: the whole answer without white space around it.
pub fn of_base_model(answer: &str) -> String {
    answer.trim().to_owned()
}

/// Of a chat model: the lines between the last two that hold three backquotes; empty where fewer
/// than two do.
pub fn of_chat_model(answer: &str) -> String {
    let lines: Vec<&str> = answer.split('\n').collect();
    let fences: Vec<usize> = (0..lines.len())
        .filter(|index| lines[*index].contains("```"))
        .collect();
    match fences.as_slice() {
        [.., first, last] => lines[first + 1..*last].join("\n"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_hand() {
        for (answer, program) in [
            ("```python\nprint(1)\n```", "print(1)"),
            ("```\na\n```\nor\n```python\nb\n```\nbye", "b"),
            ("```python\na", ""),
            ("print(1)", ""),
            // The last two, whatever they are.
            ("```\na\n```\nsee ```x``` there", ""),
        ] {
            assert_eq!(of_chat_model(answer), program, "{answer}");
        }
        assert_eq!(of_base_model("\n print(1)\n"), "print(1)");
    }
}
