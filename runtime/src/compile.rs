//! Compiling many pipelines at once: they are collected first, and then shared out among threads.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use qwgpu_shaders::Variant;

use crate::{Gpu, Result, pipeline::Pipeline};

/// Threads at most: drivers take locks, and more of them wait than work.
const MAX_THREADS: usize = 8;

thread_local! {
    /// What this thread has asked for and is not compiled yet, while it collects.
    static COLLECTED: RefCell<Option<Vec<Arc<Pipeline>>>> = const { RefCell::new(None) };
}

/// A pipeline that [`Gpu::compile_together`] will compile, if this thread is in its `make`.
pub(crate) fn collect(variant: Variant) -> Option<Arc<Pipeline>> {
    COLLECTED.with_borrow_mut(|collected| {
        let collected = collected.as_mut()?;
        if let Some(pipeline) = collected.iter().find(|pipeline| pipeline.variant == variant) {
            return Some(pipeline.clone());
        }
        collected.push(Arc::new(Pipeline::declared(variant)));
        collected.last().cloned()
    })
}

impl Gpu {
    /// Runs `make`, and compiles all pipelines that it has asked for together. None may be dispatched before this returns.
    ///
    /// # Errors
    /// The first error of `make` or of a shader.
    pub(crate) fn compile_together<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        COLLECTED.set(Some(Vec::new()));
        let made = make();
        let pipelines = COLLECTED.take().unwrap_or_default();
        let made = made?;
        let started = Instant::now();
        compile(self, &pipelines)?;
        self.compiled_together(pipelines, started.elapsed());
        Ok(made)
    }
}

/// Each thread takes the next one until none is left.
fn compile(gpu: &Gpu, pipelines: &[Arc<Pipeline>]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(pipeline) = pipelines.get(next.fetch_add(1, Ordering::Relaxed)) {
            pipeline.compile(gpu)?;
        }
        Ok(())
    };
    // wgpu's GL backend has one context, and panics where threads wait for it too long
    let n_threads = if gpu.info().backend == "gl" {
        1
    } else {
        thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..n_threads.min(pipelines.len())).map(|_| scope.spawn(work)).collect();
        let mine = work();
        let joined = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.fold(mine, Result::and)
    })
}
