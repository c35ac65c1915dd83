// The rows of each expert of a stack, for products that take a tile of rows through one expert's matrix: a stable sort of the pairs
// (token, slot) by expert, with the place where each expert's begin.
//
// The slots of a token are the k experts that it has chosen, then the slices of the shared expert, which every token takes. One workgroup
// owns one expert and writes its list: each invocation looks through a stretch of the chosen ids, counts those that belong to it and
// those that come before it, and after one scan knows where its own go. No atomics, so the order is that of the tokens.

struct Params {
    n_tokens: u32,
    k: u32,         // experts that a token chooses
    n_experts: u32, // to choose from
    n_shared: u32,  // slices of the shared expert, behind them in the stack
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> chosen: array<u32>;        // [n_tokens, k], different ones in a row
@group(0) @binding(1) var<storage, read_write> pairs: array<u32>;   // [n_tokens * (k + n_shared)], token * (k + n_shared) + slot
@group(0) @binding(2) var<storage, read_write> offsets: array<u32>; // [n_experts + n_shared + 1]

const WORKGROUP: u32 = 256u;

var<workgroup> sh_scan: array<vec2<u32>, 512>;

// Sums of the values of invocations 0 to index (Hillis and Steele 1986). The two halves of sh_scan take turns; eight steps end in the
// first one.
fn sums_through(own: vec2<u32>, index: u32) -> vec2<u32> {
    var sums = own;
    var half = 0u;
    sh_scan[index] = sums;
    for (var step = 1u; step < WORKGROUP; step *= 2u) {
        workgroupBarrier(); // the sums of the step before are in place
        if index >= step {
            sums += sh_scan[half + index - step];
        }
        half = WORKGROUP - half;
        sh_scan[half + index] = sums;
    }
    return sums;
}

// The list of an expert that tokens choose.
fn list_chosen(expert: u32, index: u32) {
    let n = params.n_tokens * params.k;
    let each = (n + WORKGROUP - 1u) / WORKGROUP;
    let first = index * each;
    let end = min(first + each, n); // the last stretches may be empty
    var counts = vec2<u32>(0u); // ids before this expert, and its own
    for (var i = first; i < end; i++) {
        let id = chosen[i];
        counts += vec2<u32>(select(0u, 1u, id < expert), select(0u, 1u, id == expert));
    }
    let through = sums_through(counts, index);
    workgroupBarrier(); // the sums over all are in place
    let offset = sh_scan[WORKGROUP - 1u].x;
    if index == 0u {
        offsets[expert] = offset;
    }
    var place = offset + through.y - counts.y;
    for (var i = first; i < end; i++) {
        if chosen[i] == expert {
            pairs[place] = i / params.k * (params.k + params.n_shared) + i % params.k;
            place++;
        }
    }
}

// The list of a slice of the shared expert: every token.
fn list_shared(slice: u32, index: u32) {
    let first = params.n_tokens * (params.k + slice);
    if index == 0u {
        offsets[params.n_experts + slice] = first;
    }
    for (var t = index; t < params.n_tokens; t += WORKGROUP) {
        pairs[first + t] = t * (params.k + params.n_shared) + params.k + slice;
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    if group.x < params.n_experts {
        list_chosen(group.x, index);
    } else {
        list_shared(group.x - params.n_experts, index);
    }
    if group.x == 0u && index == 0u {
        offsets[params.n_experts + params.n_shared] = params.n_tokens * (params.k + params.n_shared);
    }
}
