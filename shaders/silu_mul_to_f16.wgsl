// SwiGLU's middle, straight to f16 for the matrix units as shared/f16_rows.wgsl has it: silu(gate) * up, silu(x) = x / (1 + e^-x).
//
// gate and up lie side by side in each row, as their matrices are stacked. silu_mul.wgsl and to_f16.wgsl in one: the products are never
// written in f32. Header: WORKGROUP, a multiple of 16.
//
// A row is read once where it has up to 128 WORKGROUP columns: an invocation keeps its first sixteen groups, by name, since an array of them
// would end up in memory. They are kept in pairs, as f16 times a power of two of each pair's own: in f32 they would take twice the
// registers, and half as many workgroups would fit a core. A pair that lies behind the row is left out. What lies behind the sixteen is
// made once for the scale and once more for the values.

struct Params {
    groups: u32, // d_ff / 8
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> gate_up: array<vec4<f32>>;   // [n_tokens, 2 d_ff]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>; // [n_tokens, d_ff], two f16 a word
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;    // [n_tokens]

const FEW: u32 = 16u; // invocations of the reduction's second step

var<workgroup> sh_e: array<u32, WORKGROUP>;
var<workgroup> sh_few: array<u32, FEW>;

fn silu_mul(gate: vec4<f32>, up: vec4<f32>) -> vec4<f32> {
    // e^80 is finite in f32 and makes silu vanish all the same
    return gate / (1.0 + exp(min(-gate, vec4<f32>(80.0)))) * up;
}

fn eight(t: u32, g: u32) -> Eight {
    let gate = 4u * t * params.groups + 2u * g;
    let up = gate + 2u * params.groups;
    return Eight(silu_mul(gate_up[gate], gate_up[up]), silu_mul(gate_up[gate + 1u], gate_up[up + 1u]));
}

// Group g, or the last one in place of those behind it: that does not change the row's maximum, and without a branch the loads of
// several groups are under way together.
fn eight_or_last(t: u32, g: u32) -> Eight {
    return eight(t, min(g, params.groups - 1u));
}

// The largest exponent of the whole workgroup. Two steps: each round of a tree would be one more wait.
fn largest_of_all(mine: u32, index: u32) -> u32 {
    sh_e[index] = mine;
    workgroupBarrier(); // those of all invocations are in place
    if index < FEW {
        var few = 0u;
        for (var i = index; i < WORKGROUP; i += FEW) {
            few = max(few, sh_e[i]);
        }
        sh_few[index] = few;
    }
    workgroupBarrier(); // and those of all few
    var all = 0u;
    for (var i = 0u; i < FEW; i++) {
        all = max(all, sh_few[i]);
    }
    return all;
}

// Two groups of eight as f16, times the power of two that exponent() of the largest of the sixteen asks for.
struct Kept {
    first: vec4<u32>,
    second: vec4<u32>,
    e: u32,
}

fn packed(y: Eight, scale: f32) -> vec4<u32> {
    let lo = y.lo * scale;
    let hi = y.hi * scale;
    return vec4<u32>(pack2x16float(lo.xy), pack2x16float(lo.zw), pack2x16float(hi.xy), pack2x16float(hi.zw));
}

fn kept(t: u32, g: u32) -> Kept {
    let first = eight_or_last(t, g);
    let second = eight_or_last(t, g + WORKGROUP);
    let four = max(magnitudes(first), magnitudes(second));
    let e = exponent(max(max(four.x, four.y), max(four.z, four.w)));
    let scale = bitcast<f32>((268u - e) << 23u);
    return Kept(packed(first, scale), packed(second, scale), e);
}

fn times(pair: u32, factor: f32) -> u32 {
    return pack2x16float(unpack2x16float(pair) * factor);
}

fn put_packed(t: u32, g: u32, y: vec4<u32>, factor: f32) {
    if g < params.groups {
        out[t * params.groups + g] = vec4<u32>(times(y.x, factor), times(y.y, factor), times(y.z, factor), times(y.w, factor));
    }
}

// Writes what was kept, from its own power of two to the row's, which is not larger. That is exact for all that stays normal.
fn put_kept(t: u32, g: u32, y: Kept, e: u32) {
    let down = e - y.e;
    let factor = bitcast<f32>(select(0u, (127u - down) << 23u, down < 127u));
    put_packed(t, g, y.first, factor);
    put_packed(t, g + WORKGROUP, y.second, factor);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let t = group.x;
    var y0 = kept(t, index);
    var e = y0.e; // of the largest so far
    var y1 = Kept();
    var y2 = Kept();
    var y3 = Kept();
    var y4 = Kept();
    var y5 = Kept();
    var y6 = Kept();
    var y7 = Kept();
    if 2u * WORKGROUP < params.groups {
        y1 = kept(t, index + 2u * WORKGROUP);
        e = max(e, y1.e);
    }
    if 4u * WORKGROUP < params.groups {
        y2 = kept(t, index + 4u * WORKGROUP);
        e = max(e, y2.e);
    }
    if 6u * WORKGROUP < params.groups {
        y3 = kept(t, index + 6u * WORKGROUP);
        e = max(e, y3.e);
    }
    if 8u * WORKGROUP < params.groups {
        y4 = kept(t, index + 8u * WORKGROUP);
        e = max(e, y4.e);
    }
    if 10u * WORKGROUP < params.groups {
        y5 = kept(t, index + 10u * WORKGROUP);
        e = max(e, y5.e);
    }
    if 12u * WORKGROUP < params.groups {
        y6 = kept(t, index + 12u * WORKGROUP);
        e = max(e, y6.e);
    }
    if 14u * WORKGROUP < params.groups {
        y7 = kept(t, index + 14u * WORKGROUP);
        e = max(e, y7.e);
    }
    var largest = vec4<f32>(0.0);
    for (var g = index + 16u * WORKGROUP; g < params.groups; g += WORKGROUP) {
        largest = max(largest, magnitudes(eight(t, g)));
    }
    // exponents of the rest are not needed one by one
    e = max(e, exponent(max(max(largest.x, largest.y), max(largest.z, largest.w))));
    e = largest_of_all(e, index);
    put_kept(t, index, y0, e);
    if 2u * WORKGROUP < params.groups {
        put_kept(t, index + 2u * WORKGROUP, y1, e);
    }
    if 4u * WORKGROUP < params.groups {
        put_kept(t, index + 4u * WORKGROUP, y2, e);
    }
    if 6u * WORKGROUP < params.groups {
        put_kept(t, index + 6u * WORKGROUP, y3, e);
    }
    if 8u * WORKGROUP < params.groups {
        put_kept(t, index + 8u * WORKGROUP, y4, e);
    }
    if 10u * WORKGROUP < params.groups {
        put_kept(t, index + 10u * WORKGROUP, y5, e);
    }
    if 12u * WORKGROUP < params.groups {
        put_kept(t, index + 12u * WORKGROUP, y6, e);
    }
    if 14u * WORKGROUP < params.groups {
        put_kept(t, index + 14u * WORKGROUP, y7, e);
    }
    let scale = bitcast<f32>((268u - e) << 23u);
    for (var g = index + 16u * WORKGROUP; g < params.groups; g += WORKGROUP) {
        put_eight(t, g, eight(t, g), scale);
    }
    if index == 0u {
        scales[t] = bitcast<f32>((e - 14u) << 23u);
    }
}
