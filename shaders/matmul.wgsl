// Matrix times many vectors: out[t, first_out + r] (+)= sum_k weights[r, k] * x[t, k] (+ bias[first_out + r]), any adapter. Also a stack
// of matrices, each with rows of its own.
//
// One workgroup owns a tile of TILE tokens x TILE matrix rows and walks over the columns in slabs of TILE_K, kept in workgroup
// memory as f32. An invocation owns 4 x 4 outputs, 16 apart in both directions, so that neighbours read neighbouring rows.
// The slabs' rows are padded by one vec4: without it eight rows would meet in the same memory banks.
//
// Needs one shared/rows_*.wgsl: which rows there are, and where outputs go.

// binding 0: weights, [n_rows, columns]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // [rows of x, columns]

const TILE: u32 = 64u;
const TILE_ROWS: u32 = TILE;
const TILE_K: u32 = 32u;
const SLAB_VECS: u32 = TILE_K / 4u;
const SLAB_STRIDE: u32 = SLAB_VECS + 1u;

var<workgroup> sh_x: array<vec4<f32>, TILE * SLAB_STRIDE>;
var<workgroup> sh_w: array<vec4<f32>, TILE * SLAB_STRIDE>;

// Loads TILE x TILE_K elements of x from column 8 * group0 on; zeros beyond the edges.
fn load_x(rows: Rows, token0: u32, group0: u32, index: u32) {
    for (var i = index; i < TILE * SLAB_VECS; i += 256u) {
        let t = i / SLAB_VECS;
        let vec = i % SLAB_VECS;
        var v = vec4<f32>(0.0);
        if token0 + t < rows.n && group0 + vec / 2u < params.groups {
            v = x[(x_row(rows, token0 + t) * params.groups + group0) * 2u + vec];
        }
        sh_x[t * SLAB_STRIDE + vec] = v;
    }
}

// Loads TILE x TILE_K weights from column 8 * group0 on; zeros beyond the edges.
fn load_w(rows: Rows, row0: u32, group0: u32, index: u32) {
    let r = index / (SLAB_VECS / 2u);
    let g = index % (SLAB_VECS / 2u);
    var w = Weight8(vec4<f32>(0.0), vec4<f32>(0.0));
    if row0 + r < params.n_rows && group0 + g < params.groups {
        w = weight8(matrix_row(rows, row0 + r) * params.groups + group0 + g);
    }
    sh_w[r * SLAB_STRIDE + 2u * g] = w.lo;
    sh_w[r * SLAB_STRIDE + 2u * g + 1u] = w.hi;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let row0 = group.x * TILE;
    let token0 = group.y * TILE;
    let rows = open_rows(group.z, index);
    if RAGGED & (token0 >= rows.n) {
        return; // the whole workgroup leaves
    }
    find_rows(rows, token0, index);
    let my_row = index % 16u;
    let my_token = index / 16u;
    var sums: array<vec4<f32>, 4>; // [token][row]
    for (var group0 = 0u; group0 < params.groups; group0 += TILE_K / 8u) {
        load_x(rows, token0, group0, index);
        load_w(rows, row0, group0, index);
        workgroupBarrier(); // the slab is complete
        for (var k = 0u; k < SLAB_VECS; k++) {
            let w0 = sh_w[my_row * SLAB_STRIDE + k];
            let w1 = sh_w[(my_row + 16u) * SLAB_STRIDE + k];
            let w2 = sh_w[(my_row + 32u) * SLAB_STRIDE + k];
            let w3 = sh_w[(my_row + 48u) * SLAB_STRIDE + k];
            for (var i = 0u; i < 4u; i++) {
                let v = sh_x[(my_token + 16u * i) * SLAB_STRIDE + k];
                sums[i] += vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
            }
        }
        workgroupBarrier(); // the slab has been used up
    }
    for (var i = 0u; i < 4u; i++) {
        let t = token0 + my_token + 16u * i;
        for (var j = 0u; j < 4u; j++) {
            let r = row0 + my_row + 16u * j;
            if t < rows.n && r < params.n_rows {
                put_out(rows, t, r, sums[i][j]);
            }
        }
    }
}
