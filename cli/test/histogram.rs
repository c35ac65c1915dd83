//! The errors of a kernel's cases as a bar chart: from exact, by powers of two, to the bound and beyond.

use minijinja::{Value, context};

use super::case::{CaseEntry, Kind};
use super::sums::bounds;
use crate::output::grouped;

/// Exponents of two that have a bar of their own; what is smaller or larger joins the outermost.
const SMALLEST: i32 = -11;
const LARGEST: i32 = 6;

/// Bars: exact, one for each exponent, infinite or NaN, and failures without a figure.
const N_BARS: usize = (LARGEST - SMALLEST + 1) as usize + 3;

const STEP: f64 = 22.0;
const LEFT: f64 = 6.0;
const BASELINE: f64 = 92.0;
const HIGHEST: f64 = 68.0;

/// The chart's geometry for an SVG.
pub(crate) fn histogram<'a>(cases: impl IntoIterator<Item = &'a CaseEntry>) -> Value {
    let mut counts = [[0usize; 2]; N_BARS];
    for case in cases {
        match case.status {
            Kind::Passed => counts[bar(case.worst)][0] += 1,
            Kind::Failed => counts[bar(case.worst)][1] += 1,
            Kind::Skipped => {}
        }
    }
    let most = counts.iter().flatten().copied().max().unwrap_or(0);
    let bars: Vec<Value> = (0..N_BARS)
        .flat_map(|i| {
            let both = counts[i].iter().all(|&n| n > 0);
            let width = if both { STEP / 2.0 - 1.0 } else { STEP - 2.0 };
            let shown = (0..2).filter(move |&kind| counts[i][kind] > 0);
            shown.map(move |kind| {
                let n = counts[i][kind];
                let x = left_of(i) + 1.0 + if both && kind == 1 { STEP / 2.0 } else { 0.0 };
                let height = height(n, most);
                context! {
                    x => x, y => BASELINE - height, width => width, height => height, middle => x + width / 2.0, above => BASELINE - height - 4.0,
                    kind => ["pass", "fail"][kind], n => grouped(n as u64), what => what(i),
                }
            })
        })
        .collect();
    let after = |exponent: i32| left_of(bar_of(exponent) + 1);
    let ticks = [(-10, "1/1024"), (-5, "1/32"), (0, "bound"), (5, "32×")].map(|(exponent, text)| context! { x => after(exponent), text });
    let names = [(0, "exact"), (N_BARS - 2, "inf"), (N_BARS - 1, "–")].map(|(i, text)| context! { x => left_of(i) + STEP / 2.0, text });
    context! {
        bars, bound => after(0), baseline => BASELINE,
        ticks => ticks.to_vec(), names => names.to_vec(),
        width => left_of(N_BARS) + LEFT, height => BASELINE + 20.0,
    }
}

fn bar_of(exponent: i32) -> usize {
    (exponent - SMALLEST + 1) as usize
}

/// The bar that an error belongs to; that of exponent e holds what is above 2^(e-1) and at most 2^e.
fn bar(worst: Option<f64>) -> usize {
    match worst {
        None => N_BARS - 1,
        Some(0.0) => 0,
        Some(worst) if !worst.is_finite() => N_BARS - 2,
        Some(worst) => bar_of((worst.log2().ceil() as i32).clamp(SMALLEST, LARGEST)),
    }
}

fn left_of(bar: usize) -> f64 {
    // A gap on either side sets apart what is not on the scale.
    let gaps = usize::from(bar > 0) + usize::from(bar >= N_BARS - 2);
    LEFT + STEP * bar as f64 + 8.0 * gaps as f64
}

/// Logarithmic, because one failure among a thousand passes has to be seen.
fn height(n: usize, most: usize) -> f64 {
    let log = |n: usize| (1.0 + n as f64).ln();
    (HIGHEST * log(n) / log(most.max(9))).round()
}

fn what(bar: usize) -> String {
    match bar {
        0 => "exact".into(),
        _ if bar == N_BARS - 1 => "without a figure".into(),
        _ if bar == N_BARS - 2 => "infinite or NaN".into(),
        1 => format!("up to {} of the bound", bounds(Some(f64::from(SMALLEST).exp2()))),
        _ => {
            let exponent = f64::from(bar as i32 - 1 + SMALLEST);
            let below = bounds(Some((exponent - 1.0).exp2()));
            if exponent == f64::from(LARGEST) {
                format!("above {below} of the bound")
            } else {
                format!("{below} to {} of the bound", bounds(Some(exponent.exp2())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_parts_passes_from_failures() {
        assert_eq!(bar(Some(0.0)), 0);
        assert_eq!(bar(Some(1e-9)), 1);
        assert_eq!(bar(Some(1.0)), bar_of(0));
        assert_eq!(bar(Some(1.01)), bar_of(1));
        assert_eq!(bar(Some(1e30)), bar_of(LARGEST));
        assert_eq!((bar(Some(f64::NAN)), bar(None)), (N_BARS - 2, N_BARS - 1));
        assert!(height(1, 5000) >= 5.0 && height(5000, 5000) <= HIGHEST);
    }
}
