//! The adapter's own ceilings: how fast it reads memory and computes when it does nothing else. What benchmarks compare with.
//!
//! Each kernel's result is known, so that a compiler which leaves work out is found: see [`Ceiling::verify`].

use half::f16;
use qwgpu_shaders::{Peak, Variant};

use super::{Handle, fill_random};
use crate::{Caps, DType, Elem, Gpu, Matrix, Pass, Result, Tensor, pipeline::Access};

const BINDINGS: &[Access] = &[Access::Read, Access::Write];
const COOP_BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];

params! { n_steps: u32 }

/// Words that a workgroup of `peak_read` reads in one step: 32 KiB.
const STRETCH: usize = 8 * 256 * 4;
const WORKGROUP: usize = 256;
/// Steps of the arithmetic kernels; f16 counts them exactly up to 2048.
const N_STEPS: u32 = 1024;
/// Steps of these kernels to a round of their loops.
const UNROLLED: u32 = 8;
const SEED: u32 = 11;
/// Elements of a cooperative matrix.
const COOP: usize = 16 * 16;
const COOP_SUMS: usize = 8;
/// The four bytes 3, -5, 7 and 11.
const BYTES: u32 = u32::from_le_bytes([3, 0xfb, 7, 11]);
/// Results that are compared, at both ends of the grid.
const N_CHECKED: usize = 64;

pub(crate) const fn bindings(peak: Peak) -> &'static [Access] {
    match peak {
        Peak::Coop { .. } => COOP_BINDINGS,
        _ => BINDINGS,
    }
}

/// The form of the cooperative kernel for this adapter, where it has one subgroup's worth of 16 x 16 x 16 from f16 into f32.
#[must_use]
pub fn coop(caps: &Caps) -> Option<Peak> {
    let fits = caps
        .coop
        .iter()
        .any(|shape| (shape.m, shape.n, shape.k) == (16, 16, 16) && shape.operands == "f16" && shape.accumulator == "f32");
    let workgroup = if caps.subgroup_max > 32 { 64 } else { 32 };
    (fits && caps.f16).then_some(Peak::Coop { workgroup })
}

/// One ceiling's kernel with its buffers and its grid.
#[derive(Debug)]
pub struct Ceiling {
    peak: Peak,
    pipeline: Handle,
    data: Tensor,
    begin: Option<Tensor>,
    sums: Tensor,
    n_groups: usize,
    n_steps: u32,
}

impl Ceiling {
    /// Compiles it. `bytes` is what [`Peak::Read`] reads at most, within one binding; the others need none.
    ///
    /// # Errors
    /// When the shader does not compile, or there is no memory.
    pub fn new(gpu: &Gpu, peak: Peak, bytes: u64) -> Result<Self> {
        let halves = |values: Vec<f32>| -> Result<Tensor> {
            let tensor = Tensor::new(gpu, "peak operands", 1, values.len(), Elem::F16)?;
            tensor.write(gpu, &values.into_iter().map(f16::from_f32).collect::<Vec<_>>());
            Ok(tensor)
        };
        let data = match peak {
            Peak::Read => random(gpu, bytes)?,
            Peak::F32 => Tensor::from_f32(gpu, "peak operands", 2, 4, &[1.0; 8])?,
            Peak::F16 => halves(vec![1.0; 8])?,
            Peak::Dot => Tensor::from_u32(gpu, "peak operands", 1, 1, &[BYTES])?,
            Peak::Coop { .. } => halves(coop_operand().to_vec())?,
        };
        let begin: Vec<f32> = (0..COOP_SUMS * COOP).map(coop_begin).collect();
        let begin = match peak {
            Peak::Coop { .. } => Some(Tensor::from_f32(gpu, "peak sums", COOP_SUMS, COOP, &begin)?),
            _ => None,
        };
        let pipeline = gpu.pipeline(Variant::Peak(peak))?;
        let sums = Tensor::new(gpu, "peak results", 1, 1, Elem::U32)?;
        let first = Self {
            peak,
            pipeline,
            data,
            begin,
            sums,
            n_groups: 0,
            n_steps: 0,
        };
        first.with_groups(gpu, 256)
    }

    /// The same over another grid, with the same data. Reading is spread over it; arithmetic grows with it.
    ///
    /// # Errors
    /// When there is no memory for its results.
    pub fn with_groups(&self, gpu: &Gpu, n_groups: usize) -> Result<Self> {
        let n_groups = n_groups.min(gpu.caps().max_workgroups as usize);
        let (n_groups, n_steps, n_sums, elem) = match self.peak {
            Peak::Read => {
                let n_groups = n_groups.min(self.data.rows());
                (n_groups, (self.data.rows() / n_groups) as u32, n_groups, Elem::U32)
            }
            Peak::F32 | Peak::F16 => (n_groups, N_STEPS, n_groups * WORKGROUP, Elem::F32),
            Peak::Dot => (n_groups, N_STEPS, n_groups * WORKGROUP, Elem::U32),
            Peak::Coop { .. } => (n_groups, N_STEPS, n_groups * COOP, Elem::F32),
        };
        Ok(Self {
            peak: self.peak,
            pipeline: self.pipeline.clone(),
            data: self.data.clone(),
            begin: self.begin.clone(),
            sums: Tensor::new(gpu, "peak results", 1, n_sums, elem)?,
            n_groups,
            n_steps,
        })
    }

    /// Workgroups.
    #[must_use]
    pub const fn n_groups(&self) -> usize {
        self.n_groups
    }

    /// What one dispatch does: bytes read, or operations, of which a multiply-add is two. For cooperative matrices a workgroup
    /// counts as one subgroup.
    #[must_use]
    pub const fn work(&self) -> u64 {
        let steps = self.n_groups as u64 * self.n_steps as u64;
        match self.peak {
            Peak::Read => steps * STRETCH as u64 * 4,
            Peak::F32 | Peak::F16 | Peak::Dot => steps * 64 * WORKGROUP as u64,
            Peak::Coop { .. } => steps * (COOP_SUMS * 2 * COOP * 16) as u64,
        }
    }

    /// Runs it once.
    pub fn dispatch(&self, pass: &mut Pass<'_>) {
        let n_steps = match self.peak {
            Peak::F32 | Peak::F16 | Peak::Dot => self.n_steps / UNROLLED,
            Peak::Read | Peak::Coop { .. } => self.n_steps,
        };
        let params = Params { n_steps };
        let grid = [self.n_groups as u32, 1, 1];
        match &self.begin {
            Some(begin) => pass.dispatch(
                &self.pipeline,
                &[&self.data.buffer, &begin.buffer, &self.sums.buffer],
                &params,
                grid,
            ),
            None => pass.dispatch(&self.pipeline, &[&self.data.buffer, &self.sums.buffer], &params, grid),
        }
    }

    /// Whether the last dispatch left what it has to, in results at both ends of the grid.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn verify(&self, gpu: &Gpu) -> Result<bool> {
        let n = self.sums.cols();
        let checked = (0..N_CHECKED.min(n)).chain(n.saturating_sub(N_CHECKED)..n);
        Ok(if self.sums.elem() == Elem::U32 {
            let sums = self.sums.read_u32(gpu)?;
            checked.into_iter().all(|i| sums[i] == self.expected_bits(i))
        } else {
            let sums = self.sums.read_f32(gpu)?;
            checked.into_iter().all(|i| sums[i] == self.expected(i))
        })
    }

    fn expected_bits(&self, i: usize) -> u32 {
        if self.peak == Peak::Dot {
            return (0..8).fold(0, |all, j| all ^ dot_chain(i as i32 + j * 0x100_0001, self.n_steps) as u32);
        }
        let stretches = (0..self.n_steps as usize).map(|step| (step * self.n_groups + i) * STRETCH);
        let words = stretches.flat_map(|first| first..first + STRETCH);
        words.fold(0, |sum: u32, word| {
            sum.wrapping_add(fill_random::reference(SEED, word as u32).to_bits())
        })
    }

    fn expected(&self, i: usize) -> f32 {
        let Peak::Coop { .. } = self.peak else {
            return (32 * (i as u32 % 32 + self.n_steps) + 496) as f32; // 0 to 31 add up to 496
        };
        let (operand, row, col) = (coop_operand(), i % COOP / 16, i % 16);
        let product: f32 = (0..16).map(|k| operand[row * 16 + k] * operand[k * 16 + col]).sum();
        let begin: f32 = (0..COOP_SUMS).map(|j| coop_begin(j * COOP + i % COOP)).sum();
        begin + COOP_SUMS as f32 * self.n_steps as f32 * product
    }
}

/// Random words, of which each row is one stretch of `peak_read`.
fn random(gpu: &Gpu, bytes: u64) -> Result<Tensor> {
    let bytes = bytes.min(gpu.caps().max_binding).min(gpu.caps().max_buffer);
    let n_stretches = (bytes as usize / (STRETCH * 4)).max(1);
    let matrix = Matrix::new(gpu, "memory to read", n_stretches, STRETCH, DType::F32)?;
    let mut pass = Pass::new(gpu);
    fill_random::FillRandom::new(gpu)?.dispatch(&mut pass, &matrix, SEED, 1.0);
    pass.submit();
    Ok(matrix.whole_as_words().expect("it was cut to one binding"))
}

/// One chain of `peak_dot`: each sum's own bytes times [`BYTES`] are added to it.
fn dot_chain(mut sum: i32, n_steps: u32) -> i32 {
    let signed = |word: u32| word.to_le_bytes().map(|byte| i32::from(byte as i8));
    for _ in 0..n_steps {
        let products = signed(sum as u32).into_iter().zip(signed(BYTES)).map(|(a, b)| a * b);
        sum = sum.wrapping_add(products.sum());
    }
    sum
}

/// Both operands are this, so that a driver that swaps rows with columns throughout computes the same.
fn coop_operand() -> [f32; COOP] {
    std::array::from_fn(|i| (i * 7 % 11 % 3) as f32 - 1.0)
}

fn coop_begin(i: usize) -> f32 {
    (i / COOP + i % 5) as f32
}
