//! How samples were written: kept with their results, and by which shards are told apart.

use ra3_sandbox::value::Value;

use crate::json::{field, object, text, text_field};
use crate::records::checksum;

/// How samples were written.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Sampling {
    /// With which the origin of each sample begins.
    pub origin: String,
    /// The model.
    pub model: String,
    /// How it was asked.
    pub variant: String,
    /// 0 is greedy.
    pub temperature: f64,
    /// Samples a task.
    pub n_samples: usize,
    /// Tokens of a sample at most.
    pub tokens_max: usize,
    /// The seed.
    pub seed: u64,
}

impl Sampling {
    /// The same for samples that were written in the same way, and for no others.
    pub(crate) fn name(&self) -> String {
        let words = format!(
            "{} {} {:?} {} {} {}",
            self.model, self.variant, self.temperature, self.n_samples, self.tokens_max, self.seed
        );
        checksum(&words)[..12].to_owned()
    }

    pub(crate) fn of_record(record: &Value) -> Option<Self> {
        let number = |key| field(record, key)?.as_f64();
        Some(Self {
            origin: text_field(record, "origin")?,
            model: text_field(record, "model")?,
            variant: text_field(record, "variant")?,
            temperature: number("temperature")?,
            n_samples: number("n_samples")? as usize,
            tokens_max: number("tokens_max")? as usize,
            seed: match field(record, "seed")? {
                Value::Int(digits) => digits.parse().ok()?,
                _ => return None,
            },
        })
    }

    pub(crate) fn record(&self) -> Value {
        object([
            ("origin", text(&self.origin)),
            ("model", text(&self.model)),
            ("variant", text(&self.variant)),
            ("temperature", Value::float(self.temperature)),
            ("n_samples", Value::Int(self.n_samples.to_string())),
            ("tokens_max", Value::Int(self.tokens_max.to_string())),
            ("seed", Value::Int(self.seed.to_string())),
        ])
    }
}
