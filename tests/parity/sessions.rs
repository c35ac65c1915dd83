//! Sessions: what is cached is used again and never shows in the result; every way to stop stops, with its reason.

use std::sync::Arc;

use qwgpu_model::{
    Error, GenerateOptions, LoadOptions, Model, StopReason,
    sampler::{SamplerConfig, SeenSet, apply_repetition_penalty, draw, top_candidates},
};

use crate::compare::{ROUNDING, compare};
use crate::golden::Golden;
use crate::support::{Arithmetic, Device, generate, greedy, session};

/// The case that all of these run on; it is in the repository.
fn golden() -> Golden {
    Golden::open("tiny-dense.p24").expect("tests/golden holds this case")
}

/// The golden case's model with a context of `ctx` tokens.
fn model(device: &Device, golden: &Golden, ctx: usize) -> Arc<Model> {
    let options = LoadOptions {
        kv: device.kv(),
        ctx: Some(ctx),
        ..LoadOptions::default()
    };
    device.try_load(&golden.checkpoint, &options).expect("a tiny model")
}

#[test]
fn a_shared_prefix_is_not_computed_again() {
    let golden = golden();
    let device = Device::open(Arithmetic::F32);
    let model = model(&device, &golden, 128);
    let mut used = session(&model);
    assert_eq!(generate(&mut used, &golden.prompt, &greedy(16)), golden.generated);

    // The next turn: the whole first one, and something new.
    let next_turn = [golden.sequence().as_slice(), &[7, 99, 401]].concat();
    let mut tokens = used.generate(&next_turn, &greedy(12)).expect("the second turn");
    let second: Vec<u32> = tokens.by_ref().collect::<Result<_, _>>().expect("tokens");
    let stats = tokens.stats();
    assert_eq!(stats.prompt_tokens, next_turn.len());
    // The last generated token was never fed: nothing came after it.
    assert_eq!(stats.cached_tokens, golden.sequence().len() - 1);
    assert_eq!(stats.generated_tokens, 12);
    assert_eq!(
        second,
        generate(&mut session(&model), &next_turn, &greedy(12)),
        "as a fresh session"
    );

    // Another continuation of the same beginning, and then the very first prompt again.
    let other = [&golden.prompt[..16], &[11, 12, 13, 14]].concat();
    let mut tokens = used.generate(&other, &greedy(12)).expect("another turn");
    let third: Vec<u32> = tokens.by_ref().collect::<Result<_, _>>().expect("tokens");
    assert_eq!(tokens.stats().cached_tokens, 16);
    assert_eq!(third, generate(&mut session(&model), &other, &greedy(12)), "as a fresh session");
    assert_eq!(generate(&mut used, &golden.prompt, &greedy(16)), golden.generated);
}

#[test]
fn an_answer_cut_short_can_be_taken_up_again() {
    let golden = golden();
    let device = Device::open(Arithmetic::F32);
    let model = model(&device, &golden, 128);
    let mut used = session(&model);
    let first: Vec<u32> = used
        .generate(&golden.prompt, &greedy(16))
        .expect("an answer")
        .take(5)
        .collect::<Result<_, _>>()
        .expect("tokens");
    // The GPU was a step ahead when the answer was dropped: the sequence must not show it, nor may its logits be taken for others.
    assert_eq!(first, golden.generated[..5]);
    assert_eq!(used.ids(), [&golden.prompt, &first[..4]].concat());
    assert!(
        used.logits().is_err(),
        "the logits are those of a token that is not in the sequence"
    );
    let so_far = [golden.prompt.as_slice(), &first].concat();
    assert_eq!(generate(&mut used, &so_far, &greedy(11)), golden.generated[5..]);

    // A stop token ends an answer in the middle of the pipeline too.
    let stop_ids = vec![golden.generated[8]];
    let at = golden.generated.iter().position(|id| stop_ids.contains(id)).expect("it is there");
    let options = GenerateOptions { stop_ids, ..greedy(16) };
    assert_eq!(generate(&mut used, &golden.prompt, &options), golden.generated[..at]);
    assert_eq!(generate(&mut used, &golden.prompt, &greedy(16)), golden.generated);
}

#[test]
fn rewinding_forgets() {
    let golden = golden();
    let device = Device::open(Arithmetic::F32);
    let model = model(&device, &golden, 128);
    let mut fresh = session(&model);
    fresh.feed(&golden.prompt).expect("the prompt");
    let expected = fresh.logits().expect("logits");

    let mut rewound = session(&model);
    rewound.feed(&golden.prompt[..20]).expect("the prompt's beginning");
    rewound.feed(&[1; 70]).expect("something to forget, beyond a block of the cache");
    rewound.rewind(20);
    assert_eq!(rewound.ids(), &golden.prompt[..20]);
    assert!(
        rewound.logits().is_err(),
        "after rewinding there are no logits until something is fed"
    );
    rewound.feed(&golden.prompt[20..]).expect("the prompt's end");
    let difference = compare(&rewound.logits().expect("logits"), &expected, expected.len());
    assert!(difference.relative <= ROUNDING, "{difference}");
}

#[test]
fn every_way_to_stop_gives_its_reason() {
    let golden = golden();
    let device = Device::open(Arithmetic::F32);
    let model = model(&device, &golden, 32);
    let n_prompt = golden.prompt.len();

    let mut session = session(&model);
    let mut tokens = session.generate(&golden.prompt, &greedy(5)).expect("tokens");
    assert_eq!(tokens.by_ref().count(), 5);
    assert_eq!(tokens.stop_reason(), Some(StopReason::MaxTokens));

    let stop = golden.generated[3];
    let until = golden.generated.iter().position(|id| *id == stop).expect("the token itself");
    let options = GenerateOptions {
        stop_ids: vec![stop],
        ..greedy(16)
    };
    let mut tokens = session.generate(&golden.prompt, &options).expect("tokens");
    let ids: Vec<u32> = tokens.by_ref().collect::<Result<_, _>>().expect("tokens");
    assert_eq!(ids, golden.generated[..until], "the stop token is not part of the answer");
    assert_eq!(tokens.stop_reason(), Some(StopReason::StopToken(stop)));

    // The cache takes the prompt and 32 - 24 tokens; the one chosen last need not fit any more.
    let mut tokens = session.generate(&golden.prompt, &greedy(16)).expect("tokens");
    let ids: Vec<u32> = tokens.by_ref().collect::<Result<_, _>>().expect("tokens");
    assert_eq!(tokens.stop_reason(), Some(StopReason::ContextFull));
    assert_eq!(ids, golden.generated[..32 - n_prompt + 1]);

    let cancel = session.cancel_handle();
    let mut tokens = session.generate(&golden.prompt, &greedy(16)).expect("tokens");
    assert_eq!(tokens.next().expect("a token").expect("a token"), golden.generated[0]);
    std::thread::spawn(move || cancel.cancel()).join().expect("a thread that cancels");
    assert_eq!(tokens.by_ref().count(), 0);
    assert_eq!(tokens.stop_reason(), Some(StopReason::Cancelled));
    // A cancel ends one generation, not the session.
    assert_eq!(generate(&mut session, &golden.prompt, &greedy(5)), golden.generated[..5]);
}

#[test]
fn what_cannot_be_fed_is_an_error_and_harmless() {
    let golden = golden();
    let device = Device::open(Arithmetic::F32);
    let model = model(&device, &golden, 32);
    let mut session = session(&model);
    assert!(matches!(session.feed(&[]), Err(Error::EmptyPrompt)));
    assert!(matches!(session.generate(&[], &greedy(1)).err(), Some(Error::EmptyPrompt)));
    assert!(matches!(
        session.feed(&[0, 512]),
        Err(Error::TokenOutOfRange { id: 512, vocab_size: 512 })
    ));
    assert!(matches!(session.feed(&[1; 33]), Err(Error::ContextFull { needed: 33, ctx: 32 })));
    assert!(matches!(
        session.generate(&[1; 33], &greedy(1)).err(),
        Some(Error::ContextFull { needed: 33, ctx: 32 })
    ));
    let mut none = |_: usize, _: &[f32]| panic!("no logits of what does not fit");
    assert!(matches!(
        session.feed_all_logits(&[1; 33], &mut none),
        Err(Error::ContextFull { needed: 33, ctx: 32 })
    ));
    assert!(session.ids().is_empty(), "what was refused is not in the cache");
    assert_eq!(generate(&mut session, &golden.prompt, &greedy(5)), golden.generated[..5]);
}

#[test]
fn a_seed_decides_what_is_sampled() {
    let golden = golden();
    let device = Device::open(Arithmetic::Native);
    let model = model(&device, &golden, 128);
    let sampled = |seed: u64, top_k: usize| {
        let sampler = SamplerConfig {
            temperature: 1.5,
            top_k,
            seed,
            ..SamplerConfig::greedy()
        };
        generate(&mut session(&model), &golden.prompt, &GenerateOptions { sampler, ..greedy(24) })
    };
    for top_k in [0, 40] {
        assert_eq!(sampled(5, top_k), sampled(5, top_k), "the same seed gives the same tokens");
        assert_ne!(sampled(5, top_k), sampled(6, top_k), "another seed gives others");
    }
}

/// The tokens that the sampler's definition on the host draws, one step after the other.
fn step_by_step(model: &Arc<Model>, prompt: &[u32], sampler: &SamplerConfig, n: usize) -> Vec<u32> {
    let mut session = session(model);
    session.feed(prompt).expect("the prompt");
    let mut seen = SeenSet::new(model.config().vocab_size);
    seen.extend(prompt.iter().copied());
    let mut drawn = Vec::new();
    while drawn.len() < n {
        let mut logits = session.logits().expect("logits");
        apply_repetition_penalty(&mut logits, &seen, sampler.repetition_penalty);
        let candidates = top_candidates(&logits, model.n_valid(), sampler.n_candidates());
        let id = draw(&candidates, sampler, session.ids().len() as u64);
        drawn.push(id);
        seen.insert(id);
        session.feed(&[id]).expect("a token");
    }
    drawn
}

#[test]
fn what_the_gpu_draws_is_what_the_definition_draws() {
    let golden = golden();
    let device = Device::open(Arithmetic::F32);
    let model = model(&device, &golden, 128);
    let off = SamplerConfig {
        temperature: 1.0,
        ..SamplerConfig::greedy()
    };
    let qwen2 = SamplerConfig {
        temperature: 0.7,
        top_k: 20,
        top_p: 0.8,
        repetition_penalty: 1.05,
        ..off
    };
    #[rustfmt::skip]
    let configs = [
        SamplerConfig { repetition_penalty: 1.3, ..SamplerConfig::greedy() },
        off.clone(),
        qwen2.clone(),
        SamplerConfig { top_p: 0.6, ..off },
        SamplerConfig { min_p: 0.1, temperature: 1.7, ..off },
        SamplerConfig { top_k: 300, top_p: 0.9, ..off },
        SamplerConfig { top_k: 256, min_p: 0.02, temperature: 2.0, ..off },
        SamplerConfig { top_k: 3, repetition_penalty: 0.8, ..qwen2 },
    ];
    let mut used = session(&model);
    for config in configs {
        for seed in [0, 1, 7, u64::MAX, 0x1234_5678_9abc_def0] {
            let sampler = SamplerConfig { seed, ..config.clone() };
            let options = GenerateOptions {
                sampler: sampler.clone(),
                ..greedy(20)
            };
            let expected = step_by_step(&model, &golden.prompt, &sampler, 20);
            // the second answer begins in a cache that holds the first, which ran one step beyond its end
            assert_eq!(generate(&mut used, &golden.prompt, &options), expected, "{sampler:?}");
            let stop_ids = vec![expected[11]];
            let at = expected.iter().position(|id| stop_ids.contains(id)).expect("it is there");
            let stopped = GenerateOptions { stop_ids, ..options };
            assert_eq!(generate(&mut used, &golden.prompt, &stopped), expected[..at], "{sampler:?}");
        }
    }
}

#[test]
fn loading_can_be_cancelled() {
    let golden = golden();
    let device = Device::open(Arithmetic::F32);
    let mut calls = 0;
    let mut second_says_no = |done: u64, total: u64| {
        assert!(done <= total);
        calls += 1;
        calls < 2
    };
    let loaded = Model::load(&device.gpu, &golden.checkpoint, &LoadOptions::default(), &mut second_says_no);
    assert!(matches!(loaded, Err(Error::Cancelled)));
    assert_eq!(calls, 2, "nothing is loaded after the cancel");
}

#[test]
fn several_sessions_share_a_model() {
    let golden = golden();
    let device = Device::open(Arithmetic::F32);
    let model = model(&device, &golden, 128);
    let (mut a, mut b) = (session(&model), session(&model));
    let mut of_a = a.generate(&golden.prompt, &greedy(16)).expect("tokens");
    let mut of_b = b.generate(&golden.prompt[3..], &greedy(16)).expect("tokens");
    let mut alternating = Vec::new();
    let mut other = Vec::new();
    for _ in 0..16 {
        alternating.push(of_a.next().expect("a token").expect("a token"));
        other.push(of_b.next().expect("a token").expect("a token"));
    }
    assert_eq!(alternating, golden.generated);
    assert_eq!(other, generate(&mut session(&model), &golden.prompt[3..], &greedy(16)));
}
