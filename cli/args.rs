//! The command line. What `--help` says is written here, next to what it describes.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::model_args::ModelArgs;
use crate::sampling::SamplingArgs;
use crate::test::TestArgs;

/// Runs models of the Qwen2 family on any Vulkan, Metal or DX12 GPU.
#[derive(Debug, Parser)]
#[command(name = "qwgpu", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true, after_help = CLI_EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const CLI_EXAMPLES: &str = "\
Examples:
  qwgpu run                                    Chat with the demo model; no download
  qwgpu run \"Tell me a story about a fox.\"     One answer, then end
  qwgpu run -m Qwen/Qwen2.5-0.5B-Instruct      Download a model, then chat with it
  qwgpu run -m ./my-model -n 100 \"Once upon\"   A folder with config.json and .safetensors files
  qwgpu devices                                Which GPUs there are
  qwgpu inspect -m ./my-model                  What a model is, and how much memory it takes
  qwgpu bench -p 512 -n 128                    How fast this machine is
  qwgpu test                                   Whether its GPUs and their drivers compute right

Exit codes: 0 done, 1 failed, 2 wrong command line, 130 interrupted with Ctrl-C.
Environment: QWGPU_ADAPTER, QWGPU_MEMORY_MIB, QWGPU_DISABLE=f16,subgroup,coop,dot, QWGPU_HISTORY,
HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Chat with a model, or have it answer one prompt
    Run(RunArgs),
    /// List the adapters of this machine and what they can do
    Devices(DevicesArgs),
    /// Show a model's configuration, tensors and memory needs
    Inspect(InspectArgs),
    /// Write the logits of all positions to a .safetensors file
    Logits(LogitsArgs),
    /// Measure how well a model predicts a text
    Perplexity(PerplexityArgs),
    /// Measure prefill and decode speed
    Bench(BenchArgs),
    /// Check that the kernels compute right on each adapter and its driver
    Test(TestArgs),
}

/// `qwgpu run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    /// What to ask; without it, standard input where that is a pipe, else a chat
    #[arg(conflicts_with = "ids")]
    pub(crate) prompt: Option<String>,
    /// Longest answer in tokens [default: the model's own limit, else the rest of the context]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,
    /// Instructions that the model keeps in mind throughout
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["raw", "ids"])]
    pub(crate) system: Option<String>,
    /// Continue the prompt as it is, without the model's chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// The prompt as token ids, such as 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) ids: Option<Vec<u32>>,
    /// Print one JSON object at the end instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Say on standard error how fast it was and what memory it took
    #[arg(long)]
    pub(crate) stats: bool,
    /// Say on standard error how often each expert of a mixture of experts was chosen, prompt included
    #[arg(long)]
    pub(crate) expert_stats: bool,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

const RUN_EXAMPLES: &str = "\
Examples:
  qwgpu run                                             Chat; /help lists what else can be typed
  qwgpu run \"Tell me a story about a fox.\" --seed 7     The same seed gives the same story
  qwgpu run --greedy --stats \"Tell me a story.\"         Always the likeliest word; speed on stderr
  echo \"Tell me a story.\" | qwgpu run                   The prompt from a pipe
  qwgpu run --raw -n 50 \"Once upon a time\"              Continue a text
  qwgpu run --ids 12,345,6 --json | jq .ids             Tokens in, tokens out

Sampling starts from the model's generation_config.json. Where that does not ask for sampling
(`do_sample`), and no sampling option is given, the likeliest token is taken.";

/// `qwgpu devices`.
#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// `qwgpu inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  qwgpu inspect ./my-model
  qwgpu inspect Qwen/Qwen2.5-7B-Instruct --ctx 32768
  qwgpu inspect --json | jq .n_parameters

No GPU is needed. Where there are any, each is compared with the model's needs.")]
pub(crate) struct InspectArgs {
    /// A folder, a Hugging Face repository id, or `demo`
    #[arg(value_name = "MODEL", conflicts_with = "model_option", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) model: Option<String>,
    /// The same, as other commands take it
    #[arg(short = 'm', long = "model", value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) model_option: Option<String>,
    /// One context to plan for instead of several
    #[arg(long, value_name = "TOKENS")]
    pub(crate) ctx: Option<usize>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `qwgpu logits`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file holds one F32 tensor, `logits`, of shape [n_tokens, vocab_size]: row i is what the model
makes of tokens 0 to i.

Example:
  qwgpu logits -m ./my-model --ids 1,2,3 -o logits.safetensors")]
pub(crate) struct LogitsArgs {
    /// The tokens, such as 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',', required = true, allow_hyphen_values = true)]
    pub(crate) ids: Vec<u32>,
    /// The file to write; an existing one is replaced
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// `qwgpu perplexity`.
#[derive(Debug, Args)]
#[command(after_help = "\
The text is encoded as a whole, without a template and with nothing put before it, and cut into
windows of N tokens that do not overlap. Each window is read by itself, from an empty context.
Every token but the first of its window is scored: its negative log-likelihood, in nats, given the
tokens before it in the window. `mean_nll` is the mean over all scored tokens, `ppl` is e to the
mean_nll. A last, shorter window counts if it has two tokens.

Examples:
  qwgpu perplexity -m ./my-model wiki.test.txt
  qwgpu perplexity --window 256 --json story.txt")]
pub(crate) struct PerplexityArgs {
    /// A UTF-8 text file
    pub(crate) file: PathBuf,
    /// Tokens in a window, 2 or more
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) window: usize,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// `qwgpu bench`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
The protocol is llama-bench's. ppN reads N random tokens, in steps of -b; tgN makes N tokens one by
one. `@ dN` does so after N tokens of context, which are not timed. Each test runs once to warm up,
then -r times; t/s is mean ± standard deviation. Tokenising and sampling are left out: random ids
go in, and the GPU picks the likeliest token.

Examples:
  qwgpu bench                                  The demo model
  qwgpu bench -m ./my-model -p 512,2048 -n 128 -d 0,8192
  qwgpu bench --shape 7b -o json               Random weights in the shape of a 7B model; no file
  qwgpu bench kernels                          Every kernel, against what the adapter can do
  qwgpu bench --compare old.json new.json      What got faster or slower between two -o json files"
)]
pub(crate) struct BenchArgs {
    /// What to measure instead of a model
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,
    /// Compare two files that -o json printed, of models or of kernels, and measure nothing
    #[arg(long, value_names = ["OLD", "NEW"], num_args = 2, exclusive = true)]
    pub(crate) compare: Option<Vec<PathBuf>>,
    /// Random weights in this shape, made on the GPU, instead of a model
    #[arg(long, value_parser = ["0.5b", "1.5b", "7b", "57b-a14b", "72b"], conflicts_with = "name")]
    pub(crate) shape: Option<String>,
    /// With --shape, only this many layers
    #[arg(long, value_name = "N", requires = "shape")]
    pub(crate) layers: Option<usize>,
    /// Seed of the random weights and prompts
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u32,
    /// Prompt lengths to read, by comma; 0 for none
    #[arg(short = 'p', long = "prompt", value_name = "N,..", value_delimiter = ',', default_value = "512")]
    pub(crate) n_prompt: Vec<usize>,
    /// Numbers of tokens to make, by comma; 0 for none
    #[arg(short = 'n', long = "gen", value_name = "N,..", value_delimiter = ',', default_value = "128")]
    pub(crate) n_gen: Vec<usize>,
    /// Tokens in the context before a test, by comma
    #[arg(short = 'd', long = "depth", value_name = "N,..", value_delimiter = ',', default_value = "0")]
    pub(crate) n_depth: Vec<usize>,
    /// Timed runs of each test
    #[arg(short = 'r', long, value_name = "N", default_value_t = 5)]
    pub(crate) repetitions: usize,
    /// First recompute sampled outputs of every operation in f64, and fail where they are off
    #[arg(long)]
    pub(crate) check: bool,
    /// Say on standard error what each kernel takes of one step of each test, by the GPU's own clock
    #[arg(long)]
    pub(crate) profile: bool,
    /// How to print the results: a Markdown table, CSV, one JSON object, or one a line
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Md)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// What `qwgpu bench` measures besides models.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure every kernel against the adapter's own ceilings
    Kernels(KernelsArgs),
}

/// `qwgpu bench kernels`.
#[derive(Debug, Args)]
#[command(after_help = "\
First the adapter's ceilings are measured: reading memory, and arithmetic of each kind that it has.
Then every kernel runs on the shapes of real models, and is compared with the shortest time that
the ceilings allow for the bytes it has to move and the f32 operations it has to do. A sample is a
few milliseconds of dispatches back to back; the median counts, ± is the median deviation from it.
The dispatches go round copies of the data, so that caches hold none of it; --warm keeps to one
copy, and may then read faster than memory is.

Examples:
  qwgpu bench kernels --html roofline.html
  qwgpu bench kernels --kernel matvec --kernel rms_norm -o json > new.json
  qwgpu bench kernels --ceilings")]
pub(crate) struct KernelsArgs {
    /// Only this kernel; may be given several times
    #[arg(long = "kernel", value_name = "NAME")]
    pub(crate) kernels: Vec<String>,
    /// The adapter to run on: its index in `qwgpu devices`, or part of its name [default: the best GPU]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) adapter: Option<String>,
    /// Run on one copy of the data, which caches may hold
    #[arg(long)]
    pub(crate) warm: bool,
    /// Samples of each case; slow cases take fewer, but 5
    #[arg(short = 'r', long, value_name = "N", default_value_t = 30)]
    pub(crate) repetitions: usize,
    /// Only measure the ceilings
    #[arg(long, conflicts_with_all = ["kernels", "warm", "html"])]
    pub(crate) ceilings: bool,
    /// Also write a page with a roofline plot and the table; an existing file is replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// How to print the results: Markdown tables, CSV, one JSON object, or one a line
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Md)]
    pub(crate) output: Format,
}

/// Output of `qwgpu bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Md,
    Csv,
    Json,
    Jsonl,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
