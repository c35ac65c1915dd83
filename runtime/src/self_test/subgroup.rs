//! `probe_subgroup.wgsl`: what goes in, and what must come out, whatever the size of a subgroup.

use std::collections::BTreeMap;

use super::{Params, Verdict};
use crate::{Elem, Gpu, Pass, Result, Tensor, pipeline::Access, pipeline::Pipeline};

pub(super) const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];

/// Workgroups.
const GROUPS: usize = 3;
/// Words of the WGSL's `Seen`.
const SEEN: usize = 6;

/// What one invocation reports.
#[derive(Clone, Copy, Debug)]
struct Seen {
    lane: u32,
    subgroup: u32,
    n_subgroups: u32,
    least: u32,
    sum: f32,
    most: f32,
}

impl Seen {
    const fn new(words: &[u32]) -> Self {
        Self {
            lane: words[0],
            subgroup: words[1],
            n_subgroups: words[2],
            least: words[3],
            sum: f32::from_bits(words[4]),
            most: f32::from_bits(words[5]),
        }
    }
}

pub(super) fn run(gpu: &Gpu, pipeline: &Pipeline, workgroup: usize) -> Result<Verdict> {
    let n = GROUPS * workgroup;
    let (values, ids): (Vec<f32>, Vec<u32>) = (0..n).map(|i| (value(i, workgroup), id(i))).unzip();
    let values_in = Tensor::from_f32(gpu, "probe values", 1, n, &values)?;
    let ids_in = Tensor::from_u32(gpu, "probe ids", 1, n, &ids)?;
    let seen = Tensor::new(gpu, "probe seen", n, SEEN, Elem::U32)?;
    let mut pass = Pass::new(gpu);
    let buffers = [&*values_in.buffer, &*ids_in.buffer, &*seen.buffer];
    pass.dispatch(pipeline, &buffers, &Params { n: n as u32 }, [GROUPS as u32, 1, 1]);
    pass.submit();

    let seen: Vec<Seen> = seen.read_u32(gpu)?.chunks_exact(SEEN).map(Seen::new).collect();
    let groups = seen.chunks(workgroup).zip(values.chunks(workgroup)).zip(ids.chunks(workgroup));
    let faults = groups.map(|((seen, values), ids)| fault(seen, values, ids));
    let fault = faults.enumerate().find_map(|(group, fault)| Some((group, fault?)));
    Ok(
        fault.map_or(Verdict::Right { n_values: SEEN * n }, |(group, fault)| Verdict::Wrong {
            what: format!("in workgroup {group} of {workgroup} invocations {fault}"),
        }),
    )
}

/// Whole numbers, so that sums are exact; the last workgroup has negative ones alone, which a maximum that starts at 0 would miss.
fn value(i: usize, workgroup: usize) -> f32 {
    let x = ((i * 2_654_435_761) % 8191) as f32;
    if i >= (GROUPS - 1) * workgroup { -1.0 - x } else { x - 4000.0 }
}

/// On both sides of where a signed comparison would turn.
fn id(i: usize) -> u32 {
    (i as u32 + 1).wrapping_mul(0x9e37_79b9)
}

/// What is wrong in one workgroup, if anything.
fn fault(seen: &[Seen], values: &[f32], ids: &[u32]) -> Option<String> {
    let n_subgroups = seen[0].n_subgroups;
    let mut members: BTreeMap<u32, BTreeMap<u32, usize>> = BTreeMap::new();
    for (i, one) in seen.iter().enumerate() {
        if one.n_subgroups != n_subgroups || one.subgroup >= n_subgroups {
            return Some(format!(
                "subgroup {} is one of {}, and others see {n_subgroups}",
                one.subgroup, one.n_subgroups
            ));
        }
        if members.entry(one.subgroup).or_default().insert(one.lane, i).is_some() {
            return Some(format!("two invocations are lane {} of subgroup {}", one.lane, one.subgroup));
        }
    }
    // kernels have a place for the result of each subgroup of 4 lanes, and lane 0 fills it
    if members.len() != n_subgroups as usize || members.len() > seen.len() / 4 {
        return Some(format!("{} of {n_subgroups} subgroups have members", members.len()));
    }
    members.into_iter().find_map(|(subgroup, lanes)| {
        if !lanes.contains_key(&0) {
            return Some(format!("subgroup {subgroup} has no lane 0"));
        }
        let indices = || lanes.values().copied();
        let sum: f32 = indices().map(|i| values[i]).sum();
        let most = indices().map(|i| values[i]).fold(f32::NEG_INFINITY, f32::max);
        let least = indices().map(|i| ids[i]).min()?;
        indices().map(|i| seen[i]).find_map(|one| {
            let wrong = |what: &str, got: String, expected: String| {
                Some(format!("the {what} over subgroup {subgroup} is {got} instead of {expected}"))
            };
            match one {
                one if one.sum != sum => wrong("sum", one.sum.to_string(), sum.to_string()),
                one if one.most != most => wrong("maximum", one.most.to_string(), most.to_string()),
                one if one.least != least => wrong("minimum", one.least.to_string(), least.to_string()),
                _ => None,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an honest adapter reports for workgroups of 64, with subgroups of `size`.
    fn honest(size: usize) -> (Vec<Seen>, Vec<f32>, Vec<u32>) {
        let (values, ids): (Vec<f32>, Vec<u32>) = (0..64).map(|i| (value(i, 64), id(i))).unzip();
        let one = |i: usize| {
            let range = i / size * size..(i / size + 1) * size;
            Seen {
                lane: (i % size) as u32,
                subgroup: (i / size) as u32,
                n_subgroups: (64 / size) as u32,
                least: *ids[range.clone()].iter().min().unwrap(),
                sum: values[range.clone()].iter().sum(),
                most: values[range].iter().copied().fold(f32::NEG_INFINITY, f32::max),
            }
        };
        ((0..64).map(one).collect(), values, ids)
    }

    #[test]
    fn honest_adapters_of_any_size_pass() {
        for size in [4, 8, 16, 32, 64] {
            let (seen, values, ids) = honest(size);
            assert_eq!(fault(&seen, &values, &ids), None, "{size}");
        }
    }

    #[test]
    fn every_lie_is_told() {
        let lie = |word: &str, change: &dyn Fn(&mut Seen)| {
            let (mut seen, values, ids) = honest(8);
            change(&mut seen[37]);
            let fault = fault(&seen, &values, &ids).unwrap_or_default();
            assert!(fault.contains(word), "{word}: {fault}");
        };
        lie("sum", &|one| one.sum += 1.0);
        lie("maximum", &|one| one.most = 5000.0);
        lie("minimum", &|one| one.least = 0);
        lie("two invocations", &|one| one.lane = 0);
        lie("others see", &|one| one.n_subgroups = 9);
        lie("others see", &|one| one.subgroup = 8);
        let (seen, values, ids) = honest(2);
        assert!(fault(&seen, &values, &ids).is_some(), "subgroups below 4 lanes have no room");
    }
}
