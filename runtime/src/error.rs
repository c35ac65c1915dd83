//! What the runtime can fail at, as one typed enum.
//!
//! A user can cause every variant (a machine without a GPU, a limit, a lost device). A wrong shape handed to a kernel is a
//! programming mistake and is an assert instead.

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No adapter at all, or only software adapters and none was asked for.
    #[error("{reason}")]
    NoAdapter {
        /// What was found instead, and what to do.
        reason: String,
    },
    /// `--adapter` names nothing that is there.
    #[error("no adapter matches \"{wanted}\"; there are: {found}")]
    UnknownAdapter {
        /// The text or index that was asked for.
        wanted: String,
        /// The adapters that exist, by index and name.
        found: String,
    },
    /// The driver refused to make a device.
    #[error("the adapter {adapter} refused to open: {reason}")]
    Device {
        /// The adapter's name.
        adapter: String,
        /// What wgpu said.
        reason: String,
    },
    /// The adapter lacks something that cannot be replaced.
    #[error("{adapter} lacks {feature}, which {needed_by} needs")]
    MissingFeature {
        /// The adapter's name.
        adapter: String,
        /// The feature.
        feature: String,
        /// What needs it.
        needed_by: String,
    },
    /// A size exceeds what the adapter allows.
    #[error("{what} needs {needed} of {limit}, but {adapter} allows {have}; {advice}")]
    LimitExceeded {
        /// What is too large.
        what: String,
        /// The limit's name.
        limit: String,
        /// How much is needed.
        needed: u64,
        /// How much there is.
        have: u64,
        /// The adapter's name.
        adapter: String,
        /// What to try instead.
        advice: String,
    },
    /// A shader does not compile. With `QWGPU_SHADERS` unset this is a defect of qwgpu or of the driver.
    #[error("shader {label} does not compile: {reason}")]
    Shader {
        /// Kernel and variant.
        label: String,
        /// The compiler's words.
        reason: String,
    },
    /// A file of the folder that `QWGPU_SHADERS` names cannot be read.
    #[error("QWGPU_SHADERS: cannot read {path}: {source}")]
    ShaderFile {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// An environment variable has a value that is not understood.
    #[error("{name} is \"{value}\", but {reason}")]
    Environment {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// What would be accepted.
        reason: String,
    },
    /// The GPU ran out of memory in spite of the plan.
    #[error("the GPU has no room for {what} ({bytes} bytes); close other programs, or use a smaller model, --dtype or --ctx")]
    OutOfMemory {
        /// What was being allocated.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// The device went away: a driver reset, a watchdog, an unplugged GPU.
    #[error("the GPU stopped answering: {reason}")]
    DeviceLost {
        /// What wgpu said.
        reason: String,
    },
}
