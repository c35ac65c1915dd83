// Keys and values kept as f32. Twin of kv_f16.wgsl.

alias KvVec = vec4<f32>;

fn to_kv(v: vec4<f32>) -> KvVec {
    return v;
}

fn from_kv(v: KvVec) -> vec4<f32> {
    return v;
}
