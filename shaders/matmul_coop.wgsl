// Matrix times many vectors on the matrix units: out[t, first_out + r] (+)= sum_k weights[r, k] * x[t, k] (+ bias[first_out + r]).
// Also a stack of matrices, each with rows of its own.
//
// One workgroup owns a tile of TILE_M tokens x TILE_N matrix rows; each of its GRID_M x GRID_N subgroups owns 2 x 2 cooperative
// matrices of f32 sums. The workgroup walks over the columns in slabs of SLAB, kept in workgroup memory as f16; while one slab is
// multiplied, the next is on its way into registers. So many small subgroups hide the latency of those loads: fewer and larger ones
// would read workgroup memory less often, but were slower on an H100 (benches/RESULTS.md).
//
// x comes as f16 times a power of two for each row (to_f16.wgsl); the sums are divided by it on their way out, which is through
// workgroup memory: the places of a cooperative matrix's elements are the driver's secret. Slabs' rows are padded by 8 halves
// against bank conflicts. Tiles are taken in bands of BAND tiles of tokens, so that neighbours share weights in the cache. Where a tile
// of a stack's matrix has no rows in its second half, as every second expert's last one, the subgroups share out the first half.
//
// Needs one shared/coop_*.wgsl: TILE, MatA, MatB, MatC, and one shared/rows_*.wgsl: which rows there are, and where outputs go.
// Header: SUBGROUP, GRID_M, GRID_N.

// binding 0: weights, [n_rows, columns]
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;    // [rows of x, columns], two f16 a word
@group(0) @binding(2) var<storage, read> row_scales: array<f32>; // [rows of x]

const BLOCK: u32 = 2u * TILE; // rows and columns that a subgroup owns
const TILE_M: u32 = GRID_M * BLOCK;
const TILE_ROWS: u32 = TILE_M;
const TILE_N: u32 = GRID_N * BLOCK;
const N_SUBGROUPS: u32 = GRID_M * GRID_N;
const WORKGROUP: u32 = N_SUBGROUPS * SUBGROUP;
const SLAB: u32 = 64u;
const SLAB_GROUPS: u32 = SLAB / 8u;
const STRIDE: u32 = (SLAB + 8u) / 4u; // in vec4s
const N_X: u32 = TILE_M * SLAB_GROUPS / WORKGROUP; // groups of eight that an invocation fetches of each
const N_W: u32 = TILE_N * SLAB_GROUPS / WORKGROUP;
const BAND: u32 = 8u;
const STAGED: u32 = (N_SUBGROUPS + 1u) / 2u; // subgroups that hand out sums at once

var<workgroup> sh_x: array<vec4<f16>, TILE_M * STRIDE>;
var<workgroup> sh_w: array<vec4<f16>, TILE_N * STRIDE>;
var<workgroup> sh_out: array<f32, STAGED * TILE * TILE>;

struct Slab {
    x: array<vec4<u32>, N_X>,
    w: array<Packed8, N_W>,
}

// Where the rows begin of which an invocation fetches one group of each slab, in groups: looked up once, since a stack's rows of x are
// found through a list.
struct Places {
    x: array<u32, N_X>,
    w: array<u32, N_W>,
}

// Rows past the end repeat the last one.
fn find_places(rows: Rows, row0: u32, token0: u32, index: u32) -> Places {
    var places: Places;
    for (var i = 0u; i < N_X; i++) {
        let r = (index + i * WORKGROUP) / SLAB_GROUPS;
        places.x[i] = x_row(rows, min(token0 + r, rows.n - 1u)) * params.groups;
    }
    for (var i = 0u; i < N_W; i++) {
        let r = (index + i * WORKGROUP) / SLAB_GROUPS;
        places.w[i] = matrix_row(rows, min(row0 + r, params.n_rows - 1u)) * params.groups;
    }
    return places;
}

// Fetches the slab from group0 on. Columns past the end are zeros in x, and in the weights repeat the last, finite as all are.
fn fetch(places: Places, group0: u32, index: u32) -> Slab {
    let g = group0 + index % SLAB_GROUPS; // the same in all rows, as WORKGROUP is a multiple of SLAB_GROUPS
    let inside = min(g, params.groups - 1u);
    var slab: Slab;
    for (var i = 0u; i < N_X; i++) {
        slab.x[i] = select(vec4<u32>(0u), x[places.x[i] + inside], g < params.groups);
    }
    for (var i = 0u; i < N_W; i++) {
        slab.w[i] = packed8(places.w[i] + inside);
    }
    return slab;
}

fn put(slab: Slab, index: u32) {
    for (var i = 0u; i < N_X; i++) {
        let at = index + i * WORKGROUP;
        let o = (at / SLAB_GROUPS) * STRIDE + (at % SLAB_GROUPS) * 2u;
        let v = slab.x[i];
        sh_x[o] = vec4<f16>(vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)));
        sh_x[o + 1u] = vec4<f16>(vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w)));
    }
    for (var i = 0u; i < N_W; i++) {
        let at = index + i * WORKGROUP;
        let o = (at / SLAB_GROUPS) * STRIDE + (at % SLAB_GROUPS) * 2u;
        let w = widened8(slab.w[i]);
        sh_w[o] = vec4<f16>(w.lo);
        sh_w[o + 1u] = vec4<f16>(w.hi);
    }
}

// Writes one of every subgroup's four matrices, whose blocks start at row0 and token0. Half of the subgroups at a time: workgroup
// memory has no room for more beside the slabs.
fn hand_out(rows: Rows, sums: MatC, grid_n: u32, block_n: u32, subgroup: u32, row0: u32, token0: u32, index: u32) {
    for (var first = 0u; first < N_SUBGROUPS; first += STAGED) {
        if subgroup >= first && subgroup < first + STAGED {
            let o = (subgroup - first) * TILE * TILE;
            coopStoreT(sums, &sh_out[o], TILE);
        }
        workgroupBarrier(); // the matrices are staged
        for (var i = index; i < STAGED * TILE * TILE; i += WORKGROUP) {
            let owner = first + i / (TILE * TILE);
            let t = token0 + (owner / grid_n) * BLOCK + i / TILE % TILE;
            let r = row0 + (owner % grid_n) * block_n + i % TILE;
            if owner < N_SUBGROUPS && t < rows.n && r < params.n_rows {
                put_out(rows, t, r, sh_out[i] * row_scales[x_row(rows, t)]);
            }
        }
        workgroupBarrier(); // and have been written
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let rows = open_rows(group.z, index);
    if RAGGED & (group.y * TILE_M >= rows.n) {
        return; // the whole workgroup leaves
    }
    let n_tiles_n = (params.n_rows + TILE_N - 1u) / TILE_N;
    let n_tiles_m = (rows.n + TILE_M - 1u) / TILE_M;
    let tile = group.y * n_tiles_n + group.x;
    let band = tile / (BAND * n_tiles_n);
    let in_band = tile % (BAND * n_tiles_n);
    let band_rows = min(BAND, n_tiles_m - band * BAND);
    let token0 = (band * BAND + in_band % band_rows) * TILE_M;
    let row0 = in_band / band_rows * TILE_N;
    find_rows(rows, token0, index);
    let places = find_places(rows, row0, token0, index);

    var c00: MatC;
    var c01: MatC;
    var c10: MatC;
    var c11: MatC;
    var slab = fetch(places, 0u, index);
    if RAGGED & (rows.n - token0 <= TILE_M / 2u) {
        // half of the tile has no rows: subgroups share out the other half, one column of matrices each
        let my_x = (subgroup / (2u * GRID_N)) * BLOCK * STRIDE;
        let my_w = (subgroup % (2u * GRID_N)) * TILE * STRIDE;
        for (var group0 = 0u; group0 < params.groups; group0 += SLAB_GROUPS) {
            put(slab, index);
            workgroupBarrier(); // the slab is complete
            slab = fetch(places, group0 + SLAB_GROUPS, index);
            for (var k = 0u; k < SLAB / 4u; k += TILE / 4u) {
                let b = coopLoad<MatB>(&sh_w[my_w + k], STRIDE);
                let a0 = coopLoadT<MatA>(&sh_x[my_x + k], STRIDE);
                c00 = coopMultiplyAdd(a0, b, c00);
                let a1 = coopLoadT<MatA>(&sh_x[my_x + TILE * STRIDE + k], STRIDE);
                c10 = coopMultiplyAdd(a1, b, c10);
            }
            workgroupBarrier(); // the slab has been used up
        }
        hand_out(rows, c00, 2u * GRID_N, TILE, subgroup, row0, token0, index);
        hand_out(rows, c10, 2u * GRID_N, TILE, subgroup, row0, token0 + TILE, index);
        return;
    }
    let my_x = (subgroup / GRID_N) * BLOCK * STRIDE;
    let my_w = (subgroup % GRID_N) * BLOCK * STRIDE;
    for (var group0 = 0u; group0 < params.groups; group0 += SLAB_GROUPS) {
        put(slab, index);
        workgroupBarrier(); // the slab is complete
        slab = fetch(places, group0 + SLAB_GROUPS, index);
        for (var k = 0u; k < SLAB / 4u; k += TILE / 4u) {
            let b0 = coopLoad<MatB>(&sh_w[my_w + k], STRIDE);
            let b1 = coopLoad<MatB>(&sh_w[my_w + TILE * STRIDE + k], STRIDE);
            let a0 = coopLoadT<MatA>(&sh_x[my_x + k], STRIDE);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            let a1 = coopLoadT<MatA>(&sh_x[my_x + TILE * STRIDE + k], STRIDE);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
        }
        workgroupBarrier(); // the slab has been used up
    }
    hand_out(rows, c00, GRID_N, BLOCK, subgroup, row0, token0, index);
    hand_out(rows, c01, GRID_N, BLOCK, subgroup, row0 + TILE, token0, index);
    hand_out(rows, c10, GRID_N, BLOCK, subgroup, row0, token0 + TILE, index);
    hand_out(rows, c11, GRID_N, BLOCK, subgroup, row0 + TILE, token0 + TILE, index);
}
