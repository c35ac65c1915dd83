//! Moving bytes between host and GPU outside of passes.

use std::{sync::mpsc, time::Duration};

use crate::{Error, Gpu, Result, Submission, buffer::Buffer, counts::count, upload::Convert};

/// Upload slice: small enough that wgpu's staging copies stay a few tens of MiB, large enough to run at full speed.
const SLICE: usize = 16 << 20;

/// From here on an upload is worth its ring of staging buffers.
const LARGE: usize = 1 << 20;

/// How long a callback may take after the device is known to be idle.
const CALLBACK: Duration = Duration::from_secs(10);

/// Writes `bytes` at `offset`, padded with zeros to a multiple of four as the API demands.
pub(crate) fn write(gpu: &Gpu, buffer: &Buffer, offset: u64, bytes: &[u8]) {
    count(&gpu.counters.uploads);
    let whole = bytes.len() / 4 * 4;
    let offset = buffer.offset + offset;
    for (i, slice) in bytes[..whole].chunks(SLICE).enumerate() {
        gpu.queue.write_buffer(&buffer.raw, offset + (i * SLICE) as u64, slice);
    }
    if whole < bytes.len() {
        let mut tail = [0; 4];
        tail[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
        gpu.queue.write_buffer(&buffer.raw, offset + whole as u64, &tail);
    }
}

/// Writes `bytes` at `offset`, which may be much, as they are or converted.
///
/// # Errors
/// When the device has failed or has no memory.
pub(crate) fn upload(gpu: &Gpu, buffer: &Buffer, offset: u64, bytes: &[u8], convert: Option<Convert<'_>>) -> Result<()> {
    if bytes.len() >= LARGE && (convert.is_some() || bytes.len().is_multiple_of(4)) {
        return gpu.upload(buffer, offset, bytes, convert);
    }
    match convert {
        Some(convert) => write(gpu, buffer, offset, &(convert.run)(bytes)),
        None => write(gpu, buffer, offset, bytes),
    }
    Ok(())
}

/// Reads `len` bytes at `offset` after everything submitted so far has run.
pub(crate) fn read(gpu: &Gpu, buffer: &Buffer, offset: u64, len: u64) -> Result<Vec<u8>> {
    // copies start and end at multiples of four
    let start = offset / 4 * 4;
    let end = (offset + len).next_multiple_of(4);
    let staging = Staging::new(gpu, end - start)?;
    let mut encoder = gpu
        .device
        .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("read back") });
    encoder.copy_buffer_to_buffer(&buffer.raw, buffer.offset + start, &staging.raw, 0, end - start);
    gpu.queue.submit([encoder.finish()]);
    let bytes = staging.wait(gpu, end - start)?;
    let skip = (offset - start) as usize;
    Ok(bytes[skip..skip + len as usize].to_vec())
}

/// A host-visible buffer that passes copy into; kept and used again where something is read for every token.
#[derive(Debug)]
pub struct Staging {
    pub(crate) raw: wgpu::Buffer,
    pub(crate) bytes: u64,
}

impl Staging {
    /// Room for `bytes`.
    ///
    /// # Errors
    /// When the driver has no memory.
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self> {
        let bytes = bytes.max(4).next_multiple_of(4);
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: bytes,
            usage,
            mapped_at_creation: false,
        };
        Ok(Self {
            raw: gpu.guarded_buffer(&descriptor)?,
            bytes,
        })
    }

    /// Waits for everything submitted, and gives the first `len` bytes.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn wait(&self, gpu: &Gpu, len: u64) -> Result<Vec<u8>> {
        self.fetch(len, || gpu.wait())
    }

    /// Waits for the pass that copies into it, but not for later ones, and gives the first `len` bytes.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn wait_for(&self, gpu: &Gpu, submission: &Submission, len: u64) -> Result<Vec<u8>> {
        self.fetch(len, || gpu.wait_for(submission))
    }

    fn fetch(&self, len: u64, wait: impl FnOnce() -> Result<()>) -> Result<Vec<u8>> {
        let (sender, receiver) = mpsc::channel();
        let range = 0..len.next_multiple_of(4).min(self.bytes);
        self.raw.map_async(wgpu::MapMode::Read, range.clone(), move |result| {
            // the receiver is gone only when this function has already returned an error
            let _ = sender.send(result);
        });
        wait()?;
        let lost = |reason: String| Error::DeviceLost { reason };
        // everything has run, but the call may be in the hands of another thread that waits
        receiver
            .recv_timeout(CALLBACK)
            .map_err(|e| lost(e.to_string()))?
            .map_err(|e| lost(e.to_string()))?;
        let bytes = self.raw.get_mapped_range(range).map_err(|e| lost(e.to_string()))?[..len as usize].to_vec();
        self.raw.unmap();
        Ok(bytes)
    }
}
