// Which rows a product of many rows reads and writes: here those of one expert of a stack of matrices, as group_experts.wgsl lists them.
// Every rows_*.wgsl defines the same: `params`, `Rows`, what opens and finds them, what they read, and `put_out`.
//
// Entry i of an expert's list is a pair, token * n_slots + slot, and has a place among the entries of all experts. Gathering reads the
// token's row of x and writes the row at that place; scattering reads the row at that place and writes the pair's.
//
// Header: ROWS_BINDING. The kernel defines TILE_ROWS, the rows of a tile; tiles begin at multiples of it.

struct Params {
    groups: u32,       // columns / 8
    n_rows: u32,       // rows of one expert's matrix, columns of out
    first_expert: u32, // of this part of the stack
    n_slots: u32,      // pairs of a token
    gather: u32,       // 1 to gather, 0 to scatter
}
var<immediate> params: Params;

@group(0) @binding(ROWS_BINDING) var<storage, read> pairs: array<u32>;          // [n_tokens * n_slots], expert by expert
@group(0) @binding(ROWS_BINDING + 1u) var<storage, read> offsets: array<u32>;   // [experts of the stack + 1]
@group(0) @binding(ROWS_BINDING + 2u) var<storage, read_write> out: array<f32>; // [n_tokens * n_slots, n_rows]

// Whether there may be fewer tiles than the grid has: it is made for an expert that every token has chosen.
const RAGGED: bool = true;

// What the tiles of a workgroup's matrix are cut from.
struct Rows {
    n: u32,          // entries of the expert's list
    first: u32,      // the place of the first one
    matrix_row: u32, // the first row of its matrix in this part
}

var<workgroup> sh_rows: vec4<u32>; // as Rows; 16 bytes, since cooperative matrices behind it are loaded from multiples of that
var<workgroup> sh_far: array<u32, TILE_ROWS>; // for each row of the tile, the one it reads if gathering, the one it writes if scattering

// The rows of expert z of this part, the same for all invocations: they decide together whether to leave.
fn open_rows(z: u32, index: u32) -> Rows {
    if index == 0u {
        let first = offsets[params.first_expert + z];
        sh_rows = vec4<u32>(offsets[params.first_expert + z + 1u] - first, first, z * params.n_rows, 0u);
    }
    let rows = workgroupUniformLoad(&sh_rows);
    return Rows(rows.x, rows.y, rows.z);
}

// Looks up the rows of the tile that begins at `first`.
fn find_rows(rows: Rows, first: u32, index: u32) {
    if index < TILE_ROWS && first + index < rows.n {
        let pair = pairs[rows.first + first + index];
        sh_far[index] = select(pair, pair / params.n_slots, params.gather != 0u);
    }
    workgroupBarrier(); // the tile's rows are known
}

fn x_row(rows: Rows, i: u32) -> u32 {
    if params.gather != 0u {
        return sh_far[i % TILE_ROWS];
    }
    return rows.first + i;
}

fn matrix_row(rows: Rows, r: u32) -> u32 {
    return rows.matrix_row + r;
}

// Writes output r of row i.
fn put_out(rows: Rows, i: u32, r: u32, sum: f32) {
    var o = rows.first + i;
    if params.gather == 0u {
        o = sh_far[i % TILE_ROWS];
    }
    out[o * params.n_rows + r] = sum;
}
