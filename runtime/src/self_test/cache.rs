//! What earlier self-tests found, in one small file of the user's cache folder.
//!
//! The file is a convenience: where it cannot be read, understood or written, the probes simply run again. It is replaced as a
//! whole, so that processes which start at the same time cannot leave half of one; the last to write wins.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use qwgpu_shaders::{Variant, compose};
use serde::{Deserialize, Serialize};

use super::Probe;
use crate::{AdapterInfo, Error, GpuOptions, Result};

/// Adapters and drivers that are remembered; the oldest goes first.
const MAX_ENTRIES: usize = 32;
/// A file beyond this is not ours.
const MAX_BYTES: u64 = 1 << 20;

/// All that a verdict depends on: another driver version or another probe, and it no longer counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    adapter: String,
    backend: String,
    vendor: u32,
    device: u32,
    driver: String,
    qwgpu: String,
    /// Of the texts of all probes.
    shaders: String,
    /// Whether wgpu's checks were compiled in.
    checked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    ok: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    why: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    key: Key,
    verdicts: BTreeMap<String, Verdict>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    adapters: Vec<Entry>,
}

/// The verdicts on one adapter.
#[derive(Debug)]
pub(super) struct Cache {
    path: Option<PathBuf>,
    key: Key,
    known: BTreeMap<String, Verdict>,
    fresh: BTreeMap<String, Verdict>,
}

impl Cache {
    /// What is known of an adapter with these options.
    pub(super) fn open(info: &AdapterInfo, options: &GpuOptions) -> Result<Self> {
        let path = dirs::cache_dir().map(|folder| folder.join("qwgpu").join("self_test.json"));
        Ok(Self::at(path, Key::new(info, options)?))
    }

    fn at(path: Option<PathBuf>, key: Key) -> Self {
        let file = path.as_deref().map(read).unwrap_or_default();
        let entry = file.adapters.into_iter().find(|entry| entry.key == key);
        Self {
            path,
            key,
            known: entry.map(|entry| entry.verdicts).unwrap_or_default(),
            fresh: BTreeMap::new(),
        }
    }

    /// The verdict on a path with these probes: `Some(None)` where it is right, `Some(Some(why))` where it is wrong.
    pub(super) fn get(&self, probes: &[Probe]) -> Option<Option<String>> {
        let verdict = self.known.get(&name(probes)?)?;
        Some((!verdict.ok).then(|| verdict.why.clone()))
    }

    /// Adds a verdict.
    pub(super) fn put(&mut self, probes: &[Probe], fault: Option<String>) {
        if let Some(name) = name(probes) {
            let ok = fault.is_none();
            self.fresh.insert(
                name,
                Verdict {
                    ok,
                    why: fault.unwrap_or_default(),
                },
            );
        }
    }

    /// Writes what was added, if anything.
    pub(super) fn save(&self) {
        let Some(path) = self.path.as_deref().filter(|_| !self.fresh.is_empty()) else {
            return;
        };
        // read again: another process may have added to it
        let mut file = read(path);
        let place = file.adapters.iter().position(|entry| entry.key == self.key);
        let mut verdicts = place.map(|i| file.adapters.remove(i).verdicts).unwrap_or_default();
        verdicts.extend(self.fresh.clone());
        let key = self.key.clone();
        file.adapters.push(Entry { key, verdicts });
        let surplus = file.adapters.len().saturating_sub(MAX_ENTRIES);
        file.adapters.drain(..surplus);
        if let Err(error) = write(path, &file) {
            log::debug!("{}: {error}", path.display());
        }
    }
}

impl Key {
    fn new(info: &AdapterInfo, options: &GpuOptions) -> Result<Self> {
        // FNV-1a (Fowler, Noll and Vo), 64 bits
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for probe in Probe::ALL {
            let text = compose(&Variant::Probe(probe), &options.sources).map_err(|error| Error::ShaderFile {
                path: error.path.display().to_string(),
                source: error.source,
            })?;
            for byte in text.bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        Ok(Self {
            adapter: info.name.clone(),
            backend: info.backend.clone(),
            vendor: info.vendor,
            device: info.device,
            driver: info.driver.clone(),
            qwgpu: env!("CARGO_PKG_VERSION").to_owned(),
            shaders: format!("{hash:016x}"),
            checked: options.checked,
        })
    }
}

/// What a verdict goes by: the probe's name, and of cooperative matrices also the tile.
fn name(probes: &[Probe]) -> Option<String> {
    Some(match probes.first()? {
        Probe::Coop(tile) => format!("probe_coop {tile:?}"),
        probe => probe.stem().to_owned(),
    })
}

/// The file, or an empty one where there is none that can be read.
fn read(path: &Path) -> File {
    let parse = || {
        if fs::metadata(path).ok()?.len() > MAX_BYTES {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    };
    parse().unwrap_or_default()
}

/// Replaces the file in one step.
fn write(path: &Path, file: &File) -> io::Result<()> {
    let text = serde_json::to_string_pretty(file)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let done = fs::write(&part, text + "\n").and_then(|()| fs::rename(&part, path));
    if done.is_err() {
        // nothing is to stay behind; that it cannot be removed either changes nothing
        let _ = fs::remove_file(&part);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(driver: &str) -> Key {
        Key {
            adapter: "adapter".into(),
            backend: "vulkan".into(),
            vendor: 1,
            device: 2,
            driver: driver.into(),
            qwgpu: "0".into(),
            shaders: "0".into(),
            checked: false,
        }
    }

    #[test]
    fn verdicts_come_back_for_the_same_driver_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("file.json");
        let mut cache = Cache::at(Some(path.clone()), key("1.0"));
        assert_eq!(cache.get(&[Probe::F16]), None);
        cache.put(&[Probe::F16], Some("it lies".into()));
        cache.put(&[Probe::Dot], None);
        cache.save();
        let mut same = Cache::at(Some(path.clone()), key("1.0"));
        assert_eq!(same.get(&[Probe::F16]), Some(Some("it lies".into())));
        assert_eq!(same.get(&[Probe::Dot]), Some(None));
        assert_eq!(same.get(&[Probe::Subgroup { workgroup: 32 }]), None);
        assert_eq!(Cache::at(Some(path.clone()), key("1.1")).get(&[Probe::F16]), None);
        // another path adds to the entry
        same.put(&[Probe::Subgroup { workgroup: 32 }], None);
        same.save();
        assert_eq!(Cache::at(Some(path), key("1.0")).known.len(), 3);
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "nothing stays behind");
    }

    #[test]
    fn the_file_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        for i in 0..MAX_ENTRIES + 5 {
            let mut cache = Cache::at(Some(path.clone()), key(&i.to_string()));
            cache.put(&[Probe::Dot], None);
            cache.save();
        }
        let file = read(&path);
        assert_eq!((file.adapters.len(), file.adapters[0].key.driver.as_str()), (MAX_ENTRIES, "5"));
    }

    #[test]
    fn what_cannot_be_read_or_written_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        for text in ["", "{", "[]", "{\"adapters\":[{\"key\":1}]}", "\u{0}\u{1}"] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).adapters.is_empty(), "{text}");
        }
        // a folder in its place, a file in place of its folder, and no cache folder at all
        let file = folder.path().join("file.json").join("below.json");
        for path in [Some(folder.path().to_owned()), Some(file), None] {
            let mut cache = Cache::at(path, key("1"));
            cache.put(&[Probe::Dot], None);
            cache.save();
        }
    }
}
