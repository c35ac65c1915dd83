// Candidates of a draw under top-k: each chunk of CHUNK logits leaves its best k, in order of id. The row's best k are among them.
//
// Radix select: four rounds of eight bits, from the top, find the k-th best key of the chunk; nothing is sorted. Ties go to the
// lower id, NaN stands last. One workgroup owns one chunk of one row.

struct Params {
    n: u32,          // logits that compete; ids at and above are padding of the vocabulary
    stride: u32,     // columns of a row of logits
    k: u32,          // at most CHUNK
    out_stride: u32, // columns of a row of keys and ids
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> logits: array<u32>;     // [n_rows, stride], bits of f32
@group(0) @binding(1) var<storage, read_write> keys: array<u32>; // [n_rows, number of chunks * k], as key_of gives them
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;  // the same; NONE where a chunk has fewer than k logits

const WORKGROUP: u32 = 256u;
const CHUNK: u32 = 2048u;
const EACH: u32 = 8u; // keys of an invocation, which neighbour each other where their order matters
const NONE: u32 = 0xffffffffu;

var<workgroup> sh_key: array<u32, CHUNK>;
var<workgroup> sh_count: array<atomic<u32>, 256>; // keys with each digit
var<workgroup> sh_scan: array<u32, 512>;
var<workgroup> sh_digit: u32;
var<workgroup> sh_before: u32;

// Sum of the values of invocations 0 to index (Hillis and Steele 1986). The two halves of sh_scan take turns.
fn sum_through(own: u32, index: u32) -> u32 {
    var sum = own;
    var half = 0u;
    sh_scan[index] = sum;
    for (var step = 1u; step < WORKGROUP; step *= 2u) {
        workgroupBarrier(); // the sums of the step before are in place
        if index >= step {
            sum += sh_scan[half + index - step];
        }
        half = WORKGROUP - half;
        sh_scan[half + index] = sum;
    }
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let chunk = group.x;
    let row = group.y;
    for (var i = index; i < CHUNK; i += WORKGROUP) {
        let id = chunk * CHUNK + i;
        sh_key[i] = 0u;
        if id < params.n {
            sh_key[i] = key_of(logits[row * params.stride + id]);
        }
    }
    // of the keys that begin with the digits found so far, the best `wanted` are kept
    var wanted = params.k;
    var found = 0u;
    var mask = 0u;
    for (var round = 0u; round < 4u; round += 1u) {
        let shift = 24u - 8u * round;
        atomicStore(&sh_count[index], 0u);
        workgroupBarrier(); // the counts are zero, the keys are in place
        for (var i = index; i < CHUNK; i += WORKGROUP) {
            let key = sh_key[i];
            if (key & mask) == found {
                atomicAdd(&sh_count[(key >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier(); // every key is counted
        let digit = 255u - index; // the largest digit comes first
        let own = atomicLoad(&sh_count[digit]);
        let through = sum_through(own, index);
        if through >= wanted && through - own < wanted {
            sh_digit = digit;
            sh_before = through - own;
        }
        workgroupBarrier(); // the digit is found
        found |= sh_digit << shift;
        mask |= 255u << shift;
        wanted -= sh_before;
    }
    // those above the k-th, in the low half of a word, and those equal to it, in the high half
    var counts = 0u;
    for (var j = 0u; j < EACH; j += 1u) {
        let key = sh_key[index * EACH + j];
        counts += select(0u, 1u, key > found) + select(0u, 0x10000u, key == found);
    }
    let before = sum_through(counts, index) - counts;
    var above = before & 0xffffu;
    var ties = before >> 16u;
    for (var j = 0u; j < EACH; j += 1u) {
        let i = index * EACH + j;
        let key = sh_key[i];
        let is_tie = key == found;
        if key > found || (is_tie && ties < wanted) {
            let o = row * params.out_stride + chunk * params.k + above + min(ties, wanted);
            let id = chunk * CHUNK + i;
            keys[o] = key;
            ids[o] = select(NONE, id, id < params.n);
        }
        above += select(0u, 1u, key > found);
        ties += select(0u, 1u, is_tie);
    }
}
