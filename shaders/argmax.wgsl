// One round of the greedy choice: the best (value, id) of each chunk of CHUNK candidates; ties go to the lowest id.
//
// In the first round the candidates are the first n logits of each row; the second round has one chunk, of the first one's winners,
// and its winner is the choice: it becomes the row's token, and the row moves on by a position. NaN is never chosen. One workgroup owns one chunk of one row.
// Header: WORKGROUP.

struct Params {
    n: u32,           // candidates; in the first round, ids at and above are padding of the vocabulary
    stride: u32,      // columns of a row of values_in (and ids_in)
    first_round: u32, // 1: values_in are the logits themselves, and ids are their columns
    last_round: u32,  // 1: the winner goes into its row; where nothing can be chosen, id 0
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> values_in: array<f32>;        // [n_rows, stride]
@group(0) @binding(1) var<storage, read> ids_in: array<u32>;           // [n_rows, stride], not read in the first round
@group(0) @binding(2) var<storage, read_write> values_out: array<f32>; // [n_rows, number of chunks]
@group(0) @binding(3) var<storage, read_write> ids_out: array<u32>;    // the same; in the last round the rows themselves, [n_rows, 4]

const CHUNK: u32 = 2048u;
const NONE: u32 = 0xffffffffu;
// words of a Row, see shared/row.wgsl
const ROW: u32 = 4u;
const POS: u32 = 2u;
const ROPE_POS: u32 = 3u;

@compute @workgroup_size(WORKGROUP)
fn main(inv: Invocation) {
    let chunk = inv.group.x;
    let row = inv.group.y;
    let n_chunks = (params.n + CHUNK - 1u) / CHUNK;
    // not above any number, and with an id above every other
    var mine = Best(-3.4028234e38, NONE);
    for (var i = chunk * CHUNK + inv.index; i < min((chunk + 1u) * CHUNK, params.n); i += WORKGROUP) {
        let at = row * params.stride + i;
        var id = i;
        if params.first_round == 0u {
            id = ids_in[at];
        }
        mine = better(mine, Best(values_in[at], id));
    }
    let best = best_of_workgroup(mine, inv);
    if inv.index == 0u {
        values_out[row * n_chunks + chunk] = best.value;
        if params.last_round == 0u {
            ids_out[row * n_chunks + chunk] = best.id;
        } else {
            ids_out[ROW * row] = select(best.id, 0u, best.id == NONE);
            ids_out[ROW * row + POS] += 1u;
            ids_out[ROW * row + ROPE_POS] += 1u;
        }
    }
}
