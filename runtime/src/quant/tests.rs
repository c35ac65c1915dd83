//! Quantised blocks: what comes back, how well, and what hard values do.

use super::*;

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn round_trip(dtype: DType, values: &[f32]) -> Vec<f32> {
    let planes = quantise(dtype, DType::F32, &bytes(values));
    assert_eq!(planes.elements.len(), dtype.element_bytes(values.len()));
    assert_eq!(planes.scales.len(), dtype.scale_bytes(values.len()));
    dequantise(dtype, &planes.elements, &planes.scales)
}

/// Reproducible values in -1..1.
fn noise(n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| crate::kernels::fill_random::reference(3, i)).collect()
}

#[test]
fn values_on_the_grid_come_back() {
    for d in [1.0, 0.375, f16::from_f32(0.0123).to_f32(), 2f32.powi(-14), 2048.0] {
        let q8: Vec<f32> = (0..64)
            .map(|i| d * if i % 32 == 5 { -127.0 } else { (i * 37 % 254) as f32 - 127.0 })
            .collect();
        assert_eq!(round_trip(DType::Q8, &q8), q8);
    }
    // five significant bits are what a scale of q4 has
    for d in [1.0, 0.375, 29.0 / 2048.0, 2f32.powi(-14), 1984.0] {
        for zero in [0.0, 0.875, 7.5, 8.0, 10.25, 15.0] {
            let at = |i: usize| if i % 32 == 9 { 15 } else { i * 5 % 16 };
            let q4: Vec<f32> = (0..96).map(|i| d * (at(i) as f32 - zero)).collect();
            assert_eq!(round_trip(DType::Q4, &q4), q4, "{d} {zero}");
        }
    }
}

/// Step of block `b`, and the largest values either way.
fn grid(dtype: DType, planes: &Planes, b: usize) -> (f32, f32, f32) {
    let bits = u16::from_le_bytes([planes.scales[2 * b], planes.scales[2 * b + 1]]);
    if dtype == DType::Q8 {
        let d = f16::from_bits(bits).to_f32();
        return (d, -127.0 * d, 127.0 * d);
    }
    let grid = q4::Grid::from_bits(bits);
    let d = grid.scale();
    (d, -grid.zero * d, (15.0 - grid.zero) * d)
}

#[test]
fn each_element_is_the_nearest_of_its_grid() {
    let values = noise(32 * 100);
    for dtype in [DType::Q8, DType::Q4] {
        let planes = quantise(dtype, DType::F32, &bytes(&values));
        let found = dequantise(dtype, &planes.elements, &planes.scales);
        for (i, (x, y)) in values.iter().zip(found).enumerate() {
            let (d, low, high) = grid(dtype, &planes, i / BLOCK);
            let nearest = (x.clamp(low, high) - y).abs();
            assert!(nearest <= d * 0.500_01, "{dtype}: {x} became {y} in {low} to {high}, steps {d}");
        }
    }
}

fn error(found: &[f32], values: &[f32]) -> f64 {
    values.iter().zip(found).map(|(x, y)| f64::from(x - y).powi(2)).sum()
}

/// Reproducible values, close to normal: sums of twelve uniform ones.
fn normal(n: usize) -> Vec<f32> {
    let terms = |i| (0..12).map(move |seed| crate::kernels::fill_random::reference(seed, i));
    (0..n as u32).map(|i| terms(i).sum::<f32>() / 2.0).collect()
}

/// The squared error of the best grid of all that there are.
fn exhaustive(block: &[f32]) -> f64 {
    let of_zero = |d: f32, zero: f32| {
        let q = |x: f32| (x / d + zero).round_ties_even().clamp(0.0, 15.0);
        error(&block.iter().map(|&x| d * (q(x) - zero)).collect::<Vec<_>>(), block)
    };
    let of_scale = |code: u16| {
        let d = q4::Grid { code, zero: 0.0 }.scale();
        (0..128u8)
            .map(|zero| of_zero(d, f32::from(zero) / 8.0))
            .fold(f64::INFINITY, f64::min)
    };
    // from a thirtieth of the largest magnitude to a quarter
    let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
    let codes = q4::Grid::code_below(largest / 30.0)..=q4::Grid::code_below(largest / 4.0);
    codes.map(of_scale).fold(f64::INFINITY, f64::min)
}

#[test]
fn the_search_of_q4_finds_nearly_the_best() {
    for values in [
        normal(32 * 60),
        noise(32 * 60),
        normal(32 * 60).iter().map(|x| x.abs() + 0.2).collect(),
    ] {
        let found = error(&round_trip(DType::Q4, &values), &values);
        let best: f64 = values.chunks_exact(BLOCK).map(exhaustive).sum();
        assert!(found >= best * 0.9999 && found <= best * 1.04, "{found} of {best}");
    }
}

#[test]
fn offsets_cost_nothing() {
    // a block that lies to one side of 0 has all of the grid, and errs no more than if it lay around it
    let values = noise(32 * 100);
    let around = error(&round_trip(DType::Q4, &values), &values);
    let aside: Vec<f32> = values.iter().map(|x| x + 0.9).collect();
    assert!(error(&round_trip(DType::Q4, &aside), &aside) < 1.1 * around);
}

#[test]
fn hard_values_stay_finite_and_in_place() {
    for dtype in [DType::Q8, DType::Q4] {
        assert_eq!(round_trip(dtype, &[0.0; 64]), [0.0; 64]);
        for x in [1e-39, 1e-12, 1e5, -3e30, f32::MAX, -f32::MAX, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = noise(64);
            values[40] = x;
            let found = round_trip(dtype, &values);
            assert!(found.iter().all(|y| y.is_finite()), "{dtype}: {x}");
            // the other block knows nothing of it
            assert_eq!(found[..32], round_trip(dtype, &values[..32]), "{dtype}: {x}");
            assert!(x.abs() < 1.0 || found[40] * x > 0.0, "{dtype}: {x} became {}", found[40]);
        }
        // the largest scale times the end of the grid
        for sign in [1.0, -1.0] {
            let held = round_trip(dtype, &[sign * f32::MAX; 32])[0];
            assert!(held * sign >= 15.0 * 63_488.0, "{dtype}: {held}");
        }
        assert!(round_trip(dtype, &[1e-12; 32]).iter().all(|&y| y == 0.0));
    }
}

#[test]
fn a_nan_spoils_its_block_and_no_other() {
    for dtype in [DType::Q8, DType::Q4] {
        let mut values = noise(96);
        values[33] = f32::NAN;
        let found = round_trip(dtype, &values);
        assert!(found[32..64].iter().all(|y| y.is_nan()), "{dtype}");
        assert!(found[..32].iter().chain(&found[64..]).all(|y| y.is_finite()), "{dtype}");
    }
}

#[test]
fn every_source_and_every_share_gives_the_same() {
    // more than one thread's share, and not a multiple of it
    let values: Vec<f32> = noise(3 * MIN_SHARE + 64)
        .iter()
        .map(|x| half::bf16::from_f32(*x).to_f32())
        .collect();
    for target in [DType::Q8, DType::Q4] {
        let whole = round_trip(target, &values);
        let piecewise: Vec<f32> = values.chunks(4096).flat_map(|piece| round_trip(target, piece)).collect();
        assert_eq!(whole, piecewise);
        for source in [DType::F16, DType::BF16] {
            let narrowed = crate::narrow(source, &values);
            let planes = quantise(target, source, &narrowed);
            let widened = crate::widen(source, &narrowed);
            assert_eq!(dequantise(target, &planes.elements, &planes.scales), round_trip(target, &widened));
        }
    }
}
