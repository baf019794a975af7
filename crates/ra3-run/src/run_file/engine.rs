//! The section of the run file that says what runs and trains models.

use ra3_lm::config::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What runs and trains models.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EngineSection {
    /// This program, on the processor.
    Native {},
    /// Models of PyTorch, in a process that this program starts.
    Torch {
        /// The interpreter that has torch, transformers, safetensors and numpy: a command, or a
        /// path.
        #[serde(default = "python")]
        python: String,
        /// Where models are.
        #[serde(default)]
        device: DeviceName,
        /// What passes are computed in; weights, gradients and the optimizer are float32.
        #[serde(default = "dtype")]
        dtype: Precision,
        /// Layers are compiled (`torch.compile`) for passes that train; those that draw and score
        /// are as they were.
        #[serde(default)]
        compile: bool,
        /// How long a request, such as an update, may go without an answer; then the run ends with
        /// an error, and goes on from its last commit.
        #[serde(default = "deadline_s")]
        deadline_s: u64,
        /// Processes that share the work of every request, on a GPU of their own each, or on a part
        /// of `n_threads`. Another number may change the last bits.
        #[serde(default = "processes")]
        processes: usize,
        /// What each of several processes has of a model that is trained. Changes the last bits at
        /// most.
        #[serde(default)]
        sharding: Sharding,
        /// `HOST:PORT` of this machine where the worker comes to that is started elsewhere, by the
        /// line that a run says; without it one is started here.
        #[serde(default)]
        listen: Option<String>,
        /// Adapters of low rank (LoRA), which alone are trained, with the rows of tokens that the
        /// model does not know; all weights are trained where it is not there.
        #[serde(default)]
        lora: Option<LoraSection>,
    },
}

/// Adapters: `W + alpha / rank B A` in the place of the weight of a product.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraSection {
    /// Rows of `A`, and columns of `B`.
    pub rank: usize,
    /// Times `1 / rank`, what `B A` is multiplied with.
    pub alpha: f64,
    /// Products that have an adapter.
    #[schemars(extend("x-default" = "[\"all-linear\"]"))]
    pub target_modules: Vec<LoraTarget>,
}

impl Default for LoraSection {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            target_modules: vec![LoraTarget::AllLinear],
        }
    }
}

/// Products of a layer, by their names in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum LoraTarget {
    /// All products of the layers; it stands alone.
    #[serde(rename = "all-linear")]
    AllLinear,
    /// Queries.
    #[serde(rename = "q_proj")]
    Queries,
    /// Keys.
    #[serde(rename = "k_proj")]
    Keys,
    /// Values.
    #[serde(rename = "v_proj")]
    Values,
    /// What attention found.
    #[serde(rename = "o_proj")]
    Output,
    /// The gate of the feed-forward part.
    #[serde(rename = "gate_proj")]
    Gate,
    /// What is gated.
    #[serde(rename = "up_proj")]
    Up,
    /// The way back.
    #[serde(rename = "down_proj")]
    Down,
}

impl LoraTarget {
    /// As it is written.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::AllLinear => "all-linear",
            Self::Queries => "q_proj",
            Self::Keys => "k_proj",
            Self::Values => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }
}

impl Default for EngineSection {
    fn default() -> Self {
        Self::Native {}
    }
}

impl EngineSection {
    /// Its kind, as it is written.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Native {} => "native",
            Self::Torch { .. } => "torch",
        }
    }

    /// True where models are in this machine's memory whatever else it has.
    pub(crate) const fn is_on_processor(&self) -> bool {
        matches!(
            self,
            Self::Native {}
                | Self::Torch {
                    device: DeviceName::Cpu,
                    ..
                }
        )
    }
}

/// Where models of PyTorch are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceName {
    /// The first GPU where PyTorch sees one, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The first GPU; that PyTorch sees none is an error.
    Cuda,
}

impl DeviceName {
    /// As it is written.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// What each of several processes has of the weights, the gradient and the optimizer's moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharding {
    /// All weights, the gradient of all of them, and the moments of some.
    #[default]
    None,
    /// A part of each tensor, by FSDP2.
    Full,
}

impl Sharding {
    /// As it is written.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Full => "full",
        }
    }
}

fn python() -> String {
    "python3".to_owned()
}

const fn dtype() -> Precision {
    Precision::Float32
}

const fn processes() -> usize {
    1
}

const fn deadline_s() -> u64 {
    600
}
