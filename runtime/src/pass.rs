//! Recording dispatches, copies and timestamps, and submitting them.

use std::sync::{Arc, atomic::Ordering};

use bytemuck::NoUninit;

use crate::{Error, Gpu, Result, buffer::Buffer, counts::count, pipeline::Pipeline, tensor::Tensor, transfer::Staging};

/// Timestamps that one query set can hold (WebGPU's limit), two for each dispatch.
const MAX_QUERIES: u32 = 4096;

/// One stretch of GPU work: dispatches run in order, each seeing what the ones before have written.
///
/// Nothing runs before [`Pass::submit`].
#[derive(Debug)]
pub struct Pass<'g> {
    gpu: &'g Gpu,
    encoder: wgpu::CommandEncoder,
    compute: Option<wgpu::ComputePass<'static>>,
    n_dispatches: usize,
    timer: Option<Timer>,
    taps: Option<Taps>,
    work: u64,
}

/// What a tapped pass keeps, and of which layers.
#[derive(Debug)]
struct Taps {
    layers: Option<Vec<usize>>,
    kept: Vec<Tap>,
}

#[derive(Debug)]
struct Timer {
    queries: wgpu::QuerySet,
    labels: Vec<&'static str>,
    /// One pair of timestamps around everything, instead of one for each dispatch.
    whole: bool,
}

/// A copy of a tensor as it was at one point of a pass; see [`Pass::tap`].
#[derive(Clone, Debug)]
pub struct Tap {
    /// Layer it belongs to; the number of layers for what comes after them.
    pub layer: usize,
    /// What it is.
    pub name: &'static str,
    /// The copy.
    pub tensor: Tensor,
}

/// A pass that was handed to the GPU.
#[derive(Clone, Debug)]
pub struct Submission(pub(crate) wgpu::SubmissionIndex);

/// GPU time of one dispatch.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The kernel's stem.
    pub kernel: &'static str,
    /// Time in nanoseconds, start of the dispatch to its end.
    pub ns: f64,
}

impl<'g> Pass<'g> {
    /// An empty pass.
    #[must_use]
    pub fn new(gpu: &'g Gpu) -> Self {
        let encoder = gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("pass") });
        Self {
            gpu,
            encoder,
            compute: None,
            n_dispatches: 0,
            timer: None,
            taps: None,
            work: 0,
        }
    }

    /// A pass that times each dispatch, at the price of a gap between them. Beyond 2,048 dispatches it stops timing.
    ///
    /// # Errors
    /// [`Error::MissingFeature`] where the adapter has no timestamps.
    pub fn timed(gpu: &'g Gpu) -> Result<Self> {
        Self::with_timer(gpu, false)
    }

    fn with_timer(gpu: &'g Gpu, whole: bool) -> Result<Self> {
        if !gpu.caps().timestamps {
            return Err(Error::MissingFeature {
                adapter: gpu.info().label(),
                feature: "GPU timestamps".into(),
                needed_by: "per-kernel timing".into(),
            });
        }
        let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timer"),
            ty: wgpu::QueryType::Timestamp,
            count: if whole { 2 } else { MAX_QUERIES },
        });
        Ok(Self {
            timer: Some(Timer {
                queries,
                labels: Vec::new(),
                whole,
            }),
            ..Self::new(gpu)
        })
    }

    /// A pass that times all of its dispatches together, back to back: [`Pass::submit_timed`] then gives one [`Timing`], named after
    /// the first.
    ///
    /// # Errors
    /// As [`Pass::timed`].
    pub fn timed_as_a_whole(gpu: &'g Gpu) -> Result<Self> {
        Self::with_timer(gpu, true)
    }

    /// A pass that keeps a copy of every tensor that is tapped, of these layers or of all.
    #[must_use]
    pub fn tapped(gpu: &'g Gpu, layers: Option<&[usize]>) -> Self {
        Self {
            taps: Some(Taps {
                layers: layers.map(<[usize]>::to_vec),
                kept: Vec::new(),
            }),
            ..Self::new(gpu)
        }
    }

    /// The device that the pass will run on.
    #[must_use]
    pub const fn gpu(&self) -> &'g Gpu {
        self.gpu
    }

    /// Dispatches recorded so far.
    #[must_use]
    pub const fn n_dispatches(&self) -> usize {
        self.n_dispatches
    }

    /// Records one dispatch of `grid` workgroups; an empty grid records nothing.
    pub(crate) fn dispatch(&mut self, pipeline: &Pipeline, buffers: &[&Buffer], params: &impl NoUninit, grid: [u32; 3]) {
        if grid.contains(&0) {
            return;
        }
        let max = self.gpu.caps().max_workgroups;
        assert!(
            grid.iter().all(|&n| n <= max),
            "{}: {grid:?} workgroups, the adapter allows {max}",
            pipeline.variant.stem()
        );
        let group = self.gpu.bind_group(pipeline, buffers);
        pipeline.dispatched.store(true, Ordering::Relaxed);
        if self.timer.is_some() {
            self.begin_timed(pipeline.variant.stem());
        }
        let compute = self.compute.get_or_insert_with(|| {
            self.encoder
                .begin_compute_pass(&wgpu::ComputePassDescriptor::default())
                .forget_lifetime()
        });
        compute.set_pipeline(pipeline.raw());
        compute.set_bind_group(0, &group, &[]);
        compute.set_immediates(0, bytemuck::bytes_of(params));
        compute.dispatch_workgroups(grid[0], grid[1], grid[2]);
        self.n_dispatches += 1;
        count(&self.gpu.counters.dispatches);
    }

    /// Starts a compute pass with timestamps around it: the one form that every backend offers.
    fn begin_timed(&mut self, label: &'static str) {
        let Some(timer) = &mut self.timer else { return };
        let first = 2 * timer.labels.len() as u32;
        if first + 2 > MAX_QUERIES || timer.whole && first > 0 {
            return;
        }
        timer.labels.push(label);
        self.compute = None;
        let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
            query_set: &timer.queries,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        });
        let descriptor = wgpu::ComputePassDescriptor {
            label: Some(label),
            timestamp_writes,
        };
        self.compute = Some(self.encoder.begin_compute_pass(&descriptor).forget_lifetime());
    }

    /// Whether [`Pass::tap`] keeps anything of this layer.
    #[must_use]
    pub fn taps(&self, layer: usize) -> bool {
        let wanted = |taps: &Taps| taps.layers.as_ref().is_none_or(|layers| layers.contains(&layer));
        self.taps.as_ref().is_some_and(wanted)
    }

    /// Keeps a copy of `tensor` as it is now, if this is a [`Pass::tapped`] one; otherwise does nothing.
    ///
    /// # Errors
    /// When there is no memory for the copy.
    pub fn tap(&mut self, layer: usize, name: &'static str, tensor: &Tensor) -> Result<()> {
        if !self.taps(layer) {
            return Ok(());
        }
        let copy = Tensor::new(self.gpu, name, tensor.rows(), tensor.cols(), tensor.elem())?;
        self.compute = None;
        let bytes = tensor.bytes().next_multiple_of(4);
        self.encoder
            .copy_buffer_to_buffer(&tensor.buffer.raw, tensor.buffer.offset, &copy.buffer.raw, 0, bytes);
        if let Some(taps) = &mut self.taps {
            taps.kept.push(Tap { layer, name, tensor: copy });
        }
        Ok(())
    }

    /// Copies a tensor to the host side, to be fetched by [`Staging::wait`] after the pass was submitted.
    ///
    /// # Panics
    /// When it does not fit.
    #[track_caller]
    pub fn copy_out(&mut self, tensor: &Tensor, staging: &Staging) {
        let bytes = tensor.bytes().next_multiple_of(4);
        assert!(bytes <= staging.bytes, "copy_out: {bytes} bytes into {}", staging.bytes);
        self.compute = None;
        let (raw, offset) = (&tensor.buffer.raw, tensor.buffer.offset);
        self.encoder.copy_buffer_to_buffer(raw, offset, &staging.raw, 0, bytes);
    }

    /// Counts `flops` recorded since the last call, and submits what there is once that could hold a slow GPU for long.
    ///
    /// Systems reset a GPU that works on one submission for two seconds. The bound is a fifth of a second at 1 TFLOP/s, an
    /// integrated GPU's speed.
    pub fn work(&mut self, flops: u64) {
        const SUBMISSION: u64 = 200_000_000_000;
        self.work += flops;
        if self.work < SUBMISSION {
            return;
        }
        self.work = 0;
        self.compute = None;
        let next = self
            .gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("pass") });
        self.gpu.queue.submit([std::mem::replace(&mut self.encoder, next).finish()]);
    }

    /// Hands the work to the GPU without waiting, and gives the taps.
    pub fn submit(mut self) -> Vec<Tap> {
        self.compute = None;
        self.gpu.queue.submit([self.encoder.finish()]);
        self.taps.map(|taps| taps.kept).unwrap_or_default()
    }

    /// Hands the work to the GPU without waiting, and gives what [`Staging::wait_for`] waits for.
    pub fn submit_numbered(mut self) -> Submission {
        self.compute = None;
        Submission(self.gpu.queue.submit([self.encoder.finish()]))
    }

    /// Hands the work to the GPU, waits, and gives the time of each dispatch, in order.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Panics
    /// When this is not a [`Pass::timed`] one.
    pub fn submit_timed(mut self) -> Result<Vec<Timing>> {
        self.compute = None;
        let timer = self.timer.take().expect("submit_timed needs Pass::timed");
        let n = 2 * timer.labels.len() as u32;
        if n == 0 {
            self.submit();
            return Ok(Vec::new());
        }
        let gpu = self.gpu;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let descriptor = wgpu::BufferDescriptor {
            label: Some("timestamps"),
            size: u64::from(n) * 8,
            usage,
            mapped_at_creation: false,
        };
        let resolved = gpu.guarded_buffer(&descriptor)?;
        let staging = Staging::new(gpu, u64::from(n) * 8)?;
        self.encoder.resolve_query_set(&timer.queries, 0..n, &resolved, 0);
        self.encoder.copy_buffer_to_buffer(&resolved, 0, &staging.raw, 0, u64::from(n) * 8);
        self.submit();
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&staging.wait(gpu, u64::from(n) * 8)?);
        let period = f64::from(gpu.queue.get_timestamp_period());
        let timing = |(kernel, pair): (&'static str, &[u64])| Timing {
            kernel,
            ns: pair[1].saturating_sub(pair[0]) as f64 * period,
        };
        Ok(timer.labels.into_iter().zip(ticks.chunks_exact(2)).map(timing).collect())
    }
}

impl Gpu {
    /// Makes sure that uploads so far have left the staging memory, and gives that back.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn flush_uploads(self: &Arc<Self>) -> Result<()> {
        self.queue.submit([]);
        self.wait()?;
        self.drop_uploads();
        Ok(())
    }
}
