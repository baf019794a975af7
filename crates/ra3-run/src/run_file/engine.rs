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
    Torch(TorchSection),
}

/// Models of PyTorch, in a process that this program starts.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TorchSection {
    /// The interpreter that has torch, transformers, safetensors and numpy: a command, or a path.
    pub python: String,
    /// Where models are.
    pub device: DeviceName,
    /// What passes are computed in; weights, gradients and the optimizer are float32.
    pub dtype: Precision,
    /// Layers are compiled (`torch.compile`) for passes that train; those that draw and score are
    /// as they were.
    pub compile: bool,
    /// Passes that draw and score are recorded on a GPU and replayed (CUDA graphs), for fewer
    /// launches; a processor has none. May change the last bits.
    pub cuda_graphs: bool,
    /// How long a request, such as an update, may go without an answer; then the run ends with an
    /// error, and goes on from its last commit.
    pub deadline_s: u64,
    /// Processes that share the work of every request, on a GPU of their own each, or on a part of
    /// `n_threads`. Another number may change the last bits.
    pub processes: usize,
    /// What each of several processes has of a model that is trained. Changes the last bits at
    /// most.
    pub sharding: Sharding,
    /// `HOST:PORT` of this machine where the worker comes to that is started elsewhere, by the line
    /// that a run says; without it one is started here.
    pub listen: Option<String>,
    /// Adapters of low rank (LoRA), which alone are trained, with the rows of tokens that the model
    /// does not know; all weights are trained where it is not there.
    pub lora: Option<LoraSection>,
}

impl Default for TorchSection {
    fn default() -> Self {
        Self {
            python: "python3".to_owned(),
            device: DeviceName::Auto,
            dtype: Precision::Float32,
            compile: false,
            cuda_graphs: false,
            deadline_s: 600,
            processes: 1,
            sharding: Sharding::None,
            listen: None,
            lora: None,
        }
    }
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
            Self::Torch(_) => "torch",
        }
    }

    /// True where models are in this machine's memory whatever else it has.
    pub(crate) fn is_on_processor(&self) -> bool {
        match self {
            Self::Native {} => true,
            Self::Torch(torch) => torch.device == DeviceName::Cpu,
        }
    }
}

/// Where models of PyTorch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceName {
    /// The first GPU where PyTorch sees one, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// The first GPU; that PyTorch sees none is an error.
    Cuda,
}

/// What each of several processes has of the weights, the gradient and the optimizer's moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharding {
    /// All weights, the gradient of all of them, and the moments of some.
    None,
    /// A part of each tensor, by FSDP2.
    Full,
}
