//! The list of shapes: every variant, then tile edges, windows, splits, values and long contexts for the variants that models use.

use std::collections::HashSet;

use qwgpu_runtime::{Elem, HEAD_DIMS, MAX_GROUP};

use super::shape::{Look, Shape};
use crate::Scale;

/// Contexts around tiles of 32 keys, blocks of 64 positions and what the splits make of them.
const CONTEXTS: [usize; 24] = [
    1, 2, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 191, 193, 255, 256, 257, 300, 511, 513, 1021, 1024,
];
const WINDOWS: [usize; 11] = [1, 2, 5, 31, 32, 33, 63, 64, 65, 100, 1000];
const SPLITS: [usize; 13] = [1, 2, 3, 5, 7, 8, 13, 16, 31, 32, 33, 63, 64];
const LONG: [usize; 8] = [1009, 2047, 2048, 2049, 4093, 4096, 8191, 8192];
const LOOKS: [(Look, f32); 12] = [
    (Look::Plain, 0.0),
    (Look::Plain, 40.0),
    (Look::Plain, 300.0),
    (Look::Rising, 4.0),
    (Look::Falling, 4.0),
    (Look::SameKeys, 4.0),
    (Look::Below, 4.0),
    (Look::OutlierQueries, 4.0),
    (Look::OutlierKeys, 4.0),
    (Look::OutlierValues, 4.0),
    (Look::TinyQueries, 4.0),
    (Look::TinyValues, 4.0),
];
/// Heads of the models: query heads, kv heads, head size.
const FAMILY: [(usize, usize, usize); 6] = [(14, 2, 64), (12, 2, 128), (16, 2, 128), (28, 4, 128), (40, 8, 128), (64, 8, 128)];
const KV: [Elem; 2] = [Elem::F32, Elem::F16];

pub(super) fn all(scale: Scale) -> Vec<Shape> {
    let mut shapes = every_variant();
    shapes.extend(contexts());
    shapes.extend(windows());
    shapes.extend(splits());
    shapes.extend(one_split());
    shapes.extend(looks());
    shapes.extend(batches());
    shapes.extend(long(scale));
    let coop: Vec<Shape> = shapes.iter().filter_map(Shape::on_matrix_units).collect();
    // shapes that differ in their splits alone are one
    let mut seen = HashSet::new();
    let in_one: Vec<Shape> = shapes
        .iter()
        .filter_map(Shape::in_one)
        .filter(|shape| seen.insert(shape.to_string()))
        .collect();
    shapes.extend(coop);
    shapes.extend(in_one);
    shapes
}

/// Each variant of both kernels: a batch of two sequences, a window, and a context that grows with the group.
fn every_variant() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for kv in KV {
        for head_dim in HEAD_DIMS {
            for group in 1..=MAX_GROUP as usize {
                let kernel = (kv, head_dim as usize, group);
                let n = 33 + 17 * group;
                shapes.push(Shape::new(kernel, Some(3), &[(0, 99, 1), (2, 40, 1)]));
                shapes.push(Shape::new(kernel, Some(2), &[(1, 129, 2)]).windowed(37).with_kv_heads(1));
                shapes.push(
                    Shape::new(kernel, Some(7), &[(1, n, 1)])
                        .looking(Look::Rising, 4.0)
                        .with_kv_heads(3),
                );
                shapes.push(Shape::new(kernel, None, &[(0, 0, 19), (1, 50, 18)]));
                shapes.push(Shape::new(kernel, None, &[(1, 3, 67)]).windowed(40).with_kv_heads(1));
                shapes.push(Shape::new(kernel, None, &[(2, n, 9)]).looking(Look::Rising, 4.0).with_kv_heads(3));
            }
        }
    }
    shapes
}

/// Whole prompts and single rows of every length.
fn contexts() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for kv in KV {
        for kernel in [(kv, 64, 7), (kv, 128, 8)] {
            for (i, n) in CONTEXTS.into_iter().enumerate() {
                shapes.push(Shape::new(kernel, Some([1, 4, 9, 64][i % 4]), &[(i % 3, n - 1, 1)]));
                let rows = if n <= 129 { n } else { 40 };
                shapes.push(Shape::new(kernel, None, &[(i % 3, n - rows, rows)]));
            }
        }
    }
    shapes
}

fn windows() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for kernel in [(Elem::F32, 64, 7), (Elem::F16, 128, 8)] {
        for window in WINDOWS {
            for n in [20, 65, 300] {
                shapes.push(Shape::new(kernel, Some(3), &[(1, n - 1, 1)]).windowed(window));
            }
            shapes.push(Shape::new(kernel, None, &[(2, 0, 150)]).windowed(window));
            shapes.push(Shape::new(kernel, None, &[(0, 77, 70), (1, 200, 5)]).windowed(window));
        }
    }
    for window in WINDOWS {
        let kernel = (Elem::F16, 64, 2);
        shapes.push(Shape::new(kernel, Some(5), &[(2, 299, 2)]).windowed(window));
        shapes.push(Shape::new(kernel, None, &[(1, 60, 90)]).windowed(window).with_kv_heads(3));
        // begins in either half of what attention_short takes at a time, and anywhere in a tile of attention_decode
        shapes.push(Shape::new((Elem::F32, 128, 8), Some(3), &[(0, 299, 1), (1, 275, 1), (2, 279, 1)]).windowed(window));
    }
    shapes
}

/// Every number of splits, many of them without a key.
fn splits() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for kernel in [(Elem::F32, 64, 7), (Elem::F16, 128, 8)] {
        for n_splits in SPLITS {
            let shape = Shape::new(kernel, Some(n_splits), &[(0, 0, 1), (1, 299, 1), (2, 150, 3)]);
            shapes.push(shape.clone());
            shapes.push(shape.windowed(70));
        }
    }
    for n_splits in [1, 6, 64] {
        let shape = Shape::new((Elem::F32, 64, 16), Some(n_splits), &[(1, 140, 1), (0, 31, 1)]);
        shapes.push(shape.clone());
        // scores far below zero: a split without keys that reports a maximum of zero takes all the weight
        shapes.push(shape.looking(Look::Below, 400.0));
    }
    shapes
}

/// No merge: contexts of several chunks of 128 keys, which add to each other under maxima that rise, fall or stay; windows that begin
/// anywhere in a chunk.
fn one_split() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for kernel in [
        (Elem::F32, 64, 7),
        (Elem::F16, 64, 2),
        (Elem::F16, 128, 7),
        (Elem::F16, 128, 16),
        (Elem::F16, 64, 16),
    ] {
        for n in [1, 64, 100, 128, 129, 192, 193, 257, 400] {
            let shape = Shape::new(kernel, Some(1), &[(1, n - 1, 1), (0, n, 2)]);
            shapes.push(shape.clone().looking(Look::Rising, 4.0));
            shapes.push(shape.clone().looking(Look::Falling, 4.0));
            shapes.push(shape.clone().looking(Look::Below, 40.0));
            shapes.extend([1, 17, 65, 130].map(|window| shape.clone().windowed(window)));
        }
    }
    shapes
}

/// Hard values.
fn looks() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for kv in KV {
        for kernel in [(kv, 64, 7), (kv, 128, 8), (kv, 64, 2)] {
            for (look, sharpness) in LOOKS {
                if look == Look::TinyValues && kv == Elem::F16 {
                    continue; // all zero there
                }
                let split = Shape::new(kernel, Some(6), &[(0, 250, 2), (1, 31, 1)]);
                let whole = Shape::new(kernel, Some(1), &[(1, 250, 1)]);
                let tiled = Shape::new(kernel, None, &[(1, 190, 40)]);
                shapes.extend([split, whole, tiled].map(|shape| shape.looking(look, sharpness)));
            }
        }
    }
    // scores so far below zero that a maximum of zero, from anywhere but a key, leaves nothing of them
    shapes.push(Shape::new((Elem::F32, 64, 7), None, &[(1, 190, 40)]).looking(Look::Below, 400.0));
    shapes
}

/// Many sequences in one batch, tiles cut short by each.
fn batches() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for kernel in [(Elem::F32, 64, 7), (Elem::F32, 128, 8), (Elem::F16, 64, 2), (Elem::F32, 64, 1)] {
        let tiled = [(0, 0, 1), (1, 70, 2), (2, 5, 9), (3, 64, 64), (4, 31, 1)];
        let split = [(4, 0, 1), (3, 64, 1), (2, 255, 2), (1, 31, 3), (0, 32, 1)];
        shapes.push(Shape::new(kernel, None, &tiled).with_kv_heads(3));
        shapes.push(Shape::new(kernel, None, &tiled).windowed(33));
        shapes.push(Shape::new(kernel, Some(5), &split).with_kv_heads(3));
        shapes.push(Shape::new(kernel, Some(8), &[(0, 280, 8)]));
        // eight rows of as many sequences, as a server decodes them
        let each: Vec<(usize, usize, usize)> = (0..8).map(|i| (7 - i, 37 * i, 1)).collect();
        shapes.push(Shape::new(kernel, Some(4), &each));
        shapes.push(Shape::new(kernel, None, &each));
    }
    shapes
}

/// The family's heads at long contexts: a step of decoding and a chunk of a prompt; for CPU drivers one kv head and few rows.
fn long(scale: Scale) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (i, (n_heads, n_kv_heads, head_dim)) in FAMILY.into_iter().enumerate() {
        for (j, n_keys) in LONG.into_iter().enumerate() {
            let (kv_heads, rows) = match scale {
                Scale::Cut => (1, 13),
                Scale::Real => (n_kv_heads, 512),
            };
            let kernel = (KV[(i + j) % 2], head_dim, n_heads / n_kv_heads);
            let n_splits = [16, 33, 64][j % 3];
            let look = [Look::Plain, Look::Rising, Look::Falling][(i + j) % 3];
            let split = Shape::new(kernel, Some(n_splits), &[(1, n_keys - 1, 1)]);
            let tiled = Shape::new(kernel, None, &[(1, n_keys - rows, rows)]);
            shapes.extend([split, tiled].map(|shape| shape.looking(look, 4.0).with_kv_heads(kv_heads)));
        }
    }
    shapes
}
