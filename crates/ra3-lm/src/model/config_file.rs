//! `config.json`: a model's shape as the libraries of the field write it.
//!
//! Keys that the network does not read are kept and written back. A file that asks for what the
//! network does not compute (sliding windows, YaRN, biases in the SwiGLU) is refused: ignoring the
//! key would train another model.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::config::{Architecture, INITIALIZER_RANGE, ModelConfig, Precision, ROPE_THETA, biases};
use super::rope_scaling::RopeScaling;
use crate::checkpoint::{CheckpointError, adapter, missing_weights};

/// Width of Qwen3's heads where a file does not say it, as transformers has it.
const QWEN3_HEAD_DIM: usize = 128;

/// The keys that are read, as they stand in the file.
#[derive(Deserialize)]
struct Keys {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    rope_theta: Option<f64>,
    rope_parameters: Option<Value>,
    rope_scaling: Option<Value>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    initializer_range: Option<f32>,
    eos_token_id: Option<Value>,
    bos_token_id: Option<u32>,
    dtype: Option<Value>,
    /// The older name; where both are there, it is not read.
    torch_dtype: Option<Value>,
}

/// The ids of an `eos_token_id`, which is one or a list.
fn token_ids(found: &Value, vocab_size: usize) -> Result<Vec<u32>, String> {
    let all = match found {
        Value::Array(all) => &all[..],
        one => std::slice::from_ref(one),
    };
    let id = |value: &Value| {
        let id = value.as_u64().filter(|id| *id < vocab_size as u64);
        id.map(|id| id as u32).ok_or_else(|| {
            format!("eos_token_id is {found}, where ids are below the vocab_size {vocab_size}")
        })
    };
    all.iter().map(id).collect()
}

impl ModelConfig {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// The file is missing, is not JSON of a known architecture, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let json = |source| CheckpointError::Config(path.to_owned(), source);
        let shape = |reason| CheckpointError::Shape(path.to_owned(), reason);
        let folder = path.parent().unwrap_or(Path::new("."));
        if let Some(reason) = adapter(folder) {
            return Err(shape(reason));
        }
        let bytes = std::fs::read(path).map_err(|source| {
            let is_missing = source.kind() == std::io::ErrorKind::NotFound;
            match missing_weights(folder).filter(|_| is_missing && folder.is_dir()) {
                Some(reason) => shape(format!("it is not there, and {reason}")),
                None => CheckpointError::Read(path.to_owned(), source),
            }
        })?;
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        let file: Map<String, Value> = serde_json::from_slice(bytes).map_err(json)?;
        if let Some(reason) = unsupported(&file) {
            return Err(shape(reason));
        }
        // A null is a key that is not there.
        let set = file
            .clone()
            .into_iter()
            .filter(|(_, value)| !value.is_null());
        let keys: Keys = serde_json::from_value(Value::Object(set.collect())).map_err(json)?;
        let config = Self::of(&keys, file).map_err(shape)?;
        config
            .contradiction()
            .map_or(Ok(config), |reason| Err(shape(reason)))
    }

    fn of(keys: &Keys, file: Map<String, Value>) -> Result<Self, String> {
        let architecture = architecture(keys)?;
        let (rope_theta, rope_scaling) = rope(keys)?;
        let dtype = keys.dtype.as_ref().or(keys.torch_dtype.as_ref());
        Ok(Self {
            architecture,
            vocab_size: keys.vocab_size,
            hidden_size: keys.hidden_size,
            intermediate_size: keys.intermediate_size,
            num_hidden_layers: keys.num_hidden_layers,
            num_attention_heads: keys.num_attention_heads,
            num_key_value_heads: keys.num_key_value_heads.unwrap_or(keys.num_attention_heads),
            head_dim: keys
                .head_dim
                .or((architecture == Architecture::Qwen3).then_some(QWEN3_HEAD_DIM)),
            max_position_embeddings: keys.max_position_embeddings,
            rms_norm_eps: keys.rms_norm_eps,
            rope_theta,
            rope_scaling,
            biases: biases(architecture, keys.attention_bias),
            tie_word_embeddings: keys.tie_word_embeddings,
            initializer_range: keys.initializer_range.unwrap_or(INITIALIZER_RANGE),
            eos_token_ids: match &keys.eos_token_id {
                None => Vec::new(),
                Some(found) => token_ids(found, keys.vocab_size)?,
            },
            bos_token_id: keys.bos_token_id,
            precision: dtype.map_or(Ok(Precision::Float32), precision)?,
            file,
        })
    }

    /// The file: every key as it was read, the sizes and the precision as they are now.
    pub fn to_json(&self) -> Value {
        let mut file = self.file.clone();
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        file.extend(sizes.map(|(key, size)| (key.to_owned(), json!(size))));
        if self.head_dim.is_some() || self.architecture == Architecture::Qwen3 {
            file.insert("head_dim".to_owned(), json!(self.head_dim()));
        }
        // Both names are kept where both are there, and say the same.
        let mut names = vec!["dtype", "torch_dtype"];
        names.retain(|name| file.contains_key(*name));
        if names.is_empty() {
            names.push("torch_dtype");
        }
        file.extend(
            names
                .iter()
                .map(|name| ((*name).to_owned(), json!(self.precision))),
        );
        let tied = json!(self.tie_word_embeddings);
        file.insert("tie_word_embeddings".to_owned(), tied);
        let mut eos = json!(self.eos_token_ids);
        if let [only] = self.eos_token_ids.as_slice() {
            eos = json!(only);
        }
        let [name, model_type] = self.architecture.names();
        let mut defaults = vec![
            ("architectures", json!([name])),
            ("model_type", json!(model_type)),
            ("rms_norm_eps", shortest(self.rms_norm_eps)),
            ("initializer_range", shortest(self.initializer_range)),
            ("hidden_act", json!("silu")),
            ("eos_token_id", eos),
            ("bos_token_id", json!(self.bos_token_id)),
        ];
        if !file.contains_key("rope_parameters") {
            defaults.push(("rope_theta", json!(self.rope_theta)));
        }
        for (key, value) in defaults {
            file.entry(key).or_insert(value);
        }
        Value::Object(file)
    }
}

/// The family that `architectures` names, or `model_type` where they are left out.
fn architecture(keys: &Keys) -> Result<Architecture, String> {
    let kind = keys.model_type.as_deref();
    let names = keys.architectures.as_deref().unwrap_or_default();
    let is_it = |family: &Architecture| match names {
        [] => kind == Some(family.names()[1]),
        [name] => name == family.names()[0],
        _ => false,
    };
    let Some(found) = Architecture::ALL.into_iter().find(is_it) else {
        let models = Architecture::ALL.map(|family| format!("{:?}", family.names()[0]));
        return Err(format!(
            "architectures {names:?} (model_type {}) are not supported, only one of {}",
            kind.unwrap_or("none"),
            models.join(", ")
        ));
    };
    let [name, model_type] = found.names();
    match kind.filter(|kind| *kind != model_type) {
        Some(kind) => Err(format!("{name:?} is no model_type {kind:?}")),
        None => Ok(found),
    }
}

/// The base of the rotary frequencies and what is done to them. Two keys may say it: they must
/// say the same, since which of them wins depends on the library and its version.
fn rope(keys: &Keys) -> Result<(f64, RopeScaling), String> {
    let read = |key: &str, rope: &Value| {
        let Some(object) = rope.as_object() else {
            return Err(format!("{key} is no object"));
        };
        if object.values().any(Value::is_object) {
            return Err(format!("{key} by kind of layer is not supported"));
        }
        let theta = rope["rope_theta"].as_f64().or(keys.rope_theta);
        let scaling = RopeScaling::read(rope, keys.max_position_embeddings)?;
        Ok((theta.unwrap_or(ROPE_THETA), scaling))
    };
    let is_said = |rope: &&Value| rope.as_object().is_none_or(|object| !object.is_empty());
    let newer = keys.rope_parameters.as_ref().filter(is_said);
    let older = keys.rope_scaling.as_ref().filter(is_said);
    match (newer, older) {
        (None, None) => Ok((keys.rope_theta.unwrap_or(ROPE_THETA), RopeScaling::None)),
        (Some(rope), None) => read("rope_parameters", rope),
        (None, Some(rope)) => read("rope_scaling", rope),
        (Some(newer), Some(older)) => {
            let newer = read("rope_parameters", newer)?;
            if newer == read("rope_scaling", older)? {
                Ok(newer)
            } else {
                Err(
                    "rope_parameters and rope_scaling ask for different rotations: keep the one \
                     that the model was trained with"
                        .to_owned(),
                )
            }
        }
    }
}

/// The precision that a `dtype` names, as PyTorch writes it.
fn precision(dtype: &Value) -> Result<Precision, String> {
    let name = dtype.as_str().unwrap_or_default();
    match name.strip_prefix("torch.").unwrap_or(name) {
        "float32" | "float" => Ok(Precision::Float32),
        "bfloat16" => Ok(Precision::Bfloat16),
        "float16" | "half" => Ok(Precision::Float16),
        _ => Err(format!(
            "dtype {dtype} is not supported, only float32, bfloat16 and float16"
        )),
    }
}

/// An `f32` as the shortest decimal that is it.
fn shortest(number: f32) -> Value {
    serde_json::from_str(&format!("{number:e}")).unwrap_or_else(|_| json!(number))
}

/// What a file asks for and the network does not compute.
fn unsupported(file: &Map<String, Value>) -> Option<String> {
    let get = |key: &str| file.get(key).unwrap_or(&Value::Null);
    for key in ["use_sliding_window", "mlp_bias"] {
        if get(key) == &Value::Bool(true) {
            return Some(format!("{key} is not supported"));
        }
    }
    let is_mistral = get("model_type") == "mistral";
    if let Some(window) = get("sliding_window").as_u64().filter(|_| is_mistral)
        && get("max_position_embeddings").as_u64() > Some(window)
    {
        return Some(format!("a sliding_window of {window} is not supported"));
    }
    if let Some(share) = get("partial_rotary_factor")
        .as_f64()
        .filter(|share| *share != 1.0)
    {
        return Some(format!(
            "a partial_rotary_factor of {share} is not supported"
        ));
    }
    let kinds = get("layer_types").as_array();
    let other = kinds.and_then(|kinds| kinds.iter().find(|kind| *kind != "full_attention"));
    if let Some(kind) = other {
        return Some(format!("layer_types with {kind} are not supported"));
    }
    let quantized = get("quantization_config");
    if !quantized.is_null() {
        let method = &quantized["quant_method"];
        return Some(format!(
            "a quantization_config (quant_method {method}) is not supported: take the model that \
             was quantized"
        ));
    }
    let act = get("hidden_act");
    (!act.is_null() && act != "silu" && act != "swish")
        .then(|| format!("hidden_act {act} is not supported, only \"silu\""))
}

#[cfg(test)]
mod tests {
    use super::super::config::Biases;
    use super::*;

    fn file() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 50,
            "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96,
            "rms_norm_eps": 1e-6, "hidden_act": "silu", "head_dim": 6, "eos_token_id": [2, 3],
            "rope_parameters": {"rope_theta": 500_000.0, "rope_type": "default"},
            "bos_token_id": null, "pretraining_tp": 1, "dtype": "bfloat16",
            "initializer_range": 0.02, "tie_word_embeddings": false,
        })
    }

    fn load(file: &Value) -> Result<ModelConfig, CheckpointError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, file.to_string()).unwrap();
        ModelConfig::load(&path)
    }

    #[test]
    fn both_places_of_theta_and_every_end_token_are_read() {
        let config = load(&file()).unwrap();
        assert_eq!(config.rope_theta, 500_000.0);
        assert_eq!(config.eos_token_ids, [2, 3]);
        assert_eq!(
            (config.biases, config.precision),
            (Biases::None, Precision::Bfloat16)
        );
        let mut older = file();
        older.as_object_mut().unwrap().remove("rope_parameters");
        older["rope_theta"] = json!(1e6);
        older["eos_token_id"] = json!(7);
        let config = load(&older).unwrap();
        assert_eq!((config.rope_theta, config.eos_token_ids), (1e6, vec![7]));
    }

    #[test]
    fn a_file_is_written_as_it_was_read() {
        assert_eq!(load(&file()).unwrap().to_json(), file());
        let mut grown = load(&file()).unwrap();
        (grown.vocab_size, grown.precision) = (64, Precision::Float32);
        let mut expected = file();
        expected["vocab_size"] = json!(64);
        expected["dtype"] = json!("float32");
        assert_eq!(grown.to_json(), expected);
        let made = ModelConfig {
            vocab_size: 8,
            hidden_size: 4,
            intermediate_size: 6,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            max_position_embeddings: 16,
            eos_token_ids: vec![0],
            ..ModelConfig::new(Architecture::Qwen3)
        };
        let json = made.to_json();
        assert_eq!(json["rms_norm_eps"].to_string(), "1e-6");
        // Qwen3 has heads of 128 where nothing is said, so it is always said.
        assert_eq!(json["head_dim"], 2);
        let mut silent = json.clone();
        silent.as_object_mut().unwrap().remove("head_dim");
        assert_eq!(load(&silent).unwrap().head_dim(), 128);
        let again = load(&json).unwrap();
        assert_eq!(again.architecture, Architecture::Qwen3);
        assert_eq!(
            (again.head_dim(), again.query_width(), again.key_width()),
            (2, 4, 2)
        );
    }

    #[test]
    fn heads_need_not_add_up_to_the_width() {
        let mut wide = file();
        wide["head_dim"] = json!(8);
        let config = load(&wide).unwrap();
        assert_eq!((config.query_width(), config.key_width()), (32, 16));
        assert_eq!(
            config.n_matmul_params(),
            2 * (2 * 24 * 32 + 2 * 24 * 16 + 3 * 24 * 40) + 1200
        );
    }

    #[test]
    fn what_the_network_does_not_compute_is_refused() {
        let cases = [
            (
                "architectures",
                json!(["GPT2LMHeadModel"]),
                "GPT2LMHeadModel",
            ),
            (
                "rope_parameters",
                json!({"rope_type": "yarn", "factor": 4.0}),
                "yarn",
            ),
            ("rope_parameters", json!({"rope_type": "linear"}), "factor"),
            ("use_sliding_window", true.into(), "use_sliding_window"),
            ("mlp_bias", true.into(), "mlp_bias"),
            ("head_dim", 7.into(), "width 7"),
            ("num_key_value_heads", 3.into(), "3 key heads"),
            ("num_attention_heads", 0.into(), "heads"),
            ("hidden_act", "gelu".into(), "gelu"),
            ("hidden_size", Value::Null, "hidden_size"),
        ];
        for (key, value, part) in cases {
            let mut file = file();
            file[key] = value;
            let error = load(&file).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let error = format!("{error} {}", source.unwrap_or_default());
            assert!(
                error.contains(part) && error.contains("config.json"),
                "{key}: {error}"
            );
        }
        let mut mistral = file();
        mistral["architectures"] = json!(["MistralForCausalLM"]);
        mistral["model_type"] = json!("mistral");
        mistral["sliding_window"] = json!(96);
        assert!(
            load(&mistral).is_ok(),
            "a window as long as the context is none"
        );
        mistral["sliding_window"] = json!(32);
        assert!(
            load(&mistral)
                .unwrap_err()
                .to_string()
                .contains("sliding_window of 32")
        );
    }
}
