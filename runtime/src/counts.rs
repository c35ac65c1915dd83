//! What a device has been asked for so far: tests read it before and after, and so see what a step costs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the device was opened; none of them ever falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Buffers allocated, those for reading back included.
    pub buffers: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
    /// Bind groups made.
    pub bind_groups: u64,
    /// Writes from the host, each of which takes staging memory.
    pub uploads: u64,
    /// Dispatches recorded.
    pub dispatches: u64,
}

/// The totals as they grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) buffers: AtomicU64,
    pub(crate) pipelines: AtomicU64,
    pub(crate) bind_groups: AtomicU64,
    pub(crate) uploads: AtomicU64,
    pub(crate) dispatches: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Counts {
        let [buffers, pipelines, bind_groups, uploads, dispatches] =
            [&self.buffers, &self.pipelines, &self.bind_groups, &self.uploads, &self.dispatches]
                .map(|counter| counter.load(Ordering::Relaxed));
        Counts {
            buffers,
            pipelines,
            bind_groups,
            uploads,
            dispatches,
        }
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
