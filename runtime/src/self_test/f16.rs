//! `probe_f16.wgsl`: what goes in, and what must come out.

use half::f16;

use super::{Params, Verdict};
use crate::{Elem, Gpu, Pass, Result, Tensor, pipeline::Access, pipeline::Pipeline};

pub(super) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write, Access::Write];

/// Vectors, and the values in them.
const VECTORS: usize = 64;
const N: usize = 4 * VECTORS;
/// Vectors from which the summand of the multiply-add comes.
const SUMMANDS: usize = 16;

pub(super) fn run(gpu: &Gpu, pipeline: &Pipeline) -> Result<Verdict> {
    let any: Vec<f16> = (0..N).map(value).collect();
    let (x, y) = factors();
    let wide: Vec<f32> = any.iter().rev().map(|v| v.to_f32()).collect();
    let narrow = Tensor::new(gpu, "probe narrow", 3, N, Elem::F16)?;
    narrow.write(gpu, &[any.clone(), x.clone(), y.clone()].concat());
    let wide_in = Tensor::from_f32(gpu, "probe wide", 1, N, &wide)?;
    let widened = Tensor::new(gpu, "probe widened", 1, N, Elem::F32)?;
    let narrowed = Tensor::new(gpu, "probe narrowed", 2, N, Elem::F16)?;
    let mut pass = Pass::new(gpu);
    let buffers = [&*narrow.buffer, &*wide_in.buffer, &*widened.buffer, &*narrowed.buffer];
    pass.dispatch(pipeline, &buffers, &Params { n: VECTORS as u32 }, [1, 1, 1]);
    pass.submit();

    let products = (0..N).map(|i| x[i].to_f32() * y[i].to_f32() + x[i % (4 * SUMMANDS)].to_f32());
    let expected_widened: Vec<f32> = any.iter().map(|v| v.to_f32()).collect();
    let expected_narrowed: Vec<f32> = wide.iter().copied().chain(products).collect();
    let first = Verdict::of("widened", &widened.read_f32(gpu)?, &expected_widened, same);
    Ok(first.and(Verdict::of("narrowed", &narrowed.read_f32(gpu)?, &expected_narrowed, same)))
}

/// The extremes of every kind, then bits from everywhere; no infinities and no NaN.
fn value(i: usize) -> f16 {
    const EDGES: [u16; 9] = [
        0x3c00, // 1
        0x7bff, // 65504, the largest
        0x7bfe, 0x0400, // 2^-14, the smallest normal one
        0x0001, // 2^-24, the smallest
        0x03ff, // the largest subnormal one
        0x3555, // about a third
        0x6801, // 2050, odd in its last place
        0x0000,
    ];
    let sign = if i % 2 == 1 { 0x8000 } else { 0 };
    let bits = EDGES.get(i / 2).copied().unwrap_or((i as u16).wrapping_mul(0x9e37) & 0x7fff);
    let finite = if bits & 0x7c00 == 0x7c00 { bits & !0x4000 } else { bits };
    f16::from_bits(finite | sign)
}

/// Multiples of 1/2 and 1/4: products and sums are multiples of 1/8 below 256, so exact in f16 however they are rounded.
fn factors() -> (Vec<f16>, Vec<f16>) {
    let x = |i: usize| f16::from_f32(((i * 37 + 11) % 97) as f32 * 0.5 - 24.0);
    let y = |i: usize| f16::from_f32(((i * 53 + 5) % 61) as f32 * 0.25 - 7.5);
    ((0..N).map(x).collect(), (0..N).map(y).collect())
}

/// Equal; a subnormal value may also be flushed to zero, which WGSL allows.
fn same(got: &f32, expected: &f32) -> bool {
    got == expected || (*got == 0.0 && expected.abs() < f16::MIN_POSITIVE.to_f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_finite_of_every_kind_and_survive_both_conversions() {
        let all: Vec<f16> = (0..N).map(value).collect();
        assert!(all.iter().all(|v| v.is_finite() && f16::from_f32(v.to_f32()) == *v));
        assert!(all.contains(&f16::MAX) && all.contains(&f16::MIN));
        assert!(all.contains(&f16::MIN_POSITIVE_SUBNORMAL) && all.iter().any(|v| *v < f16::ZERO));
    }

    #[test]
    fn products_and_sums_are_exact() {
        let (x, y) = factors();
        for i in 0..N {
            let product = x[i].to_f32() * y[i].to_f32();
            let sum = product + x[i % (4 * SUMMANDS)].to_f32();
            assert!([product, sum].iter().all(|v| f16::from_f32(*v).to_f32() == *v), "{i}");
        }
    }

    #[test]
    fn only_subnormal_values_may_be_flushed() {
        assert!(same(&0.0, &-3.0e-5) && same(&0.0, &-0.0));
        assert!(!same(&0.0, &6.2e-5) && !same(&2.0e-5, &3.0e-5) && !same(&f32::NAN, &1.0));
    }
}
