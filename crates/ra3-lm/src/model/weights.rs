//! All parameters in one flat arena, under the names that checkpoints use.
//!
//! Gradients and the optimizer's moments have the same layout, so clipping, AdamW and checkpoints
//! are loops over flat slices. Matrices are row-major `[out, in]`, as on disk.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use half::bf16;
use ra3::seed::Seed;

use super::config::{Biases, ModelConfig};
use crate::device::allocator::filled;
use crate::device::halves::Panels;
use crate::device::matrix::Matrix;

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name on disk.
    pub name: String,
    /// Its shape: `[out, in]` or `[n]`.
    pub shape: Vec<usize>,
    /// Its place in the arena.
    pub range: Range<usize>,
}

/// A weight `[out, in]` and its bias.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Range<usize>,
    pub(crate) bias: Option<Range<usize>>,
    pub(crate) n_in: usize,
    pub(crate) n_out: usize,
}

/// Places of a layer's tensors.
#[derive(Clone, Debug)]
pub(crate) struct LayerLayout {
    pub(crate) attention_norm: Range<usize>,
    /// To queries, keys and values.
    pub(crate) projections: [Linear; 3],
    /// Gains of the norms of q's and k's heads.
    pub(crate) head_norms: Option<[Range<usize>; 2]>,
    /// Projection of what the heads found.
    pub(crate) output: Linear,
    pub(crate) mlp_norm: Range<usize>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// Where every tensor of a model lies.
#[derive(Clone, Debug)]
pub struct Layout {
    /// All tensors in the order of the arena.
    pub tensors: Vec<Tensor>,
    pub(crate) embedding: Range<usize>,
    pub(crate) layers: Vec<LayerLayout>,
    pub(crate) final_norm: Range<usize>,
    /// Projection to the vocabulary.
    pub(crate) head: Linear,
}

impl Layout {
    /// The layout of a model.
    pub fn new(config: &ModelConfig) -> Self {
        let (d, v) = (config.hidden_size, config.vocab_size);
        let mut tensors = Vec::new();
        let embedding = push(&mut tensors, "model.embed_tokens.weight", &[v, d]);
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let prefix = format!("model.layers.{index}");
                layer(config, &mut |name, shape| {
                    push(&mut tensors, &format!("{prefix}.{name}"), shape)
                })
            })
            .collect();
        let final_norm = push(&mut tensors, "model.norm.weight", &[d]);
        let head = if config.tie_word_embeddings {
            embedding.clone()
        } else {
            push(&mut tensors, "lm_head.weight", &[v, d])
        };
        Self {
            tensors,
            embedding,
            layers,
            final_norm,
            head: Linear {
                weight: head,
                bias: None,
                n_in: d,
                n_out: v,
            },
        }
    }

    /// All products with weights.
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let layers = self.layers.iter().flat_map(|layer| {
            let others = [&layer.output, &layer.gate, &layer.up, &layer.down];
            layer.projections.iter().chain(others)
        });
        layers.chain([&self.head])
    }

    /// Number of parameters.
    pub fn n_params(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.range.end)
    }
}

/// A layer's tensors, in the order of the arena.
fn layer(config: &ModelConfig, add: &mut dyn FnMut(&str, &[usize]) -> Range<usize>) -> LayerLayout {
    let (d, ff) = (config.hidden_size, config.intermediate_size);
    let (qw, kv) = (config.query_width(), config.key_width());
    let attention_norm = add("input_layernorm.weight", &[d]);
    let parts = [("q", qw), ("k", kv), ("v", kv)];
    let mut projections =
        parts.map(|(of, n_out)| linear(add, &format!("self_attn.{of}_proj"), [n_out, d]));
    if config.biases != Biases::None {
        for (linear, (of, n_out)) in projections.iter_mut().zip(parts) {
            linear.bias = Some(add(&format!("self_attn.{of}_proj.bias"), &[n_out]));
        }
    }
    let mut output = linear(add, "self_attn.o_proj", [d, qw]);
    if config.biases == Biases::All {
        output.bias = Some(add("self_attn.o_proj.bias", &[d]));
    }
    let mut head_norm = |of| add(&format!("self_attn.{of}_norm.weight"), &[config.head_dim()]);
    LayerLayout {
        attention_norm,
        projections,
        output,
        head_norms: config
            .has_head_norms()
            .then(|| ["q", "k"].map(&mut head_norm)),
        mlp_norm: add("post_attention_layernorm.weight", &[d]),
        gate: linear(add, "mlp.gate_proj", [ff, d]),
        up: linear(add, "mlp.up_proj", [ff, d]),
        down: linear(add, "mlp.down_proj", [d, ff]),
    }
}

/// A product without a bias.
fn linear(
    add: &mut dyn FnMut(&str, &[usize]) -> Range<usize>,
    name: &str,
    [n_out, n_in]: [usize; 2],
) -> Linear {
    Linear {
        weight: add(&format!("{name}.weight"), &[n_out, n_in]),
        bias: None,
        n_in,
        n_out,
    }
}

fn push(tensors: &mut Vec<Tensor>, name: &str, shape: &[usize]) -> Range<usize> {
    let start = tensors.last().map_or(0, |tensor| tensor.range.end);
    let range = start..start + shape.iter().product::<usize>();
    tensors.push(Tensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        range: range.clone(),
    });
    range
}

/// A model's parameters.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Where everything lies.
    pub layout: Layout,
    /// The numbers; empty where `halves` has them.
    data: Vec<f32>,
    /// The numbers of a model that is run and not trained, at half the memory.
    halves: Vec<bf16>,
    /// The matrices as products in `bf16` read them, by where each begins; made at the first such
    /// product after a change.
    panels: OnceLock<HashMap<usize, Panels>>,
    version: Version,
}

/// What tells numbers from others: copies have the same one, changed numbers a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

impl Weights {
    /// `N(0, deviation)` for matrices (projections into the residual stream divided by
    /// `√(2 · layers)`), ones for norms, zeros for biases.
    pub fn random(config: &ModelConfig, seed: Seed) -> Self {
        let deviation = config.initializer_range;
        let layout = Layout::new(config);
        let mut data = filled(0.0, layout.n_params());
        let residual = deviation / (2.0 * config.num_hidden_layers as f32).sqrt();
        for (index, tensor) in layout.tensors.iter().enumerate() {
            let place = &mut data[tensor.range.clone()];
            if tensor.name.ends_with("norm.weight") {
                place.fill(1.0);
            } else if tensor.shape.len() == 2 {
                let into_residual = ["o_proj.weight", "down_proj.weight"];
                let is_residual = into_residual.iter().any(|name| tensor.name.ends_with(name));
                let deviation = if is_residual { residual } else { deviation };
                fill_normal(place, deviation, seed.nth(index as u64));
            }
        }
        Self::wide(layout, data)
    }

    /// Weights that can be trained.
    pub(crate) fn wide(layout: Layout, data: Vec<f32>) -> Self {
        Self {
            layout,
            data,
            halves: Vec::new(),
            panels: OnceLock::new(),
            version: Version::new(),
        }
    }

    /// Weights that are run and not trained.
    pub(crate) fn half(layout: Layout, halves: Vec<bf16>) -> Self {
        Self {
            layout,
            data: Vec::new(),
            halves,
            panels: OnceLock::new(),
            version: Version::new(),
        }
    }

    /// All numbers, in the order of the arena; none of weights in `bf16`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All numbers, to be changed.
    pub fn data_mut(&mut self) -> &mut [f32] {
        self.parts_mut().1
    }

    /// [`Self::data_mut`], and where everything lies in it.
    pub(crate) fn parts_mut(&mut self) -> (&Layout, &mut [f32]) {
        self.forget();
        (&self.layout, &mut self.data)
    }

    /// What was made of the numbers is not theirs any more.
    fn forget(&mut self) {
        self.panels = OnceLock::new();
        self.version = Version::new();
    }

    /// Of the numbers as they are.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// True if the numbers are `bf16`, for running only.
    pub(crate) fn is_half(&self) -> bool {
        !self.halves.is_empty()
    }

    /// Rounds the numbers to `bf16`, for running only.
    pub(crate) fn halve(&mut self) {
        if !self.is_half() {
            self.halves = self.data.iter().map(|w| bf16::from_f32(*w)).collect();
            self.data = Vec::new();
            self.forget();
        }
    }

    /// Undoes [`Self::halve`] but for the rounding.
    pub(crate) fn widen(&mut self) {
        if self.is_half() {
            self.data = self.halves.iter().map(|w| w.to_f32()).collect();
            self.halves = Vec::new();
            self.forget();
        }
    }

    /// A tensor of weights that can be trained.
    pub(crate) fn at(&self, range: &Range<usize>) -> &[f32] {
        &self.data[range.clone()]
    }

    /// A small tensor, or some rows of a large one.
    pub(crate) fn vector(&self, range: &Range<usize>) -> Cow<'_, [f32]> {
        if self.is_half() {
            let widened = self.halves[range.clone()].iter().map(|w| w.to_f32());
            Cow::Owned(widened.collect())
        } else {
            Cow::Borrowed(self.at(range))
        }
    }

    /// A matrix as it lies in memory.
    pub(crate) fn matrix(&self, range: &Range<usize>) -> Matrix<'_> {
        if self.is_half() {
            Matrix::Bf16(&self.halves[range.clone()])
        } else {
            Matrix::F32(self.at(range))
        }
    }

    /// A matrix in `bf16`, packed for products.
    pub(crate) fn panels(&self, linear: &Linear) -> &Panels {
        let all = self.panels.get_or_init(|| {
            let linears = self.layout.linears();
            let pack = |linear: &Linear| {
                let weight = self.matrix(&linear.weight);
                (linear.weight.start, Panels::of_weight(weight, linear.n_in))
            };
            linears.map(pack).collect()
        });
        &all[&linear.weight.start]
    }
}

/// Normal numbers.
pub(crate) fn fill_normal(place: &mut [f32], deviation: f32, seed: Seed) {
    let normals = seed.normals(f64::from(deviation));
    for (number, normal) in place.iter_mut().zip(normals) {
        *number = normal as f32;
    }
}
