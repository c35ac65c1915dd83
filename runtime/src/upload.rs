//! Large writes to the GPU: a ring of mapped staging buffers, each filled by several threads while the GPU copies earlier ones.
//!
//! One thread copies at a half to a third of what PCIe carries, and a file that is mapped into memory is read from disk as it is
//! touched, so that both gain from several. The ring bounds what a load keeps in memory, and is kept until uploads are flushed.

use std::{collections::VecDeque, sync::mpsc, thread, time::Duration};

use crate::{Error, Gpu, Result, Submission, buffer::Buffer};

/// Bytes of one staging buffer: long enough a copy that starting threads for it does not show.
const SLOT: usize = 32 << 20;

/// Staging buffers: one is filled, the others are on their way.
const N_SLOTS: usize = 4;

/// Threads that fill one; more than this no memory feeds.
const MAX_THREADS: usize = 8;

/// Bytes for which another thread pays.
const SHARE: usize = 1 << 20;

/// Bytes of the target that are converted at a time, in the thread's own cache.
const PIECE: usize = 128 << 10;

/// How long a callback may take after its submission is known to be done.
const CALLBACK: Duration = Duration::from_secs(10);

/// How source bytes become target bytes; run by the threads that fill the staging buffers.
#[derive(Clone, Copy)]
pub(crate) struct Convert<'a> {
    /// Bytes of the source that belong together, say eight elements.
    pub(crate) source_unit: usize,
    /// Bytes that one unit becomes, a multiple of four.
    pub(crate) target_unit: usize,
    /// Whole units to whole units.
    pub(crate) run: &'a (dyn Fn(&[u8]) -> Vec<u8> + Sync),
}

/// Staging buffers in the order in which they become free. New ones are made until there are [`N_SLOTS`].
#[derive(Debug, Default)]
pub(crate) struct Ring {
    slots: VecDeque<Slot>,
}

#[derive(Debug)]
struct Slot {
    raw: wgpu::Buffer,
    /// The copy out of it, and word of its being mapped again.
    copy: Submission,
    mapped: mpsc::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
}

impl Ring {
    /// Writes `source` at `offset` of `buffer`, as it is or converted. Takes effect before any pass that is submitted later.
    ///
    /// # Errors
    /// When there is no memory for a staging buffer, or the device has failed.
    ///
    /// # Panics
    /// When `source` is not whole units, or whole words where nothing is converted.
    pub(crate) fn write(&mut self, gpu: &Gpu, buffer: &Buffer, offset: u64, source: &[u8], convert: Option<Convert<'_>>) -> Result<()> {
        let (source_unit, target_unit) = convert.map_or((4, 4), |convert| (convert.source_unit, convert.target_unit));
        assert!(
            source.len().is_multiple_of(source_unit) && target_unit.is_multiple_of(4),
            "upload: {} bytes in units of {source_unit}",
            source.len()
        );
        let step = SLOT / target_unit * source_unit;
        for (i, part) in source.chunks(step).enumerate() {
            let len = (part.len() / source_unit * target_unit) as u64;
            let at = buffer.offset + offset + (i * (step / source_unit) * target_unit) as u64;
            let staging = self.free(gpu)?;
            fill(&staging, part, (source_unit, target_unit), convert)?;
            staging.unmap();
            self.slots.push_back(copy(gpu, staging, &buffer.raw, at, len));
        }
        Ok(())
    }

    /// A mapped staging buffer: a new one, or the oldest once its copy is done.
    fn free(&mut self, gpu: &Gpu) -> Result<wgpu::Buffer> {
        if self.slots.len() < N_SLOTS {
            return gpu.guarded_buffer(&wgpu::BufferDescriptor {
                label: Some("upload"),
                size: SLOT as u64,
                usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: true,
            });
        }
        let slot = self.slots.pop_front().expect("a full ring has a first buffer");
        gpu.wait_for(&slot.copy)?;
        // the copy is done, but the call may be in the hands of another thread that waits
        let mapped = slot.mapped.recv_timeout(CALLBACK).map_err(|error| lost(&error))?;
        mapped.map_err(|error| lost(&error))?;
        Ok(slot.raw)
    }
}

/// Hands the copy to the GPU, and asks for the buffer to be mapped again afterwards.
fn copy(gpu: &Gpu, staging: wgpu::Buffer, target: &wgpu::Buffer, offset: u64, len: u64) -> Slot {
    let mut encoder = gpu
        .device
        .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("upload") });
    encoder.copy_buffer_to_buffer(&staging, 0, target, offset, len);
    let copy = Submission(gpu.queue.submit([encoder.finish()]));
    let (sender, mapped) = mpsc::channel();
    staging.map_async(wgpu::MapMode::Write, .., move |result| {
        // the receiver is gone when the ring has been dropped
        let _ = sender.send(result);
    });
    Slot {
        raw: staging,
        copy,
        mapped,
    }
}

/// Fills the beginning of `staging` on several threads, each with a stretch of whole units.
fn fill(staging: &wgpu::Buffer, source: &[u8], (source_unit, target_unit): (usize, usize), convert: Option<Convert<'_>>) -> Result<()> {
    let n_units = source.len() / source_unit;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let n_threads = cores.min(MAX_THREADS).min(n_units * target_unit / SHARE).max(1);
    // even, since views begin at multiples of eight bytes
    let share = n_units.div_ceil(n_threads).max(1).next_multiple_of(2);
    let parts = source.chunks(share * source_unit).enumerate();
    let view = |(i, part): (usize, &'_ [u8])| {
        let first = i * share * target_unit;
        let range = first as u64..(first + part.len() / source_unit * target_unit) as u64;
        staging.get_mapped_range_mut(range).map_err(|error| lost(&error))
    };
    let views: Vec<wgpu::BufferViewMut> = parts.clone().map(view).collect::<Result<_>>()?;
    thread::scope(|scope| {
        let mut work = views.into_iter().zip(parts).peekable();
        while let Some((view, (_, part))) = work.next() {
            if work.peek().is_some() {
                scope.spawn(move || fill_share(view, part, convert));
            } else {
                // this thread would only wait
                fill_share(view, part, convert);
            }
        }
    });
    Ok(())
}

fn fill_share(mut view: wgpu::BufferViewMut, source: &[u8], convert: Option<Convert<'_>>) {
    let Some(convert) = convert else {
        view.copy_from_slice(source);
        return;
    };
    let piece = (PIECE / convert.target_unit).max(1) * convert.source_unit;
    let mut at = 0;
    for part in source.chunks(piece) {
        let converted = (convert.run)(part);
        view.slice(at..at + converted.len()).copy_from_slice(&converted);
        at += converted.len();
    }
}

fn lost(error: &impl std::fmt::Display) -> Error {
    Error::DeviceLost { reason: error.to_string() }
}
