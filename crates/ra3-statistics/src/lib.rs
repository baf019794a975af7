//! What graded samples say: pass@k, means and differences with their intervals over problems and
//! over seeds, and curves. Numbers in, numbers out: what they are of is not known here.

pub mod curves;
pub mod over_seeds;
pub mod pass_at_k;
mod student;
