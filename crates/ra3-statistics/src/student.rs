//! Quantiles of Student's t distribution for whole degrees of freedom.

use std::f64::consts::FRAC_2_PI;

/// The `t` with `P(|T| ≤ t) = 0.95` for `T` of `df` degrees of freedom.
///
/// # Panics
/// `df` is 0.
pub(crate) fn t_95(df: usize) -> f64 {
    assert!(df > 0, "no degrees of freedom");
    // 12.7 for one degree is the largest; 60 halvings end at neighbouring numbers.
    let (mut below, mut above) = (0.0, 16.0);
    for _ in 0..60 {
        let middle = f64::midpoint(below, above);
        if within(middle, df) < 0.95 {
            below = middle;
        } else {
            above = middle;
        }
    }
    above
}

/// `P(|T| ≤ t)`, exactly (Abramowitz and Stegun, 26.7.3 and 26.7.4), with `θ = atan(t / √df)`:
///
/// ```text
/// df odd:   2/π (θ + sin θ (cos θ + 2/3 cos³ θ + … + 2·4⋯(df−3) / 1·3⋯(df−2) cos^(df−2) θ))
/// df even:  sin θ (1 + 1/2 cos² θ + … + 1·3⋯(df−3) / 2·4⋯(df−2) cos^(df−2) θ)
/// ```
fn within(t: f64, df: usize) -> f64 {
    let theta = (t / (df as f64).sqrt()).atan();
    let (sin, cos) = theta.sin_cos();
    let odd = df % 2;
    let mut term = if odd == 1 { cos } else { 1.0 };
    let mut sum = if df == 1 { 0.0 } else { term };
    for power in (2 + odd..df - 1).step_by(2) {
        term *= (power - 1) as f64 / power as f64 * cos * cos;
        sum += term;
    }
    if odd == 1 {
        FRAC_2_PI * (theta + sin * sum)
    } else {
        sin * sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The printed tables have three decimals.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        let table = [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (5, 2.571),
            (6, 2.447),
            (7, 2.365),
            (8, 2.306),
            (9, 2.262),
            (10, 2.228),
            (19, 2.093),
            (30, 2.042),
            (60, 2.000),
            (120, 1.980),
            (1_000_000, 1.960),
        ];
        for (df, expected) in table {
            assert!((t_95(df) - expected).abs() < 5.1e-4, "{df}: {}", t_95(df));
        }
        // tan(0.475 π), and √2 · 0.95 / √(1 − 0.95²).
        assert!((t_95(1) - (0.475 * std::f64::consts::PI).tan()).abs() < 1e-12);
        assert!((t_95(2) - 2f64.sqrt() * 0.95 / 0.0975f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn probabilities_by_hand() {
        // 2/π · atan 1; t / √(2 + t²); 2/π (π/4 + 1/2); sin θ (1 + cos² θ / 2) with θ = π/4.
        let half = 0.5f64.sqrt();
        let cases = [
            (1.0, 1, 0.5),
            (1.0, 2, 1.0 / 3f64.sqrt()),
            (3f64.sqrt(), 3, 0.5 + std::f64::consts::FRAC_1_PI),
            (2.0, 4, 1.25 * half),
        ];
        for (t, df, expected) in cases {
            assert!((within(t, df) - expected).abs() < 1e-12, "{t}, {df}");
        }
    }
}
