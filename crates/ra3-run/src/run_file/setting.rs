//! Settings as `--set` and `[study]` name them: `ra3.rounds`, `arms.ra3.rlvr`. A table of a list is
//! called by its name; the only one needs none.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::allowed::leaves_by;
use super::measure::EvaluateSection;
use super::shape::{Field, Shape};
use super::steps::{Step, Steps};
use super::{OWN, RunFile, shown};

/// The way to a setting; from where nothing is yet, by keys.
pub(super) fn way(table: &Table, path: &str) -> Steps {
    let mut steps = Steps::default();
    let (mut inner, mut rest) = (Some(table), path);
    while !rest.is_empty() {
        let (first, behind) = rest.split_once('.').unwrap_or((rest, ""));
        steps = steps.key(first);
        let value = inner.and_then(|inner| inner.get(first));
        inner = value.and_then(Value::as_table);
        rest = behind;
        if let Some(Value::Array(values)) = value
            && let Some((place, behind)) = element(first, values, rest)
        {
            steps = steps.place(place);
            (inner, rest) = (values[place].as_table(), behind);
        }
    }
    steps
}

/// Puts a value where a setting is.
pub(crate) fn put(table: &mut Table, path: &str, value: Value) -> Result<(), String> {
    let Some((first, rest)) = path.split_once('.') else {
        table.insert(path.to_owned(), value);
        return Ok(());
    };
    let inner = table
        .entry(first)
        .or_insert_with(|| Value::Table(Table::new()));
    match inner {
        Value::Table(inner) => put(inner, rest, value),
        Value::Array(values) => {
            let (place, rest) = element(first, values, rest).ok_or_else(|| {
                let name = rest.split('.').next().unwrap_or_default();
                format!("`{first}` has none with name = {name:?}: it is {first}.NAME.key=value")
            })?;
            let named = values[place].as_table_mut();
            let named = named.ok_or_else(|| format!("`{first}` is no list of tables"))?;
            put(named, rest, value)
        }
        _ => Err(format!("`{first}` is not a table")),
    }
}

/// What may stand where a setting is; `None` where a run file has no such key.
pub(super) fn shape(table: &Table, path: &str) -> Option<&'static Shape> {
    let mut fields: Vec<&'static Field> = Shape::of_run_file().iter().collect();
    let mut shape: Option<&'static Shape> = None;
    for step in way(table, path).0 {
        if let Some(Shape::List(of)) = shape {
            // The place of a table, or its name where the list is not written.
            shape = Some(of);
            fields = of.fields();
            continue;
        }
        let Step::Key(name) = step else {
            return None;
        };
        let field = fields.iter().find(|field| field.name == name)?;
        shape = Some(&field.shape);
        fields = match &field.shape {
            Shape::Own => own_fields(),
            shape => shape.fields(),
        };
    }
    shape
}

/// All values of a run file, by the names of their settings.
pub(crate) fn settings(file: &RunFile) -> BTreeMap<String, String> {
    let leaves = leaves_by(file, &|list, value| Some(name(list, value)?.into_owned()));
    let named = leaves.into_iter();
    named.map(|leaf| (leaf.path, shown(&leaf.value))).collect()
}

/// The keys that a setting may be, the likeliest first: its own path, what stands behind an arm's
/// `set`, and that of a table of a list without the name (`arms.ra3.rlvr`), which may have dots.
pub(crate) fn keys_of(setting: &str) -> impl Iterator<Item = String> {
    let own = setting
        .strip_prefix("set.")
        .or_else(|| setting.split_once(".set.").map(|(_, own)| own));
    let (list, rest) = setting.split_once('.').unwrap_or((setting, ""));
    let behind = rest.match_indices('.').map(|(at, _)| &rest[at + 1..]);
    let unnamed = behind.map(move |key| format!("{list}.{key}"));
    let first = [Some(setting), own].into_iter().flatten();
    first.map(str::to_owned).chain(unnamed)
}

/// What an arm may have of its own.
pub(super) fn own_fields() -> Vec<&'static Field> {
    let is_own = |field: &&Field| OWN.contains(&field.name.as_str());
    Shape::of_run_file().iter().filter(is_own).collect()
}

/// The place of the table of a list whose name a path begins with, the longest where there are
/// several (`qwen-1.5b`), and the rest of the path.
fn element<'a>(list: &str, values: &[Value], path: &'a str) -> Option<(usize, &'a str)> {
    let behind = |value: &Value| {
        let rest = path.strip_prefix(&*name(list, value)?)?;
        rest.strip_prefix('.')
    };
    let named = values.iter().enumerate();
    let named = named.filter_map(|(place, value)| Some((place, behind(value)?)));
    let longest = named.min_by_key(|(_, rest)| rest.len());
    longest.or((values.len() == 1).then_some((0, path)))
}

fn name<'v>(list: &str, value: &'v Value) -> Option<std::borrow::Cow<'v, str>> {
    if let Some(name) = value.get("name") {
        return Some(name.as_str()?.into());
    }
    // A measure is called by its problems where it has no name.
    let measure = || value.clone().try_into::<EvaluateSection>().ok();
    let measure = (list == "evaluate").then(measure)??;
    Some(measure.name().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let text = r#"
            arms = [{ name = "qwen" }, { name = "qwen-1.5b" }, { name = "qwen-1" }]
            evaluate = [{ problems = { set = "mbpp" } }, { name = "own" }, { n_samples = 2 }]
        "#;
        text.parse().unwrap()
    }

    #[test]
    fn tables_of_lists_are_called_by_their_names() {
        for (path, found) in [
            ("arms.qwen-1.5b.rlvr", "arms[1].rlvr"),
            ("arms.qwen-1.rlvr", "arms[2].rlvr"),
            ("arms.qwen.set.ra3.rounds", "arms[0].set.ra3.rounds"),
            ("arms.other.rlvr", "arms.other.rlvr"),
            ("evaluate.mbpp.n_samples", "evaluate[0].n_samples"),
            ("evaluate.own.problems.set", "evaluate[1].problems.set"),
            ("evaluate.testbed.temperature", "evaluate[2].temperature"),
            ("ra3.e_step.penalty.cost", "ra3.e_step.penalty.cost"),
        ] {
            assert_eq!(way(&table(), path).to_string(), found);
        }
    }

    #[test]
    fn a_setting_is_put_where_its_way_leads() {
        let mut table = table();
        put(&mut table, "arms.qwen-1.5b.rlvr", Value::Boolean(false)).unwrap();
        assert_eq!(table["arms"][1]["rlvr"], Value::Boolean(false));
        put(&mut table, "ra3.rounds", Value::Integer(3)).unwrap();
        assert_eq!(table["ra3"]["rounds"], Value::Integer(3));
        let error = put(&mut table, "arms.other.rlvr", Value::Boolean(true)).unwrap_err();
        assert!(error.contains("\"other\""), "{error}");
    }

    #[test]
    fn only_keys_of_run_files_have_a_shape() {
        for (path, is_known) in [
            ("arms.qwen-1.5b.rlvr", true),
            ("arms.qwen-1.5b.set.ra3.rounds", true),
            ("arms.qwen-1.5b.set.seed", false),
            ("evaluate.mbpp.n_samples", true),
            ("ra3.rounds", true),
            ("ra3.round", false),
            ("arms.nobody.rlvr", true),
            ("rlvr.problems.set", true),
        ] {
            assert_eq!(shape(&table(), path).is_some(), is_known, "{path}");
        }
        assert!(
            shape(&Table::new(), "arms.ra3.rlvr").is_some(),
            "a default list"
        );
    }
}
