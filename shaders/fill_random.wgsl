// Fills a weight matrix with reproducible random numbers, for benchmarks that have no checkpoint.
//
// Element i becomes scale * u, u uniform in [-1, 1), from a 32-bit hash of (seed, i): two rounds of the finaliser of
// MurmurHash3 (Appleby 2011), so that neighbouring rows share nothing. One invocation writes one word: one f32, two halves, four bytes,
// eight half bytes. A quantised matrix takes two dispatches, one for its integers and one for its scales, which vary from block to
// block by up to a quarter; an element is then the multiple of its scale that is nearest to scale * u.

struct Params {
    n_words: u32,
    first_word: u32, // counts on across the parts of a split matrix
    seed: u32,
    format: u32,     // 0: f32, 1: f16, 2: bf16, 3: q8, 4: q4, 5: scales of q8, 6: scales of q4
    scale: f32,
    grid_x: u32,     // invocations in x; y continues where x ends
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> words: array<u32>;

const Q8_HIGHEST: f32 = 127.0;
const Q4_HIGHEST: f32 = 7.0;
const Q4_ZERO: f32 = 8.0;
const BLOCK: u32 = 32u;

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

// A block's scale in units of params.scale: from the least that reaches u = 1 up to a quarter more.
fn block_scale(block: u32, highest: f32) -> f32 {
    return (1.0 + 0.25 * abs(uniform_at(block))) / highest;
}

// Four elements from 4 i on, in multiples of their block's scale.
fn integers4(i: u32, highest: f32) -> vec4<f32> {
    let u = vec4<f32>(uniform_at(4u * i), uniform_at(4u * i + 1u), uniform_at(4u * i + 2u), uniform_at(4u * i + 3u));
    return round(u / block_scale(4u * i / BLOCK, highest));
}

// What word i of all words holds.
fn word_at(i: u32) -> u32 {
    switch params.format {
        case 0u: {
            return bitcast<u32>(params.scale * uniform_at(i));
        }
        case 3u: {
            return pack4xI8(vec4<i32>(integers4(i, Q8_HIGHEST)));
        }
        case 4u: {
            let lo = vec4<u32>(integers4(2u * i, Q4_HIGHEST) + Q4_ZERO);
            let hi = vec4<u32>(integers4(2u * i + 1u, Q4_HIGHEST) + Q4_ZERO);
            return pack4xU8(lo | (hi << vec4<u32>(4u)));
        }
        case 5u, 6u: {
            let highest = select(Q8_HIGHEST, Q4_HIGHEST, params.format == 6u);
            return pack2x16float(params.scale * vec2<f32>(block_scale(2u * i, highest), block_scale(2u * i + 1u, highest)));
        }
        default: {
            let pair = params.scale * vec2<f32>(uniform_at(2u * i), uniform_at(2u * i + 1u));
            if params.format == 1u {
                return pack2x16float(pair);
            }
            return bf16_bits(pair.x) | (bf16_bits(pair.y) << 16u);
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let word = id.y * params.grid_x + id.x;
    if word < params.n_words {
        words[word] = word_at(params.first_word + word);
    }
}
