// One token's RMS norm as signed bytes in blocks of 32, x / sqrt(mean(x^2) + eps) * norm = d q, in workgroup memory: every workgroup
// makes its own, which takes a GPU less time than a dispatch that makes them for all.
//
// An invocation has four vectors of four, so that x has at most 16 WORKGROUP columns; eight neighbours have a block. The factor of the
// norm, one for all, moves scales and no byte, so the sum of the squares and the largest magnitudes are told in one step. Needs
// shared/byte_scale.wgsl and one shared/team_*.wgsl.
//
// Header: WORKGROUP. The kernel defines TEAMS.

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // [columns / 4]
@group(0) @binding(2) var<storage, read> vectors: array<vec4<f32>>; // the norm's weights, [columns / 4], and what the kernel keeps behind them

var<workgroup> sh_halves: array<vec4<u32>, WORKGROUP>; // 16 bytes of x each; before they are there, largest magnitudes
var<workgroup> sh_words: array<u32, 4u * WORKGROUP>;   // the bytes as they are made
var<workgroup> sh_x_scales: array<vec2<f32>, WORKGROUP / 2u>; // of a block: d, d times the sum of q
var<workgroup> sh_squares: array<f32, TEAMS>;

fn largest_of(v: vec4<f32>) -> f32 {
    let m = abs(v);
    return max(max(m.x, m.y), max(m.z, m.w));
}

fn to_word(v: vec4<f32>, largest: f32) -> u32 {
    return pack4xI8(vec4<i32>(round(v * inverse_of(largest))));
}

// All invocations together; they may read sh_halves and sh_x_scales afterwards.
fn put_normed(blocks: u32, eps: f32, inv_d: f32, inv: Invocation) {
    let own = team_of(inv) * LANES + lane_of(inv);
    let i = own + WORKGROUP * vec4<u32>(0u, 1u, 2u, 3u);
    // past the end the last one is read again, and counts as zero
    let at = min(i, vec4<u32>(8u * blocks - 1u));
    let counts = vec4<f32>(i < vec4<u32>(8u * blocks));
    var v0 = x[at.x] * counts.x;
    var v1 = x[at.y] * counts.y;
    var v2 = x[at.z] * counts.z;
    var v3 = x[at.w] * counts.w;
    let squares = dot(v0, v0) + dot(v1, v1) + (dot(v2, v2) + dot(v3, v3));
    v0 *= vectors[at.x];
    v1 *= vectors[at.y];
    v2 *= vectors[at.z];
    v3 *= vectors[at.w];
    var largest = vec4<f32>(largest_of(v0), largest_of(v1), largest_of(v2), largest_of(v3));
    let of_team = team_sum(vec4<f32>(squares, 0.0, 0.0, 0.0), inv).x;
    sh_halves[own] = bitcast<vec4<u32>>(largest);
    if lane_of(inv) == 0u {
        sh_squares[team_of(inv)] = of_team;
    }
    workgroupBarrier(); // all largest magnitudes and squares are in place
    for (var neighbour = own / 8u * 8u; neighbour < own / 8u * 8u + 8u; neighbour++) {
        largest = max(largest, bitcast<vec4<f32>>(sh_halves[neighbour]));
    }
    sh_words[i.x] = to_word(v0, largest.x);
    sh_words[i.y] = to_word(v1, largest.y);
    sh_words[i.z] = to_word(v2, largest.z);
    sh_words[i.w] = to_word(v3, largest.w);
    if own % 8u == 0u {
        let block = i / 8u;
        sh_x_scales[block.x].x = largest.x;
        sh_x_scales[block.y].x = largest.y;
        sh_x_scales[block.z].x = largest.z;
        sh_x_scales[block.w].x = largest.w;
    }
    workgroupBarrier(); // all bytes are in place, and the largest magnitudes have been read
    sh_halves[own] = vec4<u32>(sh_words[4u * own], sh_words[4u * own + 1u], sh_words[4u * own + 2u], sh_words[4u * own + 3u]);
    if own < blocks {
        var total = 0.0;
        for (var team = 0u; team < TEAMS; team++) {
            total += sh_squares[team];
        }
        var sum = 0;
        for (var k = 8u * own; k < 8u * own + 8u; k++) {
            sum += dot4I8Packed(sh_words[k], 0x01010101u);
        }
        let d = sh_x_scales[own].x / HIGHEST / sqrt(total * inv_d + eps);
        sh_x_scales[own] = vec2<f32>(d, d * f32(sum));
    }
    workgroupBarrier(); // all are where products read them
}
