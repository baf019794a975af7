//! The table policy keeps the seam's promises.

use ra3::seed::Seed;
use ra3::table::TablePolicy;
use ra3_contract::Subject;

/// Two tokens that are equally likely after any history.
const TWINS: [u32; 2] = [9, 4];

#[test]
fn the_table_policy_keeps_the_contract() {
    ra3_contract::check(Subject {
        make: || {
            let mut table = TablePolicy::random(12, 2, 1.5, Seed::root(4)).with_limit(40);
            for row in table.logits.chunks_mut(12) {
                row[TWINS[0] as usize] = row[TWINS[1] as usize];
            }
            Box::new(table)
        },
        n_vocabulary: 12,
        n_tokens_max: 40,
        twins: TWINS,
        tolerance: 1e-6,
        computes_once: true,
    });
}
