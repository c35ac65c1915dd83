//! An open device: the one place that owns wgpu's device and queue.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use qwgpu_shaders::{Sources, Variant};

use crate::{
    AdapterInfo, Caps, Error, GpuOptions, Result, Submission,
    adapter::choose,
    buffer::{Buffer, DeadBuffers},
    compile::collect,
    counts::{Counters, Counts, count},
    pipeline::{BindKey, Pipeline},
    pipeline_cache::PipelineCache,
    self_test::{self, Distrust},
    upload::{Convert, Ring},
};

/// Workgroup memory that the kernels are written for. Every desktop API grants it.
const WORKGROUP_MEMORY: u32 = 32 << 10;
/// Bytes of immediates that the largest `Params` may take.
pub(crate) const MAX_PARAMS: u32 = 64;
/// WebGPU's alignment of bindings; no adapter asks for more.
const MAX_ALIGNMENT: u64 = 256;

/// Pipelines compiled for models, and the time that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// How many.
    pub n_pipelines: usize,
    /// From the first to the last, on all threads.
    pub time: Duration,
}

/// An open device with everything that kernels share: pipelines, bind groups, the first error.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) sources: Sources,
    pub(crate) checked: bool,
    pub(crate) info: AdapterInfo,
    pub(crate) distrusted: Vec<Distrust>,
    pub(crate) pipeline_cache: Option<PipelineCache>,
    pipelines: Mutex<HashMap<Variant, Arc<Pipeline>>>,
    compiled: Mutex<Compiled>,
    uploads: Mutex<Ring>,
    bind_groups: Mutex<HashMap<BindKey, wgpu::BindGroup>>,
    dead: Arc<DeadBuffers>,
    failure: Arc<Mutex<Option<Error>>>,
    next_buffer: AtomicU64,
    allocated: Arc<AtomicU64>,
    pub(crate) counters: Counters,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("adapter", &self.info.label()).finish_non_exhaustive()
    }
}

/// A poisoned lock only says that another thread panicked while inserting; the maps stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Opens the adapter that `options` choose, with every limit it has, and without the optional paths that it gets wrong.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], [`Error::UnknownAdapter`], [`Error::LimitExceeded`] or [`Error::MissingFeature`] for an adapter that is
    /// too small, [`Error::Device`] when the driver refuses.
    pub fn open(options: &GpuOptions) -> Result<Arc<Self>> {
        let (adapter, info) = choose(options)?;
        require(&adapter, &info)?;
        let start = |info| Self::start(&adapter, info, options);
        let gpu = start(info)?;
        Ok(Arc::new(if options.self_test {
            self_test::settle(gpu, options, start)?
        } else {
            gpu
        }))
    }

    /// A device of `adapter` with the capabilities that `info` has left.
    fn start(adapter: &wgpu::Adapter, info: AdapterInfo, options: &GpuOptions) -> Result<Self> {
        let mut features = wgpu::Features::IMMEDIATES;
        features.set(wgpu::Features::SHADER_F16, info.caps.f16);
        features.set(wgpu::Features::SUBGROUP, info.caps.subgroup);
        features.set(wgpu::Features::TIMESTAMP_QUERY, info.caps.timestamps);
        features.set(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, !info.caps.coop.is_empty());
        // kernels that are being worked on, or broken on purpose, are not worth keeping
        let keeps = options.pipeline_cache && options.sources.is_embedded();
        let offers = adapter.features().contains(wgpu::Features::PIPELINE_CACHE);
        features.set(wgpu::Features::PIPELINE_CACHE, keeps && offers);
        let experimental_features = if info.caps.coop.is_empty() {
            wgpu::ExperimentalFeatures::disabled()
        } else {
            // SAFETY: cooperative matrices are the one experimental feature that is asked for. Its kernels keep to the shapes that
            // the adapter lists and to memory that the host has sized, and the suite compares them with plain loops.
            unsafe { wgpu::ExperimentalFeatures::enabled() }
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("qwgpu"),
            required_features: features,
            required_limits: adapter.limits(),
            experimental_features,
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| Error::Device {
            adapter: info.label(),
            reason: error.to_string(),
        })?;
        let failure = Arc::new(Mutex::new(None));
        watch(&device, &failure);
        let pipeline_cache = PipelineCache::open(&device, &adapter.get_info());
        Ok(Self {
            device,
            queue,
            sources: options.sources.clone(),
            checked: options.checked,
            info,
            distrusted: Vec::new(),
            pipeline_cache,
            pipelines: Mutex::default(),
            compiled: Mutex::default(),
            uploads: Mutex::default(),
            bind_groups: Mutex::default(),
            dead: Arc::default(),
            failure,
            next_buffer: AtomicU64::new(0),
            allocated: Arc::default(),
            counters: Counters::default(),
        })
    }

    /// The adapter that runs.
    #[must_use]
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// What kernels may use.
    #[must_use]
    pub fn caps(&self) -> &Caps {
        &self.info.caps
    }

    /// Bytes of all buffers that are alive.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// What the device has been asked for so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// A new zeroed buffer of `bytes`, rounded up to 16, for storage and copies.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] beyond the largest buffer or binding, [`Error::OutOfMemory`] when the driver has no room.
    pub(crate) fn buffer(&self, label: &str, bytes: u64) -> Result<Arc<Buffer>> {
        Ok(self.buffers(label, bytes, 1)?.remove(0))
    }

    /// `n` such buffers that share their memory's allocation, and so count as one for wgpu: passes that write one after the other
    /// wait in between.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub(crate) fn buffers(&self, label: &str, bytes: u64, n: u64) -> Result<Vec<Arc<Buffer>>> {
        let bytes = bytes.max(16).next_multiple_of(16);
        let stride = bytes.next_multiple_of(MAX_ALIGNMENT);
        let total = stride * (n - 1) + bytes;
        let caps = self.caps();
        for (limit, needed, have) in [("one buffer", total, caps.max_buffer), ("one binding", bytes, caps.max_binding)] {
            if needed > have {
                return Err(Error::LimitExceeded {
                    what: label.into(),
                    limit: format!("bytes in {limit}"),
                    needed,
                    have,
                    adapter: self.info.name.clone(),
                    advice: "use a smaller --ctx, a smaller -b or another adapter".into(),
                });
            }
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let raw = self.guarded_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: total,
            usage,
            mapped_at_creation: false,
        })?;
        self.allocated.fetch_add(n * bytes, Ordering::Relaxed);
        let part = |i| {
            Arc::new(Buffer {
                raw: raw.clone(),
                id: self.next_buffer.fetch_add(1, Ordering::Relaxed),
                offset: i * stride,
                bytes,
                dead: self.dead.clone(),
                allocated: self.allocated.clone(),
            })
        };
        Ok((0..n).map(part).collect())
    }

    /// `create_buffer` with wgpu's out-of-memory and validation errors as [`Error::OutOfMemory`].
    pub(crate) fn guarded_buffer(&self, descriptor: &wgpu::BufferDescriptor<'_>) -> Result<wgpu::Buffer> {
        count(&self.counters.buffers);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let raw = self.device.create_buffer(descriptor);
        let invalid = pollster::block_on(validation.pop());
        let no_room = pollster::block_on(memory.pop());
        if no_room.is_some() || invalid.is_some() {
            return Err(Error::OutOfMemory {
                what: descriptor.label.unwrap_or("a buffer").into(),
                bytes: descriptor.size,
            });
        }
        Ok(raw)
    }

    /// The pipeline of a variant, compiled on first use.
    ///
    /// # Errors
    /// [`Error::Shader`] when the text or the driver's compiler fails, [`Error::ShaderFile`] with `QWGPU_SHADERS`.
    pub(crate) fn pipeline(&self, variant: Variant) -> Result<Arc<Pipeline>> {
        if let Some(pipeline) = lock(&self.pipelines).get(&variant) {
            return Ok(pipeline.clone());
        }
        if let Some(pipeline) = collect(variant) {
            return Ok(pipeline);
        }
        count(&self.counters.pipelines);
        let pipeline = Arc::new(Pipeline::new(self, variant)?);
        Ok(lock(&self.pipelines).entry(variant).or_insert(pipeline).clone())
    }

    /// Adds pipelines that were compiled together, and keeps what the driver has made of them.
    pub(crate) fn compiled_together(&self, pipelines: Vec<Arc<Pipeline>>, time: Duration) {
        if pipelines.is_empty() {
            return;
        }
        let mut compiled = lock(&self.compiled);
        compiled.n_pipelines += pipelines.len();
        compiled.time += time;
        let mut all = lock(&self.pipelines);
        for pipeline in pipelines {
            all.entry(pipeline.variant).or_insert(pipeline);
        }
        if let Some(cache) = &self.pipeline_cache {
            cache.save();
        }
    }

    /// Pipelines compiled for models so far.
    #[must_use]
    pub fn compiled(&self) -> Compiled {
        *lock(&self.compiled)
    }

    /// Writes much at once, see [`Ring::write`].
    pub(crate) fn upload(&self, buffer: &Buffer, offset: u64, source: &[u8], convert: Option<Convert<'_>>) -> Result<()> {
        lock(&self.uploads).write(self, buffer, offset, source, convert)
    }

    /// Gives back the staging memory of uploads.
    pub(crate) fn drop_uploads(&self) {
        *lock(&self.uploads) = Ring::default();
    }

    /// The variants that passes have dispatched so far: what a test run has covered.
    #[must_use]
    pub fn dispatched(&self) -> Vec<Variant> {
        let pipelines = lock(&self.pipelines);
        let dispatched = pipelines.iter().filter(|(_, pipeline)| pipeline.dispatched.load(Ordering::Relaxed));
        dispatched.map(|(variant, _)| *variant).collect()
    }

    /// Drops every pipeline: the self-test leaves no trace in what is counted.
    pub(crate) fn forget_pipelines(&self) {
        lock(&self.bind_groups).clear();
        lock(&self.pipelines).clear();
    }

    /// Pipelines compiled so far.
    #[must_use]
    pub fn n_pipelines(&self) -> usize {
        lock(&self.pipelines).len()
    }

    /// The bind group of a pipeline over these buffers, made on first use and kept until one of the buffers is dropped.
    pub(crate) fn bind_group(&self, pipeline: &Pipeline, buffers: &[&Buffer]) -> wgpu::BindGroup {
        let key = BindKey::new(pipeline, buffers);
        let mut groups = lock(&self.bind_groups);
        let dead = self.dead.take();
        if !dead.is_empty() {
            groups.retain(|key, _| !key.uses_any(&dead));
        }
        let bind = || {
            count(&self.counters.bind_groups);
            pipeline.bind(&self.device, buffers)
        };
        groups.entry(key).or_insert_with(bind).clone()
    }

    /// Waits until everything submitted has run.
    ///
    /// # Errors
    /// The first error that the device has reported, if any.
    pub fn wait(&self) -> Result<()> {
        let polled = self.device.poll(wgpu::PollType::wait_indefinitely());
        self.check()?;
        polled.map(|_| ()).map_err(|error| Error::DeviceLost { reason: error.to_string() })
    }

    /// Waits until that pass has run; later ones may still be running.
    pub(crate) fn wait_for(&self, submission: &Submission) -> Result<()> {
        let polled = self.device.poll(wgpu::PollType::Wait {
            submission_index: Some(submission.0.clone()),
            timeout: None,
        });
        self.check()?;
        polled.map(|_| ()).map_err(|error| Error::DeviceLost { reason: error.to_string() })
    }

    /// The first error that the device has reported since it was opened, once.
    pub(crate) fn check(&self) -> Result<()> {
        lock(&self.failure).take().map_or(Ok(()), Err)
    }
}

/// Fails where an adapter is below what the kernels are written for.
fn require(adapter: &wgpu::Adapter, info: &AdapterInfo) -> Result<()> {
    if !adapter.features().contains(wgpu::Features::IMMEDIATES) {
        return Err(Error::MissingFeature {
            adapter: info.label(),
            feature: "immediates (push constants)".into(),
            needed_by: "every kernel".into(),
        });
    }
    let caps = &info.caps;
    let needs = [
        (
            "bytes of workgroup memory",
            u64::from(WORKGROUP_MEMORY),
            u64::from(caps.workgroup_memory),
        ),
        ("invocations in a workgroup", 256, u64::from(caps.max_invocations)),
        ("storage buffers in a kernel", 8, u64::from(caps.max_storage_buffers)),
        ("bytes of immediates", u64::from(MAX_PARAMS), u64::from(caps.max_immediates)),
    ];
    for (limit, needed, have) in needs {
        if have < needed {
            return Err(Error::LimitExceeded {
                what: "qwgpu".into(),
                limit: limit.into(),
                needed,
                have,
                adapter: info.label(),
                advice: "choose another with --adapter".into(),
            });
        }
    }
    Ok(())
}

/// Keeps the first error that arrives outside an error scope, instead of wgpu's default of a panic.
fn watch(device: &wgpu::Device, failure: &Arc<Mutex<Option<Error>>>) {
    let store = failure.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        log::error!("{error}");
        lock(&store).get_or_insert(match error {
            wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory {
                what: "a command".into(),
                bytes: 0,
            },
            other => Error::DeviceLost { reason: other.to_string() },
        });
    }));
    let store = failure.clone();
    device.set_device_lost_callback(move |reason, message| {
        if reason != wgpu::DeviceLostReason::Destroyed {
            lock(&store).get_or_insert(Error::DeviceLost { reason: message });
        }
    });
}
