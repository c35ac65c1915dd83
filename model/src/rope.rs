//! Rotary position embedding: the frequencies, and a small table from which a kernel composes cos and sin.
//!
//! A table of every position grows with the context, and a GPU's own sin loses all accuracy at an angle of 100,000. So a
//! position is split, p = 256 h + l, and the table holds the angles of all l and of all h, each computed in f64; the kernel
//! adds the two angles with four products. 131,072 positions take 768 rows, and no kernel needs trigonometry.

use crate::config::{Config, Yarn};

/// The angle by which each pair turns from one position to the next, in radians: `head_dim / 2` values, fastest first.
///
/// theta^(-2i / head_dim), and with YaRN (Peng et al. 2023, arXiv 2309.00071, as in transformers) a blend of that and the same
/// divided by the factor. Pair i holds the elements i and i + `head_dim / 2` of a head.
#[must_use]
pub fn inv_freq(config: &Config) -> Vec<f64> {
    let (dim, theta) = (config.head_dim, config.rope.theta);
    let plain = |pair: usize| theta.powf(-((2 * pair) as f64) / dim as f64);
    let Some(yarn) = &config.rope.yarn else {
        return (0..dim / 2).map(plain).collect();
    };
    let (low, high) = ramp_ends(yarn, dim, theta);
    let blend = |pair: usize| {
        // 0: a fast pair, left alone; 1: a slow pair, stretched by the factor
        let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        plain(pair) * (1.0 - ramp) + plain(pair) / yarn.factor * ramp
    };
    (0..dim / 2).map(blend).collect()
}

/// What cos and sin are multiplied by, for queries and keys alike: YaRN's attention factor, or 1.
#[must_use]
pub fn attention_factor(config: &Config) -> f64 {
    config.rope.yarn.as_ref().map_or(1.0, |yarn| yarn.attention_factor)
}

/// The pairs between which YaRN's ramp rises, never the same one.
fn ramp_ends(yarn: &Yarn, dim: usize, theta: f64) -> (f64, f64) {
    let original = yarn.original_max_position_embeddings as f64;
    // The pair (with a fraction) that turns so often over the original context.
    let pair_that_turns = |times: f64| dim as f64 * (original / (times * std::f64::consts::TAU)).ln() / (2.0 * theta.ln());
    let (mut low, mut high) = (pair_that_turns(yarn.beta_fast), pair_that_turns(yarn.beta_slow));
    if yarn.truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min((dim - 1) as f64));
    if low == high { (low, high + 0.001) } else { (low, high) }
}

/// Cos and sin of every angle up to a context, as f32 of shape `[LOW + n_high, head_dim / 2, 2]` with (cos, sin) innermost.
///
/// Row l < [`LOW`](Self::LOW) belongs to the position l and carries [`attention_factor`]; row `LOW + h` belongs to the position
/// `LOW * h` and does not. For p = `LOW` h + l:
///
/// * cos p = cos h · cos l − sin h · sin l
/// * sin p = sin h · cos l + cos h · sin l
#[derive(Clone, Debug)]
pub struct RopeTable {
    n_pairs: usize,
    rows: Vec<f32>,
}

impl RopeTable {
    /// Positions per high row.
    pub const LOW: usize = 256;

    /// The table for positions 0 to `ctx` - 1.
    #[must_use]
    pub fn new(config: &Config, ctx: usize) -> Self {
        let (inv_freq, factor) = (inv_freq(config), attention_factor(config));
        let low = (0..Self::LOW).map(|l| (l, factor));
        let high = (0..ctx.div_ceil(Self::LOW)).map(|h| (h * Self::LOW, 1.0));
        let mut rows = Vec::with_capacity((Self::LOW + ctx.div_ceil(Self::LOW)) * inv_freq.len() * 2);
        for (position, scale) in low.chain(high) {
            for frequency in &inv_freq {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                rows.extend([(cos * scale) as f32, (sin * scale) as f32]);
            }
        }
        Self {
            n_pairs: inv_freq.len(),
            rows,
        }
    }

    /// `[LOW + n_high, head_dim / 2, 2]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        [self.rows.len() / (2 * self.n_pairs), self.n_pairs, 2]
    }

    /// The elements in row-major order.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.rows
    }

    /// (cos, sin) of `pair` at `position`, composed in f32 as a kernel does it.
    ///
    /// # Panics
    /// When `position` or `pair` lies outside the table.
    #[must_use]
    pub fn at(&self, position: usize, pair: usize) -> (f32, f32) {
        assert!(pair < self.n_pairs, "pair {pair} of {}", self.n_pairs);
        let entry = |row: usize| {
            let at = (row * self.n_pairs + pair) * 2;
            (self.rows[at], self.rows[at + 1])
        };
        let ((cl, sl), (ch, sh)) = (entry(position % Self::LOW), entry(Self::LOW + position / Self::LOW));
        (ch * cl - sh * sl, sh * cl + ch * sl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rope;

    /// A published shape with YaRN from `original` positions times 4.
    fn with_yarn(preset: &str, original: usize) -> Config {
        let mut config = Config::preset(preset).unwrap();
        let yarn = Yarn {
            factor: 4.0,
            original_max_position_embeddings: original,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: 0.1 * 4f64.ln() + 1.0,
            truncate: true,
        };
        config.rope = Rope {
            theta: 1e6,
            yarn: Some(yarn),
        };
        config
    }

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() <= tolerance * b.abs()
    }

    #[test]
    fn plain_frequencies_fall_geometrically() {
        for (preset, dim) in [("0.5b", 64), ("7b", 128)] {
            let inv = inv_freq(&Config::preset(preset).unwrap());
            assert_eq!(inv.len(), dim / 2);
            assert_eq!(inv[0], 1.0);
            assert!(close(inv[dim / 4], 1e-3, 1e-12), "{}", inv[dim / 4]);
            let step = 1e6f64.powf(2.0 / dim as f64);
            assert!(inv.windows(2).all(|w| close(w[0] / w[1], step, 1e-12)));
        }
    }

    #[test]
    fn yarn_ramp_ends_match_the_published_figures() {
        let ends = |preset, truncate| {
            let mut config = with_yarn(preset, 32_768);
            let yarn = config.rope.yarn.as_mut().unwrap();
            yarn.truncate = truncate;
            ramp_ends(yarn, config.head_dim, 1e6)
        };
        assert_eq!(ends("0.5b", true), (11.0, 20.0));
        assert_eq!(ends("7b", true), (23.0, 40.0));
        let (low, high) = ends("0.5b", false);
        assert!((low - 11.798).abs() < 1e-3 && (high - 19.825).abs() < 1e-3, "{low} {high}");
        let (low, high) = ends("7b", false);
        assert!((low - 23.596).abs() < 1e-3 && (high - 39.651).abs() < 1e-3, "{low} {high}");
    }

    #[test]
    fn yarn_leaves_fast_pairs_and_stretches_slow_ones() {
        let (plain, config) = (inv_freq(&Config::preset("0.5b").unwrap()), with_yarn("0.5b", 32_768));
        let inv = inv_freq(&config);
        assert!((0..=11).all(|i| inv[i] == plain[i]));
        assert!((20..32).all(|i| close(inv[i], plain[i] / 4.0, 1e-15)));
        // Computed apart from this code, with Python floats.
        for (pair, expected) in [(12, 0.005154795480911533), (15, 0.0010266176840396614), (20, 4.445698525097307e-5)] {
            assert!(close(inv[pair], expected, 1e-12), "pair {pair}: {}", inv[pair]);
        }
        assert!((attention_factor(&config) - 1.138629).abs() < 1e-6);
        assert!((attention_factor(&config).powi(2) - 1.296477).abs() < 1e-6);
        assert_eq!(attention_factor(&Config::preset("7b").unwrap()), 1.0);
    }

    #[test]
    fn a_ramp_of_no_width_divides_by_no_zero() {
        let mut config = with_yarn("0.5b", 1);
        assert!(inv_freq(&config).iter().all(|f| f.is_finite() && *f > 0.0));
        config.rope.yarn.as_mut().unwrap().original_max_position_embeddings = 6;
        assert!(inv_freq(&config).iter().all(|f| f.is_finite() && *f > 0.0));
    }

    /// Angles of the reference checkpoint with YaRN (head_dim 64, original 64), read off its keys before and after rotation.
    #[test]
    fn yarn_turns_as_the_reference_does() {
        let table = RopeTable::new(&with_yarn("0.5b", 64), 64);
        let cases = [
            (1, 0, 0.615204, 0.958124),
            (17, 0, -0.313309, -1.094675),
            (17, 1, -1.107393, -0.264871),
            (17, 5, 0.843774, 0.764541),
            (17, 11, 1.137858, 0.041896),
            (39, 1, -1.122408, -0.191513),
            (39, 5, -0.134128, 1.130702),
            (39, 31, 1.138629, 0.000017),
        ];
        for (position, pair, cos, sin) in cases {
            let (c, s) = table.at(position, pair);
            assert!((c - cos).abs() < 3e-6 && (s - sin).abs() < 3e-6, "{position} {pair}: {c} {s}");
        }
    }

    #[test]
    fn composed_angles_are_exact_up_to_the_longest_context() {
        for config in [Config::preset("0.5b").unwrap(), with_yarn("7b", 32_768)] {
            let ctx = 131_072;
            let (table, inv, factor) = (RopeTable::new(&config, ctx), inv_freq(&config), attention_factor(&config));
            assert_eq!(table.shape(), [256 + 512, config.head_dim / 2, 2]);
            let mut worst = 0.0f64;
            for position in (0..ctx).step_by(61).chain([255, 256, 257, 65_535, ctx - 1]) {
                for (pair, frequency) in inv.iter().enumerate() {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    let (c, s) = table.at(position, pair);
                    worst = worst
                        .max((f64::from(c) - factor * cos).abs())
                        .max((f64::from(s) - factor * sin).abs());
                }
            }
            assert!(worst < 3e-7 * factor, "{worst}");
        }
    }

    #[test]
    fn a_context_of_any_length_has_a_row_for_each_position() {
        let config = Config::preset("0.5b").unwrap();
        for (ctx, n_high) in [(1, 1), (256, 1), (257, 2), (1000, 4)] {
            let table = RopeTable::new(&config, ctx);
            assert_eq!(table.shape(), [256 + n_high, 32, 2]);
            assert_eq!(table.data().len(), (256 + n_high) * 64);
            assert!(table.at(ctx - 1, 31).0.is_finite());
        }
        assert_eq!(RopeTable::new(&config, 1).at(0, 7), (1.0, 0.0));
    }
}
