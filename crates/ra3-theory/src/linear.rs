//! Small dense linear systems, by elimination with partial pivoting. The systems here have at most
//! a few hundred unknowns, solved once each, which does not earn a dependency.

/// Solves `A x = b` for `A` in row order, `[n, n]`. The matrix must be regular.
pub fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    assert_eq!(matrix.len(), n * n, "the matrix is square");
    for pivot in 0..n {
        let size = |row: &usize| matrix[row * n + pivot].abs();
        let largest = (pivot..n)
            .max_by(|a, b| size(a).total_cmp(&size(b)))
            .expect("the range has the pivot itself");
        assert!(matrix[largest * n + pivot] != 0.0, "the matrix is regular");
        if largest != pivot {
            (0..n).for_each(|column| matrix.swap(pivot * n + column, largest * n + column));
            right.swap(pivot, largest);
        }
        let (above, below) = matrix.split_at_mut((pivot + 1) * n);
        let pivot_row = &above[pivot * n..];
        for (index, row) in below.chunks_exact_mut(n).enumerate() {
            let factor = row[pivot] / pivot_row[pivot];
            if factor == 0.0 {
                continue;
            }
            for column in pivot..n {
                row[column] -= factor * pivot_row[column];
            }
            right[pivot + 1 + index] -= factor * right[pivot];
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|c| matrix[row * n + c] * right[c]).sum();
        right[row] = (right[row] - known) / matrix[row * n + row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::solve;

    #[test]
    fn a_system_by_hand() {
        // 2y = 4 and 3x + y = 5: a zero stands where the first pivot would be.
        assert_eq!(solve(vec![0.0, 2.0, 3.0, 1.0], vec![4.0, 5.0]), [1.0, 2.0]);
    }
}
