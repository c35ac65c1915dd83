//! What samples of a time come to: robust figures, since a few of them are always disturbed.

/// The middle value; of an even number of values, the mean of the two in the middle. 0 for none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => 0.0,
        _ if n % 2 == 1 => sorted[n / 2],
        _ => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The median absolute deviation from the median, scaled to be the standard deviation of what is normally distributed.
pub(super) fn spread(values: &[f64]) -> f64 {
    let middle = median(values);
    let deviations: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    1.4826 * median(&deviations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_counts_for_little() {
        assert_eq!((median(&[]), median(&[2.0]), median(&[4.0, 1.0])), (0.0, 2.0, 2.5));
        assert_eq!(median(&[1.0, 2.0, 3.0, 4.0, 1000.0]), 3.0);
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0, 1000.0]), 1.4826);
        assert_eq!(spread(&[5.0]), 0.0);
    }
}
