//! Matrix products with bias and residual epilogues: `out[t, r] (+)= sum_k weights[r, k] * x[t, k] (+ bias[r])`.
//!
//! Shapes: weights `[rows, cols]`, x `[n_tokens, cols]`, bias `[1, rows]`, out `[n_tokens, rows]`. Up to 8 rows of x go to
//! [`super::matvec`], more to [`super::matmul_coop`] where the adapter has matrix units, else to the tiled kernel of this module:
//! 64 x 64 outputs a workgroup, f32 throughout.

use qwgpu_shaders::{CoopGrid, Variant};

use super::{
    Handle, PerDType,
    matmul_coop::MatmulCoop,
    matvec::{MAX_TOKENS, Matvec, max_tokens},
    matvec_dot::MatvecDot,
    norm_quantize::NormQuantize,
    quantize::{self, Bytes, Quantize},
    share::Share,
    to_f16::Operand,
    weights_format,
};
use crate::{DType, Gpu, Matrix, Pass, Result, Tensor, buffer::Buffer, matrix::Part, pipeline::Access};

pub(crate) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Write];

params! { n_tokens: u32, groups: u32, n_rows: u32, first_out: u32, out_stride: u32, flags: u32 }

pub(crate) const TILE: usize = 64;
const ADD_BIAS: u32 = 1;
const ACCUMULATE: u32 = 2;

/// One product, as both kernels take it.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// `[rows, cols]`.
    pub weights: &'a Matrix,
    /// `[n_tokens, cols]`.
    pub x: &'a Tensor,
    /// `[1, rows]`, added once to each row of the result.
    pub bias: Option<&'a Tensor>,
    /// Whether to add to what `out` holds (the residual) instead of overwriting it.
    pub accumulate: bool,
    /// `[n_tokens, rows]`.
    pub out: &'a Tensor,
    /// Where x may be put in f16 for the matrix units; without it they are not used.
    pub operand: Option<&'a Operand>,
    /// Whether the operand holds x already, from a kernel that leaves its result there: of x itself only the shape counts then, and the
    /// product goes to the matrix units.
    pub in_operand: bool,
    /// Where x may be put in bytes for integer dot products; without it they are not used.
    pub bytes: Option<&'a Bytes>,
    /// Whether they hold x already, from a kernel that leaves its result there: of x itself only the shape counts then.
    pub in_bytes: bool,
}

impl Product<'_> {
    pub(crate) fn flags(&self) -> u32 {
        u32::from(self.bias.is_some()) * ADD_BIAS + u32::from(self.accumulate) * ACCUMULATE
    }

    /// Without a bias its binding is filled with x, which the kernel then does not read.
    pub(crate) fn buffers<'b>(&'b self, part: &'b Part) -> Vec<&'b Buffer> {
        part.bind(&[&self.x.buffer, &self.bias.unwrap_or(self.x).buffer, &self.out.buffer])
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        let (weights, x, out) = (self.weights, self.x, self.out);
        assert!(
            x.cols() == weights.cols(),
            "matmul: x has {} columns, weights {}",
            x.cols(),
            weights.cols()
        );
        assert!(x.rows() >= out.rows(), "matmul: {} rows of x for {} of out", x.rows(), out.rows());
        assert!(
            out.cols() == weights.rows(),
            "matmul: out has {} columns, weights {} rows",
            out.cols(),
            weights.rows()
        );
        assert!(
            self.bias.is_none_or(|bias| bias.cols() == weights.rows()),
            "matmul: bias and weights differ in rows"
        );
    }
}

fn tiled(gpu: &Gpu, dtype: DType) -> Result<Handle> {
    gpu.pipeline(Variant::Matmul {
        weights: weights_format(gpu.caps(), dtype),
        grouped: false,
    })
}

/// Both kernels, compiled for the weight types of a model.
#[derive(Debug)]
pub struct Matmul {
    matvec: PerDType<Matvec>,
    tiled: PerDType<Handle>,
    coop: Option<MatmulCoop>,
    dot: Option<Dot>,
}

/// Products of one token with integer dot products.
#[derive(Debug)]
struct Dot {
    quantize: Quantize,
    norm_quantize: NormQuantize,
    /// By the columns that each is for at most.
    matvecs: Vec<(usize, PerDType<MatvecDot>)>,
}

impl Dot {
    /// Up to how many columns, and invocations and rows of a workgroup, tuned on an H100: an invocation has a block of 32 columns at a
    /// time, and of 0.5B's 28 blocks a workgroup of 128 would leave 100 invocations without any.
    const SHARES: [(usize, (u32, u32)); 3] = [(1024, (32, 2)), (2048, (64, 2)), (usize::MAX, (128, 2))];

    /// `None` where no weights are quantised or the adapter has no use for it.
    fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Option<Self>> {
        let quantised: Vec<DType> = dtypes.iter().copied().filter(|&dtype| quantize::pays(gpu.caps(), dtype)).collect();
        if quantised.is_empty() {
            return Ok(None);
        }
        let matvec = |(columns, (workgroup, rows))| -> Result<_> {
            let per_dtype = PerDType::new(&quantised, |dtype| MatvecDot::new(gpu, dtype, workgroup, rows))?;
            Ok((columns, per_dtype))
        };
        Ok(Some(Self {
            quantize: Quantize::new(gpu)?,
            norm_quantize: NormQuantize::new(gpu)?,
            matvecs: Self::SHARES.into_iter().map(matvec).collect::<Result<_>>()?,
        }))
    }

    fn matvec(&self, weights: &Matrix) -> &MatvecDot {
        let fits = self.matvecs.iter().find(|(columns, _)| weights.cols() <= *columns);
        let (_, per_dtype) = fits.expect("the last share is for any number of columns");
        per_dtype.get(weights.dtype())
    }
}

impl Matmul {
    /// Compiles them.
    ///
    /// # Errors
    /// When a shader does not compile.
    pub fn new(gpu: &Gpu, dtypes: &[DType]) -> Result<Self> {
        Ok(Self {
            matvec: PerDType::new(dtypes, |dtype| Matvec::new(gpu, dtype))?,
            tiled: PerDType::new(dtypes, |dtype| tiled(gpu, dtype))?,
            coop: MatmulCoop::new(gpu, dtypes)?,
            dot: Dot::new(gpu, dtypes)?,
        })
    }

    /// Compiles the mat-vec alone, with this share of a workgroup whatever suits the adapter, and only what takes `n_tokens`: the way
    /// tests reach each of its forms. For several tokens there is one number of rows, [`qwgpu_shaders::matvec_rows`].
    ///
    /// # Errors
    /// As [`Matmul::new`].
    ///
    /// # Panics
    /// When the mat-vec does not take so many tokens.
    #[track_caller]
    pub fn matvec_only(gpu: &Gpu, dtype: DType, share: Share, n_tokens: usize) -> Result<Self> {
        Ok(Self {
            matvec: PerDType::new(&[dtype], |dtype| Matvec::with_share(gpu, dtype, share, n_tokens))?,
            tiled: PerDType::new(&[], |dtype| tiled(gpu, dtype))?,
            coop: None,
            dot: None,
        })
    }

    /// Compiles the tiled kernel alone, for [`Matmul::dispatch_tiled`].
    ///
    /// # Errors
    /// As [`Matmul::new`].
    pub fn tiled_only(gpu: &Gpu, dtype: DType) -> Result<Self> {
        Ok(Self {
            matvec: PerDType::new(&[], |dtype| Matvec::new(gpu, dtype))?,
            tiled: PerDType::new(&[dtype], |dtype| tiled(gpu, dtype))?,
            coop: None,
            dot: None,
        })
    }

    /// Compiles the kernel for matrix units alone, for one of [`super::matmul_coop::grids`].
    ///
    /// # Errors
    /// As [`Matmul::new`].
    pub fn coop_only(gpu: &Gpu, dtype: DType, grid: CoopGrid) -> Result<Self> {
        Ok(Self {
            matvec: PerDType::new(&[], |dtype| Matvec::new(gpu, dtype))?,
            tiled: PerDType::new(&[], |dtype| tiled(gpu, dtype))?,
            coop: Some(MatmulCoop::of(gpu, &[dtype], &[grid])?),
            dot: None,
        })
    }

    /// Whether products of many rows go to the matrix units, with x rounded to f16.
    #[must_use]
    pub const fn has_coop(&self) -> bool {
        self.coop.is_some()
    }

    /// Whether a product of so many rows goes to the matrix units if it has an operand.
    #[must_use]
    pub const fn takes_operand(&self, n_tokens: usize) -> bool {
        self.coop.is_some() && n_tokens > MAX_TOKENS
    }

    /// Whether a product of one token with these weights rounds x to bytes, for integer dot products.
    #[must_use]
    pub fn takes_bytes(&self, weights: &Matrix) -> bool {
        self.dot.is_some() && quantize::is_for_bytes(weights)
    }

    /// `out = x weights^T (+ bias)`, or added to `out` with `accumulate`.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch(&self, pass: &mut Pass<'_>, product: &Product<'_>) {
        product.check();
        assert!(
            !product.in_operand || self.takes_operand(product.out.rows()),
            "matmul: {} rows in the operand",
            product.out.rows()
        );
        if let (1, Some(bytes), true) = (product.out.rows(), product.bytes, self.takes_bytes(product.weights)) {
            let dot = self.dot.as_ref().expect("takes_bytes asks for it");
            if !product.in_bytes {
                dot.quantize.dispatch(pass, product.x, bytes);
            }
            dot.matvec(product.weights).dispatch(pass, product, bytes);
        } else if product.out.rows() <= max_tokens(pass.gpu().caps()) {
            self.matvec.get(product.weights.dtype()).dispatch(pass, product);
        } else if product.operand.is_some() && self.takes_operand(product.out.rows()) {
            self.dispatch_coop(pass, product);
        } else {
            self.dispatch_tiled(pass, product);
        }
    }

    /// `out = norm(x) weights^T (+ bias)` of one token and a matrix that [takes bytes](Matmul::takes_bytes): the norm leaves them itself.
    ///
    /// # Panics
    /// When shapes do not fit, the matrix does not take bytes, or the product has no room for them.
    #[track_caller]
    pub fn dispatch_normed(&self, pass: &mut Pass<'_>, product: &Product<'_>, norm: &Tensor, eps: f32) {
        product.check();
        assert!(
            self.takes_bytes(product.weights),
            "matmul: a norm before a product that takes no bytes"
        );
        let (Some(dot), Some(bytes)) = (&self.dot, product.bytes) else {
            panic!("matmul: no room for the bytes of a norm")
        };
        dot.norm_quantize.dispatch(pass, product.x, norm, eps, bytes);
        dot.matvec(product.weights).dispatch(pass, product, bytes);
    }

    /// The kernel for matrix units whatever the number of rows; for tests.
    ///
    /// # Panics
    /// When shapes do not fit, the product has no operand, or the adapter has no matrix units.
    #[track_caller]
    pub fn dispatch_coop(&self, pass: &mut Pass<'_>, product: &Product<'_>) {
        product.check();
        let coop = self.coop.as_ref().expect("the adapter has matrix units");
        coop.dispatch(pass, product, product.operand.expect("the product has an operand"));
    }

    /// The tiled kernel whatever the number of rows; tests compare the two.
    ///
    /// # Panics
    /// When shapes do not fit.
    #[track_caller]
    pub fn dispatch_tiled(&self, pass: &mut Pass<'_>, product: &Product<'_>) {
        product.check();
        let n_tokens = product.out.rows();
        for part in &product.weights.parts {
            let params = Params {
                n_tokens: n_tokens as u32,
                groups: (product.weights.cols() / 8) as u32,
                n_rows: part.n_rows as u32,
                first_out: part.first_row as u32,
                out_stride: product.out.cols() as u32,
                flags: product.flags(),
            };
            let grid = [part.n_rows.div_ceil(TILE) as u32, n_tokens.div_ceil(TILE) as u32, 1];
            pass.dispatch(self.tiled.get(product.weights.dtype()), &product.buffers(part), &params, grid);
        }
    }
}

/// The definition of one output before the epilogue: the dot product of a row of the matrix with a row of x.
#[must_use]
pub fn reference(weights_row: &[f32], x_row: &[f32]) -> f64 {
    weights_row.iter().zip(x_row).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
}
