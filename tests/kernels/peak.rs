//! The kernels that measure ceilings compute what they have to: a compiler that leaves work out would flatter the adapter.

use qwgpu_runtime::{
    Pass, Peak,
    kernels::peak::{Ceiling, coop},
};
use qwgpu_suite::{Mode, gpu};

#[test]
fn results_are_known() {
    let gpu = gpu(Mode::Native).expect("an adapter");
    let caps = gpu.caps();
    let mut peaks = vec![Peak::Read, Peak::F32, Peak::Dot];
    if caps.f16 {
        peaks.push(Peak::F16);
    }
    match coop(caps) {
        Some(peak) => peaks.push(peak),
        None => crate::skip(&format!("peak_coop on {}: no cooperative matrices that fit", gpu.info().label())),
    }
    for peak in peaks {
        let ceiling = Ceiling::new(&gpu, peak, 8 << 20).expect("it compiles");
        for n_groups in [1, 24] {
            let ceiling = ceiling.with_groups(&gpu, n_groups).expect("room");
            assert!(
                !ceiling.verify(&gpu).expect("the device works"),
                "{peak:?}: right before it has run"
            );
            let mut pass = Pass::new(&gpu);
            ceiling.dispatch(&mut pass);
            pass.submit();
            assert!(ceiling.verify(&gpu).expect("the device works"), "{peak:?} over {n_groups} groups");
        }
    }
}
