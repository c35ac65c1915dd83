//! What `run --expert-stats` shows: how evenly a mixture of experts was used.

use crate::table::Table;

/// Eighths of a bar.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One line a sparse layer: the busiest and the idlest expert, and a bar for each, the busiest one's full. Dense models have nothing to
/// show.
pub(crate) fn text(usage: &[(usize, Vec<u32>)]) -> String {
    if usage.is_empty() {
        return "experts      none: the model is dense\n".into();
    }
    let mut table = Table::new(&[
        ">layer",
        ">choices",
        ">busiest",
        ">share",
        ">idlest",
        ">share",
        "experts from the first to the last",
    ]);
    for (layer, counts) in usage {
        let total: u64 = counts.iter().map(|&n| u64::from(n)).sum();
        let share = |n: u32| format!("{:.1} %", 100.0 * f64::from(n) / total.max(1) as f64);
        let (busiest, most) = extreme(counts, |a, b| a > b);
        let (idlest, least) = extreme(counts, |a, b| a < b);
        table.row(vec![
            layer.to_string(),
            total.to_string(),
            busiest.to_string(),
            share(most),
            idlest.to_string(),
            share(least),
            bars(counts, most),
        ]);
    }
    table.plain()
}

/// The first expert whose count is beyond all others, and its count.
fn extreme(counts: &[u32], beyond: impl Fn(u32, u32) -> bool) -> (usize, u32) {
    let first = (0, counts.first().copied().unwrap_or(0));
    let better = |best: (usize, u32), (i, &n): (usize, &u32)| if beyond(n, best.1) { (i, n) } else { best };
    counts.iter().enumerate().fold(first, better)
}

/// A count above zero shows, however small.
fn bars(counts: &[u32], most: u32) -> String {
    let bar = |&n: &u32| BARS[(u64::from(n) * 8).div_ceil(u64::from(most.max(1))) as usize];
    counts.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busiest_idlest_and_bars() {
        let text = text(&[(3, vec![1, 16, 0, 16, 8])]);
        let line = text.lines().nth(1).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells[..8], ["3", "41", "1", "39.0", "%", "2", "0.0", "%"]);
        assert!(line.ends_with("▁█ █▄"), "{line}");
        assert_eq!(bars(&[0, 0], 0), "  ");
    }
}
