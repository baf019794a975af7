//! Writes a testbed as JSON lines, to be looked at: `testbed CONFIG.json SEED OUT_DIR` gives
//! `documents.jsonl`, `train_problems.jsonl` and `held_out_problems.jsonl`.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use ra3::seed::Seed;
use ra3_testbed::{TestbedConfig, generate};
use serde::Serialize;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, config, seed, out] = arguments.as_slice() else {
        return Err("usage: testbed CONFIG.json SEED OUT_DIR".into());
    };
    let config: TestbedConfig = serde_json::from_str(&fs::read_to_string(config)?)?;
    let testbed = generate(&config, Seed::root(seed.parse()?));
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    write(&out.join("documents.jsonl"), &testbed.documents)?;
    write(&out.join("train_problems.jsonl"), &testbed.train_problems)?;
    write(
        &out.join("held_out_problems.jsonl"),
        &testbed.held_out_problems,
    )
}

fn write<T: Serialize>(path: &Path, records: &[T]) -> Result<(), Box<dyn Error>> {
    let mut file = BufWriter::new(File::create(path)?);
    for record in records {
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}
