//! The operations themselves: one flat list, each entry alike. Data only.

use crate::operation::{Action, Operation};

const fn plain(
    name: &'static str,
    commands: &'static [&'static str],
    gerund: &'static str,
    action: Action,
) -> Operation {
    Operation {
        name,
        commands,
        gerund,
        constants: None,
        action,
    }
}

const fn with_constant(
    name: &'static str,
    commands: &'static [&'static str],
    gerund: &'static str,
    constants: (i64, i64),
    action: Action,
) -> Operation {
    Operation {
        name,
        commands,
        gerund,
        constants: Some(constants),
        action,
    }
}

fn first_kept(numbers: &[i64]) -> Vec<i64> {
    let mut kept = Vec::new();
    for number in numbers {
        if !kept.contains(number) {
            kept.push(*number);
        }
    }
    kept
}

fn sorted(numbers: &[i64]) -> Vec<i64> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers
}

fn reversed<T: Clone>(items: &[T]) -> Vec<T> {
    items.iter().rev().cloned().collect()
}

fn swap_case(letter: char) -> char {
    if letter.is_ascii_lowercase() {
        letter.to_ascii_uppercase()
    } else {
        letter.to_ascii_lowercase()
    }
}

fn sorted_letters(text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    letters.sort_unstable();
    letters.into_iter().collect()
}

/// Every operation, lists first, then texts, then dictionaries.
pub(crate) static CATALOGUE: [Operation; 48] = [
    plain(
        "sort",
        &["sort the list", "put the list in order"],
        "sorting",
        Action::Numbers("sorted(_)", |xs, _| sorted(xs)),
    ),
    plain(
        "sort_down",
        &["sort from high to low", "sort in descending order"],
        "sorting downwards",
        Action::Numbers("sorted(_, reverse=True)", |xs, _| reversed(&sorted(xs))),
    ),
    plain(
        "reverse",
        &["reverse the list", "turn the list around"],
        "reversing",
        Action::Numbers("_[::-1]", |xs, _| reversed(xs)),
    ),
    plain(
        "drop_first",
        &["drop the first element", "leave out the first element"],
        "dropping the first",
        Action::Numbers("_[1:]", |xs, _| xs.iter().skip(1).copied().collect()),
    ),
    plain(
        "drop_last",
        &["drop the last element", "leave out the last element"],
        "dropping the last",
        Action::Numbers("_[:-1]", |xs, _| xs[..xs.len().saturating_sub(1)].to_vec()),
    ),
    plain(
        "every_other",
        &["take every other element", "keep every second element"],
        "taking every other",
        Action::Numbers("_[::2]", |xs, _| xs.iter().step_by(2).copied().collect()),
    ),
    plain(
        "unique",
        &["remove duplicates", "keep each value once"],
        "removing duplicates",
        Action::Numbers("list(dict.fromkeys(_))", |xs, _| first_kept(xs)),
    ),
    plain(
        "double",
        &["double every element", "multiply each element by two"],
        "doubling",
        Action::Each("x * 2", |x, _| x * 2),
    ),
    plain(
        "square",
        &["square every element", "replace each element by its square"],
        "squaring",
        Action::Each("x * x", |x, _| x * x),
    ),
    plain(
        "negate",
        &["negate every element", "flip the sign of each element"],
        "negating",
        Action::Each("-x", |x, _| -x),
    ),
    plain(
        "absolute",
        &["take absolute values", "make every element non-negative"],
        "taking absolute values",
        Action::Each("abs(x)", |x, _| x.abs()),
    ),
    plain(
        "halve",
        &["halve every element", "floor divide each element by two"],
        "halving",
        Action::Each("x // 2", |x, _| x.div_euclid(2)),
    ),
    plain(
        "keep_even",
        &["keep the even elements", "drop the odd elements"],
        "keeping the even",
        Action::Keep("x % 2 == 0", |x, _| x % 2 == 0),
    ),
    plain(
        "keep_odd",
        &["keep the odd elements", "drop the even elements"],
        "keeping the odd",
        Action::Keep("x % 2 == 1", |x, _| x % 2 != 0),
    ),
    plain(
        "keep_positive",
        &[
            "keep the positive elements",
            "drop elements that are not positive",
        ],
        "keeping the positive",
        Action::Keep("x > 0", |x, _| x > 0),
    ),
    with_constant(
        "add",
        &["add # to every element", "raise each element by #"],
        "adding #",
        (0, 9),
        Action::Each("x + #", |x, n| x + n),
    ),
    with_constant(
        "subtract",
        &["subtract # from every element", "lower each element by #"],
        "subtracting #",
        (0, 9),
        Action::Each("x - #", |x, n| x - n),
    ),
    with_constant(
        "multiply",
        &["multiply every element by #", "scale each element by #"],
        "multiplying by #",
        (0, 9),
        Action::Each("x * #", |x, n| x * n),
    ),
    with_constant(
        "keep_above",
        &["keep elements above #", "keep what is greater than #"],
        "keeping those above #",
        (0, 9),
        Action::Keep("x > #", |x, n| x > n),
    ),
    with_constant(
        "keep_below",
        &["keep elements below #", "keep what is less than #"],
        "keeping those below #",
        (0, 9),
        Action::Keep("x < #", |x, n| x < n),
    ),
    with_constant(
        "without",
        &["drop elements equal to #", "remove every #"],
        "removing every #",
        (0, 9),
        Action::Keep("x != #", |x, n| x != n),
    ),
    with_constant(
        "take",
        &["take the first # elements", "keep only # elements"],
        "taking the first #",
        (0, 9),
        Action::Numbers("_[:#]", |xs, n| {
            xs.iter().take(n as usize).copied().collect()
        }),
    ),
    with_constant(
        "skip",
        &[
            "skip the first # elements",
            "leave out # elements at the start",
        ],
        "skipping the first #",
        (0, 9),
        Action::Numbers("_[#:]", |xs, n| {
            xs.iter().skip(n as usize).copied().collect()
        }),
    ),
    plain(
        "sum",
        &["return the sum", "add everything up"],
        "summing",
        Action::NumbersEnd("sum(_)", |xs, _| xs.iter().sum()),
    ),
    plain(
        "length",
        &["return how many there are", "count the elements"],
        "counting",
        Action::NumbersEnd("len(_)", |xs, _| xs.len() as i64),
    ),
    plain(
        "maximum",
        &["return the greatest or 0", "return the maximum or 0"],
        "taking the maximum",
        Action::NumbersEnd("max(_, default=0)", |xs, _| {
            xs.iter().copied().max().unwrap_or(0)
        }),
    ),
    with_constant(
        "count",
        &[
            "count how often # occurs",
            "return the number of times # occurs",
        ],
        "counting #",
        (0, 9),
        Action::NumbersEnd("_.count(#)", |xs, n| {
            xs.iter().filter(|x| **x == n).count() as i64
        }),
    ),
    plain(
        "upper",
        &["make the text upper case", "turn it to capitals"],
        "making it upper case",
        Action::Text("_.upper()", |text, _| text.to_ascii_uppercase()),
    ),
    plain(
        "lower",
        &["make the text lower case", "turn it to small letters"],
        "making it lower case",
        Action::Text("_.lower()", |text, _| text.to_ascii_lowercase()),
    ),
    plain(
        "swap_case",
        &[
            "swap the case of the letters",
            "exchange capitals and small letters",
        ],
        "swapping case",
        Action::Text("_.swapcase()", |text, _| {
            text.chars().map(swap_case).collect()
        }),
    ),
    plain(
        "reverse_text",
        &["reverse the text", "write it backwards"],
        "reversing",
        Action::Text("_[::-1]", |text, _| text.chars().rev().collect()),
    ),
    plain(
        "sort_letters",
        &["sort the letters", "put the letters in order"],
        "sorting the letters",
        Action::Text("''.join(sorted(_))", |text, _| sorted_letters(text)),
    ),
    plain(
        "remove_spaces",
        &["remove the spaces", "leave out spaces"],
        "removing spaces",
        Action::Text("_.replace(' ', '')", |text, _| text.replace(' ', "")),
    ),
    plain(
        "dashes",
        &["replace spaces by dashes", "put dashes for spaces"],
        "replacing spaces by dashes",
        Action::Text("_.replace(' ', '-')", |text, _| text.replace(' ', "-")),
    ),
    plain(
        "a_to_o",
        &["replace a by o", "put o for every a"],
        "replacing a by o",
        Action::Text("_.replace('a', 'o')", |text, _| text.replace('a', "o")),
    ),
    with_constant(
        "take_letters",
        &["take the first # letters", "cut the text to # letters"],
        "taking the first # letters",
        (0, 9),
        Action::Text("_[:#]", |text, n| text.chars().take(n as usize).collect()),
    ),
    with_constant(
        "skip_letters",
        &[
            "skip the first # letters",
            "leave out # letters at the start",
        ],
        "skipping # letters",
        (0, 9),
        Action::Text("_[#:]", |text, n| text.chars().skip(n as usize).collect()),
    ),
    plain(
        "text_length",
        &["return its length", "count the letters"],
        "counting the letters",
        Action::TextEnd("len(_)", |text, _| text.chars().count() as i64),
    ),
    plain(
        "count_words",
        &["count the words", "return the number of words"],
        "counting the words",
        Action::TextEnd("len(_.split())", |text, _| {
            text.split_whitespace().count() as i64
        }),
    ),
    plain(
        "double_values",
        &["double every value", "multiply each value by two"],
        "doubling",
        Action::EachValue("v * 2", |v, _| v * 2),
    ),
    plain(
        "negate_values",
        &["negate every value", "flip the sign of each value"],
        "negating",
        Action::EachValue("-v", |v, _| -v),
    ),
    with_constant(
        "add_values",
        &["add # to every value", "raise each value by #"],
        "adding #",
        (0, 9),
        Action::EachValue("v + #", |v, n| v + n),
    ),
    plain(
        "keep_positive_values",
        &[
            "keep entries with a positive value",
            "drop entries that are not positive",
        ],
        "keeping the positive",
        Action::KeepValue("v > 0", |v, _| v > 0),
    ),
    plain(
        "keep_even_values",
        &[
            "keep entries with an even value",
            "drop entries with an odd value",
        ],
        "keeping the even",
        Action::KeepValue("v % 2 == 0", |v, _| v % 2 == 0),
    ),
    with_constant(
        "keep_values_above",
        &[
            "keep entries with a value above #",
            "keep values greater than #",
        ],
        "keeping those above #",
        (0, 9),
        Action::KeepValue("v > #", |v, n| v > n),
    ),
    with_constant(
        "without_value",
        &["drop entries with value #", "remove values equal to #"],
        "removing value #",
        (0, 9),
        Action::KeepValue("v != #", |v, n| v != n),
    ),
    plain(
        "sum_values",
        &["return the sum of the values", "add the values up"],
        "summing the values",
        Action::TableEnd("sum(_.values())", |vs, _| vs.iter().sum()),
    ),
    plain(
        "maximum_value",
        &[
            "return the greatest value or 0",
            "return the maximum value or 0",
        ],
        "taking the maximum",
        Action::TableEnd("max(_.values(), default=0)", |vs, _| {
            vs.iter().copied().max().unwrap_or(0)
        }),
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_constants_are_asked_for() {
        let names: BTreeSet<&str> = CATALOGUE.iter().map(|op| op.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        for op in &CATALOGUE {
            for text in op.commands.iter().chain([&op.gerund]) {
                assert_eq!(
                    text.contains('#'),
                    op.constants.is_some(),
                    "{}: {text}",
                    op.name
                );
            }
        }
    }
}
