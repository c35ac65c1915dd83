//! The draw: for many random numbers, the token that the definition in f64 gives, or its neighbour where the number lies within
//! rounding of the boundary between them; equal from all logits and from the candidates of top-k.

use qwgpu_runtime::{
    Elem, Gpu, Pass, Tensor,
    kernels::{
        sample::{self, Candidates, Draw},
        topk,
    },
    philox,
};

use super::Checked;
use crate::{Case, Failure, Outcome, compare, fill, padded, rows::Rows};

/// Columns and valid ones: a word, parts of 256, a chunk of candidates and one more, the family's vocabularies with their padding.
const SHAPES: [(usize, usize); 10] = [
    (1, 1),
    (7, 5),
    (256, 255),
    (257, 257),
    (2048, 2048),
    (2050, 2049),
    (4100, 4097),
    (32_768, 32_000),
    (151_936, 151_665),
    (152_064, 151_643),
];

/// Rows, each with its own position and so its own random number.
const N_ROWS: usize = 6;

/// What the logits look like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Look {
    /// As a model's: few stand out.
    Peaked,
    /// All much the same.
    Flat,
    /// Nine different values, so that cuts fall among ties.
    Ties,
    /// All the same.
    Equal,
    /// Floats that follow each other, with keys that differ by one.
    Neighbours,
    /// -inf and NaN among them.
    Masked,
    /// One +inf, and another behind it.
    Infinite,
    /// Nothing above -inf.
    Nothing,
    /// Far below zero, and far apart.
    Wide,
}

const LOOKS: [Look; 9] = [
    Look::Peaked,
    Look::Flat,
    Look::Ties,
    Look::Equal,
    Look::Neighbours,
    Look::Masked,
    Look::Infinite,
    Look::Nothing,
    Look::Wide,
];

/// Temperature, k, top-p, min-p.
const DRAWS: [(f32, usize, f32, f32); 17] = [
    (1.0, 0, 1.0, 0.0),
    (0.7, 20, 0.8, 0.0), // Qwen2's own
    (0.7, 20, 1.0, 0.0),
    (1.5, 1, 1.0, 0.0),
    (2.0, 256, 0.95, 0.0),
    (1.0, 255, 0.999, 0.02),
    (0.5, 50, 1.0, 0.1),
    (1.0, 0, 0.5, 0.0),
    (1.3, 0, 0.9, 0.0),
    (1.0, 0, 0.0, 0.0),
    (1.0, 0, 1.0, 0.05),
    (0.9, 0, 0.97, 0.3),
    (1.0, 50, 1.0, 1.0), // what ties with the best
    (1.0, 257, 1.0, 0.0),
    (1.1, 1000, 0.9, 0.01),
    (100.0, 100_000, 0.75, 0.0),
    (1e-40, 0, 0.9, 0.0),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (cols, n_valid) in SHAPES {
        for (i, look) in LOOKS.into_iter().enumerate() {
            for (j, (temperature, k, top_p, min_p)) in DRAWS.into_iter().enumerate() {
                let seed = u64::from(fill::hash(50, (i * DRAWS.len() + j) as u64)) << 20;
                let draw = Draw {
                    temperature,
                    k,
                    top_p,
                    min_p,
                    seed,
                };
                let name = format!("{n_valid} of [{N_ROWS}, {cols}], {look:?}, t {temperature} k {k} p {top_p} m {min_p}");
                // one workgroup to a row: a vocabulary takes CPU drivers long
                let quick = cols < 5000 || look == Look::Peaked && cols == 32_768;
                let check = move |gpu: &_| check(gpu, cols, n_valid, look, &draw);
                cases.push(Case::new("sample", name, move |gpu| check(gpu)).quick(quick));
            }
        }
    }
    cases
}

fn logit(look: Look, i: u64) -> f32 {
    let (plain, draw) = (fill::at(51, i), fill::hash(52, i));
    match look {
        // an exponential tail: the logarithm of a uniform number
        Look::Peaked => -1.7 * (f32::MIN_POSITIVE + (draw >> 8) as f32 / (1 << 24) as f32).ln() - 3.0,
        Look::Flat => plain * 0.25,
        Look::Ties => (draw % 9) as f32 * 0.5 - 2.0,
        Look::Equal => -1.25,
        Look::Neighbours => f32::from_bits(1f32.to_bits() + draw % 300),
        Look::Masked if draw.is_multiple_of(3) => f32::NEG_INFINITY,
        Look::Masked if draw % 16 == 1 => f32::NAN,
        Look::Masked => plain * 3.0,
        Look::Infinite if draw.is_multiple_of(4) => f32::INFINITY,
        Look::Infinite => plain,
        Look::Nothing => [f32::NEG_INFINITY, f32::NAN][(draw % 2) as usize],
        Look::Wide => plain * 40.0 - 1e4,
    }
}

fn check(gpu: &Gpu, cols: usize, n_valid: usize, look: Look, draw: &Draw) -> Checked {
    // padding beats everything, and must not be chosen
    let value = |i: usize| if i % cols >= n_valid { 1e9 } else { logit(look, i as u64) };
    let logits: Vec<f32> = (0..N_ROWS * cols).map(value).collect();
    let input = padded(gpu, N_ROWS, cols, &logits)?;
    let from_all = drawn(gpu, Candidates::Logits { logits: &input, n_valid }, draw, None)?;
    let mut outcome = judge(&from_all, &logits, cols, n_valid, draw)?;
    if (1..=topk::MAX_K).contains(&draw.k) {
        let n = topk::n_candidates(n_valid, draw.k);
        let keys = Tensor::new(gpu, "keys", N_ROWS, n, Elem::U32)?;
        let ids = Tensor::new(gpu, "ids", N_ROWS, n, Elem::U32)?;
        let mut pass = Pass::new(gpu);
        topk::Topk::new(gpu)?.dispatch(&mut pass, &input, n_valid, draw.k, &keys, &ids);
        let (keys, ids) = (&keys, &ids);
        let from_few = drawn(gpu, Candidates::Top { keys, ids, n }, draw, Some(pass))?;
        outcome = outcome.and(compare::exact("token", 1, &from_few.0, &from_all.0)?);
    }
    Ok(outcome)
}

/// Tokens of all rows, and the random number that each was drawn with.
fn drawn(gpu: &Gpu, candidates: Candidates<'_>, draw: &Draw, pass: Option<Pass<'_>>) -> Result<(Vec<u32>, Vec<f64>), Failure> {
    let rows = Rows::new(gpu, N_ROWS)?;
    let mut pass = pass.unwrap_or_else(|| Pass::new(gpu));
    sample::Sample::new(gpu)?.dispatch(&mut pass, candidates, draw, rows.out());
    pass.submit();
    let got = rows.read(gpu)?;
    let tokens: Vec<u32> = got.chunks_exact(4).map(|row| row[0]).collect();
    compare::exact("rows", 4, &got, &rows.advanced(&tokens))?;
    let uniform = |pos: u32| philox::uniform(draw.seed, u64::from(pos) + 1);
    Ok((tokens, rows.before().iter().map(|row| uniform(row.pos)).collect()))
}

fn judge((tokens, randoms): &(Vec<u32>, Vec<f64>), logits: &[f32], cols: usize, n_valid: usize, draw: &Draw) -> Checked {
    for (row, (&token, &random)) in tokens.iter().zip(randoms).enumerate() {
        let logits = &logits[row * cols..row * cols + n_valid];
        if !acceptable(token, random, logits, draw) {
            let kept = sample::reference(logits, draw);
            let expected = at(&kept, random);
            return Err(Failure::new(format!(
                "row {row}: token {token}, expected {expected} for {random} among {}",
                kept.len()
            )));
        }
    }
    Ok(Outcome {
        n_values: tokens.len(),
        ..Outcome::default()
    })
}

/// Whether rounding explains a token: weights in f32, sums in 40 fractional bits, 32 bits of the random number.
fn acceptable(token: u32, random: f64, logits: &[f32], draw: &Draw) -> bool {
    let kept = sample::reference(logits, draw);
    if at(&kept, random) == token {
        return true;
    }
    // the exponents go to 28 before a weight vanishes
    let off = compare::exp_error(28.0) + kept.len() as f64 / 2f64.powi(40) + 2f64.powi(-32);
    let shares = [0.0, -off, off].map(|off| (f64::from(draw.top_p) * (1.0 + off)) as f32);
    let least = [0.0, -off, off].map(|off| (f64::from(draw.min_p) * (1.0 + off)) as f32);
    let near = |draw: &Draw| {
        let kept = sample::reference(logits, draw);
        [0.0, -off, off].iter().any(|off| at(&kept, (random + off).max(0.0)) == token)
    };
    shares
        .iter()
        .any(|&top_p| least.iter().any(|&min_p| near(&Draw { top_p, min_p, ..*draw })))
}

/// The first id at which the sum of probabilities exceeds `random`.
fn at(kept: &[(u32, f64)], random: f64) -> u32 {
    let mut sum = 0.0;
    for &(id, probability) in kept {
        sum += probability;
        if random < sum {
            return id;
        }
    }
    kept.last().map_or(u32::MAX, |&(id, _)| id)
}
