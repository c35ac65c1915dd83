//! The kernels' files, and one change to one of them.

use std::{fmt, fs, path::Path};

use qwgpu_shaders::{Sources, Variant, compose};

/// One `.wgsl` file.
pub(crate) struct File {
    /// Its path below `shaders/`, without the ending.
    pub(crate) name: String,
    pub(crate) text: String,
    /// The variants whose text contains it.
    pub(crate) variants: Vec<Variant>,
}

impl File {
    /// Every file that some variant uses, kernels first.
    pub(crate) fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        let mut names = Vec::new();
        for (folder, prefix) in [(root.clone(), ""), (root.join("shared"), "shared/")] {
            let entries = fs::read_dir(&folder).expect("the folder of the kernels can be read");
            let paths = entries.map(|entry| entry.expect("its entries can be read").path());
            let mut stems: Vec<String> = paths
                .filter(|path| path.extension().is_some_and(|ending| ending == "wgsl"))
                .map(|path| format!("{prefix}{}", path.file_stem().expect("a file has a name").to_string_lossy()))
                .collect();
            stems.sort();
            names.extend(stems);
        }
        let composed: Vec<(Variant, String)> = Variant::all().into_iter().map(|variant| (variant, whole(&variant))).collect();
        let file = |name: String| {
            let text = fs::read_to_string(root.join(&name).with_extension("wgsl")).expect("a kernel's file can be read");
            let users = composed.iter().filter(|(_, whole)| whole.contains(&text));
            let variants = users.map(|(variant, _)| *variant).collect();
            Self { name, text, variants }
        };
        names.into_iter().map(file).collect()
    }

    /// The kernels that it is part of, those first whose quick cases take least.
    pub(crate) fn kernels(&self) -> Vec<&'static str> {
        const SLOW: [&str; 5] = ["topk", "matvec", "matmul", "attention_decode", "attention_prefill"];
        let mut stems: Vec<&'static str> = self.variants.iter().map(Variant::stem).collect();
        stems.sort_by_key(|stem| (SLOW.iter().position(|slow| slow == stem).map_or(0, |i| i + 1), *stem));
        stems.dedup();
        stems
    }
}

fn whole(variant: &Variant) -> String {
    compose(variant, &Sources::embedded()).expect("embedded sources are always there")
}

/// What sort of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A barrier is missing.
    Barrier,
    /// A comparison or a condition says the opposite.
    Negated,
    /// An ordering takes in its bound, or leaves it out; or `&&` and `||` are exchanged.
    Boundary,
    /// A stride, divisor or step is off by one.
    Stride,
    /// A bound, start, constant or clamp is off by one, or missing.
    Bound,
    /// An index or argument is off by one.
    Offset,
}

/// One change to one file.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    /// The file's place in [`File::all`].
    pub(crate) file: usize,
    pub(crate) fault: Fault,
    /// Where, in bytes.
    pub(crate) at: usize,
    pub(crate) original: String,
    pub(crate) replacement: String,
}

impl Mutant {
    /// The file's text with the change.
    pub(crate) fn apply(&self, file: &File) -> String {
        let end = self.at + self.original.len();
        format!("{}{}{}", &file.text[..self.at], self.replacement, &file.text[end..])
    }

    /// What it is known by, wherever in the file its line stands: file and line, with `{original => replacement}` in its place.
    pub(crate) fn key(&self, file: &File) -> String {
        let text = &file.text;
        let first = text[..self.at].rfind('\n').map_or(0, |i| i + 1);
        let end = self.at + self.original.len();
        let last = text[end..].find('\n').map_or(text.len(), |i| end + i);
        let code = |line: &str| line.split("//").next().unwrap_or_default().trim().to_owned();
        let tail = text[end..last].split("//").next().unwrap_or_default().trim_end();
        let line = format!("{}{{{} => {}}}{tail}", &text[first..self.at], self.original, self.replacement);
        // the same line may stand in several places
        let own = code(&text[first..last]);
        let n_before = text[..first].lines().filter(|line| code(line) == own).count();
        let occurrence = if n_before == 0 {
            String::new()
        } else {
            format!(" #{}", n_before + 1)
        };
        format!("{}.wgsl: {}{occurrence}", file.name, line.trim())
    }

    /// Whether some variant is still valid WGSL with it. Attention has dozens, which differ in sizes alone; eight will do.
    pub(crate) fn is_valid(&self, file: &File) -> bool {
        let changed = self.apply(file);
        let mut variants = file.variants.iter().step_by(file.variants.len().div_ceil(8));
        variants.any(|variant| parses(variant, &whole(variant).replacen(&file.text, &changed, 1)))
    }
}

fn parses(variant: &Variant, text: &str) -> bool {
    use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
    let Ok(module) = naga::front::wgsl::parse_str(text) else {
        return false;
    };
    let mut capabilities = Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SHADER_FLOAT16, variant.needs_f16());
    capabilities.set(Capabilities::SUBGROUP, variant.needs_subgroups());
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(ShaderStages::COMPUTE);
    validator.subgroup_operations(SubgroupOperationSet::all());
    validator.validate(&module).is_ok()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Barrier => "barrier",
            Self::Negated => "negated",
            Self::Boundary => "boundary",
            Self::Stride => "stride",
            Self::Bound => "bound",
            Self::Offset => "offset",
        })
    }
}
