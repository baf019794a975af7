//! Faults of run files: all that there are at once, each with its line and in words that say what
//! to do.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use ra3_run::run_file::{self, Fault, Origin, RunFileError};
use toml::value::Datetime;
use toml::{Table, Value};

fn tiny() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runs/tiny.toml");
    std::fs::read_to_string(path).unwrap()
}

fn faults(text: &str, overrides: &[&str]) -> Vec<Fault> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    match run_file::parse(text, Path::new("x.toml"), &overrides) {
        Ok(_) => Vec::new(),
        Err(RunFileError::Faults(faults)) => faults.0,
        Err(other) => panic!("{other}"),
    }
}

fn said(text: &str, overrides: &[&str]) -> String {
    let faults = faults(text, overrides);
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A way to spoil a run file.
#[derive(Clone, Copy, Debug)]
enum Slip {
    /// A date, which no key may be.
    BadValue,
    /// A key that there is not, beside another.
    UnknownKey,
    /// A key that must be there is not.
    Missing,
}

const REQUIRED: [&str; 8] = [
    "name",
    "directory",
    "base.n_updates",
    "base.batch_documents",
    "base.model.hidden_size",
    "base.model.n_layers",
    "tokenizer.n_vocabulary",
    "corpus.sources[0].python",
];

/// The table that a path leads to, and the key in it.
fn table_of<'table>(root: &'table mut Table, path: &str) -> (&'table mut Table, String) {
    let parts: Vec<&str> = path.split('.').collect();
    let mut table = root;
    for part in &parts[..parts.len() - 1] {
        let (name, place) = part.split_once('[').unwrap_or((part, ""));
        let value = table.get_mut(name).unwrap();
        table = match place.trim_end_matches(']').parse::<usize>() {
            Ok(place) => value.get_mut(place).unwrap().as_table_mut().unwrap(),
            Err(_) => value.as_table_mut().unwrap(),
        };
    }
    (table, parts[parts.len() - 1].to_owned())
}

/// Spoils a table, and says which key will be named.
fn spoil(root: &mut Table, path: &str, slip: Slip) -> String {
    let (table, last) = table_of(root, path);
    let (name, place) = last.split_once('[').unwrap_or((&last, ""));
    match slip {
        Slip::BadValue => {
            let date = Value::Datetime("2026-01-01".parse::<Datetime>().unwrap());
            match place.trim_end_matches(']').parse::<usize>() {
                Ok(place) => table[name].as_array_mut().unwrap()[place] = date,
                Err(_) => table[name] = date,
            }
            path.to_owned()
        }
        Slip::UnknownKey => {
            let name = format!("zz_{name}");
            table.insert(name.clone(), Value::Boolean(true));
            let parent = path
                .rsplit_once('.')
                .map_or(String::new(), |(parent, _)| format!("{parent}."));
            format!("{parent}{name}")
        }
        Slip::Missing => {
            table.remove(name);
            path.to_owned()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn as_many_faults_come_out_as_were_put_in(
        slips in prop::collection::vec((any::<prop::sample::Index>(), 0..3), 1..12),
    ) {
        let change = "arms.ra3.set={ra3={rounds=2, e_step={horizon=1}}}".to_owned();
        let file = run_file::parse(&tiny(), Path::new("x.toml"), &[change]).unwrap();
        let mut table = Table::try_from(&file).unwrap();
        let paths: Vec<String> = run_file::leaves(&file)
            .into_iter()
            .map(|leaf| leaf.path)
            // Without its kind nobody knows what a table must have.
            .filter(|path| path.rsplit('.').next() != Some("kind"))
            .collect();
        let mut chosen: BTreeMap<String, Slip> = BTreeMap::new();
        for (place, slip) in slips {
            let (path, slip) = match slip {
                0 => (paths[place.index(paths.len())].clone(), Slip::BadValue),
                1 => (paths[place.index(paths.len())].clone(), Slip::UnknownKey),
                _ => (REQUIRED[place.index(REQUIRED.len())].to_owned(), Slip::Missing),
            };
            // The places of a list share a name.
            let key = if path.ends_with(']') {
                path.rsplit_once('[').unwrap().0.to_owned() + "[0]"
            } else {
                path
            };
            chosen.insert(key, slip);
        }
        let mut expected: Vec<String> =
            chosen.iter().map(|(path, slip)| spoil(&mut table, path, *slip)).collect();
        expected.sort();
        let text = toml::to_string(&table).unwrap();
        let found = faults(&text, &[]);
        let mut keys: Vec<String> = found.iter().map(|fault| fault.key.clone()).collect();
        keys.sort();
        prop_assert_eq!(keys, expected, "{}", text);
        for fault in &found {
            let Origin::File { line, .. } = fault.origin else {
                panic!("{fault} is not of the file")
            };
            let name = fault.key.rsplit('.').next().unwrap().split('[').next().unwrap();
            let line = text.lines().nth(line - 1).unwrap_or_default();
            let is_missing = fault.message.contains("is missing");
            prop_assert!(is_missing || line.contains(name), "{fault}: {line}");
        }
    }
}

/// A file with its faults, as they are said.
const SAID: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "x.toml:1: name is missing: it is one line of 1 to 100 characters",
            "x.toml:1: directory is missing: it is a path",
            "x.toml:1: base is missing: it is a table, whose kind is one of pretrain, checkpoint",
        ],
    ),
    (
        "\u{feff}name = 'a'\r\ndirectory = 'b'\r\nbase = { kind = 'checkpoint', path = 'c' }\r\n\
         sead = 3\r\n",
        &["x.toml:4: sead: there is no such key: did you mean `seed`?"],
    ),
    ("{\"name\": 1}\n", &["x.toml:1: this is no TOML: "]),
    (
        "name = 'a'\nname = 'b'\n",
        &["x.toml:2: this is no TOML: duplicate key: name = 'b'"],
    ),
    (
        "name = 'a'\ndirectory = 'b'\nseed = { x = 1 }\nbase = 3\ncorpus = []\n\
         training.recompute = 1\n",
        &[
            "x.toml:3: seed is a table: allowed is a whole number from 0",
            "x.toml:4: base = 3: it is a table, whose kind is one of pretrain, checkpoint",
            "x.toml:5: corpus is a list: it is a table",
            "x.toml:6: training.recompute = 1: allowed is true or false",
        ],
    ),
    (
        "name = 'a'\ndirectory = 'b'\nbase = { kind = 'checkpoint', path = 'c' }\n\
         [engine]\nkind = 'torhc'\ndeadline_s = 9\n",
        &[
            "x.toml:5: engine.kind = \"torhc\": allowed is one of native, torch; did you mean \
             \"torch\"?",
        ],
    ),
    (
        "name = 'a'\ndirectory = 'b'\nbase = { kind = 'checkpoint', path = 'c' }\n\
         [engine]\nkind = 'torch'\ndevice = 'gpu'\ndtype = 'float16'\ndeadline_s = 0\n\
         pyhton = 'python3'\n",
        &[
            "x.toml:6: engine.device = \"gpu\": allowed is one of auto, cpu, cuda",
            "x.toml:7: engine.dtype = \"float16\": allowed is one of float32, bfloat16",
            "x.toml:8: engine.deadline_s = 0: allowed is a whole number from 1 to 1000000",
            "x.toml:9: engine.pyhton: there is no such key: did you mean `python`?",
        ],
    ),
    (
        "name = 'a'\ndirectory = 'b'\nbase = { kind = 'checkpoint', path = 'c' }\n\
         [engine]\nkind = 'native'\npython = 'python3'\n",
        &["x.toml:6: engine.python: kind = \"native\" has no such key, as kind = \"torch\" has"],
    ),
    (
        "name = 'a'\ndirectory = 'b'\n[base]\nkind = 'checkpiont'\npath = 'c'\n\
         [arms]\nname = 'x'\n",
        &[
            "x.toml:4: base.kind = \"checkpiont\": allowed is one of pretrain, checkpoint; did you \
             mean \"checkpoint\"?",
            "x.toml:6: arms is a table: it is a list of tables, each under [[arms]]",
        ],
    ),
    (
        "name = 'a'\ndirectory = 'b'\n[base]\nkind = 'checkpoint'\npath = 'c'\nn_updates = 3\n\
         [[arms]]\nname = 'ntp'\nmethod = 'ntp'\nbudget = { updates = 3, flops = 4 }\n",
        &[
            "x.toml:6: base.n_updates: kind = \"checkpoint\" has no such key, as kind = \
             \"pretrain\" has: take out one or the other",
            "x.toml:10: arms[0].budget has 2 keys: it is a table of one of the keys updates,",
        ],
    ),
    (
        "name = 'a'\ndirectory = 'b'\nbase = { kind = 'checkpoint', path = 'c' }\n\
         [ra3]\nhorizon = 2\nK = 3\nfish = 1\n[ra3.e_step]\ngamma = 0.9\n\
         [ra3.e_step.penalty]\ncost = 1\n[held_out]\niwae = 4\n",
        &[
            "x.toml:5: ra3.horizon: there is no such key: it is a key elsewhere, \
             ra3.e_step.horizon",
            "x.toml:6: ra3.K: there is no such key: did you mean `rounds`?",
            "x.toml:7: ra3.fish: there is no such key: `ra3 explain ra3` lists the keys",
            "x.toml:9: ra3.e_step.gamma: there is no such key: did you mean `discount`?",
            "x.toml:10: ra3.e_step.penalty.kind is missing: it is one of switch_cost, exact_kl,",
            "x.toml:13: held_out.iwae = 4: it is a list, each of it a whole number from 1 to 4096",
        ],
    ),
    (
        "name = 'a'\ndirectory = 'b'\nbase = { kind = 'checkpoint', path = 'c' }\n\
         [[arms]]\nname = 'x'\nmethod = 'ra3'\nset.corpus.seed = 3\nset.ra3.round = 2\n\
         set.ra3.e_step.penalty = { kind = 'exact_kl', cost = 1 }\n\
         [study]\nseeds = [1]\n[study.vary]\n'ra3.round' = [1]\n'arms.x.set.ra3.rounds' = [1.5]\n",
        &[
            "x.toml:7: arms[0].set.corpus: an arm has keys of training, supervised, ra3, rlvr of \
             its own, and no others",
            "x.toml:8: arms[0].set.ra3.round: there is no such key: did you mean `rounds`?",
            "x.toml:9: arms[0].set.ra3.e_step.penalty.cost: kind = \"exact_kl\" has no such key",
            "x.toml:9: arms[0].set.ra3.e_step.penalty.alpha is missing: it is (0, 1)",
            "x.toml:13: study.vary.\"ra3.round\": there is no key \"ra3.round\": did you mean \
             \"ra3.rounds\"?",
            "x.toml:14: study.vary.\"arms.x.set.ra3.rounds\"[0] = 1.5: allowed is a whole number",
        ],
    ),
];

#[test]
fn faults_are_said_with_line_key_and_what_to_do() {
    for (text, expected) in SAID {
        let said = said(text, &[]);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{said}");
        for (line, expected) in lines.iter().zip(*expected) {
            assert!(line.starts_with(expected), "{said}");
        }
    }
}

#[test]
fn faults_of_overrides_name_the_override() {
    let said = said(
        &tiny()
            .replace("seconds", "second")
            .replace("n_threads = 2", "n_threads = -2"),
        &[
            "rlvr.n_update=3",
            "arms.rb3.rlvr=false",
            "arms.ra3.rlvr=3",
            "base.kind=checkpoint",
            "seed",
        ],
    );
    for expected in [
        "x.toml:5: n_threads = -2: allowed is",
        "--set rlvr.n_update=3: rlvr.n_update: there is no such key: did you mean `n_updates`?",
        "--set arms.rb3.rlvr=false: `arms` has none with name = \"rb3\"",
        "--set arms.ra3.rlvr=3: arms[3].rlvr = 3: allowed is true or false",
        "base.path is missing: it is a path",
        "base.n_updates: kind = \"checkpoint\" has no such key",
        "--set seed: expected key.path=value",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn a_key_that_an_override_gives_is_not_missing() {
    let text = tiny().replace("directory = \"out/tiny\"\n", "");
    assert_eq!(faults(&text, &[]).len(), 1);
    assert!(faults(&text, &["directory=out/tiny"]).is_empty());
}

#[test]
fn what_was_not_written_is_marked() {
    let table: Table = toml::from_str(&tiny()).unwrap();
    let file = run_file::parse(&tiny(), Path::new("x.toml"), &[]).unwrap();
    let text = run_file::marked(&file, &table);
    let again: run_file::RunFile = toml::from_str(&text).unwrap();
    assert_eq!(again, file, "marks change nothing");
    for (line, is_marked) in [
        ("n_threads = 2", false),
        ("seed = 1", true),
        ("horizon = 2", true),
        ("cost = 0.5", false),
        ("method = \"none\"", true),
        ("rlvr = false", false),
    ] {
        let marked = format!("\n{line}  # default\n");
        assert_eq!(text.contains(&marked), is_marked, "{line} in {text}");
        assert_eq!(
            text.contains(&format!("\n{line}\n")),
            !is_marked,
            "{line} in {text}"
        );
    }
    let keys = run_file::defaulted(&file, &table);
    let n_marks = text.matches("  # default").count();
    assert_eq!(keys.len(), n_marks);
    for key in [
        "seed",
        "ra3.e_step.horizon",
        "arms[0].method",
        "evaluate[0].pass_at",
    ] {
        assert!(keys.iter().any(|other| other == key), "{key} in {keys:?}");
    }
    // What is written whole has no mark.
    let whole = Table::try_from(&file).unwrap();
    assert!(run_file::defaulted(&file, &whole).is_empty());
}
