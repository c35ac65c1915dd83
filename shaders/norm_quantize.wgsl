// One token's RMS norm, straight to signed bytes in blocks of 32 as shared/to_bytes.wgsl has it: x / sqrt(mean(x^2) + eps) * norm.
//
// One workgroup does it all, in rounds of four vectors an invocation. What the first round needs is on its way while the squares are
// summed, and stays in registers: all there is of up to 4096 columns. Header: WORKGROUP, N_SUMS = 1, N_SLOTS = 4 WORKGROUP.

struct Params {
    n_blocks: u32, // columns / 32
    eps: f32,
    inv_d: f32,    // 1 / columns
    scales_at: u32, // the first word of the scales behind the bytes
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;                 // [n_blocks, 8]
@group(0) @binding(1) var<storage, read> norm: array<vec4<f32>>;              // [n_blocks, 8]
@group(0) @binding(2) var<storage, read_write> bytes: array<u32>;             // [n_blocks, 8], and from scales_at on block_scales once more
@group(0) @binding(3) var<storage, read_write> block_scales: array<vec2<f32>>; // [n_blocks]: d, d times the sum of q

// Vectors a workgroup apart, by name: arrays that a loop indexes end up in memory.
struct Four {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn x_at(i: u32) -> vec4<f32> {
    if i < 8u * params.n_blocks {
        return x[i];
    }
    return vec4<f32>();
}

fn norm_at(i: u32) -> vec4<f32> {
    if i < 8u * params.n_blocks {
        return norm[i];
    }
    return vec4<f32>();
}

fn four_of_x(i: u32) -> Four {
    return Four(x_at(i), x_at(i + WORKGROUP), x_at(i + 2u * WORKGROUP), x_at(i + 3u * WORKGROUP));
}

fn four_of_norm(i: u32) -> Four {
    return Four(norm_at(i), norm_at(i + WORKGROUP), norm_at(i + 2u * WORKGROUP), norm_at(i + 3u * WORKGROUP));
}

fn put_word_inside(slot: u32, first: u32, values: vec4<f32>) {
    if first + slot < 8u * params.n_blocks {
        put_word(slot, first + slot, values);
    }
}

fn put_scales_inside(slot: u32, first: u32) {
    if first + slot < 8u * params.n_blocks {
        let scales = put_scales(slot, first + slot);
        let at = params.scales_at + (first + slot) / 4u;
        bytes[at] = bitcast<u32>(scales.x);
        bytes[at + 1u] = bitcast<u32>(scales.y);
    }
}

// One round, of the vectors from `first` on.
fn put_round(first: u32, x: Four, norm: Four, factor: f32, inv: Invocation) {
    let a = x.a * factor * norm.a;
    let b = x.b * factor * norm.b;
    let c = x.c * factor * norm.c;
    let d = x.d * factor * norm.d;
    let slot = inv.index;
    put_largest(slot, a);
    put_largest(slot + WORKGROUP, b);
    put_largest(slot + 2u * WORKGROUP, c);
    put_largest(slot + 3u * WORKGROUP, d);
    workgroupBarrier(); // all largest magnitudes are in place
    put_word_inside(slot, first, a);
    put_word_inside(slot + WORKGROUP, first, b);
    put_word_inside(slot + 2u * WORKGROUP, first, c);
    put_word_inside(slot + 3u * WORKGROUP, first, d);
    workgroupBarrier(); // all sums are in place
    if slot % 8u == 0u {
        put_scales_inside(slot, first);
        put_scales_inside(slot + WORKGROUP, first);
        put_scales_inside(slot + 2u * WORKGROUP, first);
        put_scales_inside(slot + 3u * WORKGROUP, first);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let first_x = four_of_x(inv.index);
    let first_norm = four_of_norm(inv.index);
    var squares = dot(first_x.a, first_x.a) + dot(first_x.b, first_x.b) + dot(first_x.c, first_x.c) + dot(first_x.d, first_x.d);
    for (var i = inv.index + N_SLOTS; i < 8u * params.n_blocks; i += WORKGROUP) {
        squares += dot(x[i], x[i]);
    }
    put_partial(0u, squares, inv);
    workgroupBarrier(); // every share of the sum is in place
    let factor = 1.0 / sqrt(sum_partials(0u, inv) * params.inv_d + params.eps);
    put_round(0u, first_x, first_norm, factor, inv);
    for (var first = N_SLOTS; first < 8u * params.n_blocks; first += N_SLOTS) {
        let next_x = four_of_x(first + inv.index);
        let next_norm = four_of_norm(first + inv.index);
        workgroupBarrier(); // the scales of the last round are written
        put_round(first, next_x, next_norm, factor, inv);
    }
}
