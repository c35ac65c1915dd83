//! A checkpoint: a folder in Hugging Face's layout, or the same files inside the binary.
//!
//! Weight files are mapped, not read, so opening a model of any size takes milliseconds and no memory; each tensor is a
//! slice of the mapping. Everything that could be wrong with the files is found when they are opened, not in the middle of a load.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use qwgpu_runtime::DType;

use crate::config::{Config, GenerationConfig};
use crate::{Error, Result};

mod header;
mod shards;
#[cfg(test)]
mod tests;

/// Longest text file that is read whole; the largest tokenizer.json in use has some 20 MB.
const MAX_TEXT: u64 = 256 << 20;

/// An opened checkpoint: its configuration, and its tensors as slices of mapped files.
///
/// The files must not be truncated while this lives: the operating system ends a process that reads a mapped page which is gone.
#[derive(Debug)]
pub struct Checkpoint {
    name: String,
    source: Source,
    config: Config,
    generation: GenerationConfig,
    shards: Vec<Shard>,
    /// Where each tensor is, as (shard, place within it).
    index: HashMap<String, (usize, usize)>,
}

/// Where files come from.
#[derive(Debug)]
enum Source {
    Folder(PathBuf),
    Embedded {
        name: PathBuf,
        files: &'static [(&'static str, &'static [u8])],
    },
}

/// One weight file.
#[derive(Debug)]
struct Shard {
    file: String,
    bytes: Bytes,
    entries: Vec<header::Entry>,
}

/// A whole file's bytes.
#[derive(Debug)]
enum Bytes {
    Mapped(memmap2::Mmap),
    Embedded(&'static [u8]),
}

/// A tensor that can be loaded. `data` holds `shape`'s product of little-endian elements, row by row, at any alignment.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The tensor's name in the checkpoint.
    pub name: &'a str,
    /// The type of its elements.
    pub dtype: DType,
    /// Its extents, outermost first.
    pub shape: &'a [usize],
    /// Its bytes.
    pub data: &'a [u8],
}

/// A tensor as listed in its file, whatever its type.
#[derive(Clone, Copy, Debug)]
pub struct TensorEntry<'a> {
    /// The file that holds it.
    pub file: &'a str,
    /// The tensor's name in the checkpoint.
    pub name: &'a str,
    /// The type of its elements as spelled in the file, such as `BF16`.
    pub dtype: &'a str,
    /// Its extents, outermost first.
    pub shape: &'a [usize],
    /// Its bytes.
    pub data: &'a [u8],
}

impl Checkpoint {
    /// Opens the checkpoint in the folder `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::MissingFile`] for files that cannot be read or are not there; [`Error::Json`],
    /// [`Error::Config`] and [`Error::SafeTensors`] naming the file and what is wrong in it.
    pub fn open(dir: &Path) -> Result<Self> {
        let wrap = |source| Error::Io { path: dir.into(), source };
        if !dir.metadata().map_err(wrap)?.is_dir() {
            let reason = "this is a file; give the folder that holds config.json and model.safetensors";
            return Err(wrap(io::Error::new(io::ErrorKind::NotADirectory, reason)));
        }
        let full = dir.canonicalize().unwrap_or_else(|_| dir.into());
        let name = full
            .file_name()
            .map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned());
        Self::from_source(Source::Folder(dir.into()), name)
    }

    /// Opens a checkpoint whose files, as (name, contents), are part of the binary.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn embedded(files: &'static [(&'static str, &'static [u8])], name: &str) -> Result<Self> {
        Self::from_source(Source::Embedded { name: name.into(), files }, name.into())
    }

    fn from_source(source: Source, name: String) -> Result<Self> {
        let text = source.text("config.json")?.ok_or_else(|| source.missing("config.json"))?;
        let config = Config::from_json(&text)?;
        let generation = match source.text("generation_config.json")? {
            Some(text) => GenerationConfig::from_json(&text)?,
            None => GenerationConfig::default(),
        };
        drop(text);
        let (shards, index) = shards::open(&source)?;
        Ok(Self {
            name,
            source,
            config,
            generation,
            shards,
            index,
        })
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The authors' sampling defaults; empty where the checkpoint has no generation_config.json.
    #[must_use]
    pub fn generation(&self) -> &GenerationConfig {
        &self.generation
    }

    /// What to call the model in reports: the folder's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same checkpoint under another name, for folders that are called after a hash.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The text of a file beside the weights, such as `tokenizer.json`; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read or exceeds 256 MiB, [`Error::Json`] when it is not UTF-8.
    pub fn text(&self, file: &str) -> Result<Option<Cow<'_, str>>> {
        self.source.text(file)
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] when there is none, [`Error::UnsupportedDType`] when it is not F32, F16 or BF16.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let &(shard, place) = self.index.get(name).ok_or_else(|| Error::MissingTensor { name: name.into() })?;
        let TensorEntry {
            name, dtype, shape, data, ..
        } = self.shards[shard].entry(place);
        let dtype = match dtype {
            "F32" => DType::F32,
            "F16" => DType::F16,
            "BF16" => DType::BF16,
            other => {
                return Err(Error::UnsupportedDType {
                    name: name.into(),
                    dtype: other.into(),
                });
            }
        };
        Ok(TensorView { name, dtype, shape, data })
    }

    /// The tensor called `name`, which has to have the shape `expected`.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`], and [`Error::TensorShape`].
    pub fn tensor_of(&self, name: &str, expected: &[usize]) -> Result<TensorView<'_>> {
        let view = self.tensor(name)?;
        if view.shape != expected {
            return Err(Error::TensorShape {
                name: name.into(),
                expected: expected.into(),
                found: view.shape.into(),
            });
        }
        Ok(view)
    }

    /// Whether there is a tensor called `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Every tensor, shard by shard in the order of their bytes.
    pub fn tensors(&self) -> impl Iterator<Item = TensorEntry<'_>> {
        self.shards
            .iter()
            .flat_map(|shard| (0..shard.entries.len()).map(|place| shard.entry(place)))
    }

    /// Bytes of all tensors together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.tensors().map(|tensor| tensor.data.len() as u64).sum()
    }
}

impl Shard {
    fn entry(&self, place: usize) -> TensorEntry<'_> {
        let header::Entry { name, dtype, shape, bytes } = &self.entries[place];
        TensorEntry {
            file: &self.file,
            name,
            dtype,
            shape,
            data: &self.bytes.as_slice()[bytes.clone()],
        }
    }
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Embedded(bytes) => bytes,
        }
    }
}

impl Source {
    /// The folder, or the embedded model's name in its place.
    fn folder(&self) -> &Path {
        match self {
            Self::Folder(dir) => dir,
            Self::Embedded { name, .. } => name,
        }
    }

    fn missing(&self, file: &str) -> Error {
        Error::MissingFile {
            folder: self.folder().into(),
            file: file.into(),
        }
    }

    /// Opens a file for reading; `None` where there is none. Only regular files, since opening a pipe would wait for its writer.
    fn file(dir: &Path, name: &str) -> Result<Option<(File, u64)>> {
        let path = dir.join(name);
        let wrap = |source| Error::Io {
            path: path.clone(),
            source,
        };
        match path.metadata() {
            Ok(found) if found.is_file() => Ok(Some((File::open(&path).map_err(wrap)?, found.len()))),
            Ok(_) => Err(wrap(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(wrap(e)),
        }
    }

    fn text(&self, name: &str) -> Result<Option<Cow<'static, str>>> {
        let not_text = || Error::Json {
            file: name.into(),
            reason: "it is not UTF-8 text".into(),
        };
        match self {
            Self::Embedded { files, .. } => {
                let found = files.iter().find(|(file, _)| *file == name);
                found
                    .map(|(_, bytes)| std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| not_text()))
                    .transpose()
            }
            Self::Folder(dir) => {
                let Some((mut file, length)) = Self::file(dir, name)? else {
                    return Ok(None);
                };
                let wrap = |source| Error::Io {
                    path: dir.join(name),
                    source,
                };
                if length > MAX_TEXT {
                    return Err(wrap(io::Error::new(
                        io::ErrorKind::FileTooLarge,
                        "it exceeds 256 MiB and cannot be a text file of a model",
                    )));
                }
                let mut bytes = Vec::with_capacity(length as usize);
                file.read_to_end(&mut bytes).map_err(wrap)?;
                String::from_utf8(bytes).map(|text| Some(Cow::Owned(text))).map_err(|_| not_text())
            }
        }
    }

    /// The whole contents of a weight file; `None` where there is none.
    fn bytes(&self, name: &str) -> Result<Option<Bytes>> {
        match self {
            Self::Embedded { files, .. } => Ok(files
                .iter()
                .find(|(file, _)| *file == name)
                .map(|(_, bytes)| Bytes::Embedded(bytes))),
            Self::Folder(dir) => {
                let Some((file, length)) = Self::file(dir, name)? else {
                    return Ok(None);
                };
                if length == 0 {
                    return Ok(Some(Bytes::Embedded(&[])));
                }
                // SAFETY: the mapping is read-only and its bytes are only ever read as u8, for which every pattern is valid. Another
                // process that writes to the file changes weights, as it would for a copy made a moment later; one that truncates it makes
                // the operating system end this process, which the type's documentation says.
                let map = unsafe { memmap2::Mmap::map(&file) };
                map.map(|map| Some(Bytes::Mapped(map))).map_err(|source| Error::Io {
                    path: dir.join(name),
                    source,
                })
            }
        }
    }
}
