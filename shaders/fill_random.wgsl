// Fills a weight matrix with reproducible random numbers, for benchmarks that have no checkpoint.
//
// Element i becomes scale * u, u uniform in [-1, 1), from a 32-bit hash of (seed, i): two rounds of the finaliser of
// MurmurHash3 (Appleby 2011), so that neighbouring rows share nothing. One invocation writes one word: one f32, two halves, four bytes,
// eight half bytes. A quantised matrix takes two dispatches, one for its integers and one for its scales, which vary from block to
// block by up to a quarter, as do the zero points of q4; an element is then the value of its grid that is nearest to scale * u.

struct Params {
    n_words: u32,
    first_word: u32, // counts on across the parts of a split matrix
    seed: u32,
    format: u32,     // 0: f32, 1: f16, 2: bf16, 3: q8, 4: q4, 5: scales of q8, 6: scales and zero points of q4
    scale: f32,
    least: u32,      // q4: the smallest scale of a block, as its nine bits
    grid_x: u32,     // invocations in x; y continues where x ends
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> words: array<u32>;

const Q8_HIGHEST: f32 = 127.0;
// Zero points lie from 7 to 8 7/8, so that a grid has six steps and an eighth at least on each side.
const Q4_FIRST_ZERO: u32 = 56u;
const BLOCK: u32 = 32u;

fn mix(x: u32) -> u32 {
    var h = x;
    h = (h ^ (h >> 16u)) * 0x85ebca6bu;
    h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
    return h ^ (h >> 16u);
}

fn hash(i: u32) -> u32 {
    return mix(mix(i ^ params.seed) + 0x9e3779b9u * params.seed + 1u);
}

// 24 random bits become a multiple of 2^-23 in [-1, 1): exact in f32.
fn uniform_at(i: u32) -> f32 {
    return f32(hash(i) >> 8u) * 1.1920928955078125e-7 - 1.0;
}

fn bf16_bits(x: f32) -> u32 {
    return bitcast<u32>(x) >> 16u; // truncation: the values are random anyway
}

fn uniform4_at(i: u32) -> vec4<f32> {
    return vec4<f32>(uniform_at(i), uniform_at(i + 1u), uniform_at(i + 2u), uniform_at(i + 3u));
}

// A q8 block's scale in units of params.scale: from the least that reaches u = 1 up to a quarter more.
fn q8_scale(block: u32) -> f32 {
    return (1.0 + 0.25 * abs(uniform_at(block))) / Q8_HIGHEST;
}

// The 16 bits of a q4 block: one of four scales, which are up to three sixteenths apart, and one of 16 zero points.
fn q4_grid(block: u32) -> u32 {
    let h = hash(block);
    return ((params.least + (h >> 30u)) << 7u) | (Q4_FIRST_ZERO + (h & 15u));
}

// Four elements of a q4 matrix from i on.
fn q4_integers(i: u32) -> vec4<u32> {
    let grid = q4_grid(i / BLOCK);
    let d = unpack2x16float((grid & 0xff80u) >> 1u).x;
    return vec4<u32>(round(params.scale * uniform4_at(i) / d + 0.125 * f32(grid & 0x7fu)));
}

// What word i of all words holds.
fn word_at(i: u32) -> u32 {
    switch params.format {
        case 0u: {
            return bitcast<u32>(params.scale * uniform_at(i));
        }
        case 3u: {
            return pack4xI8(vec4<i32>(round(uniform4_at(4u * i) / q8_scale(4u * i / BLOCK))));
        }
        case 4u: {
            return pack4xU8(q4_integers(8u * i) | (q4_integers(8u * i + 4u) << vec4<u32>(4u)));
        }
        case 5u: {
            return pack2x16float(params.scale * vec2<f32>(q8_scale(2u * i), q8_scale(2u * i + 1u)));
        }
        case 6u: {
            return q4_grid(2u * i) | (q4_grid(2u * i + 1u) << 16u);
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
