//! Which values of a plan were not written: the plan is complete, and says where it is from.

use toml::Table;

use super::RunFile;
use super::steps::Lines;

/// The keys of a plan that neither file nor overrides have, as they stand in it.
pub fn defaulted(file: &RunFile, written: &Table) -> Vec<String> {
    let text = text_of(file);
    let values = Lines::of(&text).values();
    let left_out = values
        .into_iter()
        .filter(|(steps, _)| !steps.lead_to_something(written));
    left_out.map(|(steps, _)| steps.to_string()).collect()
}

/// A plan as TOML, with `# default` behind each value that was not written.
pub fn marked(file: &RunFile, written: &Table) -> String {
    let mut text = text_of(file);
    let mut values = Lines::of(&text).values();
    values.sort_by_key(|(_, span)| span.end);
    for (_, span) in values
        .iter()
        .rev()
        .filter(|(steps, _)| !steps.lead_to_something(written))
    {
        text.insert_str(span.end, "  # default");
    }
    text
}

fn text_of(file: &RunFile) -> String {
    toml::to_string_pretty(file).expect("a run file is made of TOML's types")
}
