// Repetition penalty (Keskar et al. 2019, CTRL; as transformers applies it): each id that has occurred has its logit divided by the
// penalty where positive, multiplied where negative.
//
// One invocation owns one id; ids are distinct, so no two touch the same logit.

struct Params {
    n_ids: u32,
    first_logit: u32, // start of the row of logits
    penalty: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> logits: array<f32>; // [n_rows, vocab]
@group(0) @binding(1) var<storage, read> ids: array<u32>;          // [n_ids], distinct

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.n_ids {
        return;
    }
    let i = params.first_logit + ids[id.x];
    let x = logits[i];
    logits[i] = select(x / params.penalty, x * params.penalty, x < 0.0);
}
