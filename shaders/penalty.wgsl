// Repetition penalty (Keskar et al. 2019, CTRL; as transformers applies it): each id that has occurred has its logit divided by the
// penalty where positive, multiplied where negative. The row's token, whose logits these are, occurs from now on.
//
// One invocation owns one word of the seen ids, and the 32 logits that belong to it.

struct Params {
    n: u32,       // columns of a row of logits
    n_words: u32, // of a row of seen
    penalty: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> logits: array<f32>; // [n_rows, n]
@group(0) @binding(1) var<storage, read_write> seen: array<u32>;   // [n_rows, n_words]: bit id % 32 of word id / 32
@group(0) @binding(2) var<storage, read> rows: array<Row>;         // [n_rows]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let word = id.x;
    let row = id.y;
    if word >= params.n_words {
        return;
    }
    let token = rows[row].token;
    var bits = seen[row * params.n_words + word];
    if token / 32u == word {
        bits |= 1u << (token % 32u);
        seen[row * params.n_words + word] = bits;
    }
    while bits != 0u {
        let i = row * params.n + 32u * word + firstTrailingBit(bits);
        let x = logits[i];
        logits[i] = select(x / params.penalty, x * params.penalty, x < 0.0);
        bits &= bits - 1u;
    }
}
