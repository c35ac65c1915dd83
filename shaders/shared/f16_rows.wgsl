// Rows to f16 for the matrix units, each times a power of two of its own: out[t] = f16(y[t] * 2^e), scales[t] = 2^-e, with e such
// that the row's largest magnitude comes to lie in [2^14, 2^15).
//
// So no value overflows, be it 3e5, and a value 2^28 times smaller than the largest of its row is still a normal f16. Powers of two
// cost no bit. One workgroup owns one row; an invocation strides over groups of eight columns.
//
// The kernel defines eight(t, g), group g of row t of y, and binds `out`, [n_tokens, columns], two f16 a word, and `scales`, [n_tokens].
// Its params have `groups`, columns / 8. Header: WORKGROUP.

struct Eight {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

var<workgroup> sh_max: array<f32, WORKGROUP>;

fn eight_or_zeros(t: u32, g: u32) -> Eight {
    if g < params.groups {
        return eight(t, g);
    }
    return Eight(vec4<f32>(0.0), vec4<f32>(0.0));
}

fn magnitudes(y: Eight) -> vec4<f32> {
    return max(abs(y.lo), abs(y.hi));
}

// 2^e for a row whose largest magnitude is `largest`. Exponents are held where 2^e and 2^-e are both normal.
fn exponent(largest: f32) -> u32 {
    return clamp(bitcast<u32>(largest) >> 23u, 15u, 254u);
}

fn put_eight(t: u32, g: u32, y: Eight, scale: f32) {
    if g < params.groups {
        let lo = y.lo * scale;
        let hi = y.hi * scale;
        out[t * params.groups + g] = vec4<u32>(pack2x16float(lo.xy), pack2x16float(lo.zw), pack2x16float(hi.xy), pack2x16float(hi.zw));
    }
}

// Writes row t and its scale; the whole workgroup takes part. An invocation keeps its first two groups, which are all in a row of up to
// 16 WORKGROUP columns; what lies behind them is made once for the scale and once more for the values.
fn put_row(t: u32, index: u32) {
    let first = eight_or_zeros(t, index);
    let second = eight_or_zeros(t, index + WORKGROUP);
    var largest = max(magnitudes(first), magnitudes(second));
    for (var g = index + 2u * WORKGROUP; g < params.groups; g += WORKGROUP) {
        largest = max(largest, magnitudes(eight(t, g)));
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
    put_eight(t, index, first, scale);
    put_eight(t, index + WORKGROUP, second, scale);
    for (var g = index + 2u * WORKGROUP; g < params.groups; g += WORKGROUP) {
        put_eight(t, g, eight(t, g), scale);
    }
    if index == 0u {
        scales[t] = bitcast<f32>((e - 14u) << 23u);
    }
}
