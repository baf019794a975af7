//! Family `record`: a small table copied from the description.
//!
//! Nothing has to be worked out, so a rationale is wasted; and copying by content is the skill
//! that every rationale of the other families rests on, so these short programs teach it cheaply.

use crate::draw::Draw;
use crate::family::Family;
use crate::sketch::{Composition, Line, Sketch};
use crate::value::Value;

/// A function that returns a table of `n_steps + 1` entries.
pub(crate) fn record(n_steps: usize, draw: &mut Draw) -> Sketch {
    let keys = draw.sample(&["a", "b", "c", "d", "e", "f", "g", "h"], n_steps + 1);
    let entries: Vec<(String, i64)> = keys
        .into_iter()
        .map(|key| (key.to_owned(), draw.between(0, 9)))
        .collect();
    let said: Vec<String> = entries.iter().map(|(k, v)| format!("{k} {v}")).collect();
    let opening = draw.pick(&["Return the table with", "Build the table of"]);
    let table = Value::Table(entries.clone());
    let lines = if draw.chance(0.5) {
        vec![Line::plain(format!("return {table}")).with_idle_comment("the whole table")]
    } else {
        let mut lines = vec![Line::plain("d = {}").with_idle_comment("start empty")];
        lines.extend(
            entries
                .iter()
                .map(|(k, v)| Line::plain(format!("d['{k}'] = {v}")).with_idle_comment("put it")),
        );
        lines.push(Line::plain("return d").with_idle_comment("give back the result"));
        lines
    };
    Sketch {
        family: Family::Record,
        n_steps,
        composition: Composition::Single,
        entry_point: "table",
        parameters: "",
        description: format!("{opening} {}", said.join(", ")),
        lines,
        // Any call tells the whole table.
        example: None,
        tests: vec![(Vec::new(), table)],
    }
}
