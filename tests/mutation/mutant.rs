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
        // the CPU drivers that judge have no matrix units
        let variants = Variant::all().into_iter().filter(|variant| !variant.needs_coop());
        let composed: Vec<(Variant, String)> = variants.map(|variant| (variant, whole(&variant))).collect();
        let file = |name: String| {
            let text = fs::read_to_string(root.join(&name).with_extension("wgsl")).expect("a kernel's file can be read");
            let users = composed.iter().filter(|(_, whole)| whole.contains(&text));
            let variants = users.map(|(variant, _)| *variant).collect();
            Self { name, text, variants }
        };
        // what only measures or tries out an adapter has no cases
        let is_tool = |variant: &Variant| matches!(variant, Variant::Probe(_) | Variant::Peak(_));
        let files = names.into_iter().map(file);
        files.filter(|file| !file.variants.iter().all(is_tool)).collect()
    }

    /// The kernels that it is part of, those first whose quick cases take least.
    pub(crate) fn kernels(&self) -> Vec<&'static str> {
        const SLOW: [&str; 6] = [
            "topk",
            "matvec",
            "matmul",
            "matmul_experts",
            "attention_decode",
            "attention_prefill",
        ];
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
}

/// What the changes to one file compile to, beside the file as it is.
pub(crate) struct Compiled<'a> {
    file: &'a File,
    /// Of every variant, its text and SPIR-V.
    originals: Vec<(Variant, String, Vec<u32>)>,
}

impl<'a> Compiled<'a> {
    pub(crate) fn new(file: &'a File) -> Self {
        let original = |variant: &Variant| {
            let text = whole(variant);
            let words = spirv(variant, &text).expect("the kernels are valid");
            (*variant, text, words)
        };
        let originals = file.variants.iter().map(original).collect();
        Self { file, originals }
    }

    /// Whether it is valid WGSL, and says something else than the file does, in some variant: the compiler folds `65u / 4u` and
    /// `64u / 4u` to the same. Attention has dozens of variants that differ in sizes alone, so eight are asked first.
    pub(crate) fn is_telling(&self, mutant: &Mutant) -> bool {
        let changed = mutant.apply(self.file);
        let step = self.originals.len().div_ceil(8);
        let (mut valid, mut asked) = (false, 0);
        let first = self.originals.iter().step_by(step);
        for (variant, text, words) in first.chain(self.originals.iter().filter(|_| step > 1)) {
            asked += 1;
            if asked > 8 && !valid {
                return false;
            }
            match spirv(variant, &text.replacen(&self.file.text, &changed, 1)) {
                Some(others) if others != *words => return true,
                Some(_) => valid = true,
                None => {}
            }
        }
        false
    }
}

/// What wgpu would hand to a Vulkan driver, if the text is valid.
fn spirv(variant: &Variant, text: &str) -> Option<Vec<u32>> {
    use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
    let module = naga::front::wgsl::parse_str(text).ok()?;
    let mut capabilities = Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SHADER_FLOAT16, variant.needs_f16());
    capabilities.set(Capabilities::SUBGROUP, variant.needs_subgroups());
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(ShaderStages::COMPUTE);
    validator.subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).ok()?;
    let options = naga::back::spv::Options {
        lang_version: (1, 3),
        ..Default::default()
    };
    naga::back::spv::write_vec(&module, &info, &options, None).ok()
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
