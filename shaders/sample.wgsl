// Draws the next token of each row from its candidates, and advances the row: top-k, softmax at a temperature, top-p, min-p.
//
// Candidates stand in order of id. Each has a weight, exp((logit - largest) / temperature), as a fixed-point number of 40 fractional bits:
// sums of integers do not depend on their order. The cut that a filter makes is found by radix select, eight bits a round; the draw
// takes the first candidate at which the sum of the weights that are left exceeds the random share of all of them. Nothing is sorted.
// The random number is the first word of Philox4x32-10 (Salmon et al. 2011) for the seed and the position of the token drawn.
// One workgroup owns one row. Candidates are the logits themselves, or what topk.wgsl leaves of them.

struct Params {
    n: u32,                   // candidates of a row
    stride: u32,              // columns of a row of candidates
    has_ids: u32,             // 1: candidates are keys with ids; 0: logits, and ids are their columns
    k: u32,                   // best ones to keep; 0: all
    top_p: u32,               // in units of 2^-32; 0: all
    min_p: f32,
    inverse_temperature: f32,
    seed_low: u32,
    seed_high: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> candidates: array<u32>; // [n_rows, stride], keys or bits of f32
@group(0) @binding(1) var<storage, read> ids: array<u32>;        // the same, not read without has_ids
@group(0) @binding(2) var<storage, read_write> rows: array<Row>; // [n_rows]

const WORKGROUP: u32 = 256u;
const NONE: u32 = 0xffffffffu;
const NEGATIVE_INFINITY: u32 = 0x007fffffu; // its key
const INFINITY: u32 = 0xff800000u;

// What is summed of the candidates that are left; the first three are also the stages of a draw.
const COUNT: u32 = 0u;  // one each
const WEIGHT: u32 = 1u; // their weights
const DRAWN: u32 = 2u;  // the weights that min_p leaves
const TIES: u32 = 4u;   // added to the others: of those with a certain key alone

// Candidates are left if their key is above the cut's, or equal to it and not beyond the last place.
struct Cut {
    key: u32,
    last: u32,
}

var<workgroup> sh_low: array<atomic<u32>, 256>;  // sums of each digit
var<workgroup> sh_high: array<atomic<u32>, 256>;
var<workgroup> sh_scan: array<U64, 512>;
var<workgroup> sh_best: atomic<u32>;
var<workgroup> sh_place: u32;
var<workgroup> sh_before: U64;
var<workgroup> sh_own: U64;

var<private> first: u32; // of the row's candidates
var<private> best: u32;  // the largest key
var<private> cut: Cut;

fn key_at(i: u32) -> u32 {
    let word = candidates[first + i];
    if params.has_ids == 1u {
        return word;
    }
    return key_of(word);
}

fn weight(key: u32) -> f32 {
    if key == best {
        return 1.0;
    }
    // what an infinity leaves, and what is 0 in 40 bits, without arithmetic on infinities
    if best >= INFINITY || key <= NEGATIVE_INFINITY {
        return 0.0;
    }
    let x = (logit_of(key) - logit_of(best)) * params.inverse_temperature;
    return select(exp(max(x, -50.0)), 0.0, x < -50.0);
}

fn fixed(weight: f32) -> U64 {
    let scaled = weight * 256.0;
    let whole = floor(scaled);
    return U64(u32((scaled - whole) * 4294967296.0), u32(whole));
}

fn is_left(i: u32, key: u32) -> bool {
    return key > cut.key || (key == cut.key && i <= cut.last);
}

fn value(i: u32, key: u32, what: u32, tie: u32) -> U64 {
    if !is_left(i, key) {
        return U64(0u);
    }
    if what >= TIES && key != tie {
        return U64(0u);
    }
    if what % TIES == COUNT {
        return U64(1u, 0u);
    }
    let w = weight(key);
    if what == DRAWN && w < params.min_p {
        return U64(0u);
    }
    return fixed(w);
}

// Sum of the values of invocations 0 to index (Hillis and Steele 1986); sh_scan[WORKGROUP - 1u] holds that of all. Between two
// such sums stands a barrier of the caller's.
fn sum_through(own: U64, index: u32) -> U64 {
    var sum = own;
    var half = 0u;
    sh_scan[index] = sum;
    for (var step = 1u; step < WORKGROUP; step *= 2u) {
        workgroupBarrier(); // the sums of the step before are in place
        if index >= step {
            sum = add64(sum, sh_scan[half + index - step]);
        }
        half = WORKGROUP - half;
        sh_scan[half + index] = sum;
    }
    workgroupBarrier(); // the sum of all is in place
    return sum;
}

// The place of the first candidate at which the sum of values, in order of id, exceeds `goal`; for DRAWN, the random share of the
// whole sum. Each round cuts the range in WORKGROUP parts and goes on with one of them.
fn find(what: u32, tie: u32, goal: U64, random: u32, index: u32) -> u32 {
    var rest = goal;
    var begin = 0u;
    var size = params.n;
    loop {
        let part = (size + WORKGROUP - 1u) / WORKGROUP;
        let low = begin + index * part;
        let high = min(begin + min(index * part + part, size), params.n);
        var own = U64(0u);
        for (var i = low; i < high; i += 1u) {
            own = add64(own, value(i, key_at(i), what, tie));
        }
        let through = sum_through(own, index);
        if what == DRAWN && size == params.n {
            rest = share(sh_scan[WORKGROUP - 1u], random);
        }
        let before = sub64(through, own);
        if less64(rest, through) && !less64(rest, before) {
            sh_place = low;
            sh_before = before;
        }
        workgroupBarrier(); // the part is found
        begin = sh_place;
        rest = sub64(rest, sh_before);
        if part == 1u {
            break;
        }
        size = part;
    }
    return begin;
}

// Where the fewest best candidates end whose values sum to `goal`; for weights, to the share params.top_p of all. `rest` is what
// those with the key have to give, and `all` whether that takes every one of them.
struct End {
    key: u32,
    rest: U64,
    all: bool,
}

fn end_of_best(what: u32, goal: U64, index: u32) -> End {
    var wanted = goal;
    var found = 0u;
    var mask = 0u;
    for (var round = 0u; round < 4u; round += 1u) {
        let shift = 24u - 8u * round;
        atomicStore(&sh_low[index], 0u);
        atomicStore(&sh_high[index], 0u);
        workgroupBarrier(); // the sums are zero
        for (var i = index; i < params.n; i += WORKGROUP) {
            let key = key_at(i);
            if (key & mask) == found {
                let digit = (key >> shift) & 255u;
                let x = value(i, key, what, 0u);
                let old = atomicAdd(&sh_low[digit], x.x);
                atomicAdd(&sh_high[digit], x.y + select(0u, 1u, old + x.x < old));
            }
        }
        workgroupBarrier(); // every candidate is in its sum
        let digit = 255u - index; // the largest digit comes first
        let own = U64(atomicLoad(&sh_low[digit]), atomicLoad(&sh_high[digit]));
        let through = sum_through(own, index);
        if what == WEIGHT && round == 0u {
            // rounded up, and never nothing: the best one stays
            wanted = add64(share(sub64(sh_scan[WORKGROUP - 1u], U64(1u, 0u)), params.top_p), U64(1u, 0u));
        }
        let before = sub64(through, own);
        if less64(before, wanted) && !less64(through, wanted) {
            sh_place = digit;
            sh_before = before;
            sh_own = own;
        }
        workgroupBarrier(); // the digit is found
        found |= sh_place << shift;
        mask |= 255u << shift;
        wanted = sub64(wanted, sh_before);
    }
    var one = U64(1u, 0u);
    if what == WEIGHT {
        one = fixed(weight(found));
    }
    return End(found, wanted, less64(sub64(workgroupUniformLoad(&sh_own), one), wanted));
}

// The first word of Philox4x32-10 for this counter under the seed.
fn philox(position: u32) -> u32 {
    var counter = vec4<u32>(position, 0u, 0u, 0u);
    var key = vec2<u32>(params.seed_low, params.seed_high);
    for (var round = 0u; round < 10u; round += 1u) {
        let a = product(counter.x, 0xd2511f53u);
        let b = product(counter.z, 0xcd9e8d57u);
        counter = vec4<u32>(b.y ^ counter.y ^ key.x, b.x, a.y ^ counter.w ^ key.y, a.x);
        key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return counter.x;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let row = group.y;
    first = row * params.stride;
    if index == 0u {
        atomicStore(&sh_best, 0u);
        sh_place = 0u;
    }
    workgroupBarrier(); // nothing is the best yet
    var largest = 0u;
    for (var i = index; i < params.n; i += WORKGROUP) {
        largest = max(largest, key_at(i));
    }
    atomicMax(&sh_best, largest);
    workgroupBarrier(); // every invocation has given its largest
    best = atomicLoad(&sh_best);
    cut = Cut(0u, NONE);
    // of several infinities the first is taken
    let random = select(philox(rows[row].pos + 1u), 0u, best >= INFINITY);
    var place = 0u;
    for (var stage = COUNT; stage <= DRAWN; stage += 1u) {
        if (stage == COUNT && params.k == 0u) || (stage == WEIGHT && params.top_p == 0u) {
            continue;
        }
        var what = DRAWN;
        var end = End(0u, U64(1u, 0u), false);
        if stage != DRAWN {
            what = stage + TIES;
            end = end_of_best(stage, U64(params.k, 0u), index);
        }
        if end.all {
            cut = Cut(end.key, select(NONE, cut.last, end.key == cut.key));
        } else {
            place = find(what, end.key, sub64(end.rest, U64(1u, 0u)), random, index);
            cut = Cut(end.key, place);
        }
    }
    if index == 0u {
        var id = place;
        if params.has_ids == 1u {
            id = ids[first + min(place, params.n - 1u)];
        }
        // where no logit is above -infinity, the first token
        rows[row].token = select(0u, id, best > NEGATIVE_INFINITY);
        rows[row].pos += 1u;
        rows[row].rope_pos += 1u;
    }
}
