//! The jobs without the rest of the product, which takes minutes to build: JSON lines.
//!
//! ```text
//! cargo bench -p ra3-bench --bench engine -- S 7 train,score bfloat16    # size, runs, jobs
//! ```
#![expect(clippy::print_stdout, reason = "the results go to standard output")]

use ra3_bench::{BenchError, Request, measure};
use ra3_lm::config::Precision;

fn main() -> Result<(), BenchError> {
    // Cargo itself adds `--bench`.
    let arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let words: Vec<String> = arguments.collect();
    let word = |index: usize| words.get(index).map(String::as_str);
    let request = Request {
        model: None,
        size: word(0).unwrap_or("S").to_owned(),
        vocabulary: None,
        jobs: word(2).map_or(Vec::new(), |jobs| {
            jobs.split(',').map(str::to_owned).collect()
        }),
        compute: match word(3) {
            None | Some("float32") => Precision::Float32,
            Some("bfloat16") => Precision::Bfloat16,
            Some(other) => panic!("{other:?} is neither float32 nor bfloat16"),
        },
        n_runs: word(1).map_or(7, |n| n.parse().expect("the number of runs is a number")),
        n_threads: None,
    };
    println!("{}", measure(&request, &mut |_| {})?.to_json_lines());
    Ok(())
}
