//! Everything that can go wrong between a folder on disk and generated text, as one typed enum.
//!
//! Each message is one sentence that names the file, field or limit, and what to do about it; the binary prints it as it is.

use std::path::PathBuf;

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the model crate. All of them are caused by input or by the machine, none by a programming mistake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or mapped.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A checkpoint lacks a file that it must have.
    #[error("{} has no {file}; a checkpoint folder needs config.json, tokenizer.json and model.safetensors (or its shards with model.safetensors.index.json)", folder.display())]
    MissingFile {
        /// The checkpoint's folder.
        folder: PathBuf,
        /// The file that was looked for.
        file: String,
    },
    /// A JSON file does not parse, or a value has the wrong type.
    #[error("{file} is not valid: {reason}")]
    Json {
        /// The file's name.
        file: String,
        /// What the parser said, with line and column where it has them.
        reason: String,
    },
    /// A field of `config.json` has a value that is out of range or not supported.
    #[error("config.json: `{field}` is {value}, but {reason}")]
    Config {
        /// The field as spelled in the file.
        field: String,
        /// Its value as JSON (`missing` where there is none).
        value: String,
        /// What would be accepted.
        reason: String,
    },
    /// A safetensors file is truncated, overlapping or otherwise malformed.
    #[error("{file} is not a valid safetensors file: {reason}")]
    SafeTensors {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that the configuration calls for is in no shard.
    #[error("the checkpoint has no tensor `{name}`; it is incomplete, or config.json describes another model")]
    MissingTensor {
        /// The tensor's name in the checkpoint.
        name: String,
    },
    /// A tensor's shape is not what the configuration implies.
    #[error("tensor `{name}` has shape {found:?}, but config.json asks for {expected:?}")]
    TensorShape {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is stored in a type that cannot be loaded.
    #[error("tensor `{name}` is stored as {dtype}; only F32, F16 and BF16 checkpoints can be loaded")]
    UnsupportedDType {
        /// The tensor's name in the checkpoint.
        name: String,
        /// Its type as spelled in the file.
        dtype: String,
    },
    /// `tokenizer.json` cannot be used.
    #[error("tokenizer.json cannot be used: {reason}")]
    Tokenizer {
        /// What the tokenizer library said.
        reason: String,
    },
    /// The chat template does not compile or refuses the conversation.
    #[error("the chat template failed: {reason}")]
    Template {
        /// What the template engine said.
        reason: String,
    },
    /// The prompt and what was generated so far no longer fit the context.
    #[error("{needed} tokens do not fit a context of {ctx}; shorten the prompt or raise --ctx")]
    ContextFull {
        /// Tokens that would have to fit.
        needed: usize,
        /// Tokens that the KV cache holds.
        ctx: usize,
    },
    /// There is nothing to run the model on.
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    /// A token id lies outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// The offending id.
        id: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// An option has a value that makes no sense.
    #[error("{option} is {value}, but {reason}")]
    Option {
        /// The option as the user writes it.
        option: String,
        /// The value given.
        value: String,
        /// What would be accepted.
        reason: String,
    },
    /// The plan made before loading says that the model does not fit.
    #[error("{what} needs {needed_mib} MiB, but {limit_name} is {limit_mib} MiB; {advice}")]
    OutOfMemory {
        /// What would have been allocated.
        what: String,
        /// Its size in MiB.
        needed_mib: u64,
        /// The limit's name.
        limit_name: String,
        /// The limit in MiB.
        limit_mib: u64,
        /// What to try instead.
        advice: String,
    },
    /// Loading or generation was cancelled by the caller.
    #[error("cancelled")]
    Cancelled,
    /// The runtime below failed.
    #[error(transparent)]
    Runtime(#[from] qwgpu_runtime::Error),
}

impl Error {
    /// Shorthand for [`Error::Config`].
    pub(crate) fn config(field: &str, value: impl std::fmt::Display, reason: impl Into<String>) -> Self {
        Self::Config {
            field: field.into(),
            value: value.to_string(),
            reason: reason.into(),
        }
    }
}
