//! `qwgpu devices`: every adapter of this machine and what qwgpu may use of it.

use anyhow::{Result, bail};
use qwgpu_runtime::self_test::{self, Distrust, Path};
use qwgpu_runtime::{AdapterInfo, Caps, GpuOptions, list_adapters};
use serde::Serialize;

use crate::args::DevicesArgs;
use crate::output::{JSON_VERSION, human_bytes, print, print_json};
use crate::table::Table;

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
        bail!(
            "there is no Vulkan, Metal, DX12 or GL adapter; install your GPU's driver, or a software one (Debian and Ubuntu: mesa-vulkan-drivers)"
        );
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
            cell(Path::Subgroup, subgroups(caps)),
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

fn subgroups(caps: &Caps) -> String {
    match (caps.subgroup, caps.subgroup_min == caps.subgroup_max) {
        (false, _) => "no".into(),
        (true, true) => caps.subgroup_min.to_string(),
        (true, false) => format!("{}-{}", caps.subgroup_min, caps.subgroup_max),
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

/// One adapter; sizes are in bytes.
#[derive(Serialize)]
struct Entry<'a> {
    index: usize,
    name: &'a str,
    backend: &'a str,
    kind: &'a str,
    driver: &'a str,
    vendor: u32,
    device: u32,
    f16: bool,
    subgroup: bool,
    subgroup_min: u32,
    subgroup_max: u32,
    coop: Vec<serde_json::Value>,
    dot: bool,
    /// Paths that a self-test has found wrong, so that they stay off, and why; known once the adapter has been used.
    distrusted: Vec<serde_json::Value>,
    timestamps: bool,
    max_binding: u64,
    max_buffer: u64,
    workgroup_memory: u32,
    max_invocations: u32,
    max_workgroups: u32,
    max_storage_buffers: u32,
    max_immediates: u32,
}

impl<'a> Entry<'a> {
    fn new(info: &'a AdapterInfo, distrusted: &[Distrust]) -> Self {
        let caps = &info.caps;
        let coop = caps.coop.iter().map(|shape| {
            serde_json::json!({ "m": shape.m, "n": shape.n, "k": shape.k, "operands": shape.operands, "accumulator": shape.accumulator })
        });
        Self {
            index: info.index,
            name: &info.name,
            backend: &info.backend,
            kind: &info.kind,
            driver: &info.driver,
            vendor: info.vendor,
            device: info.device,
            f16: caps.f16,
            subgroup: caps.subgroup,
            subgroup_min: caps.subgroup_min,
            subgroup_max: caps.subgroup_max,
            coop: coop.collect(),
            dot: caps.dot,
            distrusted: distrusted
                .iter()
                .map(|distrust| serde_json::json!({ "path": distrust.path.name(), "why": distrust.why }))
                .collect(),
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
