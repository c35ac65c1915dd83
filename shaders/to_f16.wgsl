// Rows to f16 for the matrix units, each times a power of two of its own: out[t] = f16(x[t] * 2^e), scales[t] = 2^-e, with e such
// that the row's largest magnitude comes to lie in [2^14, 2^15).
//
// So no value overflows, be it 3e5, and a value 2^28 times smaller than the largest of its row is still a normal f16. Powers of two
// cost no bit. One workgroup owns one row; an invocation strides over groups of eight columns.

struct Params {
    groups: u32, // columns / 8
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;            // [n_tokens, columns]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;    // [n_tokens, columns], two f16 a word
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;       // [n_tokens]

const WORKGROUP: u32 = 256u;
var<workgroup> sh_max: array<f32, WORKGROUP>;

// 2^e for a row whose largest magnitude is `largest`. Exponents are held where 2^e and 2^-e are both normal.
fn exponent(largest: f32) -> u32 {
    return clamp(bitcast<u32>(largest) >> 23u, 15u, 254u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let t = group.x;
    var largest = vec4<f32>(0.0);
    for (var g = index; g < params.groups; g += WORKGROUP) {
        let i = 2u * (t * params.groups + g);
        largest = max(largest, max(abs(x[i]), abs(x[i + 1u])));
    }
    sh_max[index] = max(max(largest.x, largest.y), max(largest.z, largest.w));
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier(); // maxima of the round before are in place
        if index < half {
            sh_max[index] = max(sh_max[index], sh_max[index + half]);
        }
    }
    workgroupBarrier(); // the row's maximum is in place
    let e = exponent(sh_max[0]);
    let scale = bitcast<f32>((268u - e) << 23u);
    for (var g = index; g < params.groups; g += WORKGROUP) {
        let i = 2u * (t * params.groups + g);
        let lo = x[i] * scale;
        let hi = x[i + 1u] * scale;
        out[t * params.groups + g] = vec4<u32>(pack2x16float(lo.xy), pack2x16float(lo.zw), pack2x16float(hi.xy), pack2x16float(hi.zw));
    }
    if index == 0u {
        scales[t] = bitcast<f32>((e - 14u) << 23u);
    }
}
