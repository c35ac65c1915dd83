//! Weights in 8 and 4 bit: the golden checkpoints, quantised at load, against plain f64 loops over the dequantised weights.

use qwgpu_model::{LoadOptions, Session, check};
use qwgpu_runtime::DType;

use crate::golden::Golden;
use crate::support::{Arithmetic, Device};

fn check_quantised(dtype: DType, arithmetic: Arithmetic) {
    for case in ["tiny-dense.p24", "tiny-dense-f32.p24", "tiny-dense-hd128.p24", "tiny-yarn.p24"] {
        let Some(golden) = Golden::open(case) else { continue };
        let device = Device::open(arithmetic);
        let options = LoadOptions {
            dtype: Some(dtype),
            kv: device.kv(),
            ..LoadOptions::default()
        };
        let label = format!("{case} as {dtype}, {arithmetic:?} on {}", device.gpu.info().label());
        let model = device
            .try_load(&golden.checkpoint, &options)
            .unwrap_or_else(|error| panic!("{label}: {error}"));
        let mut session = Session::new(&model).unwrap_or_else(|error| panic!("{label}: {error}"));
        // a prompt takes the tiled products, a single token the mat-vec
        for n_tokens in [golden.prompt.len(), 1] {
            let checked = check::end_to_end(&mut session, &golden.prompt[..n_tokens]).unwrap_or_else(|error| panic!("{label}: {error}"));
            println!("{label}: {n_tokens} tokens, logits within {:.3} of what is allowed", checked.worst);
            assert!(
                checked.passed(),
                "{label}: {n_tokens} tokens are off by {:.2} tolerances",
                checked.worst
            );
        }
    }
}

#[test]
fn q8_agrees_with_f64() {
    check_quantised(DType::Q8, Arithmetic::F32);
    check_quantised(DType::Q8, Arithmetic::Portable);
}

#[test]
fn q4_agrees_with_f64() {
    check_quantised(DType::Q4, Arithmetic::F32);
    check_quantised(DType::Q4, Arithmetic::Portable);
}

#[test]
fn quantised_weights_go_with_an_f16_cache() {
    if Device::open(Arithmetic::Native).has_f16("parity of quantised weights") {
        check_quantised(DType::Q4, Arithmetic::Native);
    }
}
