//! Means with their intervals over seeds, and straight lines through logarithms.

/// A mean with a 95 % interval (normal approximation: 1.96 standard errors).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half the width of the interval; 0 for a single value.
    pub half_width: f64,
}

/// The mean of some values and its interval.
pub fn estimate(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half_width = if values.len() < 2 {
        0.0
    } else {
        1.96 * (squares / (n - 1.0) / n).sqrt()
    };
    Estimate { mean, half_width }
}

/// Slope and intercept of the least squares line through points.
pub fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let (mean_x, mean_y) = points.iter().fold((0.0, 0.0), |(x, y), point| {
        (x + point.0 / n, y + point.1 / n)
    });
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in points {
        covariance += (x - mean_x) * (y - mean_y);
        variance += (x - mean_x).powi(2);
    }
    let slope = covariance / variance;
    (slope, mean_y - slope * mean_x)
}

/// The exponent `a` of `y = c x^a`, fitted once for each seed so that its interval is over seeds.
/// `ys` is `[seed][point]`, one value for each of `xs`; all are positive.
pub fn exponent(xs: &[f64], ys: &[Vec<f64>]) -> Estimate {
    let fit = |ys: &Vec<f64>| {
        let logs = xs.iter().zip(ys).map(|(x, y)| (x.ln(), y.ln()));
        line(&logs.collect::<Vec<_>>()).0
    };
    estimate(&ys.iter().map(fit).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_by_hand() {
        let found = estimate(&[1.0, 3.0]);
        assert_eq!(found.mean, 2.0);
        // Standard deviation √2, standard error 1.
        assert!((found.half_width - 1.96).abs() < 1e-12);
        let (slope, intercept) = line(&[(0.0, 1.0), (2.0, 5.0)]);
        assert_eq!((slope, intercept), (2.0, 1.0));
        let power = exponent(&[1.0, 2.0, 4.0], &[vec![3.0, 12.0, 48.0]]);
        assert!((power.mean - 2.0).abs() < 1e-12);
    }
}
