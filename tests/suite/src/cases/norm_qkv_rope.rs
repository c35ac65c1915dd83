//! One token's q, k and v: every form, sizes around every step of rows and columns, positions at the borders of blocks, and that
//! nothing else in the cache is touched.

use qwgpu_runtime::{
    DType, Elem, Gpu, KV_BLOCK, Pass, Tensor,
    kernels::{
        embed_step::Place,
        norm_qkv_rope::{NormQkvRope, Projection},
        norm_qkv_rope_dot::NormQkvRopeDot,
        norm_quantize::NormQuantize,
        qkv_rope_dot::QkvRopeDot,
        quantize::{self, Block, Bytes},
        rms_norm,
        share::Share,
    },
};

use super::{
    Checked,
    matvec_dot::Sum,
    normed::{Normed, SHARES, axes, share},
    product::{self, Source, Weights},
    rope::{poisoned_cache, stored},
};
use crate::{
    Case, Failure, Guarded, Scale,
    compare::{self, EPS32, Expected, TINY},
    fill,
    fill::Fill,
    padded,
};

const BLOCK: usize = KV_BLOCK as usize;
const N_BLOCKS: usize = 3;

/// Query heads, kv heads, head size: groups of one and of many, and odd ones.
pub(super) const HEADS: [(usize, usize, usize); 12] = [
    (3, 1, 64),
    (1, 1, 128),
    (4, 2, 64),
    (7, 1, 128),
    (1, 1, 64),
    (2, 2, 128),
    (5, 5, 64),
    (16, 1, 64),
    (9, 3, 128),
    (14, 2, 64),
    (12, 2, 128),
    (6, 3, 64),
];
/// Around the 512, 1,024 or 2,048 columns of a step, and what leaves most invocations without work.
const COLS: [usize; 12] = [264, 8, 896, 520, 64, 1032, 504, 24, 1024, 2056, 16, 1544];
pub(super) const POSITIONS: [u32; 9] = [0, 1, 63, 64, 255, 256, 4095, 65_535, 131_071];
/// More pairs of rows than twice the 65,535 workgroups that one dimension of a dispatch usually may have, and no multiple of three.
pub(super) const FOLDED: (usize, usize, usize) = (4095, 1, 64);
/// Heads and width of each model.
const MODELS: [((usize, usize, usize), usize); 7] = [
    ((14, 2, 64), 896),
    ((12, 2, 128), 1536),
    ((16, 2, 128), 2048),
    ((28, 4, 128), 3584),
    ((40, 8, 128), 5120),
    ((16, 16, 64), 1024),
    ((64, 8, 128), 8192),
];

/// The kernels that do this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// In f32.
    F32,
    /// With integer dot products, given x in bytes: [`super::qkv_rope_dot`].
    Dot,
    /// The same from x itself: [`super::norm_qkv_rope_dot`].
    NormDot,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) kernel: Kernel,
    pub(super) share: Share,
    pub(super) dtype: DType,
    pub(super) kv: Elem,
    pub(super) heads: (usize, usize, usize),
    pub(super) d_model: usize,
    pub(super) pos: u32,
    pub(super) x: Fill,
    pub(super) norm: Fill,
    pub(super) weights: Source,
}

impl Shape {
    pub(super) const fn new(share: Share, dtype: DType, kv: Elem, heads: (usize, usize, usize), d_model: usize) -> Self {
        Self {
            kernel: Kernel::F32,
            share,
            dtype,
            kv,
            heads,
            d_model: d_model.next_multiple_of(dtype.column_multiple()),
            pos: 300,
            x: Fill::Plain,
            norm: Fill::Plain,
            weights: Source::Host(Fill::Plain),
        }
    }

    pub(super) fn case(self) -> Case {
        let Self {
            share, dtype, kv, heads, ..
        } = self;
        let (n_heads, n_kv_heads, head_dim) = heads;
        let fills = match (self.weights, self.x, self.norm) {
            (Source::Host(Fill::Plain), Fill::Plain, Fill::Plain) => String::new(),
            (Source::Host(weights), x, norm) => format!(", weights {weights}, x {x}, norm {norm}"),
            (Source::Device, ..) => ", weights made on the device".into(),
        };
        let name = format!(
            "workgroup {} of {} rows, {dtype}, {kv:?} cache, {n_heads}/{n_kv_heads} heads of {head_dim}, {} columns, position {}{fills}",
            share.workgroup, share.rows, self.d_model, self.pos
        );
        let kernel = match self.kernel {
            Kernel::F32 => "norm_qkv_rope",
            Kernel::Dot => "qkv_rope_dot",
            Kernel::NormDot => "norm_qkv_rope_dot",
        };
        Case::new(kernel, name, move |gpu| check(gpu, &self))
            .over(axes(dtype == DType::F16))
            .with_f16(kv == Elem::F16)
    }

    const fn n_rows(&self) -> usize {
        let (n_heads, n_kv_heads, head_dim) = self.heads;
        (n_heads + 2 * n_kv_heads) * head_dim
    }

    /// cos and sin of each pair.
    fn turns(&self) -> Vec<[f32; 2]> {
        let half = self.heads.2 / 2;
        let angle = |i: usize| f64::from(self.pos) * 1e6f64.powf(-(i as f64) / half as f64);
        (0..half).map(|i| [angle(i).cos() as f32, angle(i).sin() as f32]).collect()
    }

    const fn block(&self) -> usize {
        self.pos as usize / BLOCK % N_BLOCKS
    }

    fn place(&self, gpu: &Gpu) -> qwgpu_runtime::Result<Place> {
        let place = Place::new(gpu, self.heads.2)?;
        let turns = self.turns().into_iter().flatten().map(f32::to_bits);
        let words: Vec<u32> = [self.block() as u32, self.pos % KV_BLOCK].into_iter().chain(turns).collect();
        place.as_words().write(gpu, &words);
        Ok(place)
    }
}

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let mut cases = forms();
    cases.extend(edges());
    cases.extend(hard_values());
    for kv in [Elem::F32, Elem::F16] {
        for (i, pos) in POSITIONS.into_iter().enumerate() {
            for heads in [HEADS[2], HEADS[3]] {
                let shape = Shape::new(SHARES[0], DType::BF16, kv, heads, 256);
                cases.push(
                    Shape { pos, ..shape }
                        .case()
                        .quick(kv == Elem::F32 && (heads.2 == 64 || i % 3 == 1)),
                );
            }
        }
    }
    // one mode is enough: a grid of two dimensions is the same in every text
    cases.push(
        Shape::new(share(64, 2), DType::BF16, Elem::F32, FOLDED, 8)
            .case()
            .over(&[])
            .quick(true),
    );
    if scale == Scale::Real {
        for dtype in DType::ALL {
            cases.extend(MODELS.into_iter().enumerate().map(|(i, (heads, d_model))| {
                let weights = Source::Device;
                let kv = [Elem::F16, Elem::F32][i % 2];
                let shape = Shape::new(SHARES[i % 3], dtype, kv, heads, d_model);
                Shape { weights, ..shape }.case()
            }));
        }
    }
    cases
}

/// Every text.
fn forms() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        for kv in [Elem::F32, Elem::F16] {
            for (i, share) in SHARES.into_iter().enumerate() {
                for (j, heads) in [HEADS[0], HEADS[1]].into_iter().enumerate() {
                    let case = Shape::new(share, dtype, kv, heads, COLS[(i + j) % 3]).case();
                    // enough to meet each way of reading, storing and sharing out
                    let quick = match (dtype, kv) {
                        (DType::BF16, Elem::F32) => i < 3,
                        (DType::F16, Elem::F16) => i == 0 && j == 0,
                        _ => matches!(i, 1 | 2) && j == 1,
                    };
                    cases.push(case.quick(quick));
                }
            }
        }
    }
    cases
}

/// Every number of heads and of columns.
fn edges() -> Vec<Case> {
    let shape = |i: usize, heads| Shape::new(SHARES[i % 2], DType::BF16, Elem::F32, heads, COLS[i % COLS.len()]);
    let cases = HEADS.into_iter().cycle().take(2 * HEADS.len()).enumerate();
    cases
        .map(|(i, heads)| shape(i + i / HEADS.len(), heads).case().quick(i < HEADS.len()))
        .collect()
}

/// Each kind of value, in x, in the norm's weights and in the matrix.
fn hard_values() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, fill) in Fill::ALL.into_iter().filter(|&fill| fill != Fill::Plain).enumerate() {
        for (dtype, kv) in [(DType::BF16, Elem::F32), (DType::F16, Elem::F16), (DType::F32, Elem::F32)] {
            let shape = Shape::new(SHARES[i % 2], dtype, kv, HEADS[0], 904);
            let quick = dtype == DType::BF16;
            cases.push(Shape { x: fill, ..shape }.case().quick(quick));
            cases.push(Shape { norm: fill, ..shape }.case().quick(quick));
            let weights = Source::Host(fill);
            cases.push(Shape { weights, ..shape }.case().quick(quick));
        }
    }
    cases
}

fn check(gpu: &Gpu, s: &Shape) -> Checked {
    let (n_heads, n_kv_heads, head_dim) = s.heads;
    let eps = 1e-6;
    let matrix = product::Shape::new(product::Kernel::Chosen, s.dtype, [s.n_rows(), s.d_model, 1]);
    let weights = Weights::new(
        gpu,
        &product::Shape {
            weights: s.weights,
            ..matrix
        },
    )?;
    let x = fill::values(s.x, 31, 1, s.d_model);
    let norm = fill::values(s.norm, 32, 1, s.d_model);
    let bias = fill::values(Fill::Plain, 33, 1, s.n_rows());
    let q = Guarded::new(gpu, 1, n_heads * head_dim, Elem::F32)?;
    let cache = poisoned_cache(gpu, N_BLOCKS, n_kv_heads, head_dim, s.kv)?;
    let x_tensor: Tensor = padded(gpu, 1, s.d_model, &x)?;
    let vectors = padded(gpu, 1, s.d_model + s.n_rows(), &[norm.as_slice(), &bias].concat())?;
    let projection = Projection {
        weights: &weights.matrix,
        x: &x_tensor,
        vectors: &vectors,
        eps,
        place: &s.place(gpu)?,
        q: q.out(),
        cache: &cache,
    };
    let mut pass = Pass::new(gpu);
    match s.kernel {
        Kernel::F32 => NormQkvRope::with_share(gpu, s.dtype, s.share, s.kv, head_dim)?.dispatch(&mut pass, &projection),
        Kernel::Dot => {
            // room for more than there is: the scales behind the bytes are not where x ends
            let bytes = Bytes::new(gpu, s.d_model + 3 * BLOCK)?;
            let norm_tensor = padded(gpu, 1, s.d_model, &norm)?;
            NormQuantize::new(gpu)?.dispatch(&mut pass, &x_tensor, &norm_tensor, eps, &bytes);
            QkvRopeDot::with_share(gpu, s.dtype, s.share, s.kv, head_dim)?.dispatch(&mut pass, &projection, &bytes);
        }
        Kernel::NormDot => NormQkvRopeDot::new(gpu, &[s.dtype], s.kv, head_dim)?.dispatch(&mut pass, &projection),
    }
    pass.submit();

    let normed = Normed::new(&x, &norm, eps);
    let values: Vec<f32> = rms_norm::reference(&x, &norm, eps).into_iter().map(|value| value as f32).collect();
    let blocks = quantize::reference(&values);
    let turns = s.turns();
    let head = |head: usize, turn: bool| -> Result<Vec<Expected>, Failure> {
        let rows = head * head_dim..(head + 1) * head_dim;
        let row = |row: usize| -> Result<Expected, Failure> {
            let (row, bias) = (weights.row(gpu, row)?, bias[row]);
            Ok(match s.kernel {
                Kernel::F32 => normed.product(s.dtype, &row, bias),
                Kernel::Dot | Kernel::NormDot => product_of_bytes(&row, &blocks, bias),
            })
        };
        let projected = rows.map(row).collect::<Result<Vec<Expected>, Failure>>()?;
        Ok(if turn { turned(&projected, &turns) } else { projected })
    };
    let mut expected = Vec::with_capacity(n_heads * head_dim);
    for h in 0..n_heads {
        expected.extend(head(h, true)?);
    }
    let mut outcome = compare::elements("q", n_heads * head_dim, &q.read_f32(gpu)?, expected)?;
    for (name, tensor, first_head) in [("k", &cache.k, n_heads), ("v", &cache.v, n_heads + n_kv_heads)] {
        let got = tensor.read_f32(gpu)?;
        let mut written = vec![false; got.len()];
        for h in 0..n_kv_heads {
            let at = ((s.block() * n_kv_heads + h) * BLOCK + s.pos as usize % BLOCK) * head_dim;
            let expected = head(first_head + h, name == "k")?.into_iter().map(|e| stored(e, s.kv));
            outcome = outcome.and(compare::elements(name, head_dim, &got[at..at + head_dim], expected)?);
            written[at..at + head_dim].fill(true);
        }
        if let Some(i) = (0..got.len()).find(|&i| !written[i] && !got[i].is_nan()) {
            return Err(Failure::new(format!(
                "{name}: element {i} of the cache was written and should not be"
            )));
        }
    }
    Ok(outcome)
}

/// The product of the normalised x, as its bytes have it, with a row of a matrix, and a bias.
pub(super) fn product_of_bytes(row: &[f32], blocks: &[Block], bias: f32) -> Expected {
    let Sum { value, magnitude, doubt } = Sum::of(row, blocks);
    // the norm's factor, which is off by what the sum of the squares is, is in all scales; a flushed x loses TINY times 1/sqrt(eps)
    let factor = compare::sum_bound(row.len(), 1.0) * magnitude;
    let flushed: f64 = row.iter().map(|&w| 2e3 * TINY * f64::from(w).abs()).sum();
    Expected {
        value: value + f64::from(bias),
        bound: compare::sum_bound(blocks.len(), magnitude) + doubt + factor + flushed + 2.0 * EPS32 * f64::from(bias).abs(),
    }
}

/// A head after its rotation by f32 cosines and sines.
fn turned(head: &[Expected], turns: &[[f32; 2]]) -> Vec<Expected> {
    let half = head.len() / 2;
    let element = |i: usize| {
        let [cos, sin] = turns[i % half].map(f64::from);
        let (own, partner) = (head[i], head[(i + half) % head.len()]);
        let sign = if i < half { -1.0 } else { 1.0 };
        Expected {
            value: own.value * cos + sign * partner.value * sin,
            bound: (own.bound + 2.0 * EPS32 * own.value.abs()) * cos.abs()
                + (partner.bound + 2.0 * EPS32 * partner.value.abs()) * sin.abs()
                + 2.0 * TINY,
        }
    };
    (0..head.len()).map(element).collect()
}
