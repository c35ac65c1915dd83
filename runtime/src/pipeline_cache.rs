//! What the driver has made of the kernels, kept from one start to the next in the user's cache folder (Vulkan alone has this).
//!
//! The file is a convenience: where it cannot be read or written, or is not as it was written, kernels are compiled anew. Drivers
//! check whether the data is theirs, but not whether it is whole, so it ends with a checksum. It is replaced in one step.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Beyond this the file holds mostly kernels of earlier versions, and is begun anew.
const MAX_BYTES: u64 = 64 << 20;

/// An open cache that pipelines are compiled with.
#[derive(Debug)]
pub(crate) struct PipelineCache {
    pub(crate) raw: wgpu::PipelineCache,
    path: PathBuf,
    /// Checksum of what was read.
    read: Option<u64>,
}

impl PipelineCache {
    /// The cache of an adapter, if its backend has one and the user a cache folder.
    pub(crate) fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let name = wgpu::util::pipeline_cache_key(info)?;
        let path = dirs::cache_dir()?.join("qwgpu").join(name).with_extension("bin");
        let data = read(&path);
        // SAFETY: the data is what `get_data` gave, as its checksum says; wgpu and the driver check that it was this driver's.
        let raw = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("qwgpu"),
                data: data.as_deref(),
                fallback: true,
            })
        };
        let read = data.as_deref().map(checksum);
        Some(Self { raw, path, read })
    }

    /// Writes what has been compiled since, if anything.
    pub(crate) fn save(&self) {
        let Some(data) = self.raw.get_data() else { return };
        if self.read == Some(checksum(&data)) {
            return;
        }
        if let Err(error) = write(&self.path, data) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

/// FNV-1a (Fowler, Noll and Vo), 64 bits.
fn checksum(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The data, if the file is whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    if fs::metadata(path).ok()?.len() > MAX_BYTES {
        return None;
    }
    let mut data = fs::read(path).ok()?;
    let written = data.split_off(data.len().checked_sub(size_of::<u64>())?);
    (written == checksum(&data).to_le_bytes()).then_some(data)
}

/// Replaces the file in one step.
fn write(path: &Path, mut data: Vec<u8>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    data.extend(checksum(&data).to_le_bytes());
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let done = fs::write(&part, data).and_then(|()| fs::rename(&part, path));
    if done.is_err() {
        // nothing is to stay behind; that it cannot be removed either changes nothing
        let _ = fs::remove_file(&part);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_whole_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("cache.bin");
        assert_eq!(read(&path), None);
        let data: Vec<u8> = (0..1000).map(|i| (i * 7) as u8).collect();
        write(&path, data.clone()).unwrap();
        assert_eq!(read(&path), Some(data.clone()));
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "nothing stays behind");
        let whole = fs::read(&path).unwrap();
        for at in [0, 500, 999, 1000, 1007] {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            fs::write(&path, &torn).unwrap();
            assert_eq!(read(&path), None, "byte {at}");
        }
        for len in [0, 7, 8, 1007] {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(read(&path), None, "{len} bytes");
        }
    }
}
