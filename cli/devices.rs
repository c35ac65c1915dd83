//! `qwgpu devices`: every adapter of this machine and what qwgpu may use of it.

use anyhow::{Result, bail};
use qwgpu_runtime::self_test::{self, Distrust, Path};
use qwgpu_runtime::{AdapterInfo, Caps, GpuOptions, list_adapters};
use serde::Serialize;

use crate::args::DevicesArgs;
use crate::output::{JSON_VERSION, human_bytes, print, print_json};
use crate::table::Table;

/// What to say where there is none.
pub(crate) const NO_ADAPTER: &str =
    "there is no Vulkan, Metal, DX12 or GL adapter; install your GPU's driver, or a software one (Debian and Ubuntu: mesa-vulkan-drivers)";

/// Runs the command.
///
/// # Errors
/// When there is no adapter (not with `--json`, whose list is empty then).
pub(crate) fn run(args: &DevicesArgs) -> Result<()> {
    let options = GpuOptions::from_env()?;
    let adapters: Vec<(AdapterInfo, Vec<Distrust>)> = list_adapters()?
        .into_iter()
        .map(|info| self_test::remembered(&info, &options).map(|distrusted| (info, distrusted)))
        .collect::<Result<_, _>>()?;
    if args.json {
        return print_json(&Report {
            version: JSON_VERSION,
            adapters: adapters.iter().map(|(info, distrusted)| Entry::new(info, distrusted)).collect(),
        });
    }
    if adapters.is_empty() {
        bail!(NO_ADAPTER);
    }
    let mut table = Table::new(&[
        ">#",
        "name",
        "backend",
        "kind",
        "f16",
        "subgroups",
        "coop matrices",
        ">binding",
        ">buffer",
        "driver",
    ]);
    for (info, distrusted) in &adapters {
        let caps = &info.caps;
        // what a self-test has found wrong is off, whatever the adapter says
        let cell = |path, text| {
            if distrusted.iter().any(|d| d.path == path) {
                "wrong".into()
            } else {
                text
            }
        };
        table.row(vec![
            info.index.to_string(),
            info.name.clone(),
            info.backend.clone(),
            info.kind.clone(),
            cell(Path::F16, if caps.f16 { "yes" } else { "no" }.into()),
            cell(Path::Subgroup, subgroups(caps.subgroup, caps.subgroup_min, caps.subgroup_max)),
            cell(Path::Coop, coop(caps)),
            human_bytes(caps.max_binding),
            human_bytes(caps.max_buffer),
            info.driver.clone(),
        ]);
    }
    let why = adapters.iter().flat_map(|(info, distrusted)| {
        let line = |distrust: &Distrust| format!("\nOn {} {distrust}\n", info.label());
        distrusted.iter().map(line).collect::<Vec<String>>()
    });
    print(&(table.plain() + &why.collect::<String>()))
}

/// Their sizes, or that there are none.
pub(crate) fn subgroups(there: bool, min: u32, max: u32) -> String {
    match (there, min == max) {
        (false, _) => "no".into(),
        (true, true) => min.to_string(),
        (true, false) => format!("{min}-{max}"),
    }
}

/// Sizes as m x n x k, each once.
fn coop(caps: &Caps) -> String {
    let mut shapes: Vec<String> = caps
        .coop
        .iter()
        .map(|shape| format!("{}x{}x{}", shape.m, shape.n, shape.k))
        .collect();
    shapes.sort();
    shapes.dedup();
    if shapes.is_empty() { "no".into() } else { shapes.join(" ") }
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    adapters: Vec<Entry<'a>>,
}

/// One adapter.
#[derive(Serialize)]
struct Entry<'a> {
    index: usize,
    name: &'a str,
    backend: &'a str,
    kind: &'a str,
    driver: &'a str,
    vendor: u32,
    device: u32,
    #[serde(flatten)]
    caps: CapsEntry,
    /// Paths that a self-test has found wrong, so that they stay off, and why; known once the adapter has been used.
    distrusted: Vec<serde_json::Value>,
}

/// Capabilities as JSON has them; sizes are in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct CapsEntry {
    pub(crate) f16: bool,
    pub(crate) subgroup: bool,
    pub(crate) subgroup_min: u32,
    pub(crate) subgroup_max: u32,
    pub(crate) coop: Vec<CoopEntry>,
    pub(crate) dot: bool,
    pub(crate) timestamps: bool,
    pub(crate) max_binding: u64,
    pub(crate) max_buffer: u64,
    pub(crate) workgroup_memory: u32,
    pub(crate) max_invocations: u32,
    pub(crate) max_workgroups: u32,
    pub(crate) max_storage_buffers: u32,
    pub(crate) max_immediates: u32,
}

/// A shape of cooperative matrices.
#[derive(Debug, Serialize)]
pub(crate) struct CoopEntry {
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k: u32,
    pub(crate) operands: String,
    pub(crate) accumulator: String,
}

impl<'a> Entry<'a> {
    fn new(info: &'a AdapterInfo, distrusted: &[Distrust]) -> Self {
        Self {
            index: info.index,
            name: &info.name,
            backend: &info.backend,
            kind: &info.kind,
            driver: &info.driver,
            vendor: info.vendor,
            device: info.device,
            caps: CapsEntry::new(&info.caps),
            distrusted: distrusted
                .iter()
                .map(|distrust| serde_json::json!({ "path": distrust.path.name(), "why": distrust.why }))
                .collect(),
        }
    }
}

impl CapsEntry {
    pub(crate) fn new(caps: &Caps) -> Self {
        let coop = caps.coop.iter().map(|shape| CoopEntry {
            m: shape.m,
            n: shape.n,
            k: shape.k,
            operands: shape.operands.clone(),
            accumulator: shape.accumulator.clone(),
        });
        Self {
            f16: caps.f16,
            subgroup: caps.subgroup,
            subgroup_min: caps.subgroup_min,
            subgroup_max: caps.subgroup_max,
            coop: coop.collect(),
            dot: caps.dot,
            timestamps: caps.timestamps,
            max_binding: caps.max_binding,
            max_buffer: caps.max_buffer,
            workgroup_memory: caps.workgroup_memory,
            max_invocations: caps.max_invocations,
            max_workgroups: caps.max_workgroups,
            max_storage_buffers: caps.max_storage_buffers,
            max_immediates: caps.max_immediates,
        }
    }
}
