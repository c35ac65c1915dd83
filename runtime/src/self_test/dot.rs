//! `probe_dot.wgsl`: what goes in, and what must come out.

use super::{Params, Verdict};
use crate::{Elem, Gpu, Pass, Result, Tensor, pipeline::Access, pipeline::Pipeline};

pub(super) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];

/// Pairs of sums, and the words that each is made of.
const N: usize = 64;
const WORDS: usize = 4;

pub(super) fn run(gpu: &Gpu, pipeline: &Pipeline) -> Result<Verdict> {
    let (a, b): (Vec<u32>, Vec<u32>) = (0..N * WORDS).map(words).unzip();
    let a_in = Tensor::from_u32(gpu, "probe a", N, WORDS, &a)?;
    let b_in = Tensor::from_u32(gpu, "probe b", N, WORDS, &b)?;
    let sums = Tensor::new(gpu, "probe sums", N, 2, Elem::U32)?;
    let mut pass = Pass::new(gpu);
    let buffers = [&*a_in.buffer, &*b_in.buffer, &*sums.buffer];
    pass.dispatch(pipeline, &buffers, &Params { n: N as u32 }, [1, 1, 1]);
    pass.submit();

    let as_signed = |words: Vec<u32>| -> Vec<i32> { words.into_iter().map(u32::cast_signed).collect() };
    let expected = a.chunks(WORDS).zip(b.chunks(WORDS)).flat_map(|(a, b)| sums_of(a, b));
    Ok(Verdict::of(
        "sums",
        &as_signed(sums.read_u32(gpu)?),
        &expected.collect::<Vec<i32>>(),
        i32::eq,
    ))
}

/// All bytes at an extreme first, in every combination of signs; then bytes from everywhere, different in each place.
fn words(i: usize) -> (u32, u32) {
    const EXTREMES: [u32; 4] = [0x8080_8080, 0x7f7f_7f7f, 0xffff_ffff, 0x80ff_7f01];
    match i {
        0..16 => (EXTREMES[i / 4], EXTREMES[i % 4]),
        _ => (
            (i as u32).wrapping_mul(0x9e37_79b9),
            (i as u32).wrapping_mul(0x85eb_ca6b) ^ 0x00ff_0180,
        ),
    }
}

/// The signed and the unsigned sum of products.
fn sums_of(a: &[u32], b: &[u32]) -> [i32; 2] {
    let (mut signed, mut unsigned) = (0, 0);
    for (a, b) in a.iter().zip(b) {
        for (x, y) in a.to_le_bytes().into_iter().zip(b.to_le_bytes()) {
            signed += i32::from(x.cast_signed()) * i32::from(y.cast_signed());
            unsigned += i32::from(x) * i32::from(y);
        }
    }
    [signed, unsigned]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_hand() {
        assert_eq!(sums_of(&[0x8080_8080], &[0x8080_8080]), [4 * 128 * 128, 4 * 128 * 128]);
        assert_eq!(sums_of(&[0x0000_00ff], &[0x0000_0002]), [-2, 510]);
        assert_eq!(sums_of(&[0x0102_0304, 1], &[0x0403_0201, 5]), [25, 25]);
    }
}
