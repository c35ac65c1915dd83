// Keys and values kept as f16. Twin of kv_f32.wgsl.

alias KvVec = vec4<f16>;
alias KvScalar = f16;

// Values beyond f16's range are held at its ends: an infinity would turn a whole softmax row into NaN.
fn to_kv(v: vec4<f32>) -> KvVec {
    return vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

fn to_kv_scalar(v: f32) -> KvScalar {
    return f16(clamp(v, -65504.0, 65504.0));
}

fn from_kv(v: KvVec) -> vec4<f32> {
    return vec4<f32>(v);
}
