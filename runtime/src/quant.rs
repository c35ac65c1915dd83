//! Rows of floats to blocks of small integers with a scale, and back.
//!
//! Both types are symmetric: an element is d q with one f16 scale d for [`BLOCK`] neighbours, q in -127..=127 for q8 and in -8..=7
//! for q4. Elements and scales lie in planes of their own, so that both are read in wide, aligned loads. Byte 4 i + j of a q4 block
//! holds element 8 i + j in its low half and element 8 i + 4 + j in its high half, each as q + 8: a word is eight neighbours, and
//! its halves under the mask 0x0f0f0f0f are two words of four neighbouring bytes for an integer dot product.

use std::thread;

use half::{f16, slice::HalfFloatSliceExt};

use crate::dtype::{BLOCK, DType};

/// Elements that a thread takes at least: below, starting one costs more than it saves.
const MIN_SHARE: usize = 1 << 16;

/// Where the element of largest magnitude may come to lie on the grid of q4. At -8 it takes all of the grid; a little outside or
/// inside may suit the other 31 better. Least squares decides.
const Q4_EXTREMES: [f32; 5] = [-9.0, -8.0, -7.5, -7.0, -6.5];

/// Quantised rows, as they go to the GPU.
#[derive(Debug)]
pub(crate) struct Planes {
    /// Integers of all blocks.
    pub(crate) elements: Vec<u8>,
    /// f16 scales of all blocks, little-endian.
    pub(crate) scales: Vec<u8>,
}

/// Quantises whole blocks of little-endian floats of type `source`, on all cores. Finite values give finite ones, held at the ends
/// of what an f16 scale reaches; a block with a NaN becomes all NaN.
///
/// # Panics
/// When `bytes` are no whole blocks, `target` is not quantised, or `source` is.
#[track_caller]
pub(crate) fn quantise(target: DType, source: DType, bytes: &[u8]) -> Planes {
    assert!(target.is_quantised(), "quantise: to {target}");
    let source_block = source.element_bytes(BLOCK);
    let n_blocks = bytes.len() / source_block;
    assert_eq!(bytes.len(), n_blocks * source_block, "quantise: not whole blocks");
    let block_bytes = target.element_bytes(BLOCK);
    let mut planes = Planes {
        elements: vec![0; n_blocks * block_bytes],
        scales: vec![0; n_blocks * 2],
    };
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    let share = n_blocks.div_ceil(n_threads).max(MIN_SHARE / BLOCK);
    let convert = |bytes: &[u8], elements: &mut [u8], scales: &mut [u8]| {
        let blocks = bytes.chunks_exact(source_block).zip(elements.chunks_exact_mut(block_bytes));
        for ((bytes, elements), scale) in blocks.zip(scales.chunks_exact_mut(2)) {
            let block = widen_block(source, bytes);
            let d = if target == DType::Q8 {
                q8_block(&block, elements)
            } else {
                q4_block(&block, elements)
            };
            scale.copy_from_slice(&d.to_le_bytes());
        }
    };
    thread::scope(|scope| {
        let shares = bytes
            .chunks(share * source_block)
            .zip(planes.elements.chunks_mut(share * block_bytes));
        for ((bytes, elements), scales) in shares.zip(planes.scales.chunks_mut(share * 2)) {
            scope.spawn(move || convert(bytes, elements, scales));
        }
    });
    planes
}

/// The values of quantised blocks; exact.
///
/// # Panics
/// When `dtype` is not quantised.
#[track_caller]
pub(crate) fn dequantise(dtype: DType, elements: &[u8], scales: &[u8]) -> Vec<f32> {
    assert!(dtype.is_quantised(), "dequantise: from {dtype}");
    let blocks = elements.chunks_exact(dtype.element_bytes(BLOCK)).zip(scales.chunks_exact(2));
    let mut values = Vec::with_capacity(BLOCK * scales.len() / 2);
    for (elements, scale) in blocks {
        let d = f16::from_le_bytes([scale[0], scale[1]]).to_f32();
        if dtype == DType::Q8 {
            values.extend(elements.iter().map(|&byte| d * f32::from(byte.cast_signed())));
        } else {
            for word in elements.chunks_exact(4) {
                values.extend(word.iter().map(|&byte| d * (f32::from(byte & 15) - 8.0)));
                values.extend(word.iter().map(|&byte| d * (f32::from(byte >> 4) - 8.0)));
            }
        }
    }
    values
}

fn widen_block(source: DType, bytes: &[u8]) -> [f32; BLOCK] {
    let mut block = [0.0; BLOCK];
    match source {
        DType::F32 => {
            for (x, b) in block.iter_mut().zip(bytes.chunks_exact(4)) {
                *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        DType::BF16 => {
            for (x, b) in block.iter_mut().zip(bytes.chunks_exact(2)) {
                *x = f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
            }
        }
        DType::F16 => {
            let mut halves = [f16::ZERO; BLOCK];
            for (half, b) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
                *half = f16::from_le_bytes([b[0], b[1]]);
            }
            halves.convert_to_f32_slice(&mut block);
        }
        DType::Q8 | DType::Q4 => panic!("quantise: from {source}, which is quantised already"),
    }
    block
}

/// The largest magnitude, or NaN if there is one: by their bits, NaN is the largest.
fn largest(block: &[f32; BLOCK]) -> f32 {
    let bits = block.iter().map(|x| x.abs().to_bits().cast_signed()).fold(0, i32::max);
    f32::from_bits(bits.cast_unsigned())
}

/// An f16 scale and its inverse; 0 for both where it is too small.
fn scale(d: f32) -> (f16, f32) {
    let d = f16::from_f32(d.clamp(-f16::MAX.to_f32(), f16::MAX.to_f32()));
    let inverse = if d == f16::ZERO { 0.0 } else { d.to_f32().recip() };
    (d, inverse)
}

/// x rounded to nearest, ties to even, and held within -8..=7 or -127..=127: above 2^23 the last place of an f32 is 1, and 1.5 * 2^23
/// leaves the low bits zero.
fn round(x: f32, lowest: f32, highest: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x.clamp(lowest, highest) + SHIFT) - SHIFT
}

fn q8_block(block: &[f32; BLOCK], bytes: &mut [u8]) -> f16 {
    let (d, inverse) = scale(largest(block) / 127.0);
    for (byte, x) in bytes.iter_mut().zip(block) {
        *byte = (round(x * inverse, -127.0, 127.0) as i8).cast_unsigned();
    }
    d
}

fn q4_block(block: &[f32; BLOCK], bytes: &mut [u8]) -> f16 {
    let (d, inverse) = scale(q4_scale(block));
    let mut grid = [0; BLOCK];
    for (n, x) in grid.iter_mut().zip(block) {
        *n = (round(x * inverse, -8.0, 7.0) + 8.0) as u8;
    }
    for (word, n) in bytes.chunks_exact_mut(4).zip(grid.chunks_exact(8)) {
        for j in 0..4 {
            word[j] = n[j] | n[j + 4] << 4;
        }
    }
    d
}

/// The scale that least squares finds for the best of [`Q4_EXTREMES`]: for given integers q it is (q . x) / (q . q), and the squared
/// error then falls by (q . x)^2 / (q . q).
fn q4_scale(block: &[f32; BLOCK]) -> f32 {
    let magnitude = largest(block);
    if magnitude == 0.0 || magnitude.is_nan() {
        return magnitude;
    }
    let magnitude = magnitude.min(f32::MAX);
    let positive = block.iter().any(|&x| x >= magnitude);
    let extreme = if positive { magnitude } else { -magnitude };
    // in units of the extreme, so that nothing overflows
    let unit = block.map(|x| x.clamp(-f32::MAX, f32::MAX) / extreme);
    let (mut best, mut best_gain) = (0.0, -1.0);
    for at in Q4_EXTREMES {
        let (mut qx, mut qq) = (0.0, 0.0);
        for x in unit {
            let q = round(x * at, -8.0, 7.0);
            qx += q * x;
            qq += q * q;
        }
        // the extreme itself is never rounded to 0
        if qx * qx / qq > best_gain {
            (best, best_gain) = (qx / qq, qx * qx / qq);
        }
    }
    best * extreme
}

#[cfg(test)]
mod tests {
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
            for largest in [-8.0, 7.0] {
                let at = |i: usize| if i % 32 == 9 { largest } else { (i * 5 % 14) as f32 - 6.0 };
                let q4: Vec<f32> = (0..96).map(|i| d * at(i)).collect();
                assert_eq!(round_trip(DType::Q4, &q4), q4, "{d} {largest}");
            }
        }
    }

    #[test]
    fn each_element_is_the_nearest_of_its_grid() {
        let values = noise(32 * 100);
        for (dtype, highest) in [(DType::Q8, 127.0), (DType::Q4, 7.0)] {
            let planes = quantise(dtype, DType::F32, &bytes(&values));
            let found = dequantise(dtype, &planes.elements, &planes.scales);
            for (i, (x, y)) in values.iter().zip(found).enumerate() {
                let d = f16::from_le_bytes([planes.scales[i / BLOCK * 2], planes.scales[i / BLOCK * 2 + 1]]).to_f32();
                let clamped = y.abs() >= d.abs() * highest && x.abs() > y.abs();
                assert!(clamped || (x - y).abs() <= d.abs() * 0.500_01, "{dtype}: {x} became {y} with {d}");
            }
        }
    }

    #[test]
    fn least_squares_beats_the_whole_grid() {
        // a uniform block leaves an error of step / sqrt(12) even where the scale is the best possible
        let error = |y: &[f32], x: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
        let values = noise(32 * 200);
        let whole_grid: Vec<f32> = values
            .chunks_exact(BLOCK)
            .flat_map(|block| {
                let extreme = block.iter().copied().fold(0.0f32, |m, x| if x.abs() > m.abs() { x } else { m });
                let d = extreme / -8.0;
                block.iter().map(|x| d * (x / d).round().clamp(-8.0, 7.0)).collect::<Vec<f32>>()
            })
            .collect();
        assert!(error(&round_trip(DType::Q4, &values), &values) < error(&whole_grid, &values));
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
            let held = round_trip(dtype, &[f32::MAX; 32])[0];
            assert!(held >= 7.0 * 65_504.0, "{dtype}: {held}");
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
}
