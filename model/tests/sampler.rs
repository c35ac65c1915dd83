//! The sampler against transformers' logits warpers, by hand on small cases, and statistically.

use proptest::prelude::*;
use qwgpu_model::Error;
use qwgpu_model::sampler::{Candidate, SamplerConfig, SeenSet, apply_repetition_penalty, distribution, draw, top_candidates};

const OFF: SamplerConfig = SamplerConfig {
    temperature: 1.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    repetition_penalty: 1.0,
    seed: 0,
};

fn candidates(logits: &[f32]) -> Vec<Candidate> {
    top_candidates(logits, logits.len(), 0)
}

fn ids(candidates: &[Candidate]) -> Vec<u32> {
    candidates.iter().map(|candidate| candidate.id).collect()
}

fn seen(ids: &[u32], vocab_size: usize) -> SeenSet {
    let mut seen = SeenSet::new(vocab_size);
    seen.extend(ids.iter().copied());
    seen
}

/// Candidates as in a real step: penalty, top-k, then the rest.
fn whole(logits: &[f32], prompt: &[u32], config: &SamplerConfig) -> Vec<(u32, f64)> {
    let mut logits = logits.to_vec();
    let seen = seen(prompt, logits.len());
    apply_repetition_penalty(&mut logits, &seen, config.repetition_penalty);
    distribution(&top_candidates(&logits, logits.len(), config.n_candidates()), config)
}

#[test]
fn filters_leave_what_transformers_leaves() {
    // From numpy in float64, each warper transcribed from transformers 4.57 `generation/logits_process.py` (ascending sort,
    // softmax, cumulative sum, mask), run in its order on these logits after a prompt of 3, 8, 6, 3, 1.
    let logits = [2.0, -1.5, 0.25, 3.5, 1.0, -0.75, 3.25, 0.5, -4.0, 2.75];
    type Case<'a> = (f32, usize, f32, f32, f32, &'a [(u32, f64)]);
    #[rustfmt::skip]
    let cases: &[Case] = &[
        (1.0, 0, 1.0, 0.0, 1.0, &[
            (3, 0.375023575), (6, 0.292068654), (9, 0.177148593), (0, 0.083679070), (4, 0.030783810), (7, 0.018671324),
            (2, 0.014541242), (5, 0.005349424), (1, 0.002526889), (8, 0.000207420),
        ]),
        (0.7, 0, 0.8, 0.0, 1.0, &[(3, 0.489670071), (6, 0.342608699), (9, 0.167721229)]),
        (0.7, 4, 1.0, 0.0, 1.0, &[(3, 0.463067894), (6, 0.323995887), (9, 0.158609482), (0, 0.054326737)]),
        (1.0, 0, 0.5, 0.0, 1.0, &[(3, 0.562176501), (6, 0.437823499)]),
        (1.5, 6, 0.9, 0.0, 1.0, &[(3, 0.332251585), (6, 0.281244895), (9, 0.201520773), (0, 0.122228528), (4, 0.062754218)]),
        (1.0, 0, 1.0, 0.2, 1.0, &[(3, 0.404155119), (6, 0.314756323), (9, 0.190909361), (0, 0.090179197)]),
        (1.3, 0, 0.95, 0.3, 1.0, &[(3, 0.370082803), (6, 0.305337913), (9, 0.207847300), (0, 0.116731985)]),
        (0.7, 5, 0.8, 0.05, 1.05, &[(3, 0.465924238), (6, 0.331585926), (9, 0.202489836)]),
        (2.0, 0, 0.7, 0.5, 1.3, &[(9, 0.282378021), (3, 0.274348863), (6, 0.249197729), (0, 0.194075387)]),
        (0.25, 3, 0.99, 0.0, 2.0, &[(9, 0.936239552), (0, 0.046612623), (3, 0.017147826)]),
        (1.0, 0, 0.01, 0.0, 1.0, &[(3, 1.0)]),
        (1.0, 0, 0.0, 0.0, 1.0, &[(3, 1.0)]),
        (1.0, 0, 1.0, 1.0, 1.0, &[(3, 1.0)]),
    ];
    for &(temperature, top_k, top_p, min_p, repetition_penalty, expected) in cases {
        let config = SamplerConfig {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            seed: 0,
        };
        let found = whole(&logits, &[3, 8, 6, 3, 1], &config);
        assert_eq!(found.len(), expected.len(), "{config:?}: {found:?}");
        for (&(id, probability), &(expected_id, expected)) in found.iter().zip(expected) {
            assert_eq!(id, expected_id, "{config:?}");
            // Penalised logits are rounded to float32 here: some 1e-7 of the probability.
            assert!((probability - expected).abs() < 3e-7, "{config:?}: {probability} for {expected}");
        }
    }
}

#[test]
fn top_p_keeps_the_token_that_crosses_the_threshold_and_no_more() {
    // Probabilities 1/2, 1/4, 1/8 and 1/8, up to rounding; the thresholds keep clear of their sums.
    let logits = [2.0_f32, 1.0, 0.0, 0.0].map(|log2| log2 * std::f32::consts::LN_2);
    let kept = |top_p| distribution(&candidates(&logits), &SamplerConfig { top_p, ..OFF }).len();
    assert_eq!([0.1, 0.49, 0.51, 0.74, 0.76, 0.87, 0.88, 0.999].map(kept), [1, 1, 2, 2, 3, 3, 4, 4]);
    // All equal: exact sums. 0.5 is reached by two of four, not exceeded.
    let kept = |top_p| distribution(&candidates(&[7.0; 4]), &SamplerConfig { top_p, ..OFF });
    assert_eq!(kept(0.5), [(0, 0.5), (1, 0.5)]);
    assert_eq!(kept(0.75).len(), 3);
    assert_eq!(kept(0.76).len(), 4);
}

#[test]
fn min_p_compares_with_the_best() {
    // Probabilities fall by half: 1, 1/2, 1/4 of the best.
    let logits = [0.0, -std::f32::consts::LN_2, -2.0 * std::f32::consts::LN_2];
    let kept = |min_p| distribution(&candidates(&logits), &SamplerConfig { min_p, ..OFF }).len();
    assert_eq!([0.0, 0.24, 0.26, 0.49, 0.51, 1.0].map(kept), [3, 3, 2, 2, 1, 1]);
    // What ties with the best stays even at 1.
    assert_eq!(
        distribution(&candidates(&[1.0, 2.0, 2.0]), &SamplerConfig { min_p: 1.0, ..OFF }),
        [(1, 0.5), (2, 0.5)]
    );
}

#[test]
fn ties_go_to_the_lowest_id() {
    let logits = [1.0, 3.0, -0.0, 3.0, 0.0, 3.0, 1.0];
    assert_eq!(ids(&top_candidates(&logits, 7, 0)), [1, 3, 5, 0, 6, 2, 4]);
    for k in 1..=7 {
        assert_eq!(ids(&top_candidates(&logits, 7, k)), [1, 3, 5, 0, 6, 2, 4][..k], "k = {k}");
    }
    assert_eq!(draw(&candidates(&logits), &SamplerConfig::greedy(), 0), 1);
    // Exactly k, where transformers would keep all three that tie.
    assert_eq!(
        distribution(&candidates(&logits), &SamplerConfig { top_k: 2, ..OFF }),
        [(1, 0.5), (3, 0.5)]
    );
}

#[test]
fn padding_rows_are_no_candidates() {
    let logits = [0.0, 1.0, 9.0, 9.0];
    assert_eq!(ids(&top_candidates(&logits, 2, 0)), [1, 0]);
    assert_eq!(ids(&top_candidates(&logits, 2, 1)), [1]);
    assert_eq!(ids(&top_candidates(&logits, 2, 100)), [1, 0]);
    // More tokens than rows: an odd checkpoint, but no reason to fall over.
    assert_eq!(top_candidates(&logits, 100, 0).len(), 4);
}

#[test]
fn penalty_hits_each_seen_token_once() {
    let mut logits = [2.0, -2.0, 0.0, 5.0, f32::NEG_INFINITY];
    apply_repetition_penalty(&mut logits, &seen(&[1, 0, 1, 0, 0, 2, 4, 99], 100), 2.0);
    assert_eq!(logits, [1.0, -4.0, 0.0, 5.0, f32::NEG_INFINITY]);
    // Below 1 it encourages.
    let mut logits = [2.0, -2.0];
    apply_repetition_penalty(&mut logits, &seen(&[0, 1], 2), 0.5);
    assert_eq!(logits, [4.0, -1.0]);
}

#[test]
fn seen_sets_keep_order_and_can_be_rebuilt() {
    let mut seen = seen(&[70, 3, 70, 64, 3, 0], 71);
    assert_eq!(seen.ids(), [70, 3, 64, 0]);
    assert!(seen.contains(64) && !seen.contains(65));
    assert!(
        !seen.insert(71) && !seen.insert(u32::MAX) && !seen.contains(u32::MAX),
        "outside the vocabulary"
    );
    assert!(seen.insert(65) && !seen.insert(65));
    seen.rebuild(&[3, 5, 3]);
    assert_eq!(seen.ids(), [3, 5]);
    assert!((0..71).all(|id| seen.contains(id) == (id == 3 || id == 5)));
    seen.clear();
    assert!(seen.ids().is_empty() && !(0..71).any(|id| seen.contains(id)));
}

#[test]
fn odd_logits_do_not_panic() {
    const NAN: f32 = f32::NAN;
    const NEG: f32 = f32::NEG_INFINITY;
    const POS: f32 = f32::INFINITY;
    let sampling = SamplerConfig {
        temperature: 0.7,
        top_p: 0.9,
        min_p: 0.01,
        ..OFF
    };
    let tiny = SamplerConfig {
        temperature: f32::from_bits(1),
        ..OFF
    };
    for config in [SamplerConfig::greedy(), OFF, sampling, tiny, SamplerConfig { top_k: 3, ..OFF }] {
        let chosen = |logits: &[f32]| draw(&top_candidates(logits, logits.len(), config.n_candidates()), &config, 5);
        assert_eq!(chosen(&[NEG, NEG, NEG]), 0, "{config:?}");
        assert_eq!(chosen(&[NAN, NAN, NAN]), 0, "{config:?}");
        assert_eq!(chosen(&[NAN, NEG, NAN]), 1, "{config:?}");
        assert_eq!(chosen(&[NAN, NEG, -1e30, NAN, NEG]), 2, "{config:?}");
        assert_eq!(chosen(&[-NAN, 3.0, NEG]), 1, "{config:?}");
        assert_eq!(chosen(&[1.0, NAN, POS, POS]), 2, "{config:?}");
        assert_eq!(chosen(&[f32::MAX, f32::MIN]), 0, "{config:?}");
        assert_eq!(chosen(&[-5.0]), 0, "{config:?}");
    }
    for step in 0..1000 {
        let id = draw(&candidates(&[NAN, 0.0, NEG, 0.0, NAN]), &OFF, step);
        assert!(id == 1 || id == 3, "drew {id}");
    }
}

#[test]
fn options_out_of_range_are_named() {
    let rejected = |config: SamplerConfig| match config.validate() {
        Err(Error::Option { option, .. }) => option,
        other => panic!("expected an option error, got {other:?} for {config:?}"),
    };
    for bad in [-0.1, f32::NAN, f32::INFINITY] {
        assert_eq!(rejected(SamplerConfig { temperature: bad, ..OFF }), "--temperature");
        assert_eq!(rejected(SamplerConfig { top_p: bad, ..OFF }), "--top-p");
        assert_eq!(rejected(SamplerConfig { min_p: bad, ..OFF }), "--min-p");
        assert_eq!(
            rejected(SamplerConfig {
                repetition_penalty: bad,
                ..OFF
            }),
            "--repetition-penalty"
        );
    }
    assert_eq!(rejected(SamplerConfig { top_p: 1.01, ..OFF }), "--top-p");
    assert_eq!(rejected(SamplerConfig { min_p: 1.01, ..OFF }), "--min-p");
    assert_eq!(
        rejected(SamplerConfig {
            repetition_penalty: 0.0,
            ..OFF
        }),
        "--repetition-penalty"
    );
    for good in [
        SamplerConfig::greedy(),
        OFF,
        SamplerConfig {
            temperature: 0.7,
            top_k: 20,
            top_p: 0.8,
            min_p: 0.05,
            repetition_penalty: 1.05,
            seed: u64::MAX,
        },
        SamplerConfig {
            temperature: 100.0,
            top_p: 0.0,
            min_p: 1.0,
            repetition_penalty: 0.5,
            ..OFF
        },
    ] {
        good.validate().unwrap();
    }
}

#[test]
fn greedy_is_recognised() {
    assert!(SamplerConfig::greedy().is_greedy() && !OFF.is_greedy());
    assert!(SamplerConfig { top_k: 1, ..OFF }.is_greedy());
    assert_eq!(SamplerConfig::default(), SamplerConfig::greedy());
    assert_eq!([SamplerConfig::greedy().n_candidates(), OFF.n_candidates()], [1, 0]);
    assert_eq!(SamplerConfig { top_k: 20, ..OFF }.n_candidates(), 20);
    assert!(
        !OFF.has_penalty()
            && SamplerConfig {
                repetition_penalty: 1.1,
                ..OFF
            }
            .has_penalty()
    );
}

#[test]
fn draws_depend_on_seed_and_step_alone() {
    let candidates = candidates(&[0.0; 1000]);
    let text = |seed| {
        (0..64)
            .map(|step| draw(&candidates, &SamplerConfig { seed, ..OFF }, step))
            .collect::<Vec<_>>()
    };
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
    // Any order of steps.
    let backwards: Vec<u32> = (0..64)
        .rev()
        .map(|step| draw(&candidates, &SamplerConfig { seed: 1, ..OFF }, step))
        .collect();
    assert!(backwards.iter().rev().eq(&text(1)));
    // The first known answer of Philox4x32-10: 0x6627e8d5 / 2^32 = 0.39904, of a thousand equal parts the 400th.
    assert_eq!(draw(&candidates, &OFF, 0), 399);
}

/// Pearson's statistic of `n` draws against the distribution itself.
fn chi_square(candidates: &[Candidate], config: &SamplerConfig, n: u64) -> (f64, usize) {
    let expected = distribution(candidates, config);
    let mut counts = std::collections::HashMap::<u32, u64>::new();
    for step in 0..n {
        *counts.entry(draw(candidates, config, step)).or_default() += 1;
    }
    assert_eq!(counts.values().sum::<u64>(), n);
    assert!(
        counts.keys().all(|id| expected.iter().any(|(other, _)| other == id)),
        "drew what was filtered out: {counts:?}"
    );
    let term = |&(id, probability): &(u32, f64)| {
        let (found, expected) = (*counts.get(&id).unwrap_or(&0) as f64, probability * n as f64);
        (found - expected).powi(2) / expected
    };
    (expected.iter().map(term).sum(), expected.len() - 1)
}

#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = (0..12).map(|id| ((id * 7) % 12) as f32 * 0.3).collect();
    for (config, degrees) in [
        (SamplerConfig { seed: 42, ..OFF }, 11),
        (
            SamplerConfig {
                temperature: 0.7,
                top_k: 5,
                seed: 7,
                ..OFF
            },
            4,
        ),
        (
            SamplerConfig {
                temperature: 1.5,
                top_p: 0.8,
                min_p: 0.2,
                seed: 123_456_789_012,
                ..OFF
            },
            6,
        ),
    ] {
        let (statistic, found_degrees) = chi_square(&candidates(&logits), &config, 20_000);
        assert_eq!(found_degrees, degrees, "{config:?}");
        // Mean is the number of degrees, its variance twice that; four deviations above happen once in thousands of seeds.
        let degrees = degrees as f64;
        let limit = degrees + 4.0 * (2.0 * degrees).sqrt();
        println!("chi-square {statistic:.2} with {degrees} degrees, limit {limit:.2}");
        assert!(statistic < limit, "{config:?}: chi-square {statistic} is above {limit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn selection_equals_a_full_sort(
        logits in prop::collection::vec(prop_oneof![4 => -3..3_i8, 1 => Just(i8::MAX), 1 => Just(i8::MIN)], 1..200),
        k in 0..220_usize,
    ) {
        // Few distinct values, for many ties; the two extremes stand for NaN and -infinity.
        let logits: Vec<f32> = logits
            .into_iter()
            .map(|value| match value {
                i8::MAX => f32::NAN,
                i8::MIN => f32::NEG_INFINITY,
                value => f32::from(value) * 0.5,
            })
            .collect();
        let mut expected: Vec<u32> = (0..logits.len() as u32).collect();
        let rank = |id: u32| logits[id as usize];
        // A stable sort: ids stay in order where logits are equal.
        expected.sort_by(|&a, &b| match (rank(a).is_nan(), rank(b).is_nan()) {
            (false, false) => rank(b).partial_cmp(&rank(a)).unwrap(),
            (a_is_nan, b_is_nan) => a_is_nan.cmp(&b_is_nan),
        });
        expected.truncate(if k == 0 { usize::MAX } else { k });
        let found = top_candidates(&logits, logits.len(), k);
        prop_assert!(found.is_sorted_by(|a, b| a.order(b).is_le()));
        prop_assert_eq!(ids(&found), expected);
    }

    #[test]
    fn distributions_are_sound(
        logits in prop::collection::vec(-30.0..30.0_f32, 1..100),
        temperature in 0.01..5.0_f32,
        top_k in 0..50_usize,
        top_p in 0.0..=1.0_f32,
        min_p in 0.0..=1.0_f32,
        step: u64,
    ) {
        let config = SamplerConfig { temperature, top_k, top_p, min_p, repetition_penalty: 1.0, seed: 3 };
        let all = candidates(&logits);
        let found = distribution(&all, &config);
        prop_assert!((found.iter().map(|&(_, probability)| probability).sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
        prop_assert!(top_k == 0 || found.len() <= top_k);
        // Filters cut a tail off the sorted candidates, never something in between.
        prop_assert!(found.iter().map(|&(id, _)| id).eq(ids(&all).into_iter().take(found.len())));
        // Only as many candidates as asked for give the same.
        let few = top_candidates(&logits, logits.len(), config.n_candidates());
        prop_assert_eq!(draw(&few, &config, step), draw(&all, &config, step));
    }
}
