// Keys and values kept as f32. Twin of kv_f16.wgsl.

alias KvVec = vec4<f32>;
alias KvScalar = f32;

fn to_kv(v: vec4<f32>) -> KvVec {
    return v;
}

fn to_kv_scalar(v: f32) -> KvScalar {
    return v;
}

fn from_kv(v: KvVec) -> vec4<f32> {
    return v;
}
