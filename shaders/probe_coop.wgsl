// Self-test of cooperative matrices: out = start + a * transpose(b), with operands in workgroup memory as in a tiled product, and in one tile
// b loaded from where it lies, as attention loads keys.
//
// One workgroup owns one tile of the output and walks two tiles of k. b lies as weights do, a row for each column of the output.
// It is read as it lies, column by column, or in odd columns of tiles turned in workgroup memory: both layouts are checked. Every
// subgroup of the workgroup computes the same tile, so no subgroup id is needed. All values are whole numbers.
//
// Needs one shared/coop_*.wgsl: TILE, Operand, MatA, MatB, MatC.

struct Params {
    n: u32, // rows and columns of all matrices, a multiple of TILE
}

var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> a: array<Operand>; // [n, n]
@group(0) @binding(1) var<storage, read> b: array<Operand>; // [n, n]
@group(0) @binding(2) var<storage, read> start: array<f32>; // [n, n]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [n, n]

const WORKGROUP: u32 = 64u; // whole subgroups of any size up to this
const STRIDE: u32 = TILE + 8u; // as kernels pad against bank conflicts
var<workgroup> sh_a: array<Operand, TILE * STRIDE>;
var<workgroup> sh_b: array<Operand, TILE * STRIDE>;
var<workgroup> sh_start: array<f32, TILE * TILE>;
var<workgroup> sh_out: array<f32, TILE * TILE>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let row0 = group.y * TILE;
    let col0 = group.x * TILE;
    let turned = (group.x & 1u) == 1u;
    let direct = (group.y & 1u) == 1u;
    for (var i = index; i < TILE * TILE; i += WORKGROUP) {
        sh_start[i] = start[(row0 + i / TILE) * params.n + col0 + i % TILE];
    }
    workgroupBarrier(); // the start is in place
    var sum = coopLoadT<MatC>(&sh_start[0], TILE);
    for (var k0 = 0u; k0 < params.n; k0 += TILE) {
        for (var i = index; i < TILE * TILE; i += WORKGROUP) {
            let r = i / TILE;
            let k = i % TILE;
            sh_a[r * STRIDE + k] = a[(row0 + r) * params.n + k0 + k];
            sh_b[select(r * STRIDE + k, k * STRIDE + r, turned)] = b[(col0 + r) * params.n + k0 + k];
        }
        workgroupBarrier(); // the operands are in place
        let mat_a = coopLoadT<MatA>(&sh_a[0], STRIDE);
        if turned {
            let mat_b = coopLoadT<MatB>(&sh_b[0], STRIDE);
            sum = coopMultiplyAdd(mat_a, mat_b, sum);
        } else if direct {
            let at = col0 * params.n + k0;
            let mat_b = coopLoad<MatB>(&b[at], params.n);
            sum = coopMultiplyAdd(mat_a, mat_b, sum);
        } else {
            let mat_b = coopLoad<MatB>(&sh_b[0], STRIDE);
            sum = coopMultiplyAdd(mat_a, mat_b, sum);
        }
        workgroupBarrier(); // they have been read
    }
    coopStoreT(sum, &sh_out[0], TILE);
    workgroupBarrier(); // the result is in place
    for (var i = index; i < TILE * TILE; i += WORKGROUP) {
        out[(row0 + i / TILE) * params.n + col0 + i % TILE] = sh_out[i];
    }
}
