//! GPU buffers with an identity, so that bind groups can be cached by it and dropped with it.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Ids of buffers that were dropped and may still be named by cached bind groups.
#[derive(Debug, Default)]
pub(crate) struct DeadBuffers(Mutex<HashSet<u64>>);

impl DeadBuffers {
    fn add(&self, id: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    pub(crate) fn take(&self) -> HashSet<u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A storage buffer, or a stretch of one that others share.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) raw: wgpu::Buffer,
    pub(crate) id: u64,
    /// Where it begins in `raw`.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) dead: Arc<DeadBuffers>,
    pub(crate) allocated: Arc<AtomicU64>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.dead.add(self.id);
        self.allocated.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
