//! What long-context models do to the rotary frequencies, as transformers names it.
//!
//! `dynamic` changes frequencies beyond the trained length only, which is the longest sequence
//! here; within it, it is the plain rotation. YaRN is not supported.

use std::f64::consts::TAU;

use serde_json::Value;

/// A change of the rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// None, or `dynamic` within the trained length.
    None,
    /// Every frequency divided by a factor (arXiv 2306.15595).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Low frequencies divided by a factor, high ones kept, and a smooth change between (Llama
    /// 3.1).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wave lengths above the trained length divided by this are low frequencies.
        low_freq_factor: f64,
        /// Wave lengths below the trained length divided by this are high frequencies.
        high_freq_factor: f64,
        /// The length that the model was first trained on.
        original_max_position_embeddings: f64,
    },
}

impl RopeScaling {
    /// Reads `rope_parameters` or `rope_scaling`.
    ///
    /// # Errors
    /// The type is not known, or a number is missing: the message says which.
    pub(crate) fn read(file: &Value, max_position_embeddings: usize) -> Result<Self, String> {
        let kind = ["rope_type", "type"]
            .iter()
            .find_map(|key| file[*key].as_str())
            .unwrap_or("default");
        let number = |key: &str| {
            let found = file[key].as_f64().filter(|number| *number > 0.0);
            found.ok_or_else(|| format!("rope of type {kind} has no positive {key}"))
        };
        if let Some(share) = file["partial_rotary_factor"]
            .as_f64()
            .filter(|share| *share != 1.0)
        {
            return Err(format!(
                "a partial_rotary_factor of {share} is not supported"
            ));
        }
        match kind {
            "default" | "dynamic" => Ok(Self::None),
            "linear" => Ok(Self::Linear {
                factor: number("factor")?,
            }),
            "llama3" if number("high_freq_factor")? <= number("low_freq_factor")? => {
                Err("rope of type llama3 needs a high_freq_factor above its low_freq_factor".into())
            }
            "llama3" => Ok(Self::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_max_position_embeddings: number("original_max_position_embeddings")
                    .unwrap_or(max_position_embeddings as f64),
            }),
            other => Err(format!("rope of type {other} is not supported")),
        }
    }

    /// The frequency that takes the place of one, in radians a position.
    pub(crate) fn apply(self, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: length,
            } => {
                let wave_length = TAU / frequency;
                if wave_length < length / high_freq_factor {
                    return frequency;
                }
                if wave_length > length / low_freq_factor {
                    return frequency / factor;
                }
                let share =
                    (length / wave_length - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - share) * frequency / factor + share * frequency
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frequencies_by_hand() {
        let read = |file: Value| RopeScaling::read(&file, 100).unwrap();
        assert_eq!(
            read(json!({"rope_type": "dynamic", "factor": 4.0})).apply(0.3),
            0.3
        );
        assert_eq!(
            read(json!({"type": "linear", "factor": 4.0})).apply(0.5),
            0.125
        );
        let scaling = read(json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 800,
        }));
        // Wave lengths 100, 1000 and 400; the last lies a third of the way (800/400 − 1) / 3.
        assert_eq!(scaling.apply(TAU / 100.0), TAU / 100.0);
        assert_eq!(scaling.apply(TAU / 1000.0), TAU / 8000.0);
        let expected = (TAU / 400.0) * (2.0 / 3.0 / 8.0 + 1.0 / 3.0);
        assert!((scaling.apply(TAU / 400.0) - expected).abs() < 1e-12);
        let half = json!({"rope_type": "default", "partial_rotary_factor": 0.5});
        assert!(RopeScaling::read(&half, 1).unwrap_err().contains("0.5"));
    }
}
