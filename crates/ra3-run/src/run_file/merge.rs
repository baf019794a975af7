//! One table of settings over another: what an arm or a study has otherwise than the file.

use toml::{Table, Value};

/// `over` in place of what `under` has. Tables are joined key by key, but for one that says another
/// `kind`: the keys of one kind mean nothing to another.
pub(crate) fn merged(under: &Table, over: &Table) -> Table {
    let mut whole = under.clone();
    for (key, value) in over {
        let value = match (whole.get(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) if !is_another_kind(old, new) => {
                Value::Table(merged(old, new))
            }
            _ => value.clone(),
        };
        whole.insert(key.clone(), value);
    }
    whole
}

fn is_another_kind(old: &Table, new: &Table) -> bool {
    new.get("kind")
        .is_some_and(|kind| old.get("kind") != Some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_is_said_stands_over_what_is_not() {
        let under = table("a = 1\nb = { c = 2, d = [3, 4] }\np = { kind = 'x', y = 1 }");
        let over = table("b.d = [5]\np = { kind = 'z', w = 2 }");
        let whole = table("a = 1\nb = { c = 2, d = [5] }\np = { kind = 'z', w = 2 }");
        assert_eq!(merged(&under, &over), whole);
        let same_kind = table("p = { kind = 'x', v = 3 }");
        assert_eq!(
            merged(&under, &same_kind)["p"],
            Value::Table(table("kind = 'x'\ny = 1\nv = 3"))
        );
    }
}
