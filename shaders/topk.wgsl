// One round of a top-k tournament: each workgroup sorts CHUNK (value, id) pairs and passes on its best k.
//
// Rounds repeat until one chunk is left; that chunk's k are the answer, best first. Order: larger value first, ties by the lower
// id, NaN last; it is total, so any adapter gives the same answer. The sort is bitonic (Batcher 1968) in workgroup memory.
// One workgroup owns one chunk of one row.

struct Params {
    n: u32,          // pairs that compete
    stride: u32,     // columns of a row of values_in (and ids_in)
    k: u32,          // pairs that each chunk passes on
    first_round: u32, // 1: values_in are the logits themselves, and ids are their columns
    out_stride: u32, // columns of a row of values_out and ids_out
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> values_in: array<f32>;         // [n_rows, stride]
@group(0) @binding(1) var<storage, read> ids_in: array<u32>;            // [n_rows, stride], not read in the first round
@group(0) @binding(2) var<storage, read_write> values_out: array<f32>;  // [n_rows, out_stride]
@group(0) @binding(3) var<storage, read_write> ids_out: array<u32>;     // [n_rows, out_stride]

const WORKGROUP: u32 = 256u;
const CHUNK: u32 = 1024u;
const NONE: u32 = 0xffffffffu;

var<workgroup> sh_value: array<f32, CHUNK>;
var<workgroup> sh_id: array<u32, CHUNK>;

// NaN compares false with everything, itself included; the exponent and mantissa bits are asked instead of x != x, which
// a compiler may fold away.
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// Whether pair a must stand before pair b. Empty places (id NONE) stand last.
fn before(value_a: f32, id_a: u32, value_b: f32, id_b: u32) -> bool {
    if id_a == NONE || id_b == NONE {
        return id_b == NONE && id_a != NONE;
    }
    let nan_a = is_nan(value_a);
    let nan_b = is_nan(value_b);
    if nan_a || nan_b {
        if nan_a && nan_b {
            return id_a < id_b;
        }
        return nan_b;
    }
    return value_a > value_b || (value_a == value_b && id_a < id_b);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let chunk = group.x;
    let row = group.y;
    for (var i = index; i < CHUNK; i += WORKGROUP) {
        let at = chunk * CHUNK + i;
        sh_id[i] = NONE;
        sh_value[i] = 0.0;
        if at < params.n {
            sh_value[i] = values_in[row * params.stride + at];
            if params.first_round == 1u {
                sh_id[i] = at;
            } else {
                sh_id[i] = ids_in[row * params.stride + at];
            }
        }
    }
    for (var size = 2u; size <= CHUNK; size *= 2u) {
        for (var half = size / 2u; half > 0u; half /= 2u) {
            workgroupBarrier(); // the stage before is complete
            for (var i = index; i < CHUNK / 2u; i += WORKGROUP) {
                let a = (i / half) * half * 2u + i % half;
                let b = a + half;
                let ascending = (a & size) == 0u;
                let swap = before(sh_value[b], sh_id[b], sh_value[a], sh_id[a]) == ascending;
                // equal pairs occur only among empty places, where a swap changes nothing
                if swap {
                    let value = sh_value[a];
                    let id = sh_id[a];
                    sh_value[a] = sh_value[b];
                    sh_id[a] = sh_id[b];
                    sh_value[b] = value;
                    sh_id[b] = id;
                }
            }
        }
    }
    workgroupBarrier(); // the chunk is sorted
    for (var i = index; i < params.k; i += WORKGROUP) {
        let o = row * params.out_stride + chunk * params.k + i;
        values_out[o] = sh_value[i];
        ids_out[o] = sh_id[i];
    }
}
