// Fills a weight matrix with reproducible random numbers, for benchmarks that have no checkpoint.
//
// Element i becomes scale * u, u uniform in [-1, 1), from a 32-bit hash of (seed, i): two rounds of the finaliser of
// MurmurHash3 (Appleby 2011), so that neighbouring rows share nothing. One invocation writes one word: one f32 or two halves.

struct Params {
    n_words: u32,
    first_word: u32, // counts on across the parts of a split matrix
    seed: u32,
    format: u32,     // 0: f32, 1: f16, 2: bf16
    scale: f32,
    grid_x: u32,     // invocations in x; y continues where x ends
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> words: array<u32>;

fn mix(x: u32) -> u32 {
    var h = x;
    h = (h ^ (h >> 16u)) * 0x85ebca6bu;
    h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
    return h ^ (h >> 16u);
}

// 24 random bits become a multiple of 2^-23 in [-1, 1): exact in f32.
fn uniform_at(i: u32) -> f32 {
    let h = mix(mix(i ^ params.seed) + 0x9e3779b9u * params.seed + 1u);
    return f32(h >> 8u) * 1.1920928955078125e-7 - 1.0;
}

fn bf16_bits(x: f32) -> u32 {
    return bitcast<u32>(x) >> 16u; // truncation: the values are random anyway
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let word = id.y * params.grid_x + id.x;
    if word >= params.n_words {
        return;
    }
    let i = params.first_word + word;
    if params.format == 0u {
        words[word] = bitcast<u32>(params.scale * uniform_at(i));
        return;
    }
    let pair = params.scale * vec2<f32>(uniform_at(2u * i), uniform_at(2u * i + 1u));
    if params.format == 1u {
        words[word] = pack2x16float(pair);
    } else {
        words[word] = bf16_bits(pair.x) | (bf16_bits(pair.y) << 16u);
    }
}
