//! The jobs without the rest of the product, which takes minutes to build: JSON lines.
//!
//! ```text
//! cargo bench -p ra3-bench --bench engine -- S 7 train,score bfloat16    # size, runs, jobs
//! cargo bench -p ra3-bench --bench engine -- XL 3 generate-1 float32 bfloat16    # of weights
//! cargo bench -p ra3-bench --bench engine -- models/base    # the shape of a checkpoint
//! ```
#![expect(clippy::print_stdout, reason = "the results go to standard output")]

use std::path::PathBuf;

use ra3_bench::{BenchError, Request, measure};
use ra3_lm::config::Precision;

fn main() -> Result<(), BenchError> {
    // Cargo itself adds `--bench`.
    let arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let words: Vec<String> = arguments.collect();
    let word = |index: usize| words.get(index).map(String::as_str);
    let shape = word(0).unwrap_or("S");
    let folder = PathBuf::from(shape);
    let request = Request {
        model: folder.join("config.json").exists().then_some(folder),
        size: shape.to_owned(),
        vocabulary: None,
        jobs: word(2).map_or(Vec::new(), |jobs| {
            jobs.split(',').map(str::to_owned).collect()
        }),
        compute: precision(word(3)),
        weights: precision(word(4)),
        n_runs: word(1).map_or(7, |n| n.parse().expect("the number of runs is a number")),
        n_threads: None,
    };
    println!("{}", measure(&request, &mut |_| {})?.to_json_lines());
    Ok(())
}

fn precision(word: Option<&str>) -> Precision {
    match word {
        None | Some("float32") => Precision::Float32,
        Some("bfloat16") => Precision::Bfloat16,
        Some(other) => panic!("{other:?} is neither float32 nor bfloat16"),
    }
}
