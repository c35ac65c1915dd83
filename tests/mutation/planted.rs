//! Faults planted by hand: the mistakes that kernels like these are known for. The quick tier must report each.

/// One fault: `original` stands in the file exactly once.
pub(crate) struct Planted {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    pub(crate) original: &'static str,
    pub(crate) replacement: &'static str,
}

const fn planted(name: &'static str, file: &'static str, original: &'static str, replacement: &'static str) -> Planted {
    Planted {
        name,
        file,
        original,
        replacement,
    }
}

/// Every planted fault.
pub(crate) const PLANTED: &[Planted] = &[
    // strides and places
    planted(
        "wrong stride of the weights",
        "matvec",
        "row * params.groups + g",
        "row * (params.groups + 1u) + g",
    ),
    planted(
        "a part's rows taken for the columns of out",
        "matmul",
        "t * params.out_stride + column",
        "t * params.n_rows + column",
    ),
    planted("a part's place in out ignored", "matvec", "params.first_out + row0 + r", "row0 + r"),
    planted(
        "a part's place in the embedding ignored",
        "embed",
        "weight8((token - params.first_row)",
        "weight8((token)",
    ),
    planted(
        "a part's place in the random sequence ignored",
        "fill_random",
        "params.first_word + word",
        "word",
    ),
    planted(
        "rows beyond the last written",
        "matmul",
        "if t < params.n_tokens && r < params.n_rows {",
        "if t < params.n_tokens {",
    ),
    planted(
        "first row of the norm ignored",
        "rms_norm",
        "(params.first_row + t) * params.vecs",
        "t * params.vecs",
    ),
    planted(
        "gate and up interleaved",
        "silu_mul",
        "gate_up[(2u * t + 1u) * params.vecs + i]",
        "gate_up[2u * t * params.vecs + i + 1u]",
    ),
    planted(
        "cache of another slot",
        "attention_decode",
        "row.slot * params.blocks_per_slot + ",
        "",
    ),
    planted("cache of another slot", "attention_prefill", "slot * params.blocks_per_slot + ", ""),
    planted("always the slot's first block", "rope", " + row.pos / KV_BLOCK]", "]"),
    planted(
        "kv heads before positions",
        "shared/kv_index",
        "((block * n_kv_heads + kv_head) * KV_BLOCK + in_block)",
        "((block * KV_BLOCK + in_block) * n_kv_heads + kv_head)",
    ),
    // barriers
    planted(
        "missing barrier after loading",
        "matmul",
        "workgroupBarrier(); // the slab is complete",
        "",
    ),
    planted(
        "missing barrier before loading",
        "matmul",
        "workgroupBarrier(); // the slab has been used up",
        "",
    ),
    planted(
        "missing barrier in the norm",
        "rms_norm",
        "workgroupBarrier(); // every share of the sum is in place",
        "",
    ),
    planted(
        "missing barrier in the product",
        "matvec",
        "workgroupBarrier(); // every share of every sum is in place",
        "",
    ),
    planted(
        "missing barrier between stages",
        "topk",
        "workgroupBarrier(); // the stage before is complete",
        "",
    ),
    planted(
        "missing barrier after the scores",
        "attention_decode",
        "workgroupBarrier(); // the scores are in place",
        "",
    ),
    planted(
        "missing barrier after the values",
        "attention_prefill",
        "workgroupBarrier(); // the slice of values is in place",
        "",
    ),
    // masks
    planted(
        "causal mask hides the row's own key",
        "attention_decode",
        "tile + key <= last",
        "tile + key < last",
    ),
    planted(
        "causal mask shows the next key",
        "attention_prefill",
        "key <= pos0 &&",
        "key <= pos0 + 1u &&",
    ),
    planted(
        "window one too wide",
        "attention_decode",
        "first_seen = row.pos + 1u - params.window",
        "first_seen = row.pos - params.window",
    ),
    planted(
        "window one too narrow",
        "attention_prefill",
        "return pos + 1u - params.window",
        "return pos + 2u - params.window",
    ),
    planted(
        "scores not scaled",
        "attention_prefill",
        "select(LOWEST, s1[j] * params.scale, seen1)",
        "select(LOWEST, s1[j], seen1)",
    ),
    // heads
    planted(
        "kv head by modulo instead of division",
        "attention_prefill",
        "kv_head * GROUP + r % GROUP",
        "r % GROUP * params.n_kv_heads + kv_head",
    ),
    planted(
        "kv head by modulo instead of division",
        "attention_decode",
        "kv_index(block, kv_head, ",
        "kv_index(block, kv_head * GROUP % params.n_kv_heads, ",
    ),
    // softmax
    planted(
        "old sums not rescaled",
        "attention_decode",
        "acc[j] *= alpha;\n            sum[j] *= alpha;",
        "",
    ),
    planted(
        "old sum not rescaled",
        "attention_prefill",
        "sh_l[r] * alpha + sum",
        "sh_l[r] + sum",
    ),
    planted(
        "maximum not subtracted",
        "attention_decode",
        "sh_m[index] = m;\n        sh_alpha[index] = exp(old - m);",
        "sh_m[index] = 0.0;\n        sh_alpha[index] = 1.0;",
    ),
    planted(
        "maximum not subtracted",
        "attention_prefill",
        "var sum = 0.0;",
        "m = 0.0;\n    var sum = 0.0;",
    ),
    planted(
        "wrong share of a split",
        "attention_decode",
        "(n_tiles + params.n_splits - 1u) / params.n_splits",
        "n_tiles / params.n_splits",
    ),
    planted(
        "last split not merged",
        "attention_merge",
        "var s = 0u; s < params.n_splits",
        "var s = 0u; s + 1u < params.n_splits",
    ),
    planted(
        "splits merged under the first one's maximum",
        "attention_merge",
        "m = max(m, stats[first + s].x);",
        "",
    ),
    // precision: eleven significant bits, as f16 has; a driver may fold conversions to f16 and back, but no arithmetic on bits
    planted(
        "f16 accumulator",
        "matvec",
        "sums[r * N_TOKENS + t] += dot(w.lo, x[xi]) + dot(w.hi, x[xi + 1u]);",
        "let s = sums[r * N_TOKENS + t] + dot(w.lo, x[xi]) + dot(w.hi, x[xi + 1u]);
                sums[r * N_TOKENS + t] = bitcast<f32>((bitcast<u32>(s) + 0x1000u) & 0xffffe000u);",
    ),
    planted(
        "f16 accumulator",
        "matmul",
        "sums[i] += vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));",
        "let s = sums[i] + vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
                sums[i] = bitcast<vec4<f32>>((bitcast<vec4<u32>>(s) + 0x1000u) & vec4<u32>(0xffffe000u));",
    ),
    planted(
        "f16 accumulator",
        "attention_decode",
        "acc[j] += p * v;",
        "acc[j] = bitcast<vec4<f32>>((bitcast<vec4<u32>>(acc[j] + p * v) + 0x1000u) & vec4<u32>(0xffffe000u));",
    ),
    planted(
        "f16 exponentials",
        "attention_prefill",
        "sh_p[r * P_STRIDE + key] = p;",
        "sh_p[r * P_STRIDE + key] = bitcast<f32>((bitcast<u32>(p) + 0x1000u) & 0xffffe000u);",
    ),
    planted(
        "f16 sum of squares",
        "rms_norm",
        "squares += dot(v, v);",
        "squares = bitcast<f32>((bitcast<u32>(squares + dot(v, v)) + 0x1000u) & 0xffffe000u);",
    ),
    planted(
        "values beyond f16 become infinite",
        "shared/kv_f16",
        "clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0))",
        "v",
    ),
    planted(
        "the norm without its epsilon",
        "rms_norm",
        " * params.inv_d + params.eps",
        " * params.inv_d",
    ),
    // rotation
    planted(
        "swapped halves",
        "rope",
        "let first = qkv[source];\n    let second = qkv[source + HALF_VECS];",
        "let second = qkv[source];\n    let first = qkv[source + HALF_VECS];",
    ),
    planted(
        "neighbours turned instead of halves",
        "rope",
        "let c = vec4<f32>(a.xy, b.xy);",
        "let c = vec4<f32>(a.xx, a.yy);",
    ),
    planted(
        "turned by the cache's position",
        "rope",
        "angle(row.rope_pos, 2u * i);",
        "angle(row.pos, 2u * i);",
    ),
    planted("turned the wrong way", "rope", "first * c - second * s", "first * c + second * s"),
    // epilogues
    planted("bias added twice", "matvec", "y += bias[column];", "y += 2.0 * bias[column];"),
    planted("bias not added", "matmul", "y += bias[column];", ""),
    planted("residual ignored", "matvec", "y += out[o];", ""),
    planted("residual ignored", "matmul", "y += out[o];", ""),
    // formats
    planted(
        "halves of a word swapped",
        "shared/weight_bf16",
        "vec4<f32>(even.x, odd.x, even.y, odd.y)",
        "vec4<f32>(odd.x, even.x, odd.y, even.y)",
    ),
    planted(
        "words swapped",
        "shared/weight_f16_packed",
        "unpack2x16float(w.x), unpack2x16float(w.y)",
        "unpack2x16float(w.y), unpack2x16float(w.x)",
    ),
    planted(
        "eight elements in the wrong order",
        "shared/weight_f32",
        "weights[2u * i], weights[2u * i + 1u]",
        "weights[2u * i + 1u], weights[2u * i]",
    ),
    planted(
        "bf16 halves swapped",
        "fill_random",
        "bf16_bits(pair.x) | (bf16_bits(pair.y) << 16u)",
        "bf16_bits(pair.y) | (bf16_bits(pair.x) << 16u)",
    ),
    // choices
    planted(
        "padding of the vocabulary chosen",
        "argmax",
        "i < params.n_valid",
        "i < params.stride",
    ),
    planted("ties go to the highest id", "shared/best_workgroup", "b.id < a.id", "b.id > a.id"),
    planted(
        "ties go to the highest id",
        "shared/best_subgroup",
        "subgroupMin(select(0xffffffffu,",
        "subgroupMax(select(0u,",
    ),
    planted(
        "order of ties reversed",
        "topk",
        "(value_a == value_b && id_a < id_b)",
        "(value_a == value_b && id_a > id_b)",
    ),
    planted("NaN taken for the largest", "topk", "return nan_b;", "return nan_a;"),
    planted(
        "last subgroup ignored",
        "shared/reduce_subgroup",
        "i < inv.n_subgroups",
        "i + 1u < inv.n_subgroups",
    ),
    planted(
        "last invocation ignored",
        "shared/reduce_workgroup",
        "i < WORKGROUP",
        "i + 1u < WORKGROUP",
    ),
    planted("sign of silu", "silu_mul", "min(-gate, ", "min(gate, "),
    planted("multiplied where to divide", "penalty", "x < 0.0", "x > 0.0"),
    planted("another row's logits", "penalty", "params.first_logit + ", ""),
];
