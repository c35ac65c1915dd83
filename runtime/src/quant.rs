//! Rows of floats to blocks of small integers, and back.
//!
//! [`BLOCK`] neighbours share 16 bits that say where their integers lie. In q8 these are an f16 scale d: an element is d q, q in
//! -127..=127. In q4 they are a coarser scale and a zero point ([`q4`]): an element is d (q - z), q in 0..=15. Elements and scales lie
//! in planes of their own, so that both are read in wide, aligned loads.

use std::thread;

use half::{f16, slice::HalfFloatSliceExt};

use crate::dtype::{BLOCK, DType};

pub(crate) mod q4;

/// Elements that a thread takes at least: below, starting one costs more than it saves.
const MIN_SHARE: usize = 1 << 16;

/// Quantised rows, as they go to the GPU.
#[derive(Debug)]
pub(crate) struct Planes {
    /// Integers of all blocks.
    pub(crate) elements: Vec<u8>,
    /// The 16 bits of each block, little-endian.
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
            let bits = if target == DType::Q8 {
                q8_block(&block, elements).to_bits()
            } else {
                q4::block(&block, elements).to_bits()
            };
            scale.copy_from_slice(&bits.to_le_bytes());
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
        let bits = u16::from_le_bytes([scale[0], scale[1]]);
        if dtype == DType::Q8 {
            let d = f16::from_bits(bits).to_f32();
            values.extend(elements.iter().map(|&byte| d * f32::from(byte.cast_signed())));
        } else {
            q4::dequantise(q4::Grid::from_bits(bits), elements, &mut values);
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

/// 1.5 * 2^23: above 2^23 the last place of an f32 is 1, so that a small number added to this is rounded to an integer, ties to even.
const SHIFT: f32 = 12_582_912.0;

/// x rounded to nearest and held between two integers.
fn round(x: f32, lowest: f32, highest: f32) -> f32 {
    (x.clamp(lowest, highest) + SHIFT) - SHIFT
}

/// Quantises to q8; the scale is what takes the largest magnitude to 127.
fn q8_block(block: &[f32; BLOCK], bytes: &mut [u8]) -> f16 {
    let d = f16::from_f32((largest(block) / 127.0).clamp(0.0, f16::MAX.to_f32()));
    let inverse = if d == f16::ZERO { 0.0 } else { d.to_f32().recip() };
    for (byte, x) in bytes.iter_mut().zip(block) {
        *byte = (round(x * inverse, -127.0, 127.0) as i8).cast_unsigned();
    }
    d
}

#[cfg(test)]
mod tests;
